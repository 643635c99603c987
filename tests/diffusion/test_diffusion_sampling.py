"""Samplers where everything is known: with Gaussian data each is an affine chain."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_data import affine_chain, best_network, best_x0, chain, sampling_variance

from jaxgen import diffusion

MEAN, VARIANCE = 0.3, 0.4
BETAS = diffusion.linear_betas(200)
KEPT = np.arange(0, 200, 5)


def spaced(betas=BETAS, dtype=jnp.float32):
    return diffusion.respace(diffusion.make_schedule(betas, dtype), "ddim40")


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_ancestral_samples_have_the_moments_of_the_affine_chain(variance):
    c = chain(BETAS, KEPT)
    mean, var, _ = affine_chain(c, MEAN, VARIANCE, sampling_variance(c, variance))
    draw = partial(
        diffusion.sample,
        denoise=best_network(BETAS, MEAN, VARIANCE),
        shape=(4000, 10),
        schedule=spaced(),
        variance=variance,
        clip=False,
    )
    found = np.asarray(jax.jit(draw)(jax.random.key(1)))
    wrong = "fixed_large" if variance == "fixed_small" else "fixed_small"
    other = affine_chain(c, MEAN, VARIANCE, sampling_variance(c, wrong))
    assert abs(other[1] / var - 1) > 0.05
    assert abs(found.mean() - mean) < 4 * np.sqrt(var / found.size)
    assert abs(found.var() / var - 1) < 4 * np.sqrt(2 / found.size)
    # Examples and dimensions are independent: the mean square of 10 x 10 correlations of nothing is 1 / 4000.
    off = np.corrcoef(found.T)[np.triu_indices(10, 1)]
    assert np.mean(off**2) < 2 / 4000


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_ddim_samples_have_the_moments_of_the_affine_chain(eta):
    mean, var, _ = affine_chain(chain(BETAS, KEPT), MEAN, VARIANCE, None, eta)
    draw = partial(
        diffusion.sample,
        denoise=best_network(BETAS, MEAN, VARIANCE),
        shape=(4000, 10),
        schedule=spaced(),
        method="ddim",
        eta=eta,
        clip=False,
    )
    found = np.asarray(jax.jit(draw)(jax.random.key(1)))
    assert abs(found.mean() - mean) < 4 * np.sqrt(var / found.size)
    assert abs(found.var() / var - 1) < 4 * np.sqrt(2 / found.size)


def test_ddim_without_eta_is_the_affine_map_of_its_start():
    with jax.enable_x64(True):
        x = jnp.asarray([[-2.0, 0.0, 1.5]])
        run = jax.jit(
            lambda key, x: diffusion.denoise_from(
                key, best_network(BETAS, MEAN, VARIANCE), x, spaced(dtype=jnp.float64), method="ddim", clip=False
            )
        )
        first, second = run(jax.random.key(0), x), run(jax.random.key(1), x)
    np.testing.assert_array_equal(first, second)
    constant, _, factor = affine_chain(chain(BETAS, KEPT), MEAN, VARIANCE, None, 0.0)
    np.testing.assert_allclose(first, constant + factor * np.array([[-2.0, 0.0, 1.5]]), rtol=1e-9)


@pytest.mark.parametrize("prediction", ["noise", "x0", "v"])
def test_ddim_with_eta_1_is_ancestral_with_the_small_variance(prediction):
    generator = np.random.default_rng(0)
    x_t, output = generator.normal(size=(2, 5, 3))
    t = np.array([0, 1, 20, 38, 39])
    with jax.enable_x64(True):
        s = diffusion.respace(diffusion.make_schedule(diffusion.cosine_betas(200), jnp.float64), 40)
        args = (s, jnp.asarray(output), jnp.asarray(x_t), jnp.asarray(t))
        ancestral = diffusion.ancestral_step(jax.random.key(0), *args, prediction=prediction, variance="fixed_small")
        ddim = diffusion.ddim_step(jax.random.key(0), *args, eta=1.0, prediction=prediction)
        no_noise = diffusion.ancestral_step(jax.random.key(1), *args, prediction=prediction, variance="fixed_small")
    np.testing.assert_allclose(ddim.x, ancestral.x, rtol=1e-9)
    np.testing.assert_allclose(ddim.x0, ancestral.x0, rtol=1e-9)
    # The key matters, except at t = 0.
    moved = np.abs(np.asarray(no_noise.x - ancestral.x)).max(axis=1)
    assert moved[0] == 0 and np.all(moved[1:] > 1e-6)


def test_learned_variances_reach_the_step():
    s = spaced()
    x_t, t = jnp.full((2, 4), 0.3), jnp.array([7, 39])
    noise = jnp.full((2, 4), 0.1)
    step = lambda output, kind: diffusion.ancestral_step(jax.random.key(0), s, output, x_t, t, variance=kind).x
    wide = step(jnp.concatenate([noise, noise * 0 - 1], -1), "learned_range")
    np.testing.assert_allclose(wide, step(noise, "fixed_small"), rtol=1e-5)
    wide = step(jnp.concatenate([noise, noise * 0 + 1], -1), "learned_range")
    np.testing.assert_allclose(wide, step(noise, "fixed_large"), rtol=1e-5)
    both = jnp.concatenate([noise, noise], -1)
    ddim = diffusion.ddim_step(None, s, both, x_t, t, variance="learned")
    np.testing.assert_allclose(ddim.x, diffusion.ddim_step(None, s, noise, x_t, t).x, rtol=1e-6)


# Inversion.


@pytest.mark.parametrize("prediction", ["noise", "x0", "mean", "v"])
def test_an_inverted_step_is_undone_by_the_step(prediction):
    generator = np.random.default_rng(0)
    x_t, output = generator.normal(size=(2, 4, 3))
    t = jnp.array([0, 1, 20, 39])
    with jax.enable_x64(True):
        s = spaced(dtype=jnp.float64)
        x_t, output = jnp.asarray(x_t), jnp.asarray(output)
        down = diffusion.ddim_step(None, s, output, x_t, t, prediction=prediction, clip=False).x
        up = diffusion.ddim_inversion_step(s, output, down, t, seen=x_t, prediction=prediction)
    np.testing.assert_allclose(up, x_t, rtol=1e-9)


def round_trip(num_steps, num_refinements=0):
    """Largest error of x_0 after inversion and sampling with the best network, at that many of 1000 steps."""
    betas = diffusion.linear_betas(1000)
    denoise = best_network(betas, MEAN, VARIANCE)
    x0 = jnp.linspace(-1, 1, 9, dtype=jnp.float64)[None, :]
    s = diffusion.respace(diffusion.make_schedule(betas, jnp.float64), num_steps)

    @jax.jit
    def there_and_back(x0):
        x_last = diffusion.ddim_encode(denoise, x0, s, num_refinements=num_refinements)
        return x_last, diffusion.denoise_from(jax.random.key(0), denoise, x_last, s, method="ddim", clip=False)

    x_last, back = there_and_back(x0)
    return np.asarray(x_last), np.abs(np.asarray(back - x0)).max()


def test_inversion_errs_by_the_order_of_one_step():
    with jax.enable_x64(True):
        errors = [round_trip(n)[1] for n in (125, 250, 500, 1000)]
        x_last, refined = round_trip(125, 3)
    ratios = np.array(errors[:-1]) / errors[1:]
    assert np.all((1.8 < ratios) & (ratios < 2.2)), errors
    assert errors[-1] < 0.01
    assert refined < 1e-3 * errors[0]
    # And what it arrives at is the latent: the data's quantiles become the noise's.
    expected = (np.linspace(-1, 1, 9)[None, :] - MEAN) / np.sqrt(VARIANCE)
    np.testing.assert_allclose(x_last, expected, atol=0.05)


# DPM-Solver++.


def even_betas(num_steps):
    """Equal steps of half the log signal-to-noise ratio, from 4 to -4."""
    alpha_bar = 1 / (1 + np.exp(-2 * np.linspace(4, -4, num_steps)))
    return 1 - alpha_bar / np.append(1, alpha_bar[:-1])


def test_dpm_solver_is_the_published_algorithm():
    """x_t = sigma_t / sigma_s x_s - alpha_t (exp(-h) - 1) D, with D from two predictions; the last step is to x_0."""
    betas = diffusion.cosine_betas(200)
    alpha_bar = np.cumprod(1 - betas)[KEPT]
    x0_of = lambda x, i: np.tanh(x + 0.01 * KEPT[i])
    x, before, expected = np.array([[0.3, -1.2]]), None, []
    lam = np.log(alpha_bar / (1 - alpha_bar)) / 2
    for i in range(39, 0, -1):
        x0, h = x0_of(x, i), lam[i - 1] - lam[i]
        expected.append(x0)
        d = x0
        if before is not None:
            r = (lam[i] - lam[i + 1]) / h
            d = (1 + 1 / (2 * r)) * x0 - before / (2 * r)
        sigma = np.sqrt(1 - alpha_bar)
        x, before = sigma[i - 1] / sigma[i] * x - np.sqrt(alpha_bar[i - 1]) * (np.exp(-h) - 1) * d, x0
    expected.append(x0_of(x, 0))
    with jax.enable_x64(True):
        denoise = lambda x, t: jnp.tanh(x + 0.01 * t.astype(x.dtype)[:, None])
        s = spaced(betas, jnp.float64)
        options = dict(method="dpm_solver", prediction="x0", clip=False)
        start = jnp.asarray([[0.3, -1.2]])
        found = jax.jit(lambda x: diffusion.denoise_from(jax.random.key(0), denoise, x, s, **options))(start)
        # From the middle there is no step before.
        middle = jax.jit(lambda x: diffusion.denoise_from(jax.random.key(0), denoise, x, s, t=1, **options))(start)
    np.testing.assert_allclose(found, expected[-1], rtol=1e-9)
    first = np.sqrt(1 - alpha_bar[0]) / np.sqrt(1 - alpha_bar[1]) * np.array([[0.3, -1.2]])
    first = first - np.sqrt(alpha_bar[0]) * np.expm1(lam[1] - lam[0]) * x0_of(np.array([[0.3, -1.2]]), 1)
    np.testing.assert_allclose(middle, x0_of(first, 0), rtol=1e-9)


def test_dpm_solver_is_of_second_order():
    """The exact flow of Gaussian data keeps (x - E x_t) / sd(x_t); DDIM's error halves, this one's falls by four."""

    def error(num_steps, method):
        betas = even_betas(num_steps)
        c = chain(betas)
        x = jnp.asarray([[-2.0, 1.0, 2.0]])
        # Up to the first noise level: the last step, to none at all, is the same for both.
        s = diffusion.make_schedule(betas, jnp.float64)
        run = lambda x: diffusion.denoise_from(
            jax.random.key(0), best_network(betas, MEAN, VARIANCE), x, s, method=method, clip=False
        )
        found = jax.jit(run)(x)
        spread = np.sqrt(c.alpha_bar * VARIANCE + 1 - c.alpha_bar)
        exact = np.sqrt(c.alpha_bar[0]) * MEAN + spread[0] / spread[-1] * (
            np.array([[-2.0, 1.0, 2.0]]) - np.sqrt(c.alpha_bar[-1]) * MEAN
        )
        gain, offset = best_x0(c, MEAN, VARIANCE)
        return np.abs(np.asarray(found) - gain[0] * exact - offset[0]).max()

    with jax.enable_x64(True):
        dpm = np.array([error(n, "dpm_solver") for n in (16, 31, 61)])
        ddim = np.array([error(n, "ddim") for n in (31, 61)])
    assert np.all((3.4 < dpm[:-1] / dpm[1:]) & (dpm[:-1] / dpm[1:] < 4.8)), dpm
    assert 1.7 < ddim[0] / ddim[1] < 2.3
    assert dpm[1] < ddim[0] / 5


@pytest.mark.parametrize("steps", ["logsnr10", "logsnr20"])
def test_dpm_solver_needs_few_steps_equal_in_log_snr(steps):
    """Five times nearer to the flow's end than DDIM, on the chain that networks are trained with."""
    betas = diffusion.linear_betas(1000)
    alpha_bar = np.cumprod(1 - betas)[-1]
    x = np.array([[-2.0, 1.0, 2.0]])
    exact = MEAN + np.sqrt(VARIANCE / (alpha_bar * VARIANCE + 1 - alpha_bar)) * (x - np.sqrt(alpha_bar) * MEAN)

    def error(method):
        s = diffusion.respace(diffusion.make_schedule(betas), steps)
        run = lambda x: diffusion.denoise_from(
            jax.random.key(0), best_network(betas, MEAN, VARIANCE), x, s, method=method, clip=False
        )
        return np.abs(np.asarray(jax.jit(run)(jnp.asarray(x, jnp.float32))) - exact).max()

    assert error("dpm_solver") < error("ddim") / 5


# The loop.


@pytest.mark.parametrize("method, eta", [("ancestral", 0.0), ("ddim", 0.7), ("dpm_solver", 0.0)])
def test_a_sample_depends_on_its_own_key(method, eta):
    denoise = lambda x, t: jnp.sin(3 * x) + 0.001 * t.astype(x.dtype)[:, None, None]
    draw = lambda key, n: np.asarray(
        jax.jit(
            lambda key: diffusion.sample(key, denoise, (n, 2, 3), spaced(), method=method, eta=eta)
        )(key)
    )  # fmt: skip
    five = draw(jax.random.key(3), 5)
    np.testing.assert_allclose(draw(jax.random.key(3), 2), five[:2], atol=1e-5)
    keys = diffusion.example_keys(jax.random.key(3), 5)
    np.testing.assert_allclose(draw(keys[3:], 2), five[3:], atol=1e-5)
    assert len(np.unique(five.reshape(5, -1), axis=0)) == 5
    assert np.abs(draw(jax.random.key(4), 5) - five).max() > 0.1
    assert np.abs(five).max() <= 1


def test_the_network_is_told_the_original_steps_and_the_loop_is_one_program():
    calls = []

    def denoise(x, t):
        calls.append(t.shape)
        return jnp.broadcast_to((t.astype(x.dtype) / 1000)[:, None], x.shape)

    schedule = diffusion.respace(diffusion.make_schedule(diffusion.linear_betas(1000)), "ddim100")
    run = jax.jit(lambda key: diffusion.sample_trajectory(key, denoise, (3, 2), schedule, 100, prediction="x0"))
    found = run(jax.random.key(0))
    np.testing.assert_allclose(found.x0[:, 1, 1], np.arange(990, -1, -10) / 1000, rtol=1e-6)
    np.testing.assert_array_equal(found.t, np.arange(99, -1, -1))
    # A thousand steps are not a thousand copies of the network.
    full = diffusion.make_schedule(diffusion.linear_betas(1000))
    calls.clear()
    text = jax.jit(lambda key: diffusion.sample(key, denoise, (3, 2), full, prediction="x0")).lower(jax.random.key(0))
    assert 1 <= len(calls) <= 2 and set(calls) == {(3,)}
    assert len(text.as_text()) < 200_000


def test_a_trajectory_is_the_sample_and_what_it_passed():
    denoise = best_network(BETAS, MEAN, VARIANCE)
    key = jax.random.key(5)
    sample = jax.jit(lambda key: diffusion.sample(key, denoise, (3, 2), spaced()))(key)
    run = lambda n: jax.tree.map(
        np.asarray, jax.jit(lambda key: diffusion.sample_trajectory(key, denoise, (3, 2), spaced(), n))(key)
    )
    all_frames, four, one = run(40), run(4), run(1)
    for found in (all_frames, four, one):
        np.testing.assert_allclose(found.x, sample, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(four.t, [39, 26, 13, 0])
    np.testing.assert_array_equal(one.t, [0])
    np.testing.assert_allclose(four.x_t, all_frames.x_t[39 - four.t], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(four.x0, all_frames.x0[39 - four.t], rtol=1e-5, atol=1e-6)
    # Each frame's x_0 is the one predicted from its state, and the last step's is the sample.
    c = chain(BETAS, KEPT)
    gain, offset = (a[::-1][:, None, None] for a in best_x0(c, MEAN, VARIANCE))
    np.testing.assert_allclose(all_frames.x0, np.clip(gain * all_frames.x_t + offset, -1, 1), atol=1e-4)
    np.testing.assert_allclose(all_frames.x0[-1], sample, atol=1e-5)
    # The start is noise, and the same for every schedule and method.
    other = jax.jit(
        lambda key: diffusion.sample_trajectory(key, denoise, (3, 2), diffusion.respace(spaced(), 7), 7, method="ddim")
    )(key)
    np.testing.assert_array_equal(other.x_t[0], all_frames.x_t[0])


def test_an_edit_of_x0_steers_every_step():
    wanted = jnp.array([[0.25, -0.5], [0.75, 2.0]])
    seen = []

    def edit(x0, t):
        seen.append(t.dtype)
        return wanted + 0 * x0

    for method in ("ancestral", "ddim", "dpm_solver"):
        run = partial(diffusion.sample, method=method, edit_x0=edit)
        found = jax.jit(lambda key, run=run: run(key, lambda x, t: x, (2, 2), spaced()))(jax.random.key(0))
        np.testing.assert_allclose(found, np.clip(wanted, -1, 1), atol=1e-5)
    assert seen and all(jnp.issubdtype(dtype, jnp.integer) for dtype in seen)


def test_gradients_pass_through_the_sampler():
    """d x_0 / d x_T is the product of the affine chain."""
    run = lambda x: diffusion.denoise_from(
        jax.random.key(0), best_network(BETAS, MEAN, VARIANCE), x, spaced(), method="ddim", clip=False
    )[0, 0]
    found = jax.jit(jax.grad(run))(jnp.ones((1, 1)))
    np.testing.assert_allclose(found, affine_chain(chain(BETAS, KEPT), MEAN, VARIANCE, None, 0.0)[2], rtol=1e-4)


# Given noise.


def numpy_step(c, x, output, t, noise, method, eta):
    """x_{t-1} of a network that predicts noise, clipped, by the definitions; t [B]."""
    of = lambda table: table[t][:, None]
    x0 = np.clip((x - np.sqrt(1 - of(c.alpha_bar)) * output) / np.sqrt(of(c.alpha_bar)), -1, 1)
    if method == "ancestral":
        sigma = np.sqrt(of(sampling_variance(c, "fixed_large"))) * (t > 0)[:, None]
        return of(c.from_x0) * x0 + of(c.from_xt) * x + sigma * noise
    eps = (x - np.sqrt(of(c.alpha_bar)) * x0) / np.sqrt(1 - of(c.alpha_bar))
    sigma = eta * np.sqrt(of(c.small))
    return np.sqrt(of(c.before)) * x0 + np.sqrt(1 - of(c.before) - sigma**2) * eps + sigma * noise


def noise_of_steps(keys, like, start):
    """What the loop draws from these keys for the steps from index `start` down, in their order."""
    at = lambda t: jax.vmap(jax.random.fold_in, (0, None))(jax.random.clone(keys), t)
    return jnp.stack([diffusion.example_normal(at(t), like) for t in range(start, -1, -1)])


def test_steps_with_given_noise():
    """NumPy in float64, and the same step as by the key that makes the noise."""
    x, output, noise = np.random.default_rng(0).normal(size=(3, 4, 3))
    betas, t = diffusion.cosine_betas(12), np.array([0, 1, 5, 11])
    key = lambda: jax.random.key(0)
    with jax.enable_x64(True):
        arguments = diffusion.make_schedule(betas, jnp.float64), jnp.asarray(output), jnp.asarray(x), jnp.asarray(t)
        drawn = diffusion.example_normal(key(), arguments[2])
        steps = {"ancestral": diffusion.ancestral_step, "ddim": partial(diffusion.ddim_step, eta=0.7)}
        for method, step in steps.items():
            found = step(None, *arguments, noise=noise).x
            expected = numpy_step(chain(betas), x, output, t, noise, method, 0.7)
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, err_msg=method)
            jax.tree.map(np.testing.assert_array_equal, step(None, *arguments, noise=drawn), step(key(), *arguments))
            with pytest.raises(ValueError, match=r"noise has shape \(3,\); expected \(4, 3\)"):
                step(None, *arguments, noise=noise[0])
            with pytest.raises(ValueError, match="no key and no noise"):
                step(None, *arguments)


@pytest.mark.parametrize("method, eta", [("ancestral", 0.0), ("ddim", 0.7)])
def test_samples_of_a_given_start_and_given_noise(method, eta):
    """The chain of steps in NumPy in float64, and the same samples as by the key that makes the noise."""
    betas = diffusion.cosine_betas(6)
    denoise = lambda x, t: jnp.sin(2 * x) + 0.1 * t.astype(x.dtype)[:, None]
    with jax.enable_x64(True):
        s = diffusion.make_schedule(betas, jnp.float64)
        like = jnp.zeros((2, 3))
        pairs = jax.vmap(jax.random.split)(diffusion.example_keys(jax.random.key(0), 2))
        x_last = diffusion.example_normal(jax.random.clone(pairs)[:, 0], like)
        noise = noise_of_steps(pairs[:, 1], like, 5)
        options = dict(method=method, eta=eta)
        sample = partial(diffusion.sample, denoise=denoise, shape=(2, 3), schedule=s, dtype=jnp.float64, **options)
        by_key, given, both_and_key, noise_and_key, trajectory, rest = jax.jit(
            lambda x_last, noise: (
                sample(jax.random.key(0)),
                sample(None, x_last=x_last, noise=noise),
                sample(jax.random.key(1), x_last=x_last, noise=noise),
                sample(jax.random.key(0), noise=noise),
                diffusion.sample_trajectory(
                    None, denoise, (2, 3), s, 6, dtype=jnp.float64, x_last=x_last, noise=noise, **options
                ),
                diffusion.denoise_from(None, denoise, x_last, s, t=3, noise=noise[2:], **options),
            )
        )(x_last, noise)
    for found in (given, both_and_key, noise_and_key, trajectory.x):
        np.testing.assert_allclose(found, by_key, rtol=1e-12)

    def down(x, start):
        for t in range(start, -1, -1):
            output = np.sin(2 * x) + 0.1 * t
            x = numpy_step(chain(betas), x, output, np.array([t, t]), np.asarray(noise[5 - t]), method, eta)
        return x

    np.testing.assert_allclose(given, down(np.asarray(x_last), 5), rtol=1e-8)
    np.testing.assert_allclose(rest, down(np.asarray(x_last), 3), rtol=1e-8)
    np.testing.assert_array_equal(trajectory.x_t[0], x_last)


def test_missing_or_misshapen_noise_of_a_sampler():
    s, identity = diffusion.make_schedule(diffusion.cosine_betas(6)), lambda x, t: x
    x_last, noise = np.zeros((2, 3)), np.zeros((6, 2, 3))
    # What draws nothing after x_T needs neither key nor noise.
    start = jnp.asarray(x_last, jnp.float32) + 0.5
    for method in ("ddim", "dpm_solver"):
        run = lambda key, method=method: diffusion.denoise_from(key, identity, start, s, method=method)
        np.testing.assert_array_equal(run(None), run(jax.random.key(0)))
    with pytest.raises(ValueError, match="no key and no x_last"):
        diffusion.sample(None, identity, (2, 3), s, noise=noise)
    with pytest.raises(ValueError, match="no key and no noise"):
        diffusion.sample(None, identity, (2, 3), s, x_last=x_last)
    with pytest.raises(ValueError, match=r"x_last has shape \(3,\); expected \(2, 3\)"):
        diffusion.sample(None, identity, (2, 3), s, x_last=x_last[0], noise=noise)
    with pytest.raises(ValueError, match=r"noise has shape \(5, 2, 3\); expected \(6, 2, 3\)"):
        diffusion.sample(None, identity, (2, 3), s, x_last=x_last, noise=noise[1:])


def test_mixtures_of_given_noise():
    """All mixtures share the noise of the steps, entry by entry as `denoise_from` takes it."""
    s = diffusion.make_schedule(diffusion.cosine_betas(6))
    denoise = lambda x, t: jnp.sin(2 * x)
    first, second = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, size=(2, 2, 3)), jnp.float32)
    keys = jax.vmap(lambda key: jax.random.split(key, 3))(diffusion.example_keys(jax.random.key(0), 2))
    ends = [diffusion.example_normal(jax.random.clone(keys)[:, i], first) for i in range(2)]
    noise = (*ends, noise_of_steps(keys[:, 2], first, 2))
    by_key, given, alone = jax.jit(
        lambda noise: (
            diffusion.interpolate(jax.random.key(0), denoise, s, first, second, 3, 2),
            diffusion.interpolate(None, denoise, s, first, second, 3, 2, noise=noise),
            diffusion.denoise_from(None, denoise, diffusion.add_noise(s, second, 2, noise[1]), s, t=2, noise=noise[2]),
        )
    )(noise)
    np.testing.assert_allclose(given, by_key, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(given[2], alone, rtol=1e-5, atol=1e-6)
    interpolate = partial(diffusion.interpolate, None, denoise, s, first, second, 3)
    with pytest.raises(ValueError, match=r"noise\[2\] has shape \(3, 2, 3\); expected \(4, 2, 3\)"):
        interpolate(3, noise=noise)
    with pytest.raises(ValueError, match="no key and no noise"):
        interpolate(2)


# Interpolation.


def test_mixtures_share_their_noise():
    """With an affine network and the same noise, what comes out is affine in the mixture."""
    denoise = best_network(BETAS, MEAN, VARIANCE)
    a, b = jnp.array([[0.9, -0.2], [0.1, 0.4]]), jnp.array([[-0.5, 0.3], [0.6, -0.8]])
    run = jax.jit(lambda key, t_of=20: diffusion.interpolate(key, denoise, spaced(), a, b, 5, t_of, clip=False))
    found = np.asarray(run(jax.random.key(0)))
    assert found.shape == (5, 2, 2)
    share = np.linspace(0, 1, 5)[:, None, None]
    np.testing.assert_allclose(found, (1 - share) * found[0] + share * found[-1], atol=1e-5)
    assert np.abs(found[0] - found[-1]).max() > 0.1
    # Pairs and ends have noise of their own, and little of it changes little.
    near = diffusion.interpolate(jax.random.key(0), denoise, spaced(), a, b, 2, 0, clip=False)
    noise_level = np.sqrt(1 - np.cumprod(1 - BETAS)[0])
    moved = np.abs(np.asarray(near) - np.stack([a, b]))
    assert 0 < moved.min() and moved.max() < 4 * noise_level
    assert len(np.unique(np.round(moved, 7))) == 8


def test_encoded_images_are_mixed_along_a_great_circle():
    c = chain(BETAS, KEPT)
    constant, _, factor = affine_chain(c, MEAN, VARIANCE, None, 0.0)
    denoise = best_network(BETAS, MEAN, VARIANCE)
    generator = np.random.default_rng(0)
    a, b = generator.uniform(-1, 1, size=(2, 1, 6))
    with jax.enable_x64(True):
        run = lambda a, b: diffusion.ddim_interpolate(denoise, spaced(dtype=jnp.float64), a, b, 5, num_refinements=40)
        found = np.asarray(jax.jit(run)(jnp.asarray(a), jnp.asarray(b)))
        same = np.asarray(jax.jit(run)(jnp.asarray(a), jnp.asarray(a)))
    np.testing.assert_allclose(found[[0, -1], 0], [a[0], b[0]], atol=1e-6)
    np.testing.assert_allclose(same[:, 0], np.repeat(a, 5, 0), atol=1e-6)
    start, end = (a[0] - constant) / factor, (b[0] - constant) / factor
    middle = found[2, 0]
    angle = np.arccos(start @ end / np.linalg.norm(start) / np.linalg.norm(end))
    latent = (start + end) * np.sin(angle / 2) / np.sin(angle)
    np.testing.assert_allclose(middle, constant + factor * latent, atol=1e-6)
    quarter = (np.sin(0.75 * angle) * start + np.sin(0.25 * angle) * end) / np.sin(angle)
    np.testing.assert_allclose(found[1, 0], constant + factor * quarter, atol=1e-6)


def test_wrong_samplers():
    s, x = spaced(), jnp.ones((2, 3))
    identity = lambda x, t: x
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="'euler'; expected one of ancestral, ddim, dpm_solver"):
        diffusion.sample(key, identity, (2, 3), s, method="euler")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="eta is 0.5 with method 'ancestral'"):
        diffusion.sample(key, identity, (2, 3), s, eta=0.5)
    with pytest.raises(ValueError, match=r"shape is \(3,\)"):
        diffusion.sample(key, identity, (3,), s)
    with pytest.raises(ValueError, match="eta is 2"):
        diffusion.ddim_step(key, s, x, x, 0, eta=2)
    with pytest.raises(ValueError, match="there is no key"):
        diffusion.ddim_step(None, s, x, x, 0, eta=1)
    with pytest.raises(ValueError, match="t is 40; the schedule has indices 0 to 39"):
        diffusion.denoise_from(key, identity, x, s, t=40)
    with pytest.raises(ValueError, match="num_frames is 41; the schedule has 1 to 40"):
        diffusion.sample_trajectory(key, identity, (2, 3), s, 41)
    with pytest.raises(ValueError, match="num_refinements is -1"):
        diffusion.ddim_encode(identity, x, s, num_refinements=-1)
    with pytest.raises(ValueError, match="num is 1"):
        diffusion.interpolate(key, identity, s, x, x, 1, 3)
    with pytest.raises(ValueError, match=r"shape \(2, 6\).*split_output"):
        diffusion.sample(key, lambda x, t: jnp.concatenate([x, x], -1), (2, 3), s)
