"""The bounds where everything is known: the linear VAE is probabilistic PCA."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxgen import vae
from jaxgen.vae.networks import apply
from tests.programs import in_float64
from tests.vae.linear_vae import VARIANCE, compiled, linear_vae, with_wrong_posterior


def keys(num, seed=0):
    return jax.random.split(jax.random.key(seed), num)


@functools.cache
def found():
    """Of the exact and of the wrong posterior: its Gaussian, its KL to the prior, and log weights of 5 samples."""
    exact = linear_vae()

    def f(params, x):
        mean, log_variance = apply(exact.network, params, x, method="encode")
        z = vae.posterior_samples(exact.network, params, x, keys(8), 5)
        log_w = vae.log_weights(exact.network, params, exact.likelihood, x[:, None, :], z)
        return mean, log_variance, vae.kl_to_standard_normal(mean, log_variance), log_w

    models = {"exact": exact, "wrong": with_wrong_posterior(exact)}
    params = {name: model.params for name, model in models.items()}
    return compiled(lambda params, x: {name: f(own, x) for name, own in params.items()}, params, exact.x)


def exact_elbo(name):
    """E_q log p(x | z) - KL in closed form for the linear decoder: the quadratic's expectation over q."""
    model, (mean, log_variance, kl, _) = linear_vae(), found()[name]
    out = model.params["generator"]["output"]
    weights, bias = out["kernel"].T, out["bias"]
    residual = model.x - mean @ weights.T - bias
    spread = np.exp(log_variance) @ np.sum(weights**2, axis=0)
    dims = model.x.shape[1]
    log_likelihood = -(np.sum(residual**2, -1) + spread) / (2 * VARIANCE) - dims / 2 * np.log(2 * np.pi * VARIANCE)
    return compiled(vae.elbo, log_likelihood, kl)


def test_at_the_exact_posterior_the_bound_is_the_log_likelihood():
    model = linear_vae()
    np.testing.assert_allclose(exact_elbo("exact"), model.log_likelihood, atol=1e-6)
    # And every importance weight is p(x), whatever z was drawn.
    log_w = found()["exact"][3]
    np.testing.assert_allclose(log_w, np.repeat(model.log_likelihood[:, None], 5, 1), atol=1e-9)


def test_the_gap_is_the_kl_to_the_posterior():
    """log p(x) = L_b + KL(q(z|x) || p(z|x)), the notes' identity."""
    model = linear_vae()
    # KL between two diagonal Gaussians of the same shape: means differ by 0.5, variances by a factor 2.
    kl = np.sum(0.5 * (2 - 1 - np.log(2) + 0.5**2 / model.posterior_variance))
    np.testing.assert_allclose(exact_elbo("wrong") + kl, model.log_likelihood, atol=1e-6)


def test_the_k_sample_bound_rises_to_the_log_likelihood():
    """The bounds of the first K of 200 samples."""
    model, repeats, numbers = with_wrong_posterior(linear_vae()), 400, (1, 2, 5, 10, 50, 200)

    def bounds(params, x):
        z = vae.posterior_samples(model.network, params, x, keys(len(x)), max(numbers))
        log_w = vae.log_weights(model.network, params, model.likelihood, x[:, None, :], z)
        return jnp.stack([vae.importance_weighted_bound(log_w[:, :k]) for k in numbers])

    values = compiled(bounds, model.params, np.repeat(model.x, repeats, axis=0))
    values = values.reshape(len(numbers), 8, repeats).mean(1)
    means, errors = values.mean(1), values.std(1) / np.sqrt(repeats)
    closed = exact_elbo("wrong").mean()
    assert abs(means[0] - closed) < 4 * errors[0]
    assert np.all(np.diff(means) > 0)
    assert means[-1] < model.log_likelihood.mean() + 4 * errors[-1]
    assert model.log_likelihood.mean() - means[-1] < 0.1 * (model.log_likelihood.mean() - means[0])


def test_the_bound_of_given_weights():
    log_w = np.random.default_rng(0).normal(size=(3, 7)) * 5
    both = lambda a, b: (vae.importance_weighted_bound(a), vae.importance_weighted_bound(b, axis=0))
    found, shifted = compiled(both, log_w, log_w.T + 1000)
    np.testing.assert_allclose(found, special.logsumexp(log_w, axis=1) - np.log(7), rtol=1e-12)
    np.testing.assert_allclose(shifted, np.asarray(found) + 1000, rtol=1e-12)


def test_the_bound_of_no_weights_is_refused():
    with pytest.raises(ValueError, match=r"log_weights has shape \(0, 3\); expected a sample or more along axis 0"):
        vae.importance_weighted_bound(np.zeros((0, 3)), axis=0)


def test_beta_weighs_the_kl():
    np.testing.assert_allclose(compiled(vae.elbo, np.array([-5.0]), np.array([2.0]), 4.0), [-13.0])


def test_bits_per_dim_of_a_uniform_distribution_over_256_levels():
    np.testing.assert_allclose(vae.bits_per_dim(np.float32(-100 * np.log(256)), 100), 8.0, rtol=1e-6)


def test_free_bits_has_the_value_and_the_gradient_of_the_maximum():
    kl = np.float32(np.random.default_rng(0).uniform(0, 1, (5, 6)) * np.array([0.1, 3, 0.2, 2, 1, 0.9]))
    whole = lambda kl: jnp.sum(jnp.maximum(0.4, jnp.mean(kl, axis=0)))
    each = lambda kl: jnp.mean(vae.free_bits(kl, jnp.mean(kl, axis=0), 0.4))
    found, expected = compiled(lambda kl: [jax.value_and_grad(f)(kl) for f in (each, whole)], kl)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6)
    assert 0 < np.sum(np.mean(kl, axis=0) < 0.4) < 6


@pytest.mark.parametrize("bad", [0, -1])
def test_no_samples_are_refused(bad):
    network = vae.mlp_vae(4, (2,), ((),))
    with pytest.raises(ValueError, match=f"num_samples is {bad}"):
        vae.iwae_loss(network, vae.bernoulli(), num_samples=bad)
    with pytest.raises(ValueError, match=f"num_samples is {bad}"):
        vae.vae_loss(network, vae.bernoulli(), num_samples=bad)
    with pytest.raises(ValueError, match=f"num_samples is {bad}"):
        vae.log_marginal_likelihood(None, network, {}, vae.bernoulli(), np.zeros((1, 4)), bad)


def test_bounds_of_several_sets_of_samples():
    """Rainforth et al. 2018: MIWAE averages bounds of K samples, CIWAE mixes them with the ELBO."""
    log_w = np.random.default_rng(3).normal(size=(2, 3, 4))
    each = special.logsumexp(log_w, axis=2) - np.log(4)
    np.testing.assert_allclose(in_float64(vae.miwae_bound, log_w), each.mean(axis=1), rtol=1e-12)
    found = in_float64(lambda log_w: vae.ciwae_bound(log_w, 0.25), log_w)
    np.testing.assert_allclose(found, 0.25 * log_w.mean(axis=2) + 0.75 * each, rtol=1e-12)


def test_piwae_gives_each_network_the_gradient_of_its_own_bound():
    log_w = np.random.default_rng(3).normal(size=(2, 3, 4))
    gradient = jax.grad(lambda a, b: jnp.sum(vae.piwae_surrogate(a, b)), (0, 1))
    generative, inference = in_float64(gradient, log_w, log_w)
    together = special.softmax(log_w.reshape(2, 12), axis=1).reshape(2, 3, 4)
    np.testing.assert_allclose(generative, together, rtol=1e-12)
    np.testing.assert_allclose(inference, special.softmax(log_w, axis=2) / 3, rtol=1e-12)
