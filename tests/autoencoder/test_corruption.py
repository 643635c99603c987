"""The corruptions' moments and extremes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.autoencoder import gaussian_noise, masking_noise
from tests.programs import in_float32, in_float64

UNIFORM = np.random.default_rng(0).uniform(0.1, 1, 100_000)


def test_masking_sets_the_stated_fraction_to_zero_and_leaves_the_rest():
    x = UNIFORM.astype(np.float32)
    noisy, never, always = in_float32(
        lambda x: [masking_noise(jax.random.key(1), x, fraction) for fraction in (0.3, 0.0, 1.0)], x
    )
    kept = noisy != 0
    np.testing.assert_array_equal(noisy[kept], x[kept])
    assert abs((1 - kept.mean()) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / x.size)
    np.testing.assert_array_equal(never, x)
    np.testing.assert_array_equal(always, 0 * x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gaussian_noise_has_mean_zero_and_the_stated_deviation(dtype):
    x = UNIFORM.astype(dtype)
    noisy = in_float64(lambda x: gaussian_noise(jax.random.key(1), x, 0.25), x)
    assert noisy.dtype == dtype
    noise = np.asarray(noisy - x, np.float64)
    assert abs(noise.mean()) < 4 * 0.25 / np.sqrt(x.size)
    assert abs(noise.std() / 0.25 - 1) < 4 / np.sqrt(2 * x.size)


def test_given_draws():
    """The definitions in float64, and the same corruption as by the key that makes the draws."""
    x, noise = np.random.default_rng(0).normal(size=(2, 4, 3))
    uniforms = np.random.default_rng(1).uniform(size=(4, 3))
    uniforms[0, 0] = 0.4  # Not below the fraction: kept.
    key = lambda: jax.random.key(2)

    def program(x, noise, uniforms):
        drawn = (jax.random.normal(key(), (4, 3), jnp.float64), jax.random.uniform(key(), (4, 3), jnp.float64))
        return (
            gaussian_noise(None, x, 0.25, noise=noise),
            masking_noise(None, x, 0.4, uniforms=uniforms),
            (gaussian_noise(None, x, 0.25, noise=drawn[0]), gaussian_noise(key(), x, 0.25)),
            (masking_noise(None, x, 0.4, uniforms=drawn[1]), masking_noise(key(), x, 0.4)),
        )

    gaussian, masked, same_gaussian, same_masked = in_float64(program, x, noise, uniforms)
    np.testing.assert_allclose(gaussian, x + 0.25 * noise, rtol=1e-14)
    np.testing.assert_array_equal(masked, np.where(uniforms < 0.4, 0, x))
    np.testing.assert_array_equal(*same_gaussian)
    np.testing.assert_array_equal(*same_masked)
    with pytest.raises(ValueError, match=r"noise has shape \(3,\); expected \(4, 3\)"):
        gaussian_noise(None, np.zeros((4, 3)), 0.1, noise=np.zeros(3))
    with pytest.raises(ValueError, match="no key and no uniforms"):
        masking_noise(None, np.zeros((4, 3)), 0.1)


@pytest.mark.parametrize("fraction", [-0.1, 1.5])
def test_a_fraction_outside_the_unit_interval_is_refused(fraction):
    with pytest.raises(ValueError, match="fraction is"):
        masking_noise(None, np.ones(3), fraction)
