"""The forward process by its moments, its posterior by Bayes, and every prediction turned into every other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_data import chain

from jaxgen import diffusion

BETAS = {"linear": diffusion.linear_betas(1000), "cosine": diffusion.cosine_betas(50)}
KEY = jax.random.key(0)


def constant(value, num=1):
    return jnp.full((num, 1), value, jnp.float64)


def one_key(num):
    """The same key for all, so that the noise is: differences of draws are coefficients."""
    return jnp.broadcast_to(jax.random.key(0), (num,))


@pytest.mark.parametrize("name", BETAS)
def test_the_posterior_is_that_of_bayes(name):
    """q(x_{t-1} | x_t, x_0) is q_step's density times q_sample's, both read off their draws."""
    betas = BETAS[name]
    steps = np.array([1, 2, 7, len(betas) // 2, len(betas) - 1])
    with jax.enable_x64(True):
        s = diffusion.make_schedule(betas, jnp.float64)
        t, ones = jnp.asarray(steps), constant(1.0, len(steps))
        step = lambda x: np.asarray(diffusion.q_step(one_key(len(steps)), s, x, t))
        jump = lambda x: jax.tree.map(np.asarray, diffusion.q_sample(one_key(len(steps)), s, x, t - 1))
        from_zero = jump(0 * ones)
        step_noise, step_scale = step(0 * ones) / from_zero.noise, step(ones) - step(0 * ones)
        jump_noise, jump_scale = from_zero.x_t / from_zero.noise, jump(ones).x_t - from_zero.x_t
        x0, x_t = 0.3 * ones, -0.7 * ones
        found = jax.tree.map(np.asarray, diffusion.q_posterior(s, x0, x_t, t))
    precision = step_scale**2 / step_noise**2 + 1 / jump_noise**2
    mean = (step_scale / step_noise**2 * -0.7 + jump_scale / jump_noise**2 * 0.3) / precision
    np.testing.assert_allclose(found.variance, 1 / precision, rtol=1e-8)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-8)
    np.testing.assert_allclose(np.exp(found.log_variance), found.variance, rtol=1e-12)


def test_at_the_first_step_the_posterior_is_the_data():
    s = diffusion.make_schedule(BETAS["linear"])
    x0 = jnp.array([[0.3, -1.0]])
    found = diffusion.q_posterior(s, x0, jnp.array([[5.0, 6.0]]), 0)
    np.testing.assert_allclose(found.mean, x0, rtol=1e-6)
    assert found.variance.shape == (1, 1) and float(found.variance[0, 0]) == 0
    np.testing.assert_allclose(np.exp(found.log_variance), [[5.4531876613e-05]], rtol=1e-5)


def test_steps_of_noise_add_up_to_the_jump():
    """Scale and variance after t + 1 steps of q_step are those of q_sample."""
    betas = BETAS["cosine"]
    with jax.enable_x64(True):
        s = diffusion.make_schedule(betas, jnp.float64)
        t = jnp.arange(50)
        zero, one = constant(0.0, 50), constant(1.0, 50)
        jump, z = map(np.asarray, diffusion.q_sample(one_key(50), s, zero, t))
        jump_scale = np.asarray(diffusion.q_sample(one_key(50), s, one, t).x_t) - jump
        step = lambda x: np.asarray(diffusion.q_step(one_key(50), s, x, t))
        scale, noise = step(one) - step(zero), step(zero) / z
    product, variance = 1.0, 0.0
    for i in range(50):
        product, variance = product * scale[i, 0], scale[i, 0] ** 2 * variance + noise[i, 0] ** 2
        np.testing.assert_allclose([jump_scale[i, 0], (jump / z)[i, 0] ** 2], [product, variance], rtol=1e-9)
    np.testing.assert_allclose(noise[:, 0] ** 2, betas, rtol=1e-9)
    np.testing.assert_allclose(jump_scale[:, 0] ** 2, np.cumprod(1 - betas), rtol=1e-6)


def test_noise_is_standard_and_each_examples_own():
    s = diffusion.make_schedule(BETAS["linear"])
    x0 = jnp.full((400, 50), 0.5)
    t = jnp.where(jnp.arange(400) % 2 == 0, 300, 900)
    x_t, noise = jax.jit(lambda k: diffusion.q_sample(k, s, x0, t))(KEY)
    noise = np.asarray(noise)
    assert abs(noise.mean()) < 4 / np.sqrt(noise.size)
    assert abs(noise.var() - 1) < 4 * np.sqrt(2 / noise.size)
    assert len(np.unique(noise)) > 0.99 * noise.size
    alpha_bar = np.cumprod(1 - BETAS["linear"])[np.asarray(t)][:, None]
    np.testing.assert_allclose(x_t, np.sqrt(alpha_bar) * 0.5 + np.sqrt(1 - alpha_bar) * noise, rtol=1e-5, atol=1e-6)
    # Example i of a batch is example i of another batch, and its key may be given.
    few = diffusion.q_sample(KEY, s, x0[:3], t[:3])
    np.testing.assert_array_equal(few.noise, noise[:3])
    own = diffusion.q_sample(diffusion.example_keys(KEY, 3)[2:], s, x0[2:3], t[2:3])
    np.testing.assert_array_equal(own.noise, noise[2:3])


def test_given_noise_of_the_forward_process():
    betas, t = BETAS["cosine"], np.array([0, 7, 49])
    x, noise = np.random.default_rng(0).normal(size=(2, 3, 4))
    with jax.enable_x64(True):
        s, x_jax = diffusion.make_schedule(betas, jnp.float64), jnp.asarray(x)
        step = diffusion.q_step(None, s, x_jax, t, noise=noise)
        jump = diffusion.q_sample(None, s, x_jax, t, noise=noise)
        drawn = diffusion.example_normal(jax.random.key(0), x_jax)
        for draw in (diffusion.q_step, diffusion.q_sample):
            given, by_key = draw(None, s, x_jax, t, noise=drawn), draw(jax.random.key(0), s, x_jax, t)
            jax.tree.map(np.testing.assert_array_equal, given, by_key)
    beta, alpha_bar = betas[t][:, None], np.cumprod(1 - betas)[t][:, None]
    np.testing.assert_allclose(step, np.sqrt(1 - beta) * x + np.sqrt(beta) * noise, rtol=1e-10)
    np.testing.assert_allclose(jump.x_t, np.sqrt(alpha_bar) * x + np.sqrt(1 - alpha_bar) * noise, rtol=1e-10)
    np.testing.assert_array_equal(jump.noise, noise)
    for draw in (diffusion.q_step, diffusion.q_sample):
        with pytest.raises(ValueError, match=r"noise has shape \(4,\); expected \(3, 4\)"):
            draw(None, diffusion.make_schedule(betas), jnp.zeros((3, 4)), 0, noise=noise[0])
        with pytest.raises(ValueError, match="no key and no noise"):
            draw(None, diffusion.make_schedule(betas), jnp.zeros((3, 4)), 0)


@pytest.mark.parametrize("source", ["noise", "x0", "mean", "v"])
@pytest.mark.parametrize("target", ["noise", "x0", "mean", "v"])
def test_every_prediction_becomes_every_other(source, target):
    generator = np.random.default_rng(0)
    for betas in BETAS.values():
        c = chain(betas)
        t = np.array([0, 1, len(betas) // 2, len(betas) - 1])
        x0, noise = generator.normal(size=(2, 4, 3))
        scale, sigma = np.sqrt(c.alpha_bar[t])[:, None], np.sqrt(1 - c.alpha_bar[t])[:, None]
        x_t = scale * x0 + sigma * noise
        values = {"x0": x0, "noise": noise, "v": scale * noise - sigma * x0}
        values["mean"] = c.from_x0[t][:, None] * x0 + c.from_xt[t][:, None] * x_t
        with jax.enable_x64(True):
            s = diffusion.make_schedule(betas, jnp.float64)
            args = (jnp.asarray(values[source]), jnp.asarray(x_t), jnp.asarray(t))
            found = diffusion.convert(s, *args, source, target)
            back = diffusion.convert(s, found, *args[1:], target, source)
            aimed = diffusion.prediction_target(s, jnp.asarray(x0), args[2], jnp.asarray(noise), target)
        np.testing.assert_allclose(found, values[target], atol=1e-7, err_msg=f"{source} to {target}")
        np.testing.assert_allclose(back, values[source], atol=1e-7)
        np.testing.assert_allclose(aimed, values[target], atol=1e-12)


def test_the_velocity_keeps_its_digits_in_float32():
    """By way of x_0, dividing by sqrt(1 - alpha-bar) = 0.006 would leave four digits fewer at t = 0."""
    betas = diffusion.cosine_betas(1000)
    s = diffusion.make_schedule(betas)
    generator = np.random.default_rng(0)
    v, x_t = generator.normal(size=(2, 1, 1000)).astype(np.float32)
    for t in (0, 999):
        alpha_bar = np.cumprod(1 - betas)[t]
        expected = np.sqrt(1 - alpha_bar) * x_t.astype(float) + np.sqrt(alpha_bar) * v
        found = diffusion.convert(s, jnp.asarray(v), jnp.asarray(x_t), t, "v", "noise")
        np.testing.assert_allclose(found, expected, atol=5e-7)


@pytest.mark.parametrize("prediction", ["noise", "x0", "mean", "v"])
def test_the_simple_loss_is_the_mean_square_of_what_is_missing(prediction):
    s = diffusion.make_schedule(BETAS["cosine"])
    generator = np.random.default_rng(0)
    x0, noise, error = map(jnp.asarray, generator.normal(size=(3, 2, 4, 5)).astype(np.float32))
    t = jnp.array([3, 40])
    right = diffusion.prediction_target(s, x0, t, noise, prediction)
    loss = diffusion.simple_loss(s, right + error, x0, t, noise, prediction=prediction)
    np.testing.assert_allclose(loss, np.mean(np.asarray(error) ** 2, axis=(1, 2)), rtol=1e-4)


def test_t_and_images_must_fit():
    s = diffusion.make_schedule(BETAS["cosine"])
    x = jnp.ones((3, 2))
    # An index off by one, as from a 1-based t, is not read from the table's end.
    values = np.asarray(diffusion.add_noise(s, x, jnp.array([49, 50, -1]), x))
    assert np.all(np.isfinite(values[0])) and np.all(np.isnan(values[1:]))
    with pytest.raises(ValueError, match=r"t has shape \(2,\) and x \(3, 2\)"):
        diffusion.add_noise(s, x, jnp.array([1, 2]), x)
    with pytest.raises(ValueError, match=r"t has shape \(1,\)"):
        diffusion.add_noise(s, x, jnp.array([1]), x)
    with pytest.raises(ValueError, match="t has dtype float32"):
        diffusion.add_noise(s, x, jnp.ones(3), x)
    with pytest.raises(ValueError, match="x has dtype uint8"):
        diffusion.add_noise(s, x.astype(jnp.uint8), 0, x)
    with pytest.raises(ValueError, match="expected one of noise, x0, mean, v"):
        diffusion.convert(s, x, x, 0, "epsilon", "x0")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'score'.*expected one of"):
        diffusion.simple_loss(s, x, x, 0, x, prediction="score")  # type: ignore[arg-type]
    calls = [lambda y: diffusion.convert(s, y, x, 0, "noise", "x0"), lambda y: diffusion.simple_loss(s, y, x, 0, x)]
    for call in calls:
        with pytest.raises(ValueError, match=r"shape \(3, 4\).*split_output"):
            call(jnp.ones((3, 4)))
    with pytest.raises(ValueError, match="key has dtype uint32"):
        diffusion.q_step(jnp.zeros(2, jnp.uint32), s, x, 0)
    with pytest.raises(ValueError, match=r"keys of shape \(2,\) for 3 examples"):
        diffusion.q_step(jax.random.split(KEY, 2), s, x, 0)
    with pytest.raises(ValueError, match=r"lie in \[0, 255\].*127\.5"):
        diffusion.check_images(np.array([0.0, 255.0]))
    with pytest.raises(ValueError, match="dtype uint8"):
        diffusion.check_images(np.array([0, 1], np.uint8))
    with pytest.raises(ValueError, match="lie in"):
        diffusion.check_images(np.array([0.0, np.nan]))
    np.testing.assert_array_equal(diffusion.check_images(np.array([-1.0, 1.0])), [-1, 1])
