"""The bounds where everything is known: the linear VAE is probabilistic PCA."""


import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_vae import VARIANCE, linear_vae, with_wrong_posterior
from scipy import special

from jaxgen import vae


def keys(num, seed=0):
    return jax.random.split(jax.random.key(seed), num)


def exact_elbo(model):
    """E_q log p(x | z) - KL in closed form for the linear decoder: the quadratic's expectation over q."""
    mean, log_variance = (np.asarray(a) for a in vae.networks.apply(
        model.network, model.params, jnp.asarray(model.x), method="encode"))  # fmt: skip
    out = model.params["generator"]["output"]
    weights, bias = np.asarray(out["kernel"]).T, np.asarray(out["bias"])
    residual = model.x - mean @ weights.T - bias
    spread = np.exp(log_variance) @ np.sum(weights**2, axis=0)
    dims = model.x.shape[1]
    log_likelihood = -(np.sum(residual**2, -1) + spread) / (2 * VARIANCE) - dims / 2 * np.log(2 * np.pi * VARIANCE)
    kl = vae.kl_to_standard_normal(jnp.asarray(mean), jnp.asarray(log_variance))
    return np.asarray(vae.elbo(jnp.asarray(log_likelihood), kl))


def test_at_the_exact_posterior_the_bound_is_the_log_likelihood():
    with jax.enable_x64(True):
        model = linear_vae()
        np.testing.assert_allclose(exact_elbo(model), model.log_likelihood, atol=1e-6)
        # And every importance weight is p(x), whatever z was drawn.
        z = vae.posterior_samples(model.network, model.params, jnp.asarray(model.x), keys(8), 5)
        seen = jnp.asarray(model.x)[:, None, :]
        log_w = vae.log_weights(model.network, model.params, model.likelihood, seen, z)
    np.testing.assert_allclose(log_w, np.repeat(model.log_likelihood[:, None], 5, 1), atol=1e-9)


def test_the_gap_is_the_kl_to_the_posterior():
    """log p(x) = L_b + KL(q(z|x) || p(z|x)), the notes' identity."""
    with jax.enable_x64(True):
        model = linear_vae()
        wrong = with_wrong_posterior(model)
        bound = exact_elbo(wrong)
    # KL between two diagonal Gaussians of the same shape: means differ by 0.5, variances by a factor 2.
    kl = np.sum(0.5 * (2 - 1 - np.log(2) + 0.5**2 / model.posterior_variance))
    np.testing.assert_allclose(bound + kl, model.log_likelihood, atol=1e-6)


def test_the_k_sample_bound_rises_to_the_log_likelihood():
    with jax.enable_x64(True):
        wrong = with_wrong_posterior(linear_vae())
        repeats = 400
        bounds = []
        x = jnp.repeat(jnp.asarray(wrong.x), repeats, axis=0)

        def bound(key, k):
            z = vae.posterior_samples(wrong.network, wrong.params, x, jax.random.split(key, len(x)), k)
            log_w = vae.log_weights(wrong.network, wrong.params, wrong.likelihood, x[:, None, :], z)
            return vae.importance_weighted_bound(log_w)

        for k in (1, 2, 5, 10, 50, 200):
            found = jax.jit(bound, static_argnums=1)(jax.random.key(k), k)
            values = np.asarray(found).reshape(8, repeats).mean(0)
            bounds.append((values.mean(), values.std() / np.sqrt(repeats)))
        closed = exact_elbo(wrong).mean()
    means, errors = np.array(bounds).T
    assert abs(means[0] - closed) < 4 * errors[0]
    assert np.all(np.diff(means) > 0)
    assert means[-1] < wrong.log_likelihood.mean() + 4 * errors[-1]
    assert wrong.log_likelihood.mean() - means[-1] < 0.1 * (wrong.log_likelihood.mean() - means[0])


def test_the_bound_of_given_weights():
    log_w = np.random.default_rng(0).normal(size=(3, 7)) * 5
    with jax.enable_x64(True):
        found = vae.importance_weighted_bound(jnp.asarray(log_w))
        shifted = vae.importance_weighted_bound(jnp.asarray(log_w.T + 1000), axis=0)
    np.testing.assert_allclose(found, special.logsumexp(log_w, axis=1) - np.log(7), rtol=1e-12)
    np.testing.assert_allclose(shifted, np.asarray(found) + 1000, rtol=1e-12)


def test_beta_weighs_the_kl():
    np.testing.assert_allclose(vae.elbo(jnp.array([-5.0]), jnp.array([2.0]), 4.0), [-13.0])


def test_bits_per_dim_of_a_uniform_distribution_over_256_levels():
    nats = jnp.float32(-100 * np.log(256))
    np.testing.assert_allclose(vae.bits_per_dim(nats, 100), 8.0, rtol=1e-6)


def test_free_bits_has_the_value_and_the_gradient_of_the_maximum():
    kl = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (5, 6)) * np.array([0.1, 3, 0.2, 2, 1, 0.9]), jnp.float32)
    whole = lambda kl: jnp.sum(jnp.maximum(0.4, jnp.mean(kl, axis=0)))
    each = lambda kl: jnp.mean(vae.free_bits(kl, jnp.mean(kl, axis=0), 0.4))
    np.testing.assert_allclose(each(kl), whole(kl), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(each)(kl), jax.grad(whole)(kl), rtol=1e-6)
    assert 0 < int(jnp.sum(jnp.mean(kl, axis=0) < 0.4)) < 6


@pytest.mark.parametrize("bad", [0, -1])
def test_no_samples_are_refused(bad):
    network = vae.mlp_vae(4, (2,), ((),))
    with pytest.raises(ValueError, match=f"num_samples is {bad}"):
        vae.iwae_loss(network, vae.bernoulli(), num_samples=bad)
    with pytest.raises(ValueError, match=f"num_samples is {bad}"):
        vae.vae_loss(network, vae.bernoulli(), num_samples=bad)
    with pytest.raises(ValueError, match=f"num_samples is {bad}"):
        vae.log_marginal_likelihood(jax.random.key(0), network, {}, vae.bernoulli(), np.zeros((1, 4)), bad)
