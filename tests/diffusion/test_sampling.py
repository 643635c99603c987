"""Samplers where everything is known: with Gaussian data each is an affine chain."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion
from tests.diffusion.gaussian_data import affine_chain, best_network, best_x0, chain, sampling_variance
from tests.diffusion.sampler_oracles import BETAS, KEPT, MEAN, VARIANCE, noise_of_steps, numpy_step, spaced
from tests.programs import compiled, values

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
