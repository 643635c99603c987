"""Networks against NumPy, the evaluation against numerical integration, sampling and walks."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import integrate, special, stats

from jaxgen import training, vae
from tests.parameters import random_parameters
from tests.programs import compiled
from tests.vae.linear_vae import linear_vae, with_wrong_posterior


def dense(layer, h):
    return h @ layer["kernel"] + layer["bias"]


def numpy_stack(trunk, h):
    for i in range(len(trunk)):
        h = np.tanh(dense(trunk[f"layers_{i}"], h))
    return h


def numpy_gaussian(layer, h):
    h = numpy_stack(layer.get("trunk", {}), h)
    return dense(layer["mean"], h), dense(layer["log_variance"], h)


def test_a_two_layer_network_equals_numpy(random_params):
    network = vae.mlp_vae(6, (4, 3), ((5, 5), (7,)))
    params = random_params(network, 0.4)
    generator = np.random.default_rng(1)
    x = generator.uniform(size=(2, 6)).astype(np.float32)
    noise = tuple(generator.normal(size=(2, s)).astype(np.float32) for s in (4, 3))
    bits = (x > 0.5).astype(np.float32)
    top = generator.normal(size=(2, 3)).astype(np.float32)

    @compiled
    def f(params):
        apply: Any = partial(network.apply, {"params": params})
        z = apply(x, noise, method="infer")
        many = tuple(v[:, None, :] for v in z)
        # The posterior is that of x, the likelihood that of its bits.
        log_prob = lambda x, out: vae.bernoulli_log_likelihood(bits[:, None, :], out)
        log_w = vae.log_weights(network, params, vae.bernoulli()._replace(log_prob=log_prob), x[:, None, :], many)
        return z, apply(z[0], method="decode"), log_w, apply((noise[0], top), method="generate")

    z, decoded, weights, generated_output = jax.device_get(f(params))
    q1 = numpy_gaussian(params["recognition_0"], x)
    z1 = q1[0] + np.exp(q1[1] / 2) * noise[0]
    q2 = numpy_gaussian(params["recognition_1"], z1)
    z2 = q2[0] + np.exp(q2[1] / 2) * noise[1]
    np.testing.assert_allclose(z[0], z1, rtol=1e-5)
    np.testing.assert_allclose(z[1], z2, rtol=1e-5)

    p1 = numpy_gaussian(params["conditionals_0"], z2)
    output = dense(params["generator"]["output"], numpy_stack(params["generator"]["trunk"], z1))
    np.testing.assert_allclose(decoded, output, rtol=1e-5, atol=1e-6)
    density = lambda v, g: stats.norm.logpdf(v, g[0], np.exp(g[1] / 2)).sum(-1)
    log_w = stats.bernoulli.logpmf(bits, special.expit(output)).sum(-1)
    log_w = log_w + density(z1, p1) + stats.norm.logpdf(z2).sum(-1) - density(z1, q1) - density(z2, q2)
    np.testing.assert_allclose(weights[:, 0], log_w, rtol=1e-4)

    generated = numpy_gaussian(params["conditionals_0"], top)
    below = generated[0] + np.exp(generated[1] / 2) * noise[0]
    expected = dense(params["generator"]["output"], numpy_stack(params["generator"]["trunk"], below))
    np.testing.assert_allclose(generated_output, expected, rtol=1e-4, atol=1e-5)


def test_three_layers_generate_from_the_top_down(random_params):
    network = vae.mlp_vae(6, (4, 3, 2), ((), (), ()))
    params = random_params(network, 0.4)
    noise = tuple(np.random.default_rng(1).normal(size=(5, s)).astype(np.float32) for s in (4, 3, 2))
    z = noise[2]
    for layer in (1, 0):
        mean, log_variance = numpy_gaussian(params[f"conditionals_{layer}"], z)
        z = mean + np.exp(log_variance / 2) * noise[layer]
    found = jax.jit(lambda params: network.apply({"params": params}, noise, method="generate"))(params)
    np.testing.assert_allclose(found, dense(params["generator"]["output"], z), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_convolutional_network_puts_pixels_where_they_belong(random_params, outputs):
    """Only the output bias differs from zero: the output is it, means first, then log variances, at odd sizes too."""
    network = vae.conv_vae((7, 6, 3), 2, channels=2, depth=2, width=4, outputs=outputs)
    params = jax.tree.map(np.zeros_like, random_params(network))
    params["generator"]["output"]["bias"] = np.arange(outputs * 126, dtype=np.float32)
    params["generator"]["output_convolution"]["bias"] = 1000 * np.arange(outputs * 3, dtype=np.float32)
    apply = lambda *arguments, method: network.apply({"params": params}, *arguments, method=method)
    found = np.asarray(jax.jit(partial(apply, method="decode"))(np.ones((2, 5, 2), np.float32)))
    assert found.shape == (2, 5, outputs * 126)
    channel = np.arange(outputs * 126) % 3 + 3 * (np.arange(outputs * 126) // 126)
    np.testing.assert_allclose(found[1, 3], np.arange(outputs * 126) + 1000 * channel)
    mean, _ = jax.eval_shape(partial(apply, method="encode"), np.ones((4, 126), np.float32))
    assert mean.shape == (4, 2)


def test_the_output_bias_starts_at_the_data():
    x = np.array([[0.0, 1.0, 0.25], [0.0, 1.0, 0.75]])
    bias = vae.mean_logits(x, floor=0.01)
    np.testing.assert_allclose(special.expit(bias), [0.01, 0.99, 0.5], rtol=1e-5)
    network = vae.mlp_vae(3, (2,), ((),))
    # The other parameters are not computed.
    output = jax.jit(lambda: vae.init_params(jax.random.key(0), network, bias)["generator"]["output"]["bias"])
    np.testing.assert_array_equal(output(), bias)


NETWORK = vae.mlp_vae(5, (2,), ((8,),))
RNG = np.random.default_rng(0)
BITS = ((RNG.normal(size=(64, 2)) @ RNG.normal(size=(2, 5)) * 2) > 0).astype(np.float32)
LIKELIHOOD = vae.bernoulli()


@pytest.fixture(scope="module")
def trained():
    """A small model on two-dimensional z, trained for a moment on random bits that depend on one another."""
    optimizer = optax.adam(3e-2)
    update = training.update_from_objective(vae.vae_loss(NETWORK, LIKELIHOOD), optimizer)

    def step(i, state):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(1), i), 64)
        return update(state, {"x": jnp.asarray(BITS)}, keys, training.plain_mean)[0]

    @jax.jit
    def train(params):
        return jax.lax.fori_loop(0, 300, step, training.create_state(params, optimizer)).params

    noise = (np.zeros((1, 2), np.float32),)
    return NETWORK, jax.device_get(train(random_parameters(NETWORK, BITS[:1], noise))), BITS


SAMPLES, CHUNK = 5000, 700
"""Of an estimate of log p(x); the last chunk is not full."""


@pytest.fixture(scope="module")
def estimate(trained):
    network, params, _ = trained
    return partial(
        vae.log_marginal_likelihood, network=network, params=params, likelihood=LIKELIHOOD, num_samples=SAMPLES,
        chunk=CHUNK,
    )  # fmt: skip


@pytest.fixture(scope="module")
def estimates(estimate):
    """Of ten examples, four at a time."""
    return jax.device_get(estimate(jax.random.key(2), x=BITS[:10], batch_size=4))


def test_the_sampled_likelihood_is_the_integral_over_z(trained, estimates):
    network, params, x = trained
    found = estimates
    hidden = lambda z: numpy_stack(params["generator"]["trunk"], z)
    grid = np.linspace(-8, 8, 401)
    z = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)
    logits = dense(params["generator"]["output"], hidden(z))
    prior = stats.norm.logpdf(z).sum(-1)
    for i in range(6):
        log_joint = stats.bernoulli.logpmf(x[i], special.expit(logits)).sum(-1) + prior
        values = np.exp(log_joint).reshape(401, 401)
        exact = np.log(integrate.simpson(integrate.simpson(values, x=grid), x=grid))
        assert abs(float(found.log_likelihood[i]) - exact) < 4 * float(found.standard_error[i]) + 1e-4
        assert 0 < float(found.standard_error[i]) < 0.05
        assert float(found.elbo[i]) < exact


def test_the_estimate_of_an_example_depends_on_its_number_alone(estimate, estimates):
    other = estimate(jax.random.key(2), x=BITS[:7], batch_size=7)
    for a, b in zip(estimates, other, strict=True):
        assert a.shape == (10,)
        np.testing.assert_allclose(a[:7], b, rtol=1e-5)


def test_a_chunk_that_does_not_divide_leaves_nothing_out_and_adds_nothing():
    """At the exact posterior every weight is p(x): any number of samples gives it, and no error."""
    model = linear_vae()
    estimate = partial(vae.log_marginal_likelihood, None, model.network, model.params, model.likelihood, model.x)
    generator = np.random.default_rng(0)
    noise = lambda num: (generator.normal(size=(len(model.x), num, 2)),)
    with jax.enable_x64(True):
        found = jax.device_get(estimate(num_samples=11, chunk=4, noise=noise(11)))
        one = jax.device_get(estimate(num_samples=1, noise=noise(1)))
    np.testing.assert_allclose(found.log_likelihood, model.log_likelihood, atol=1e-9)
    np.testing.assert_allclose(found.elbo, model.log_likelihood, atol=1e-9)
    np.testing.assert_allclose(found.standard_error, 0, atol=1e-6)
    assert np.all(np.isinf(one.standard_error))


def test_the_standard_error_is_that_of_repeated_estimates():
    model = with_wrong_posterior(linear_vae(1))
    x = np.repeat(model.x, 400, axis=0)
    with jax.enable_x64(True):
        found = vae.log_marginal_likelihood(
            jax.random.key(0), model.network, model.params, model.likelihood, x, 500, batch_size=400
        )
        log_likelihood, standard_error, _ = jax.device_get(found)
    np.testing.assert_allclose(np.sqrt(np.mean(standard_error**2)), log_likelihood.std(), rtol=0.15)


def test_given_noise_of_the_evaluations(trained, estimate, estimates):
    """Noise [N, K, Z_l] in place of the keys', over chunks and batches that do not divide N and K."""
    _, params, x = trained

    @jax.jit
    def drawn():
        fold = jax.random.fold_in
        draw = lambda n, c: vae.draw_noise(fold(fold(jax.random.key(2), n), c), (2,), CHUNK)[0]
        return jax.vmap(jax.vmap(draw, (None, 0)), (0, None))(jnp.arange(5), jnp.arange(-(-SAMPLES // CHUNK)))

    noise = np.asarray(drawn()).reshape(5, -1, 2)[:, :SAMPLES]
    estimate = partial(estimate, x=x[:5], batch_size=3)
    given = jax.device_get(estimate(None, noise=(noise,)))
    for a, b in zip(given, estimates, strict=True):
        np.testing.assert_allclose(a, b[:5], rtol=1e-5)
    # And by the definition: log (1/K) sum_k p(x, z_k) / q(z_k | x).
    mean, log_variance = numpy_gaussian(params["recognition_0"], x[:5])
    deviation = np.exp(log_variance / 2)[:, None]
    z = mean[:, None] + deviation * noise
    logits = dense(params["generator"]["output"], numpy_stack(params["generator"]["trunk"], z))
    log_w = stats.bernoulli.logpmf(x[:5, None], special.expit(logits)).sum(-1) + stats.norm.logpdf(z).sum(-1)
    log_w = log_w - stats.norm.logpdf(z, mean[:, None], deviation).sum(-1)
    np.testing.assert_allclose(given.log_likelihood, special.logsumexp(log_w, axis=1) - np.log(SAMPLES), rtol=1e-4)
    np.testing.assert_allclose(given.elbo, log_w.mean(1), rtol=1e-4)
    with pytest.raises(ValueError, match=r"noise\[0\] has shape \(5, 5000, 2\); expected \(5, 12, 2\)"):
        estimate(None, num_samples=12, noise=(noise,))
    with pytest.raises(ValueError, match="no keys and no noise"):
        estimate(None)


def test_posterior_means_of_both_layers_and_of_given_noise(random_params):
    network, num = vae.mlp_vae(6, (4, 3), ((), ())), 20_000
    params = random_params(network, 0.3)
    x = np.random.default_rng(0).uniform(size=(5, 6)).astype(np.float32)
    first, second = vae.posterior_means(jax.random.key(0), network, params, x, num)
    mean, log_variance = numpy_gaussian(params["recognition_0"], x)
    np.testing.assert_allclose(first, mean, rtol=1e-5)
    # The second layer is linear in z_1: its mean is that of the mean.
    expected, _ = numpy_gaussian(params["recognition_1"], mean)
    assert np.abs(second - expected).max() < 5 * np.exp(log_variance / 2).max() / np.sqrt(num)
    # The noise that the key draws, and the definition of the mean over it.
    drawn = jax.jit(lambda: vae.draw_noise(jax.random.fold_in(jax.random.key(0), 0), (4, 3), 5, num))
    noise = jax.device_get(drawn())
    given = vae.posterior_means(None, network, params, x, num, noise=noise)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), given, (first, second))
    z = mean[:, None] + np.exp(log_variance / 2)[:, None] * noise[0]
    expected = numpy_gaussian(params["recognition_1"], z)[0].mean(1, dtype=np.float64)
    np.testing.assert_allclose(given[1], expected, rtol=1e-4, atol=1e-6)
    noise = jax.tree.map(lambda eps: eps[:, :7], noise)
    with pytest.raises(ValueError, match=r"noise\[0\] has shape \(5, 7, 4\); expected \(4, 7, 4\)"):
        vae.posterior_means(None, network, params, x[:4], 7, noise=noise)
    with pytest.raises(ValueError, match="no key and no noise"):
        vae.posterior_means(None, network, params, x, 7)


def test_active_units_counts_variances_of_the_mean():
    generator = np.random.default_rng(0)
    means = generator.normal(size=(1000, 4)) * np.sqrt([1.0, 0.02, 0.005, 0.0]) + 3
    assert vae.active_units(means) == 2
    assert vae.active_units(means, threshold=1e-3) == 3
    with pytest.raises(ValueError, match="at least 2"):
        vae.active_units(means[:1])


def sampler(trained, num, **given):
    network, params, _ = trained
    return partial(vae.sample, network=network, params=params, likelihood=LIKELIHOOD, num=num, **given)


def test_a_sample_depends_on_its_own_number(trained):
    both = compiled(lambda: [sampler(trained, num)(jax.random.key(0)) for num in (3, 9)])
    few, many = jax.device_get(both())
    np.testing.assert_allclose(few[0], many[0][:3], rtol=1e-5)
    np.testing.assert_array_equal(few[1], many[1][:3])
    assert len(np.unique(many[0], axis=0)) == 9
    assert set(np.unique(many[1])) <= {0.0, 1.0}


def test_a_sample_from_given_noise_and_draws(trained):
    sample = sampler(trained, 4)

    @compiled
    def f():
        keys = lambda: jax.random.split(jax.random.key(0), 4)
        latent, pixels = jax.vmap(lambda key: tuple(jax.random.split(key)))(keys())
        noise = jax.vmap(lambda key: vae.draw_noise(key, (2,)))(latent)
        draws = jax.vmap(lambda key: jax.random.uniform(key, (5,)))(pixels)
        given = sample(None, noise=noise, draws=draws), sample(keys(), noise=noise), sample(keys(), draws=draws)
        other = sample(keys(), noise=jax.tree.map(jnp.negative, noise), draws=1 - draws)
        return sample(keys()), given, other

    by_key, all_given, other = jax.device_get(f())
    for given in all_given:
        np.testing.assert_allclose(given[0], by_key[0], rtol=1e-6)
        np.testing.assert_array_equal(given[1], by_key[1])
    assert np.abs(other[0] - by_key[0]).max() > 0.01 and np.any(other[1] != by_key[1])
    noise, draws = (np.zeros((4, 2), np.float32),), np.zeros((4, 5), np.float32)
    with pytest.raises(ValueError, match="both noise and draws"):
        sample(None, noise=noise)
    with pytest.raises(ValueError, match=r"noise\[0\] has shape \(4, 3\); expected \(4, 2\)"):
        sample(None, noise=(np.zeros((4, 3)),), draws=draws)


def test_interpolation_ends_where_it_should_and_keeps_its_length():
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, 3, 50)).astype(np.float32)
    b = b / np.linalg.norm(b, axis=-1, keepdims=True) * np.linalg.norm(a, axis=-1, keepdims=True)
    f = lambda a, b: (
        [vae.interpolate(a, b, 5, spherical) for spherical in (False, True)],
        vae.interpolate(a, 2 * a, 3, True),
    )
    paths, same = jax.device_get(compiled(f)(a, b))
    for path in paths:
        np.testing.assert_allclose(path[0], a, atol=1e-5)
        np.testing.assert_allclose(path[-1], b, atol=1e-5)
    lengths = np.linalg.norm(path, axis=-1)
    np.testing.assert_allclose(lengths, np.repeat(lengths[:1], 5, 0), rtol=1e-4)
    angles = np.arccos(np.clip((path[1:] * path[:-1]).sum(-1) / (lengths[1:] * lengths[:-1]), -1, 1))
    np.testing.assert_allclose(angles, np.repeat(angles[:1], 4, 0), rtol=1e-2)
    np.testing.assert_allclose(same[1], 1.5 * a, rtol=1e-5)
    with pytest.raises(ValueError, match="num is 1"):
        vae.interpolate(a, b, 1)


def test_walks():
    walk = np.asarray(jax.jit(vae.traverse)(np.array([5, 6], np.float32), np.array([-1, 0, 1], np.float32)))
    np.testing.assert_array_equal(walk[0], [[-1, 6], [0, 6], [1, 6]])
    np.testing.assert_array_equal(walk[1], [[5, -1], [5, 0], [5, 1]])
    grid = vae.manifold(5, edge=0.1).reshape(5, 5, 2)
    np.testing.assert_allclose(stats.norm.cdf(grid[2, :, 0]), [0.1, 0.3, 0.5, 0.7, 0.9], rtol=1e-6)
    np.testing.assert_allclose(stats.norm.cdf(grid[:, 2, 1]), [0.9, 0.7, 0.5, 0.3, 0.1], rtol=1e-6)


def test_wrong_inputs(random_params):
    with pytest.raises(ValueError, match=r"latent_sizes is \(0,\)"):
        vae.mlp_vae(4, (0,), ((),))
    with pytest.raises(ValueError, match="widths has 1 entries for 2"):
        vae.mlp_vae(4, (2, 2), ((3,),))
    with pytest.raises(ValueError, match="can be halved 2 times"):
        vae.conv_vae((7, 7, 1), 2, depth=3)
    with pytest.raises(ValueError, match="no analytic KL"):
        vae.vae_loss(vae.mlp_vae(4, (2, 2), ((), ())), vae.bernoulli())
    network = vae.mlp_vae(4, (2,), ((),))
    params = random_params(network)
    with pytest.raises(ValueError, match=r"x has width 5.*data_size=4"):
        network.apply({"params": params}, np.zeros((1, 5)), method="encode")
    with pytest.raises(ValueError, match="z has width 3"):
        network.apply({"params": params}, np.zeros((1, 3)), method="decode")
    with pytest.raises(ValueError, match="expected one of iwae, stl, dreg"):
        vae.iwae_loss(network, vae.bernoulli(), num_samples=2, gradient="vimco")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="free_bits_statistics"):
        loss = vae.vae_loss(network, vae.bernoulli(), free_nats=0.1)
        noise = (np.zeros((1, 1, 2), np.float32),)
        batch = {"x": np.zeros((1, 4), np.float32), "noise": noise}
        jax.eval_shape(lambda: loss(params, batch, None, training.Context(np.int32(0))))
