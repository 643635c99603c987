"""Samplers where everything is known: with Gaussian data each is an affine chain."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion
from tests.diffusion.gaussian_data import affine_chain, best_network, best_x0, chain, sampling_variance
from tests.programs import compiled, values

MEAN, VARIANCE = 0.3, 0.4
BETAS = diffusion.linear_betas(200)
KEPT = np.arange(0, 200, 5)


def spaced(betas=BETAS, dtype=jnp.float32):
    return diffusion.respace(diffusion.make_schedule(betas, dtype), "ddim40")


MOMENTS = {
    "fixed_small": {"variance": "fixed_small"},
    "fixed_large": {"variance": "fixed_large"},
    "eta 0.5": {"method": "ddim", "eta": 0.5},
    "eta 1": {"method": "ddim", "eta": 1.0},
}


@pytest.fixture(scope="module")
def drawn():
    """4000 samples of each of MOMENTS, from one program."""
    denoise = best_network(BETAS, MEAN, VARIANCE)

    def program(key):
        draw = partial(diffusion.sample, denoise=denoise, shape=(4000, 10), schedule=spaced(), clip=False)
        return {name: draw(jax.random.clone(key), **options) for name, options in MOMENTS.items()}

    return values(program, jax.random.key(1))


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_ancestral_samples_have_the_moments_of_the_affine_chain(variance, drawn):
    c, found = chain(BETAS, KEPT), drawn[variance]
    mean, var, _ = affine_chain(c, MEAN, VARIANCE, sampling_variance(c, variance))
    wrong = "fixed_large" if variance == "fixed_small" else "fixed_small"
    other = affine_chain(c, MEAN, VARIANCE, sampling_variance(c, wrong))
    assert abs(other[1] / var - 1) > 0.05
    assert abs(found.mean() - mean) < 4 * np.sqrt(var / found.size)
    assert abs(found.var() / var - 1) < 4 * np.sqrt(2 / found.size)
    # Examples and dimensions are independent: the mean square of 10 x 10 correlations of nothing is 1 / 4000.
    off = np.corrcoef(found.T)[np.triu_indices(10, 1)]
    assert np.mean(off**2) < 2 / 4000


@pytest.mark.parametrize("name", ["eta 0.5", "eta 1"])
def test_ddim_samples_have_the_moments_of_the_affine_chain(name, drawn):
    mean, var, _ = affine_chain(chain(BETAS, KEPT), MEAN, VARIANCE, None, MOMENTS[name]["eta"])
    found = drawn[name]
    assert abs(found.mean() - mean) < 4 * np.sqrt(var / found.size)
    assert abs(found.var() / var - 1) < 4 * np.sqrt(2 / found.size)


def test_ddim_without_eta_is_the_affine_map_of_its_start():
    """The value, and d x_0 / d x_T: the product of the affine chain's factors."""
    x = np.array([[-2.0, 0.0, 1.5]])
    denoise = best_network(BETAS, MEAN, VARIANCE)

    @compiled
    def program(key, x):
        run = lambda x: diffusion.denoise_from(key, denoise, x, spaced(dtype=jnp.float64), method="ddim", clip=False)
        x0, pull = jax.vjp(run, x)
        return x0, pull(jnp.ones_like(x0))[0]

    with jax.enable_x64(True):
        first, second = (jax.device_get(program(jax.random.key(seed), x)) for seed in (0, 1))
    np.testing.assert_array_equal(first[0], second[0])
    constant, _, factor = affine_chain(chain(BETAS, KEPT), MEAN, VARIANCE, None, 0.0)
    np.testing.assert_allclose(first[0], constant + factor * x, rtol=1e-9)
    np.testing.assert_allclose(first[1], np.full((1, 3), factor), rtol=1e-9)


def test_ddim_with_eta_1_is_ancestral_with_the_small_variance():
    x_t, output = np.random.default_rng(0).normal(size=(2, 5, 3))
    t = np.array([0, 1, 20, 38, 39])
    predictions = ("noise", "x0", "v")

    def program(key, other, output, x_t):
        s = diffusion.respace(diffusion.make_schedule(diffusion.cosine_betas(200), jnp.float64), 40)
        ancestral = partial(diffusion.ancestral_step, variance="fixed_small")
        steps = ((ancestral, key), (partial(diffusion.ddim_step, eta=1.0), key), (ancestral, other))
        for prediction in predictions:
            yield [step(jax.random.clone(k), s, output, x_t, t, prediction=prediction) for step, k in steps]

    found = values(lambda *args: list(program(*args)), jax.random.key(0), jax.random.key(1), output, x_t, x64=True)
    for prediction, (ancestral, ddim, other_noise) in zip(predictions, found, strict=True):
        np.testing.assert_allclose(ddim.x, ancestral.x, rtol=1e-9, err_msg=prediction)
        np.testing.assert_allclose(ddim.x0, ancestral.x0, rtol=1e-9, err_msg=prediction)
        # The key matters, except at t = 0.
        moved = np.abs(other_noise.x - ancestral.x).max(axis=1)
        assert moved[0] == 0 and np.all(moved[1:] > 1e-6), prediction


def test_learned_variances_reach_the_step():
    t = np.array([7, 39])

    def program(key, x_t, noise):
        s = spaced()
        step = lambda output, kind: diffusion.ancestral_step(jax.random.clone(key), s, output, x_t, t, variance=kind).x
        both = lambda values: jnp.concatenate([noise, values], -1)
        ranges = step(both(-jnp.ones_like(noise)), "learned_range"), step(both(jnp.ones_like(noise)), "learned_range")
        fixed = step(noise, "fixed_small"), step(noise, "fixed_large")
        learned = diffusion.ddim_step(None, s, both(noise), x_t, t, variance="learned").x
        return ranges, fixed, learned, diffusion.ddim_step(None, s, noise, x_t, t).x

    ranges, fixed, learned, plain = values(program, jax.random.key(0), np.full((2, 4), 0.3), np.full((2, 4), 0.1))
    np.testing.assert_allclose(ranges, fixed, rtol=1e-5)
    np.testing.assert_allclose(learned, plain, rtol=1e-6)


# Inversion.


def test_an_inverted_step_is_undone_by_the_step():
    x_t, output = np.random.default_rng(0).normal(size=(2, 4, 3))
    t = np.array([0, 1, 20, 39])

    def there_and_back(output, x_t, prediction):
        s = spaced(dtype=jnp.float64)
        down = diffusion.ddim_step(None, s, output, x_t, t, prediction=prediction, clip=False).x
        return diffusion.ddim_inversion_step(s, output, down, t, seen=x_t, prediction=prediction)

    predictions = ("noise", "x0", "mean", "v")
    program = lambda *args: {prediction: there_and_back(*args, prediction) for prediction in predictions}
    for prediction, up in values(program, output, x_t, x64=True).items():
        np.testing.assert_allclose(up, x_t, rtol=1e-9, err_msg=prediction)


def round_trip(x0, num_steps, num_refinements=0):
    """x_T by inversion and x_0 by sampling from it with the best network, at that many of 1000 steps."""
    betas = diffusion.linear_betas(1000)
    denoise = best_network(betas, MEAN, VARIANCE)
    s = diffusion.respace(diffusion.make_schedule(betas, jnp.float64), num_steps)
    x_last = diffusion.ddim_encode(denoise, x0, s, num_refinements=num_refinements)
    return x_last, diffusion.denoise_from(None, denoise, x_last, s, method="ddim", clip=False)


def test_inversion_errs_by_the_order_of_one_step():
    x0 = np.linspace(-1, 1, 9)[None, :]
    cases = [(125, 0), (250, 0), (500, 0), (1000, 0), (125, 3)]
    found = values(lambda x0: [round_trip(x0, *case) for case in cases], x0, x64=True)
    *errors, refined = (np.abs(back - x0).max() for _, back in found)
    ratios = np.array(errors[:-1]) / errors[1:]
    assert np.all((1.8 < ratios) & (ratios < 2.2)), errors
    assert errors[-1] < 0.01
    assert refined < 1e-3 * errors[0]
    # And what it arrives at is the latent: the data's quantiles become the noise's.
    np.testing.assert_allclose(found[-1][0], (x0 - MEAN) / np.sqrt(VARIANCE), atol=0.05)


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
    denoise = lambda x, t: jnp.tanh(x + 0.01 * t.astype(x.dtype)[:, None])
    options = dict(method="dpm_solver", prediction="x0", clip=False)
    run = lambda x, t: diffusion.denoise_from(None, denoise, x, spaced(betas, jnp.float64), t=t, **options)
    # From the middle there is no step before.
    found, middle = values(lambda x: (run(x, None), run(x, 1)), np.array([[0.3, -1.2]]), x64=True)
    np.testing.assert_allclose(found, expected[-1], rtol=1e-9)
    first = np.sqrt(1 - alpha_bar[0]) / np.sqrt(1 - alpha_bar[1]) * np.array([[0.3, -1.2]])
    first = first - np.sqrt(alpha_bar[0]) * np.expm1(lam[1] - lam[0]) * x0_of(np.array([[0.3, -1.2]]), 1)
    np.testing.assert_allclose(middle, x0_of(first, 0), rtol=1e-9)


def test_dpm_solver_is_of_second_order():
    """The exact flow of Gaussian data keeps (x - E x_t) / sd(x_t); DDIM's error halves, this one's falls by four."""
    x = np.array([[-2.0, 1.0, 2.0]])
    cases = [(16, "dpm_solver"), (31, "dpm_solver"), (61, "dpm_solver"), (31, "ddim"), (61, "ddim")]

    def run(x, num_steps, method):
        betas = even_betas(num_steps)
        s, denoise = diffusion.make_schedule(betas, jnp.float64), best_network(betas, MEAN, VARIANCE)
        return diffusion.denoise_from(None, denoise, x, s, method=method, clip=False)

    def error(num_steps, found):
        # Up to the first noise level: the last step, to none at all, is the same for both.
        c = chain(even_betas(num_steps))
        spread = np.sqrt(c.alpha_bar * VARIANCE + 1 - c.alpha_bar)
        exact = np.sqrt(c.alpha_bar[0]) * MEAN + spread[0] / spread[-1] * (x - np.sqrt(c.alpha_bar[-1]) * MEAN)
        gain, offset = best_x0(c, MEAN, VARIANCE)
        return np.abs(found - gain[0] * exact - offset[0]).max()

    found = values(lambda x: [run(x, *case) for case in cases], x, x64=True)
    errors = [error(num_steps, value) for (num_steps, _), value in zip(cases, found, strict=True)]
    dpm, ddim = np.array(errors[:3]), errors[3:]
    assert np.all((3.4 < dpm[:-1] / dpm[1:]) & (dpm[:-1] / dpm[1:] < 4.8)), dpm
    assert 1.7 < ddim[0] / ddim[1] < 2.3
    assert dpm[1] < ddim[0] / 5


def test_dpm_solver_needs_few_steps_equal_in_log_snr():
    """Five times nearer to the flow's end than DDIM, on the chain that networks are trained with."""
    betas = diffusion.linear_betas(1000)
    alpha_bar = np.cumprod(1 - betas)[-1]
    x = np.array([[-2.0, 1.0, 2.0]])
    exact = MEAN + np.sqrt(VARIANCE / (alpha_bar * VARIANCE + 1 - alpha_bar)) * (x - np.sqrt(alpha_bar) * MEAN)
    denoise, counts = best_network(betas, MEAN, VARIANCE), ("logsnr10", "logsnr20")

    def run(x, steps, method):
        s = diffusion.respace(diffusion.make_schedule(betas), steps)
        return diffusion.denoise_from(None, denoise, x, s, method=method, clip=False)

    found = values(lambda x: [[run(x, steps, method) for method in ("dpm_solver", "ddim")] for steps in counts], x)
    for steps, of in zip(counts, found, strict=True):
        dpm, ddim = (np.abs(value - exact).max() for value in of)
        assert dpm < ddim / 5, steps


# The loop.


@pytest.mark.parametrize("method, eta", [("ancestral", 0.0), ("ddim", 0.7), ("dpm_solver", 0.0)])
def test_a_sample_depends_on_its_own_key(method, eta):
    denoise = lambda x, t: jnp.sin(3 * x) + 0.001 * t.astype(x.dtype)[:, None, None]

    @compiled
    def draw(key):
        run = lambda key, n: diffusion.sample(
            jax.random.clone(key), denoise, (n, 2, 3), spaced(), method=method, eta=eta
        )
        return run(key, 5), run(key, 2), run(diffusion.keys_per_example(key, 5)[3:], 2)

    five, first, last = jax.device_get(draw(jax.random.key(3)))
    np.testing.assert_allclose(first, five[:2], atol=1e-5)
    np.testing.assert_allclose(last, five[3:], atol=1e-5)
    assert len(np.unique(five.reshape(5, -1), axis=0)) == 5
    assert np.abs(draw(jax.random.key(4))[0] - five).max() > 0.1
    assert np.abs(five).max() <= 1


def test_the_network_is_told_the_original_steps_and_the_loop_is_one_program():
    calls = []

    def denoise(x, t):
        calls.append(t.shape)
        return jnp.broadcast_to((t.astype(x.dtype) / 1000)[:, None], x.shape)

    schedule = diffusion.respace(diffusion.make_schedule(diffusion.linear_betas(1000)), "ddim100")
    run = lambda key: diffusion.sample_trajectory(key, denoise, (3, 2), schedule, 100, prediction="x0")
    found = values(run, jax.random.key(0))
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

    def program(key):
        run = lambda n, s=None, **options: diffusion.sample_trajectory(
            jax.random.clone(key), denoise, (3, 2), s or spaced(), n, **options
        )
        sample = diffusion.sample(jax.random.clone(key), denoise, (3, 2), spaced())
        return sample, run(40), run(4), run(1), run(7, diffusion.respace(spaced(), 7), method="ddim")

    sample, all_frames, four, one, other = values(program, jax.random.key(5))
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
    np.testing.assert_array_equal(other.x_t[0], all_frames.x_t[0])


def test_an_edit_of_x0_steers_every_step():
    wanted = np.array([[0.25, -0.5], [0.75, 2.0]])
    seen = []

    def edit(x0, t):
        seen.append(t.dtype)
        return jnp.asarray(wanted, x0.dtype) + 0 * x0

    methods = ("ancestral", "ddim", "dpm_solver")
    run = lambda key, method: diffusion.sample(
        jax.random.clone(key), lambda x, t: x, (2, 2), spaced(), method=method, edit_x0=edit
    )
    found = values(lambda key: {method: run(key, method) for method in methods}, jax.random.key(0))
    for method, x in found.items():
        np.testing.assert_allclose(x, np.clip(wanted, -1, 1), atol=1e-5, err_msg=method)
    assert len(seen) >= 3 and all(jnp.issubdtype(dtype, jnp.integer) for dtype in seen)


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
    at = lambda t: diffusion.normal_per_example(
        jax.vmap(jax.random.fold_in, (0, None))(jax.random.clone(keys), t), like
    )
    return jax.vmap(at)(jnp.arange(start, -1, -1))


def test_steps_with_given_noise():
    """NumPy in float64, and the same step as by the key that makes the noise."""
    x, output, noise = np.random.default_rng(0).normal(size=(3, 4, 3))
    betas, t = diffusion.cosine_betas(12), np.array([0, 1, 5, 11])
    steps = {"ancestral": diffusion.ancestral_step, "ddim": partial(diffusion.ddim_step, eta=0.7)}

    def program(key, output, x, noise):
        arguments = diffusion.make_schedule(betas, jnp.float64), output, x, t
        drawn = diffusion.normal_per_example(jax.random.clone(key), x)
        for step in steps.values():
            by_key = step(jax.random.clone(key), *arguments)
            yield step(None, *arguments, noise=noise).x, step(None, *arguments, noise=drawn), by_key

    found = values(lambda *args: list(program(*args)), jax.random.key(0), output, x, noise, x64=True)
    for (method, step), (given, drawn, by_key) in zip(steps.items(), found, strict=True):
        expected = numpy_step(chain(betas), x, output, t, noise, method, 0.7)
        np.testing.assert_allclose(given, expected, rtol=1e-9, atol=1e-12, err_msg=method)
        jax.tree.map(np.testing.assert_array_equal, drawn, by_key)
        run = lambda noise, step=step: jax.eval_shape(
            lambda: step(None, diffusion.make_schedule(betas), jnp.asarray(output), jnp.asarray(x), t, noise=noise)
        )
        with pytest.raises(ValueError, match=r"noise has shape \(3,\); expected \(4, 3\)"):
            run(noise[0])
        with pytest.raises(ValueError, match="no key and no noise"):
            run(None)


@pytest.mark.parametrize("method, eta", [("ancestral", 0.0), ("ddim", 0.7)])
def test_samples_of_a_given_start_and_given_noise(method, eta):
    """The chain of steps in NumPy in float64, and the same samples as by the key that makes the noise."""
    betas = diffusion.cosine_betas(6)
    denoise = lambda x, t: jnp.sin(2 * x) + 0.1 * t.astype(x.dtype)[:, None]

    def program(key, other):
        s, like = diffusion.make_schedule(betas, jnp.float64), jnp.zeros((2, 3))
        pairs = jax.vmap(jax.random.split)(diffusion.keys_per_example(jax.random.clone(key), 2))
        x_last = diffusion.normal_per_example(jax.random.clone(pairs)[:, 0], like)
        noise = noise_of_steps(pairs[:, 1], like, 5)
        options = dict(method=method, eta=eta)
        sample = partial(diffusion.sample, denoise=denoise, shape=(2, 3), schedule=s, dtype=jnp.float64, **options)
        found = (
            sample(jax.random.clone(key)),
            sample(None, x_last=x_last, noise=noise),
            sample(other, x_last=x_last, noise=noise),
            sample(jax.random.clone(key), noise=noise),
            diffusion.sample_trajectory(
                None, denoise, (2, 3), s, 6, dtype=jnp.float64, x_last=x_last, noise=noise, **options
            ),
            diffusion.denoise_from(None, denoise, x_last, s, t=3, noise=noise[2:], **options),
        )
        return x_last, noise, found

    x_last, noise, found = values(program, jax.random.key(0), jax.random.key(1), x64=True)
    by_key, given, both_and_key, noise_and_key, trajectory, rest = found
    for x in (given, both_and_key, noise_and_key, trajectory.x):
        np.testing.assert_allclose(x, by_key, rtol=1e-12)

    def down(x, start):
        for t in range(start, -1, -1):
            output = np.sin(2 * x) + 0.1 * t
            x = numpy_step(chain(betas), x, output, np.array([t, t]), noise[5 - t], method, eta)
        return x

    np.testing.assert_allclose(given, down(x_last, 5), rtol=1e-8)
    np.testing.assert_allclose(rest, down(x_last, 3), rtol=1e-8)
    np.testing.assert_array_equal(trajectory.x_t[0], x_last)


def test_missing_or_misshapen_noise_of_a_sampler():
    s, identity = diffusion.make_schedule(diffusion.cosine_betas(6)), lambda x, t: x
    x_last, noise = np.zeros((2, 3)), np.zeros((6, 2, 3))
    # What draws nothing after x_T needs neither key nor noise.
    run = lambda key, start, method: diffusion.denoise_from(key, identity, start, s, method=method)
    methods = ("ddim", "dpm_solver")
    program = lambda key, start: [[run(None, start, method), run(key, start, method)] for method in methods]
    for method, pair in zip(methods, values(program, jax.random.key(0), x_last + 0.5), strict=True):
        np.testing.assert_array_equal(*pair, err_msg=method)
    for message, options in (
        ("no key and no x_last", {"noise": noise}),
        ("no key and no noise", {"x_last": x_last}),
        (r"x_last has shape \(3,\); expected \(2, 3\)", {"x_last": x_last[0], "noise": noise}),
        (r"noise has shape \(5, 2, 3\); expected \(6, 2, 3\)", {"x_last": x_last, "noise": noise[1:]}),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(lambda options=options: diffusion.sample(None, identity, (2, 3), s, **options))


def test_mixtures_of_given_noise():
    """All mixtures share the noise of the steps, entry by entry as `denoise_from` takes it."""
    s = diffusion.make_schedule(diffusion.cosine_betas(6))
    denoise = lambda x, t: jnp.sin(2 * x)
    ends = np.random.default_rng(0).uniform(-1, 1, size=(2, 2, 3))

    def program(key, first, second):
        keys = jax.vmap(lambda key: jax.random.split(key, 3))(diffusion.keys_per_example(jax.random.clone(key), 2))
        eps = [diffusion.normal_per_example(jax.random.clone(keys)[:, i], first) for i in range(2)]
        noise = (*eps, noise_of_steps(keys[:, 2], first, 2))
        x_t = diffusion.add_noise(s, second, 2, noise[1])
        return (
            diffusion.interpolate(jax.random.clone(key), denoise, s, first, second, 3, 2),
            diffusion.interpolate(None, denoise, s, first, second, 3, 2, noise=noise),
            diffusion.denoise_from(None, denoise, x_t, s, t=2, noise=noise[2]),
        )

    by_key, given, alone = values(program, jax.random.key(0), *ends)
    np.testing.assert_allclose(given, by_key, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(given[2], alone, rtol=1e-5, atol=1e-6)
    noise = (*ends, np.zeros((3, 2, 3)))
    interpolate = lambda t, **options: jax.eval_shape(
        lambda first, second: diffusion.interpolate(None, denoise, s, first, second, 3, t, **options),
        *np.float32(ends),
    )
    with pytest.raises(ValueError, match=r"noise\[2\] has shape \(3, 2, 3\); expected \(4, 2, 3\)"):
        interpolate(3, noise=noise)
    with pytest.raises(ValueError, match="no key and no noise"):
        interpolate(2)


# Interpolation.


def test_mixtures_share_their_noise():
    """With an affine network and the same noise, what comes out is affine in the mixture."""
    denoise = best_network(BETAS, MEAN, VARIANCE)
    a, b = np.array([[0.9, -0.2], [0.1, 0.4]]), np.array([[-0.5, 0.3], [0.6, -0.8]])

    def program(key, a, b):
        run = lambda num, t: diffusion.interpolate(jax.random.clone(key), denoise, spaced(), a, b, num, t, clip=False)
        return run(5, 20), run(2, 0)

    found, near = values(program, jax.random.key(0), a, b)
    assert found.shape == (5, 2, 2)
    share = np.linspace(0, 1, 5)[:, None, None]
    np.testing.assert_allclose(found, (1 - share) * found[0] + share * found[-1], atol=1e-5)
    assert np.abs(found[0] - found[-1]).max() > 0.1
    # Pairs and ends have noise of their own, and little of it changes little.
    noise_level = np.sqrt(1 - np.cumprod(1 - BETAS)[0])
    moved = np.abs(near - np.stack([a, b]))
    assert 0 < moved.min() and moved.max() < 4 * noise_level
    assert len(np.unique(np.round(moved, 7))) == 8


def test_encoded_images_are_mixed_along_a_great_circle():
    c = chain(BETAS, KEPT)
    constant, _, factor = affine_chain(c, MEAN, VARIANCE, None, 0.0)
    denoise = best_network(BETAS, MEAN, VARIANCE)
    generator = np.random.default_rng(0)
    a, b = generator.uniform(-1, 1, size=(2, 1, 6))
    run = lambda *ends: diffusion.ddim_interpolate(denoise, spaced(dtype=jnp.float64), *ends, 5, num_refinements=40)
    found, same = values(lambda a, b: (run(a, b), run(a, a)), a, b, x64=True)
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
    twice = lambda x, t: jnp.concatenate([x, x], -1)
    sample = lambda shape=(2, 3), denoise=identity, **options: (
        lambda key: diffusion.sample(key, denoise, shape, s, **options)
    )
    for message, call in (
        ("'euler'; expected one of ancestral, ddim, dpm_solver", sample(method="euler")),
        ("eta is 0.5 with method 'ancestral'", sample(eta=0.5)),
        (r"shape is \(3,\)", sample((3,))),
        ("eta is 2", lambda key: diffusion.ddim_step(key, s, x, x, 0, eta=2)),
        ("there is no key", lambda key: diffusion.ddim_step(None, s, x, x, 0, eta=1)),
        ("t is 40; the schedule has indices 0 to 39", lambda key: diffusion.denoise_from(key, identity, x, s, t=40)),
        (
            "num_frames is 41; the schedule has 1 to 40",
            lambda key: diffusion.sample_trajectory(key, identity, (2, 3), s, 41),
        ),
        ("num_refinements is -1", lambda key: diffusion.ddim_encode(identity, x, s, num_refinements=-1)),
        ("num is 1", lambda key: diffusion.interpolate(key, identity, s, x, x, 1, 3)),
        (r"shape \(2, 6\).*split_output", sample(denoise=twice)),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(call, jax.random.key(0))
