"""One step of each sampler against NumPy, against another sampler's, and back."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion
from tests.diffusion.gaussian_data import chain
from tests.diffusion.sampler_oracles import numpy_step, spaced
from tests.programs import values


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


def test_an_inverted_step_is_undone_by_the_step():
    x_t, output = np.random.default_rng(0).normal(size=(2, 4, 3))
    t = np.array([0, 1, 20, 39])

    def there_and_back(output, x_t, prediction):
        s = spaced(dtype=jnp.float64)
        down = diffusion.ddim_step(None, s, output, x_t, t, prediction=prediction, clip=False).x
        return diffusion.ddim_inversion_step(s, output, down, t, seen=x_t, prediction=prediction)

    predictions = ("noise", "x0", "mean", "v")
    program = lambda output, x_t: {prediction: there_and_back(output, x_t, prediction) for prediction in predictions}
    for prediction, up in values(program, output, x_t, x64=True).items():
        np.testing.assert_allclose(up, x_t, rtol=1e-9, err_msg=prediction)


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
        with pytest.raises(ValueError, match=r"noise has shape \(3,\), and x_t has shape \(4, 3\)"):
            run(noise[0])
        with pytest.raises(ValueError, match="no key and no noise"):
            run(None)
