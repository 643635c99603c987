"""The discretized decoder against the masses of its distributions, and its gradients, in float32 and float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxgen import diffusion
from jaxgen.diffusion.decoder import approximate_normal_cdf
from tests.diffusion.gaussian_data import log_mass
from tests.programs import compiled, values

# Optimization could cost digits of float32.
pytestmark = pytest.mark.optimized
CDFS = ("tanh", "exact")
LEVELS = np.arange(256) * 2 / 255 - 1


@compiled
def masses(*args):
    return {cdf: diffusion.discretized_gaussian_log_likelihood(*args, cdf=cdf) for cdf in CDFS}


@jax.jit
def masses_and_gradients(x, *args):
    """By the mean and by the log variance."""
    found = {}
    for cdf in CDFS:
        value, pull = jax.vjp(partial(diffusion.discretized_gaussian_log_likelihood, x, cdf=cdf), *args)
        found[cdf] = value, *pull(jnp.ones_like(value))
    return found


def of_shape(program, x64, *args):
    """The program at arguments that broadcast; one shape for all tests, so that it is compiled once for each dtype."""
    args = np.broadcast_arrays(*args)
    padded = [np.resize(a, 9 * 11 * 256).astype(np.float64 if x64 else np.float32) for a in args]
    with jax.enable_x64(x64):
        found = jax.device_get(program(*padded))
    return jax.tree.map(lambda a: a[: args[0].size].reshape(args[0].shape), found)


def test_the_masses_of_all_levels_are_one():
    for cdf, found in of_shape(masses, True, LEVELS, 0.97, -2.0).items():
        np.testing.assert_allclose(special.logsumexp(found), 0, atol=1e-9, err_msg=cdf)


def test_the_exact_masses_are_those_of_the_normal_distribution():
    mean, sd = np.array([(0.3, 0.5), (0.9, 0.02), (-0.2, 0.01), (0.3, 1e-9)]).T[..., None]
    args, expected = (LEVELS, mean, 2 * np.log(sd)), log_mass(LEVELS, mean, sd)
    np.testing.assert_allclose(of_shape(masses, True, *args)["exact"], expected, rtol=1e-8)
    # 100 standard deviations away it is still a number, in float32, and so it is 1e9 away.
    found = of_shape(masses_and_gradients, False, *args)["exact"][0]
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-4)


def test_the_approximate_masses_are_the_authors():
    def cdf(z):
        return 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))

    mean, sd = 0.3, 0.2
    above = cdf((LEVELS - mean + 1 / 255) / sd)
    below = cdf((LEVELS - mean - 1 / 255) / sd)
    mass = np.where(LEVELS < -0.999, above, np.where(LEVELS > 0.999, 1 - below, above - below))
    found = of_shape(masses, True, LEVELS, mean, 2 * np.log(sd))["tanh"]
    np.testing.assert_allclose(np.exp(found), np.maximum(mass, 1e-12), rtol=1e-7, atol=1e-15)
    # The floor: a level that the distribution does not know.
    far = of_shape(masses_and_gradients, False, np.ones(1), -1.0, -8.0)["tanh"][0]
    np.testing.assert_allclose(far, np.log(1e-12), rtol=1e-6)
    z = np.linspace(-6, 6, 24001)
    errors = np.abs(values(approximate_normal_cdf, z) - stats.norm.cdf(z))
    assert 1.785e-4 < errors.max() < 1.795e-4 and abs(abs(z[errors.argmax()]) - 2.59) < 0.01


def approximate_parts(x, mean, sd):
    """log of the tanh decoder's mass, and the densities of its distribution at the ends of the bin over the mass."""
    a = lambda z: 2 * np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)
    low, high = (x - 1 / 255 - mean) / sd, (x + 1 / 255 - mean) / sd
    # Differences on the side of the mean where both are small.
    flip = x > mean
    near, far = np.where(flip, -low, high), np.where(flip, -high, low)
    mass = special.expit(a(near)) - special.expit(a(far))
    mass = np.where(x < -0.999, special.expit(a(high)), np.where(x > 0.999, special.expit(-a(low)), mass))
    slope = lambda z: 2 * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * z**2) * special.expit(a(z)) * special.expit(-a(z))
    held = np.maximum(mass, 1e-12)
    return np.log(held), [np.where(mass > 1e-12, slope(z) / held, 0) for z in (low, high)]


def exact_parts(x, mean, sd):
    """The same of the normal distribution."""
    log = log_mass(x, mean, sd)
    return log, [np.exp(stats.norm.logpdf((x + side / 255 - mean) / sd) - log) for side in (-1, 1)]


def test_masses_and_gradients_in_float32_are_those_of_float64():
    """At every level, for means inside and outside the range, with sigma from 1e-4 to 2e4."""
    log_variances = [-18.0, -14.0, -9.8, -6.0, -2.0, 0.0, 4.0, 12.0, 20.0]
    means = [-1.5, -1, -0.9, -0.1, 0, 0.003, 0.5, 0.97, 1, 3, 10]
    # The inputs of float32, exactly.
    lv, mean, x = (np.float32(a).astype(float) for a in np.meshgrid(log_variances, means, LEVELS, indexing="ij"))
    sd = np.exp(lv / 2)
    low, high = (x - 1 / 255 - mean) / sd, (x + 1 / 255 - mean) / sd
    for cdf, found in of_shape(masses_and_gradients, False, x, mean, lv).items():
        log, (at_low, at_high) = {"tanh": approximate_parts, "exact": exact_parts}[cdf](x, mean, sd)
        at_low, at_high = np.where(x < -0.999, 0, at_low), np.where(x > 0.999, 0, at_high)
        for i, log_variance in enumerate(log_variances):
            value, by_mean, by_log_variance = (a[i] for a in found)
            case = f"{cdf}, log variance {log_variance}"
            np.testing.assert_allclose(value, log[i], rtol=2e-6, atol=4e-6, err_msg=case)
            slope = (at_low - at_high)[i] / sd[i]
            np.testing.assert_allclose(by_mean, slope, rtol=1e-5, atol=1e-6 / sd[i, 0, 0], err_msg=case)
            slope = (low * at_low - high * at_high)[i] / 2
            np.testing.assert_allclose(by_log_variance, slope, rtol=2e-5, atol=2e-6, err_msg=case)


def test_masses_and_gradients_are_finite_for_any_log_variance():
    means = [-100.0, -1.0, -1 / 255, 0.0, 1.0, 100.0]
    x, log_variance = LEVELS[[0, 1, 127, 254, 255], None, None], np.linspace(-200, 200, 41)
    for cdf, found in of_shape(masses_and_gradients, False, x, np.array(means)[:, None], log_variance).items():
        assert all(np.all(np.isfinite(a)) for a in found), cdf
        assert np.all(found[0] <= 0), cdf


def test_gradients_are_finite_everywhere():
    log_variances = np.array([-9.5, -2.0, 0.0])[:, None]
    for cdf, (_, *slopes) in of_shape(masses_and_gradients, False, LEVELS, 0.3, log_variances).items():
        assert all(np.all(np.isfinite(slope)) for slope in slopes), cdf
