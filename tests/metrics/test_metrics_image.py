import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import metrics


def images(*shape, dtype):
    rng = np.random.default_rng(0)
    return rng.uniform(size=shape).astype(dtype), rng.uniform(size=shape).astype(dtype)


def test_a_constant_error_of_a_tenth_of_the_range_is_20_decibels():
    reference = jnp.full((4, 5, 3), 100.0)
    assert metrics.psnr(reference + 25.5, reference, data_range=255.0) == pytest.approx(20.0)
    assert metrics.psnr(reference - 0.001, reference, data_range=0.01) == pytest.approx(20, abs=0.1)


def test_one_wrong_pixel_in_n_is_10_log10_n():
    reference = jnp.zeros((2, 8, 10, 1))
    image = reference.at[0, 3, 4, 0].set(1.0).at[1, 5, 6, 0].set(0.5)
    expected = [10 * np.log10(80), 10 * np.log10(4 * 80)]
    np.testing.assert_allclose(metrics.psnr(image, reference), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("float64", 1e-13)])
def test_equals_the_definition_in_float64(dtype, tolerance):
    with jax.enable_x64(True):
        image, reference = images(2, 3, 6, 7, 3, dtype=dtype)
        got = jax.jit(metrics.psnr, static_argnums=2)(jnp.asarray(image), jnp.asarray(reference), 2)
        assert got.dtype == dtype and got.shape == (2, 3)
        squares = (image.astype(np.float64) - reference.astype(np.float64)) ** 2
        expected = 10 * np.log10(2**2 / squares.reshape(2, 3, -1).mean(axis=-1))
        np.testing.assert_allclose(got, expected, rtol=tolerance)


def test_vmap_over_images_and_gradient():
    image, reference = map(jnp.asarray, images(3, 4, 5, 2, dtype=np.float32))
    np.testing.assert_array_equal(
        jax.vmap(metrics.psnr)(image, reference), metrics.psnr(image, reference)
    )
    # d/dx of -10 log10(mean (x - r)^2) = -20 (x - r) / (ln 10 sum (x - r)^2)
    x, r = np.asarray(image[0], np.float64), np.asarray(reference[0], np.float64)
    expected = -20 * (x - r) / (np.log(10) * np.sum((x - r) ** 2))
    got = jax.grad(metrics.psnr)(image[0], reference[0])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_equal_images_are_infinitely_good():
    image = jnp.full((2, 2, 1), 0.3)
    assert metrics.psnr(image, image) == jnp.inf


@pytest.mark.parametrize("shape, other", [((4, 4, 3), (4, 4, 1)), ((4, 4), (4, 4))])
def test_shapes_that_are_not_two_images_are_refused(shape, other):
    with pytest.raises(ValueError, match=r"\[\.\.\., H, W, C\]"):
        metrics.psnr(jnp.zeros(shape), jnp.zeros(other))


@pytest.mark.parametrize("data_range", [0.0, -1.0, float("nan")])
def test_a_range_that_is_not_positive_is_refused(data_range):
    with pytest.raises(ValueError, match="data_range"):
        metrics.psnr(jnp.zeros((1, 1, 1)), jnp.zeros((1, 1, 1)), data_range)
