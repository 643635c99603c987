"""The three gradient estimators: their means and their variances, in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_vae import linear_vae, with_wrong_posterior
from scipy import special

from jaxgen import vae


def gradients(model, gradient, num_samples, repeats, example=0):
    """[repeats, P] gradients of -L_K at one example with independent noise, and the parameters' paths [P]."""
    loss = vae.iwae_loss(model.network, model.likelihood, num_samples=num_samples, gradient=gradient)
    batch = {"x": jnp.asarray(model.x[example : example + 1])}

    def one(key):
        return jax.grad(lambda p: loss(p, batch, key[None], None)[0][0])(model.params)

    found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(3), repeats))
    leaves = jax.tree_util.tree_leaves_with_path(found)
    flat = np.concatenate([np.asarray(leaf).reshape(repeats, -1) for _, leaf in leaves], axis=1)
    paths = [path[0].key for path, leaf in leaves for _ in range(leaf[0].size)]
    return flat, np.array(paths)


def test_sticking_the_landing_is_zero_for_every_sample_at_the_exact_posterior():
    with jax.enable_x64(True):
        model = linear_vae()
        stl, paths = gradients(model, "stl", 1, 50)
        plain, _ = gradients(model, "iwae", 1, 50)
    encoder = paths == "recognition_0"
    assert np.abs(stl[:, encoder]).max() < 1e-12
    assert np.abs(plain[:, encoder]).max() > 0.1
    np.testing.assert_allclose(stl[:, ~encoder], plain[:, ~encoder], atol=1e-12)


def test_doubly_reparameterized_has_the_same_mean_and_less_variance():
    repeats = 4000
    with jax.enable_x64(True):
        model = with_wrong_posterior(linear_vae())
        plain, paths = gradients(model, "iwae", 64, repeats)
        dreg, _ = gradients(model, "dreg", 64, repeats)
    encoder = paths == "recognition_0"
    # Independent in their noise of the encoder's estimate but drawn from the same keys: compare the paired difference.
    difference = (dreg - plain)[:, encoder]
    error = difference.std(0) / np.sqrt(repeats)
    assert np.all(np.abs(difference.mean(0)) <= 4 * error + 1e-12)
    variances = dreg[:, encoder].var(0).sum(), plain[:, encoder].var(0).sum()
    assert variances[0] < 0.5 * variances[1]
    # The generative gradient is the same estimate.
    np.testing.assert_allclose(dreg[:, ~encoder], plain[:, ~encoder], atol=1e-12)


def test_a_squared_weight_is_needed_for_that():
    """With v instead of v^2 the mean is another: the test above can fail."""
    repeats = 4000
    with jax.enable_x64(True):
        model = with_wrong_posterior(linear_vae())
        plain, paths = gradients(model, "iwae", 64, repeats)
        stl, _ = gradients(model, "stl", 64, repeats)
    encoder = paths == "recognition_0"
    difference = (stl - plain)[:, encoder]
    assert np.any(np.abs(difference.mean(0)) > 8 * difference.std(0) / np.sqrt(repeats))


@pytest.mark.parametrize("gradient", ["iwae", "stl", "dreg"])
def test_all_report_the_same_value(gradient):
    with jax.enable_x64(True):
        model = with_wrong_posterior(linear_vae())
        batch, keys = {"x": jnp.asarray(model.x)}, jax.random.split(jax.random.key(0), 8)
        loss = vae.iwae_loss(model.network, model.likelihood, num_samples=7, gradient=gradient)
        losses, metrics = loss(model.params, batch, keys, None)
        z = vae.posterior_samples(model.network, model.params, batch["x"], jax.random.clone(keys), 7)
        log_w = vae.log_weights(model.network, model.params, model.likelihood, batch["x"][:, None, :], z)
    losses, metrics, log_w = jax.device_get((losses, metrics, log_w))
    bound = special.logsumexp(log_w, axis=1) - np.log(7)
    np.testing.assert_allclose(losses, -bound, rtol=1e-12)
    np.testing.assert_allclose(metrics["bound"], bound, rtol=1e-12)
    np.testing.assert_allclose(metrics["elbo"], np.mean(log_w, axis=1), rtol=1e-12)


@pytest.mark.parametrize("kl", ["analytic", "monte_carlo"])
def test_the_vae_loss_and_its_gradient_have_the_closed_forms_mean(kl):
    """For the linear decoder the bound and its gradient in the encoder's bias are known."""
    repeats = 4000
    with jax.enable_x64(True):
        model = with_wrong_posterior(linear_vae())
        loss = vae.vae_loss(model.network, model.likelihood, kl=kl)
        batch = {"x": jnp.asarray(model.x[:1])}

        def one(key):
            of = lambda p: loss(p, batch, key[None], None)[0][0]
            value, gradient = jax.value_and_grad(of)(model.params)
            return value, gradient["recognition_0"]["mean"]["bias"]

        measured = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(3), repeats))
    values, found = map(np.asarray, measured)
    # Below the exact posterior by 0.5^2 / (2 v_j) a dimension: the slope in the mean is 0.5 / v_j.
    expected = 0.5 / model.posterior_variance
    assert np.all(np.abs(found.mean(0) - expected) < 4 * found.std(0) / np.sqrt(repeats))
    gap = np.sum(0.5 * (1 - np.log(2) + 0.5**2 / model.posterior_variance))
    assert abs(values.mean() - (gap - model.log_likelihood[0])) < 4 * values.std() / np.sqrt(repeats)


def test_two_layers_stop_only_the_densities(random_params):
    """With two layers the gradient of the inference network still has the path through z_1 into q(z_2 | z_1)."""
    network = vae.mlp_vae(5, (4, 3), ((6,), (5,)))
    params = random_params(network)
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 5)) > 0.5, jnp.float32)
    keys = lambda: jax.random.split(jax.random.key(0), 2)

    def by_hand(params, held):
        z = vae.posterior_samples(network, params, x, keys(), 3)
        log_p = vae.bernoulli().log_prob(x[:, None, :], network.apply({"params": held}, z[0], method="decode"))
        log_p = log_p + vae.log_prior(network, held, z)
        return jnp.mean(log_p - vae.log_posterior(network, held, x[:, None, :], z))

    def stopped(params):
        z = vae.posterior_samples(network, params, x, keys(), 3)
        return jnp.mean(vae.log_weights(network, params, vae.bernoulli(), x[:, None, :], z, stop=True))

    # Differentiated in its first argument alone, the parameters that draw z.
    expected, found = jax.jit(lambda p: (jax.grad(by_hand)(p, p), jax.grad(stopped)(p)))(params)
    for name in ("recognition_0", "recognition_1"):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found[name], expected[name])


def two_layers(random_params):
    network = vae.mlp_vae(5, (4, 3), ((), ()))
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 5)) > 0.5, jnp.float32)
    return network, random_params(network), x


def test_given_noise_is_that_of_the_posterior_samples(random_params):
    """z_1 = mu + sigma eps by the recognition layer, z_2 likewise from z_1, in float64."""
    network, params, x = two_layers(random_params)
    generator = np.random.default_rng(1)
    noise = tuple(generator.normal(size=(2, 3, size)) for size in (4, 3))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), params)
        z = vae.posterior_samples(network, wide, jnp.asarray(x, jnp.float64), None, 3, noise=noise)
    below = np.asarray(x, np.float64)[:, None]
    for layer, eps in enumerate(noise):
        mean, log_variance = (
            below @ params[f"recognition_{layer}"][head]["kernel"].astype(float)
            + params[f"recognition_{layer}"][head]["bias"]
            for head in ("mean", "log_variance")
        )
        below = mean + np.exp(log_variance / 2) * eps
        np.testing.assert_allclose(z[layer], below, rtol=1e-12)
    with pytest.raises(ValueError, match="noise has 1 arrays; expected a tuple of 2"):
        vae.posterior_samples(network, params, x, None, 3, noise=noise[:1])
    with pytest.raises(ValueError, match=r"noise\[1\] has shape \(2, 3, 3\); expected \(2, 4, 3\)"):
        vae.posterior_samples(network, params, x, None, 4, noise=(np.zeros((2, 4, 4)), noise[1]))
    with pytest.raises(ValueError, match="no keys and no noise"):
        vae.posterior_samples(network, params, x, None, 3)


def test_a_batch_may_hold_the_noise_of_the_losses(random_params):
    network, params, x = two_layers(random_params)
    keys = lambda seed=0: jax.random.split(jax.random.key(seed), 2)
    noise = jax.vmap(lambda key: vae.draw_noise(key, (4, 3), 3))(keys())
    losses = (
        vae.vae_loss(network, vae.bernoulli(), num_samples=3, kl="monte_carlo"),
        vae.iwae_loss(network, vae.bernoulli(), num_samples=3),
    )
    given, by_key = jax.jit(
        lambda noise: [
            [loss(params, batch, draw(), None) for loss in losses]
            for batch, draw in (({"x": x, "noise": noise}, lambda: keys(1)), ({"x": x}, keys))
        ]
    )(noise)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), given, by_key)
    assert abs(given[0][0] - given[1][0]).min() > 1e-3
