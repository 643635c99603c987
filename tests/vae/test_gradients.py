"""The three gradient estimators: their means and their variances, in float64."""

from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxgen import vae
from jaxgen.vae.networks import apply
from jaxgen.vae.objectives import Gradient
from tests.vae.linear_vae import compiled, linear_vae, with_wrong_posterior


def gradients(model, num_samples, repeats, names=("iwae", "stl", "dreg")):
    """{estimator: [repeats, P]}, gradients of -L_K at one example with independent noise, and the paths [P]."""
    losses = {
        gradient: vae.iwae_loss(model.network, model.likelihood, num_samples=num_samples, gradient=gradient)
        for gradient in names
    }

    def one(params, x, key):
        total = lambda loss: lambda p: loss(p, {"x": x}, jax.random.clone(key)[None], None)[0][0]
        return {name: jax.grad(total(loss))(params) for name, loss in losses.items()}

    f = lambda params, x: jax.vmap(one, (None, None, 0))(params, x, jax.random.split(jax.random.key(3), repeats))
    found = compiled(f, model.params, model.x[:1])
    leaves = jax.tree_util.tree_leaves_with_path(model.params)
    paths = [path[0].key for path, leaf in leaves for _ in range(leaf.size)]
    flat = lambda tree: np.concatenate([leaf.reshape(repeats, -1) for leaf in jax.tree.leaves(tree)], axis=1)
    return {name: flat(tree) for name, tree in found.items()}, np.array(paths)


@pytest.fixture(scope="module")
def at_wrong_posterior():
    return gradients(with_wrong_posterior(linear_vae()), 64, 4000)


def test_sticking_the_landing_is_zero_for_every_sample_at_the_exact_posterior():
    found, paths = gradients(linear_vae(), 1, 50, ("iwae", "stl"))
    stl, plain = found["stl"], found["iwae"]
    encoder = paths == "recognition_0"
    assert np.abs(stl[:, encoder]).max() < 1e-12
    assert np.abs(plain[:, encoder]).max() > 0.1
    np.testing.assert_allclose(stl[:, ~encoder], plain[:, ~encoder], atol=1e-12)


def test_doubly_reparameterized_has_the_same_mean_and_less_variance(at_wrong_posterior):
    found, paths = at_wrong_posterior
    plain, dreg = found["iwae"], found["dreg"]
    encoder = paths == "recognition_0"
    # Independent in their noise of the encoder's estimate but drawn from the same keys: compare the paired difference.
    difference = (dreg - plain)[:, encoder]
    error = difference.std(0) / np.sqrt(len(plain))
    assert np.all(np.abs(difference.mean(0)) <= 4 * error + 1e-12)
    variances = dreg[:, encoder].var(0).sum(), plain[:, encoder].var(0).sum()
    assert variances[0] < 0.5 * variances[1]
    # The generative gradient is the same estimate.
    np.testing.assert_allclose(dreg[:, ~encoder], plain[:, ~encoder], atol=1e-12)


def test_a_squared_weight_is_needed_for_that(at_wrong_posterior):
    """With v instead of v^2 the mean is another: the test above can fail."""
    found, paths = at_wrong_posterior
    difference = (found["stl"] - found["iwae"])[:, paths == "recognition_0"]
    assert np.any(np.abs(difference.mean(0)) > 8 * difference.std(0) / np.sqrt(len(difference)))


def test_all_report_the_same_value():
    model, names = with_wrong_posterior(linear_vae()), get_args(Gradient)
    make = partial(vae.iwae_loss, model.network, model.likelihood, num_samples=7)
    losses = {gradient: make(gradient=gradient) for gradient in names}

    def f(params, x):
        keys = lambda: jax.random.split(jax.random.key(0), 8)
        z = vae.posterior_samples(model.network, params, x, keys(), 7)
        log_w = vae.log_weights(model.network, params, model.likelihood, x[:, None, :], z)
        return {name: loss(params, {"x": x}, keys(), None) for name, loss in losses.items()}, log_w

    found, log_w = compiled(f, model.params, model.x)
    bound = special.logsumexp(log_w, axis=1) - np.log(7)
    for name in names:
        values, metrics = found[name]
        np.testing.assert_allclose(values, -bound, rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(metrics["bound"], bound, rtol=1e-12, err_msg=name)
        np.testing.assert_allclose(metrics["elbo"], np.mean(log_w, axis=1), rtol=1e-12, err_msg=name)


@pytest.fixture(scope="module")
def vae_losses():
    """{kl: values and gradients in the encoder's bias of -L_b with 4,000 keys}, and the model."""
    model = with_wrong_posterior(linear_vae())
    losses = {kl: vae.vae_loss(model.network, model.likelihood, kl=kl) for kl in ("analytic", "monte_carlo")}

    def one(params, x, key):
        total = lambda loss: lambda p: loss(p, {"x": x}, jax.random.clone(key)[None], None)[0][0]
        found = {kl: jax.value_and_grad(total(loss))(params) for kl, loss in losses.items()}
        return {kl: (value, gradient["recognition_0"]["mean"]["bias"]) for kl, (value, gradient) in found.items()}

    f = lambda params, x: jax.vmap(one, (None, None, 0))(params, x, jax.random.split(jax.random.key(3), 4000))
    return compiled(f, model.params, model.x[:1]), model


@pytest.mark.parametrize("kl", ["analytic", "monte_carlo"])
def test_the_vae_loss_and_its_gradient_have_the_closed_forms_mean(vae_losses, kl):
    """For the linear decoder the bound and its gradient in the encoder's bias are known."""
    losses, model = vae_losses
    values, found = losses[kl]
    repeats = len(values)
    # Below the exact posterior by 0.5^2 / (2 v_j) a dimension: the slope in the mean is 0.5 / v_j.
    expected = 0.5 / model.posterior_variance
    assert np.all(np.abs(found.mean(0) - expected) < 4 * found.std(0) / np.sqrt(repeats))
    gap = np.sum(0.5 * (1 - np.log(2) + 0.5**2 / model.posterior_variance))
    assert abs(values.mean() - (gap - model.log_likelihood[0])) < 4 * values.std() / np.sqrt(repeats)


def test_two_layers_stop_only_the_densities(random_params):
    """With two layers the gradient of the inference network still has the path through z_1 into q(z_2 | z_1)."""
    network = vae.mlp_vae(5, (4, 3), ((6,), (5,)))
    params = random_params(network)
    x = (np.random.default_rng(0).uniform(size=(2, 5)) > 0.5).astype(np.float32)
    keys = lambda: jax.random.split(jax.random.key(0), 2)

    def by_hand(params, held):
        z = vae.posterior_samples(network, params, x, keys(), 3)
        log_p = vae.bernoulli().log_prob(x[:, None, :], apply(network, held, z[0], method="decode"))
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
    x = (np.random.default_rng(0).uniform(size=(2, 5)) > 0.5).astype(np.float32)
    return network, random_params(network), x


def test_given_noise_is_that_of_the_posterior_samples(random_params):
    """z_1 = mu + sigma eps by the recognition layer, z_2 likewise from z_1, in float64."""
    network, params, x = two_layers(random_params)
    generator = np.random.default_rng(1)
    noise = tuple(generator.normal(size=(2, 3, size)) for size in (4, 3))
    wide = jax.tree.map(np.float64, params)
    samples = lambda params, x: vae.posterior_samples(network, params, x, None, 3, noise=noise)
    z = compiled(samples, wide, np.float64(x))
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
    losses = (
        vae.vae_loss(network, vae.bernoulli(), num_samples=3, kl="monte_carlo"),
        vae.iwae_loss(network, vae.bernoulli(), num_samples=3),
    )
    noise_of = jax.vmap(lambda key: vae.draw_noise(key, (4, 3), 3))
    given, by_key = jax.jit(
        lambda params, x: [
            [loss(params, batch, draw(), None) for loss in losses]
            for batch, draw in (({"x": x, "noise": noise_of(keys())}, lambda: keys(1)), ({"x": x}, keys))
        ]
    )(params, x)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), given, by_key)
    assert np.abs(np.asarray(given[0][0]) - np.asarray(given[1][0])).min() > 1e-3
