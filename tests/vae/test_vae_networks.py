"""Networks against NumPy, the evaluation against numerical integration, sampling and walks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from linear_vae import linear_vae, with_wrong_posterior
from scipy import integrate, special, stats

from jaxgen import training, vae


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
    apply = jax.jit(partial(network.apply, {"params": params}), static_argnames="method")

    q1 = numpy_gaussian(params["recognition_0"], x)
    z1 = q1[0] + np.exp(q1[1] / 2) * noise[0]
    q2 = numpy_gaussian(params["recognition_1"], z1)
    z2 = q2[0] + np.exp(q2[1] / 2) * noise[1]
    z = apply(x, noise, method="infer")
    np.testing.assert_allclose(z[0], z1, rtol=1e-5)
    np.testing.assert_allclose(z[1], z2, rtol=1e-5)

    p1 = numpy_gaussian(params["conditionals_0"], z2)
    output = dense(params["generator"]["output"], numpy_stack(params["generator"]["trunk"], z1))
    np.testing.assert_allclose(apply(z[0], method="decode"), output, rtol=1e-5, atol=1e-6)
    density = lambda v, g: stats.norm.logpdf(v, g[0], np.exp(g[1] / 2)).sum(-1)
    bits = (x > 0.5).astype(np.float32)
    log_w = stats.bernoulli.logpmf(bits, special.expit(output)).sum(-1)
    log_w = log_w + density(z1, p1) + stats.norm.logpdf(z2).sum(-1) - density(z1, q1) - density(z2, q2)
    many = tuple(v[:, None, :] for v in z)
    # The posterior is that of x, the likelihood that of its bits.
    likelihood = vae.bernoulli()._replace(log_prob=lambda x, out: vae.bernoulli_log_likelihood(bits[:, None, :], out))
    found = vae.log_weights(network, params, likelihood, x[:, None, :], many)
    np.testing.assert_allclose(found[:, 0], log_w, rtol=1e-4)

    top = generator.normal(size=(2, 3)).astype(np.float32)
    generated = numpy_gaussian(params["conditionals_0"], top)
    below = generated[0] + np.exp(generated[1] / 2) * noise[0]
    expected = dense(params["generator"]["output"], numpy_stack(params["generator"]["trunk"], below))
    np.testing.assert_allclose(apply((noise[0], top), method="generate"), expected, rtol=1e-4, atol=1e-5)


def test_three_layers_generate_from_the_top_down(random_params):
    network = vae.mlp_vae(6, (4, 3, 2), ((), (), ()))
    params = random_params(network, 0.4)
    noise = tuple(np.random.default_rng(1).normal(size=(5, s)).astype(np.float32) for s in (4, 3, 2))
    z = noise[2]
    for layer in (1, 0):
        mean, log_variance = numpy_gaussian(params[f"conditionals_{layer}"], z)
        z = mean + np.exp(log_variance / 2) * noise[layer]
    found = network.apply({"params": params}, noise, method="generate")
    np.testing.assert_allclose(found, dense(params["generator"]["output"], z), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_convolutional_network_puts_pixels_where_they_belong(random_params, outputs):
    """Only the output bias differs from zero: the output is it, means first, then log variances, at odd sizes too."""
    network = vae.conv_vae((7, 6, 3), 2, channels=2, depth=2, width=4, outputs=outputs)
    params = jax.tree.map(np.zeros_like, random_params(network))
    params["generator"]["output"]["bias"] = np.arange(outputs * 126, dtype=np.float32)
    params["generator"]["output_convolution"]["bias"] = 1000 * np.arange(outputs * 3, dtype=np.float32)
    z = jnp.ones((2, 5, 2))
    found = np.asarray(network.apply({"params": params}, z, method="decode"))
    assert found.shape == (2, 5, outputs * 126)
    channel = np.arange(outputs * 126) % 3 + 3 * (np.arange(outputs * 126) // 126)
    np.testing.assert_allclose(found[1, 3], np.arange(outputs * 126) + 1000 * channel)
    mean, _ = network.apply({"params": params}, jnp.ones((4, 126)), method="encode")
    assert mean.shape == (4, 2)


def test_the_output_bias_starts_at_the_data(random_params):
    x = np.array([[0.0, 1.0, 0.25], [0.0, 1.0, 0.75]])
    bias = vae.mean_logits(x, floor=0.01)
    np.testing.assert_allclose(special.expit(bias), [0.01, 0.99, 0.5], rtol=1e-5)
    network = vae.mlp_vae(3, (2,), ((),))
    params = vae.init_params(jax.random.key(0), network, bias)
    np.testing.assert_array_equal(params["generator"]["output"]["bias"], bias)


@pytest.fixture(scope="module")
def trained():
    """A small model on two-dimensional z, trained for a moment on random bits that depend on one another."""
    network = vae.mlp_vae(5, (2,), ((8,),))
    generator = np.random.default_rng(0)
    x = ((generator.normal(size=(64, 2)) @ generator.normal(size=(2, 5)) * 2) > 0).astype(np.float32)
    optimizer = optax.adam(3e-2)
    update = training.update_from_objective(vae.vae_loss(network, vae.bernoulli()), optimizer)
    state = training.create_state(vae.init_params(jax.random.key(0), network), optimizer)

    def step(i, state):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(1), i), 64)
        return update(state, {"x": jnp.asarray(x)}, keys, training.plain_mean)[0]

    end = jax.jit(lambda s: jax.lax.fori_loop(0, 300, step, s))(state)
    return network, jax.device_get(end.params), x


def test_the_sampled_likelihood_is_the_integral_over_z(trained):
    network, params, x = trained
    found = vae.log_marginal_likelihood(jax.random.key(2), network, params, vae.bernoulli(), x[:6], 5000, chunk=700)
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


def test_the_estimate_of_an_example_depends_on_its_number_alone(trained):
    network, params, x = trained
    estimate = partial(vae.log_marginal_likelihood, network=network, params=params, likelihood=vae.bernoulli())
    whole = estimate(jax.random.key(2), x=x[:10], num_samples=30, batch_size=4)
    other = estimate(jax.random.key(2), x=x[:7], num_samples=30, batch_size=7)
    for a, b in zip(whole, other, strict=True):
        assert a.shape == (10,)
        np.testing.assert_allclose(a[:7], b, rtol=1e-5)


def test_a_chunk_that_does_not_divide_leaves_nothing_out_and_adds_nothing():
    """At the exact posterior every weight is p(x): any number of samples gives it, and no error."""
    with jax.enable_x64(True):
        model = linear_vae()
        found = vae.log_marginal_likelihood(
            jax.random.key(0), model.network, model.params, model.likelihood, model.x, num_samples=11, chunk=4
        )
        one = vae.log_marginal_likelihood(
            jax.random.key(0), model.network, model.params, model.likelihood, model.x, num_samples=1
        )
    np.testing.assert_allclose(found.log_likelihood, model.log_likelihood, atol=1e-9)
    np.testing.assert_allclose(found.elbo, model.log_likelihood, atol=1e-9)
    np.testing.assert_allclose(found.standard_error, 0, atol=1e-6)
    assert np.all(np.isinf(one.standard_error))


def test_the_standard_error_is_that_of_repeated_estimates():
    with jax.enable_x64(True):
        model = with_wrong_posterior(linear_vae(1))
        x = np.repeat(model.x, 400, axis=0)
        found = vae.log_marginal_likelihood(
            jax.random.key(0), model.network, model.params, model.likelihood, x, 500, batch_size=400
        )
    log_likelihood, standard_error, _ = jax.device_get(found)
    np.testing.assert_allclose(np.sqrt(np.mean(standard_error**2)), log_likelihood.std(), rtol=0.15)


def test_given_noise_of_the_evaluations(trained):
    """Noise [N, K, Z_l] in place of the keys', over chunks and batches that do not divide N and K."""
    network, params, x = trained
    fold, key = jax.random.fold_in, lambda: jax.random.key(2)
    chunks = [[vae.draw_noise(fold(fold(key(), n), c), (2,), 4)[0] for c in range(3)] for n in range(5)]
    noise = np.stack([np.concatenate(own)[:11] for own in chunks])
    estimate = partial(
        vae.log_marginal_likelihood, network=network, params=params, likelihood=vae.bernoulli(), x=x[:5],
        num_samples=11, chunk=4, batch_size=3,
    )  # fmt: skip
    given = estimate(None, noise=(noise,))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), given, estimate(key()))
    # And by the definition: log (1/K) sum_k p(x, z_k) / q(z_k | x).
    mean, log_variance = numpy_gaussian(params["recognition_0"], x[:5])
    deviation = np.exp(log_variance / 2)[:, None]
    z = mean[:, None] + deviation * noise
    logits = dense(params["generator"]["output"], numpy_stack(params["generator"]["trunk"], z))
    log_w = stats.bernoulli.logpmf(x[:5, None], special.expit(logits)).sum(-1) + stats.norm.logpdf(z).sum(-1)
    log_w = log_w - stats.norm.logpdf(z, mean[:, None], deviation).sum(-1)
    np.testing.assert_allclose(given.log_likelihood, special.logsumexp(log_w, axis=1) - np.log(11), rtol=1e-4)
    np.testing.assert_allclose(given.elbo, log_w.mean(1), rtol=1e-4)
    with pytest.raises(ValueError, match=r"noise\[0\] has shape \(5, 11, 2\); expected \(5, 12, 2\)"):
        estimate(None, num_samples=12, noise=(noise,))
    with pytest.raises(ValueError, match="no keys and no noise"):
        estimate(None)


def test_given_noise_of_the_posterior_means(random_params):
    network = vae.mlp_vae(6, (4, 3), ((), ()))
    params = random_params(network, 0.3)
    x = np.random.default_rng(0).uniform(size=(5, 6)).astype(np.float32)
    noise = vae.draw_noise(jax.random.fold_in(jax.random.key(0), 0), (4, 3), 5, 7)
    given = vae.posterior_means(None, network, params, x, 7, noise=noise)
    by_key = vae.posterior_means(jax.random.key(0), network, params, x, 7)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), given, by_key)
    mean, log_variance = numpy_gaussian(params["recognition_0"], x)
    z = mean[:, None] + np.exp(log_variance / 2)[:, None] * np.asarray(noise[0])
    np.testing.assert_allclose(given[1], numpy_gaussian(params["recognition_1"], z)[0].mean(1), rtol=1e-4, atol=1e-6)
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


def test_posterior_means_of_both_layers(random_params):
    network = vae.mlp_vae(6, (4, 3), ((), ()))
    params = random_params(network, 0.3)
    x = np.random.default_rng(0).uniform(size=(5, 6)).astype(np.float32)
    first, second = vae.posterior_means(jax.random.key(0), network, params, x, num_samples=20_000)
    mean, log_variance = numpy_gaussian(params["recognition_0"], x)
    np.testing.assert_allclose(first, mean, rtol=1e-5)
    # The second layer is linear in z_1: its mean is that of the mean.
    expected, _ = numpy_gaussian(params["recognition_1"], mean)
    assert np.abs(second - expected).max() < 5 * np.exp(log_variance / 2).max() / np.sqrt(20_000)


def test_a_sample_depends_on_its_own_number(trained):
    network, params, _ = trained
    few = vae.sample(jax.random.key(0), network, params, vae.bernoulli(), 3)
    many = vae.sample(jax.random.key(0), network, params, vae.bernoulli(), 9)
    np.testing.assert_allclose(few[0], many[0][:3], rtol=1e-5)
    np.testing.assert_array_equal(few[1], many[1][:3])
    assert len(np.unique(many[0], axis=0)) == 9
    assert set(np.unique(many[1])) <= {0.0, 1.0}


def test_a_sample_from_given_noise_and_draws(trained):
    network, params, _ = trained
    keys = lambda: jax.random.split(jax.random.key(0), 4)
    latent, pixels = jnp.swapaxes(jax.vmap(jax.random.split)(keys()), 0, 1)
    noise = jax.vmap(lambda key: vae.draw_noise(key, (2,)))(latent)
    draws = jax.vmap(lambda key: jax.random.uniform(key, (5,)))(pixels)
    sample = partial(vae.sample, network=network, params=params, likelihood=vae.bernoulli(), num=4)
    by_key = sample(keys())
    for given in (sample(None, noise=noise, draws=draws), sample(keys(), noise=noise), sample(keys(), draws=draws)):
        np.testing.assert_allclose(given[0], by_key[0], rtol=1e-6)
        np.testing.assert_array_equal(given[1], by_key[1])
    other = sample(keys(), noise=jax.tree.map(jnp.negative, noise), draws=1 - draws)
    assert np.abs(other[0] - by_key[0]).max() > 0.01 and np.any(other[1] != by_key[1])
    with pytest.raises(ValueError, match="both noise and draws"):
        sample(None, noise=noise)
    with pytest.raises(ValueError, match=r"noise\[0\] has shape \(4, 3\); expected \(4, 2\)"):
        sample(None, noise=(np.zeros((4, 3)),), draws=draws)


def test_interpolation_ends_where_it_should_and_keeps_its_length():
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, 3, 50)).astype(np.float32)
    b = b / np.linalg.norm(b, axis=-1, keepdims=True) * np.linalg.norm(a, axis=-1, keepdims=True)
    for spherical in (False, True):
        path = np.asarray(vae.interpolate(jnp.asarray(a), jnp.asarray(b), 5, spherical))
        np.testing.assert_allclose(path[0], a, atol=1e-5)
        np.testing.assert_allclose(path[-1], b, atol=1e-5)
    lengths = np.linalg.norm(path, axis=-1)
    np.testing.assert_allclose(lengths, np.repeat(lengths[:1], 5, 0), rtol=1e-4)
    angles = np.arccos(np.clip((path[1:] * path[:-1]).sum(-1) / (lengths[1:] * lengths[:-1]), -1, 1))
    np.testing.assert_allclose(angles, np.repeat(angles[:1], 4, 0), rtol=1e-2)
    same = vae.interpolate(jnp.asarray(a), jnp.asarray(2 * a), 3, True)
    np.testing.assert_allclose(same[1], 1.5 * a, rtol=1e-5)
    with pytest.raises(ValueError, match="num is 1"):
        vae.interpolate(jnp.asarray(a), jnp.asarray(b), 1)


def test_walks():
    walk = vae.traverse(jnp.array([5.0, 6.0]), jnp.array([-1.0, 0.0, 1.0]))
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
        network.apply({"params": params}, jnp.zeros((1, 5)), method="encode")
    with pytest.raises(ValueError, match="z has width 3"):
        network.apply({"params": params}, jnp.zeros((1, 3)), method="decode")
    with pytest.raises(ValueError, match="expected one of iwae, stl, dreg"):
        vae.iwae_loss(network, vae.bernoulli(), num_samples=2, gradient="vimco")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="free_bits_statistics"):
        loss = vae.vae_loss(network, vae.bernoulli(), free_nats=0.1)
        context = training.Context(jnp.int32(0))
        loss(params, {"x": jnp.zeros((1, 4))}, jax.random.split(jax.random.key(0), 1), context)
