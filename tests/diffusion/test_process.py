"""The forward process by its moments, its posterior by Bayes, and every prediction turned into every other."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion
from tests.diffusion.gaussian_data import chain
from tests.programs import values

BETAS = {"linear": diffusion.linear_betas(1000), "cosine": diffusion.cosine_betas(50)}
KEY = jax.random.key(0)


def constant(value, num=1):
    return np.full((num, 1), value)


def one_key(key, num):
    """The same key for all, so that the noise is: differences of draws are coefficients."""
    return jnp.broadcast_to(jax.random.clone(key), (num,))


def test_the_posterior_is_that_of_bayes():
    """q(x_{t-1} | x_t, x_0) is q_step's density times q_sample's, both read off their draws."""
    steps = {name: np.array([1, 2, 7, len(betas) // 2, len(betas) - 1]) for name, betas in BETAS.items()}

    def program(key, name, t):
        s, zeros, ones = diffusion.make_schedule(BETAS[name], jnp.float64), constant(0.0, 5), constant(1.0, 5)
        step = [diffusion.q_step(one_key(key, 5), s, jnp.asarray(x), t) for x in (zeros, ones)]
        jump = [diffusion.q_sample(one_key(key, 5), s, jnp.asarray(x), t - 1) for x in (zeros, ones)]
        return step, jump, diffusion.q_posterior(s, jnp.asarray(0.3 * ones), jnp.asarray(-0.7 * ones), t)

    all_found = values(
        lambda key, steps: {name: program(key, name, t) for name, t in steps.items()}, KEY, steps, x64=True
    )
    for name, (step, jump, found) in all_found.items():
        noise = jump[0].noise
        step_noise, step_scale = step[0] / noise, step[1] - step[0]
        jump_noise, jump_scale = jump[0].x_t / noise, jump[1].x_t - jump[0].x_t
        precision = step_scale**2 / step_noise**2 + 1 / jump_noise**2
        mean = (step_scale / step_noise**2 * -0.7 + jump_scale / jump_noise**2 * 0.3) / precision
        np.testing.assert_allclose(found.variance, 1 / precision, rtol=1e-8, err_msg=name)
        np.testing.assert_allclose(found.mean, mean, rtol=1e-8, err_msg=name)
        np.testing.assert_allclose(np.exp(found.log_variance), found.variance, rtol=1e-12, err_msg=name)


def test_at_the_first_step_the_posterior_is_the_data():
    s = diffusion.make_schedule(BETAS["linear"])
    x0 = np.array([[0.3, -1.0]])
    found = values(lambda x0, x_t: diffusion.q_posterior(s, x0, x_t, 0), x0, np.array([[5.0, 6.0]]))
    np.testing.assert_allclose(found.mean, x0, rtol=1e-6)
    assert found.variance.shape == (1, 1) and float(found.variance[0, 0]) == 0
    np.testing.assert_allclose(np.exp(found.log_variance), [[5.4531876613e-05]], rtol=1e-5)


def test_steps_of_noise_add_up_to_the_jump():
    """Scale and variance after t + 1 steps of q_step are those of q_sample."""
    betas = BETAS["cosine"]

    def program(key, x):
        s, t = diffusion.make_schedule(betas, jnp.float64), jnp.arange(50)
        return diffusion.q_sample(one_key(key, 50), s, x, t), diffusion.q_step(one_key(key, 50), s, x, t)

    both = values(
        lambda *args: jax.vmap(program, (None, 0))(*args),
        KEY,
        np.stack([constant(0.0, 50), constant(1.0, 50)]),
        x64=True,
    )
    ((jump, with_one), (z, _)), (step, step_one) = both
    jump_scale, scale, noise = with_one - jump, step_one - step, step / z
    product, variance = 1.0, 0.0
    for i in range(50):
        product, variance = product * scale[i, 0], scale[i, 0] ** 2 * variance + noise[i, 0] ** 2
        np.testing.assert_allclose([jump_scale[i, 0], (jump / z)[i, 0] ** 2], [product, variance], rtol=1e-9)
    np.testing.assert_allclose(noise[:, 0] ** 2, betas, rtol=1e-9)
    np.testing.assert_allclose(jump_scale[:, 0] ** 2, np.cumprod(1 - betas), rtol=1e-6)


def test_noise_is_standard_and_each_examples_own():
    s = diffusion.make_schedule(BETAS["linear"])
    t = np.where(np.arange(400) % 2 == 0, 300, 900)

    def program(key, x0, t):
        whole = diffusion.q_sample(jax.random.clone(key), s, x0, t)
        # Example i of a batch is example i of another batch, and its key may be given.
        few = diffusion.q_sample(jax.random.clone(key), s, x0[:3], t[:3])
        own = diffusion.q_sample(diffusion.keys_per_example(key, 3)[2:], s, x0[2:3], t[2:3])
        return *whole, few.noise, own.noise

    x_t, noise, few, own = values(program, KEY, np.full((400, 50), 0.5), t)
    assert abs(noise.mean()) < 4 / np.sqrt(noise.size)
    assert abs(noise.var() - 1) < 4 * np.sqrt(2 / noise.size)
    assert len(np.unique(noise)) > 0.99 * noise.size
    alpha_bar = np.cumprod(1 - BETAS["linear"])[t][:, None]
    np.testing.assert_allclose(x_t, np.sqrt(alpha_bar) * 0.5 + np.sqrt(1 - alpha_bar) * noise, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(few, noise[:3])
    np.testing.assert_array_equal(own, noise[2:3])


def test_given_noise_of_the_forward_process():
    betas, t = BETAS["cosine"], np.array([0, 7, 49])
    x, noise = np.random.default_rng(0).normal(size=(2, 3, 4))
    draws = (diffusion.q_step, diffusion.q_sample)

    def program(key, x, noise):
        s, drawn = diffusion.make_schedule(betas, jnp.float64), diffusion.normal_per_example(jax.random.clone(key), x)
        pairs = [(draw(None, s, x, t, noise=drawn), draw(jax.random.clone(key), s, x, t)) for draw in draws]
        return [draw(None, s, x, t, noise=noise) for draw in draws], pairs

    (step, jump), pairs = values(program, KEY, x, noise, x64=True)
    for given, by_key in pairs:
        jax.tree.map(np.testing.assert_array_equal, given, by_key)
    beta, alpha_bar = betas[t][:, None], np.cumprod(1 - betas)[t][:, None]
    np.testing.assert_allclose(step, np.sqrt(1 - beta) * x + np.sqrt(beta) * noise, rtol=1e-10)
    np.testing.assert_allclose(jump.x_t, np.sqrt(alpha_bar) * x + np.sqrt(1 - alpha_bar) * noise, rtol=1e-10)
    np.testing.assert_array_equal(jump.noise, noise)
    s = diffusion.make_schedule(betas)
    for draw in draws:
        with pytest.raises(ValueError, match=r"noise has shape \(4,\), and x\w* has shape \(3, 4\)"):
            draw(None, s, np.zeros((3, 4)), 0, noise=noise[0])
        with pytest.raises(ValueError, match="no key and no noise"):
            draw(None, s, np.zeros((3, 4)), 0)


def test_every_prediction_becomes_every_other():
    predictions = ("noise", "x0", "mean", "v")
    generator = np.random.default_rng(0)
    cases = {}
    for name, betas in BETAS.items():
        c = chain(betas)
        t = np.array([0, 1, len(betas) // 2, len(betas) - 1])
        x0, noise = generator.normal(size=(2, 4, 3))
        scale, sigma = np.sqrt(c.alpha_bar[t])[:, None], np.sqrt(1 - c.alpha_bar[t])[:, None]
        x_t = scale * x0 + sigma * noise
        expected = {"x0": x0, "noise": noise, "v": scale * noise - sigma * x0}
        expected["mean"] = c.from_x0[t][:, None] * x0 + c.from_xt[t][:, None] * x_t
        cases[name] = expected, x_t, t

    def program(name, expected, x_t, t):
        s = diffusion.make_schedule(BETAS[name], jnp.float64)
        convert = lambda value, *pair: diffusion.convert(s, value, x_t, t, *pair)
        pairs = list(itertools.product(predictions, predictions))
        to = {f"{a} to {b}": convert(expected[a], a, b) for a, b in pairs}
        back = {f"{a} to {b}": convert(to[f"{a} to {b}"], b, a) for a, b in pairs}
        aim = lambda target: diffusion.prediction_target(s, expected["x0"], t, expected["noise"], target)
        return to, back, {target: aim(target) for target in predictions}

    found = values(lambda cases: {name: program(name, *case) for name, case in cases.items()}, cases, x64=True)
    for name, (to, back, aimed) in found.items():
        expected = cases[name][0]
        for pair, value in to.items():
            source, target = pair.split(" to ")
            np.testing.assert_allclose(value, expected[target], atol=1e-7, err_msg=f"{name}: {pair}")
            np.testing.assert_allclose(back[pair], expected[source], atol=1e-7, err_msg=f"{name}: {pair} and back")
        for target, value in aimed.items():
            np.testing.assert_allclose(value, expected[target], atol=1e-12, err_msg=f"{name}: {target}")


def test_the_velocity_keeps_its_digits_in_float32():
    """By way of x_0, dividing by sqrt(1 - alpha-bar) = 0.006 would leave four digits fewer at t = 0."""
    betas = diffusion.cosine_betas(1000)
    s = diffusion.make_schedule(betas)
    v, x_t = np.random.default_rng(0).normal(size=(2, 1, 1000)).astype(np.float32)
    program = lambda v, x_t: {t: diffusion.convert(s, v, x_t, t, "v", "noise") for t in (0, 999)}
    for t, found in values(program, v, x_t).items():
        alpha_bar = np.cumprod(1 - betas)[t]
        expected = np.sqrt(1 - alpha_bar) * x_t.astype(float) + np.sqrt(alpha_bar) * v
        np.testing.assert_allclose(found, expected, atol=5e-7, err_msg=f"t = {t}")


def test_the_simple_loss_is_the_mean_square_of_what_is_missing():
    s = diffusion.make_schedule(BETAS["cosine"])
    x0, noise, error = np.random.default_rng(0).normal(size=(3, 2, 4, 5))
    t = np.array([3, 40])

    def loss(x0, noise, error, prediction):
        right = diffusion.prediction_target(s, x0, t, noise, prediction)
        return diffusion.simple_loss(s, right + error, x0, t, noise, prediction=prediction)

    predictions = ("noise", "x0", "mean", "v")
    program = lambda x0, noise, error: {prediction: loss(x0, noise, error, prediction) for prediction in predictions}
    for prediction, found in values(program, x0, noise, error).items():
        np.testing.assert_allclose(found, np.mean(error**2, axis=(1, 2)), rtol=1e-4, err_msg=prediction)


def test_t_and_images_must_fit():
    s = diffusion.make_schedule(BETAS["cosine"])
    x = np.ones((3, 2), np.float32)
    # An index off by one, as from a 1-based t, is not read from the table's end.
    found = values(lambda x, t: diffusion.add_noise(s, x, t, x), x, np.array([49, 50, -1]))
    assert np.all(np.isfinite(found[0])) and np.all(np.isnan(found[1:]))
    bytes_, wide = np.ones((3, 2), np.uint8), np.ones((3, 4), np.float32)
    add, convert, step = diffusion.add_noise, diffusion.convert, diffusion.q_step
    for message, call in (
        (r"t has shape \(2,\) and x \(3, 2\)", lambda key: add(s, x, np.array([1, 2]), x)),
        (r"t has shape \(1,\)", lambda key: add(s, x, np.array([1]), x)),
        ("t has dtype float32", lambda key: add(s, x, np.ones(3, np.float32), x)),
        ("x0 has dtype uint8", lambda key: add(s, bytes_, 0, x)),
        ("expected one of noise, x0, mean, v", lambda key: convert(s, x, x, 0, "epsilon", "x0")),  # type: ignore[arg-type]
        ("'score'.*expected one of", lambda key: diffusion.simple_loss(s, x, x, 0, x, prediction="score")),  # type: ignore[arg-type]
        (r"shape \(3, 4\).*split_output", lambda key: convert(s, wide, x, 0, "noise", "x0")),
        (r"shape \(3, 4\).*split_output", lambda key: diffusion.simple_loss(s, wide, x, 0, x)),
        (r"key is uint32 \(3,\)", lambda key: step(jnp.zeros(3, jnp.uint32), s, x, 0)),
        (r"key has shape \(2,\)", lambda key: step(jax.random.split(key, 2), s, x, 0)),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(call, KEY)
    with pytest.raises(ValueError, match=r"lie in \[0, 255\].*127\.5"):
        diffusion.check_images(np.array([0.0, 255.0]))
    with pytest.raises(ValueError, match="dtype uint8"):
        diffusion.check_images(np.array([0, 1], np.uint8))
    with pytest.raises(ValueError, match="lie in"):
        diffusion.check_images(np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match=r"lie in \[-2, 0.5\]"):
        diffusion.check_images(np.array([-2.0, 0.5]))
    np.testing.assert_array_equal(diffusion.check_images(np.array([-1.0, 1.0])), [-1, 1])


@pytest.mark.parametrize("t", [4, -1, np.array([0, 4, 1]), [3, 0, -1]])
def test_a_t_outside_of_the_schedule_is_refused_outside_of_jit(t):
    s = diffusion.make_schedule(np.linspace(0.1, 0.4, 4))
    x, y = np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32)
    key = lambda: jax.random.clone(KEY)
    low, high = np.min(t), np.max(t)
    for call in (
        lambda: diffusion.add_noise(s, x, t, y),
        lambda: diffusion.q_sample(key(), s, x, t),
        lambda: diffusion.q_step(key(), s, x, t),
        lambda: diffusion.q_posterior(s, x, y, t),
        lambda: diffusion.p_mean_variance(s, y, x, t),
        lambda: diffusion.ancestral_step(key(), s, y, x, t),
        lambda: diffusion.ddim_step(key(), s, y, x, t, eta=0.5),
        lambda: diffusion.ddim_step(None, s, y, x, t),
        lambda: diffusion.ddim_inversion_step(s, y, x, t),
        lambda: diffusion.dpm_solver_step(s, y, x, t, y),
    ):
        with pytest.raises(ValueError, match=f"t runs from {low} to {high}, and the schedule has 0 to 3: t is 0-based"):
            call()


@pytest.mark.parametrize(
    ("t", "message"),
    [
        ("5", "t is '5'; expected an array of numbers"),
        (None, "t is None"),
        (np.array([2**40, 1]), "t runs from 1 to 1099511627776, and the schedule has 0 to 49"),
        (2**40, "t runs from 1099511627776"),
        ([0.0, 1.0], "t has dtype float"),
        ([True, False], "t has dtype bool"),
        (np.ma.array([0, 1], mask=[True, False]), "t is a masked array"),
    ],
)
def test_what_is_no_index_of_a_step_is_refused(t, message):
    s, x = diffusion.make_schedule(BETAS["cosine"]), np.ones((2, 3), np.float32)
    calls = (
        lambda: diffusion.add_noise(s, x, t, x),
        lambda: diffusion.q_sample(KEY, s, x, t),
        lambda: diffusion.q_posterior(s, x, x, t),
        lambda: diffusion.p_mean_variance(s, x, x, t),
        lambda: diffusion.ddim_step(KEY, s, x, x, t),
    )
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()
