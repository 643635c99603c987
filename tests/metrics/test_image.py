from typing import Any

import jax
import numpy as np
import pytest
from scipy import signal

from jaxgen import metrics

psnr = jax.jit(metrics.psnr, static_argnums=2)
ssim = jax.jit(metrics.ssim, static_argnums=2)


def images(*shape, dtype):
    rng = np.random.default_rng(0)
    return rng.uniform(size=shape).astype(dtype), rng.uniform(size=shape).astype(dtype)


def test_a_constant_error_of_a_tenth_of_the_range_is_20_decibels():
    reference = np.full((4, 5, 3), 100, np.float32)
    assert psnr(reference + np.float32(25.5), reference, 255.0) == pytest.approx(20.0)
    assert psnr(reference - np.float32(0.001), reference, 0.01) == pytest.approx(20, abs=0.1)


def test_one_wrong_pixel_in_n_is_10_log10_n_and_equal_images_are_infinitely_good():
    reference = np.zeros((3, 8, 10, 1), np.float32)
    image = reference.copy()
    image[0, 3, 4, 0], image[1, 5, 6, 0] = 1.0, 0.5
    expected = [10 * np.log10(80), 10 * np.log10(4 * 80), np.inf]
    np.testing.assert_allclose(psnr(image, reference), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("float64", 1e-13)])
def test_equals_the_definition_in_float64(dtype, tolerance):
    with jax.enable_x64(True):
        image, reference = images(2, 3, 6, 7, 3, dtype=dtype)
        got = psnr(image, reference, 2)
        assert got.dtype == dtype and got.shape == (2, 3)
        squares = (image.astype(np.float64) - reference.astype(np.float64)) ** 2
        expected = 10 * np.log10(2**2 / squares.reshape(2, 3, -1).mean(axis=-1))
        np.testing.assert_allclose(got, expected, rtol=tolerance)


def test_vmap_over_images_and_gradient():
    image, reference = images(3, 4, 5, 2, dtype=np.float32)
    measure = lambda x, r: (jax.vmap(metrics.psnr)(x, r), metrics.psnr(x, r), jax.grad(metrics.psnr)(x[0], r[0]))
    one_by_one, at_once, got = jax.jit(measure)(image, reference)
    np.testing.assert_array_equal(one_by_one, at_once)
    # d/dx of -10 log10(mean (x - r)^2) = -20 (x - r) / (ln 10 sum (x - r)^2)
    x, r = image[0].astype(np.float64), reference[0].astype(np.float64)
    expected = -20 * (x - r) / (np.log(10) * np.sum((x - r) ** 2))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape, other", [((4, 4, 3), (4, 4, 1)), ((4, 4), (4, 4))])
def test_shapes_that_are_not_two_images_are_refused(shape, other):
    with pytest.raises(ValueError, match=r"\[\.\.\., H, W, C\]"):
        metrics.psnr(np.zeros(shape), np.zeros(other))


@pytest.mark.parametrize("data_range", [0.0, -1.0, float("nan")])
def test_a_range_that_is_not_positive_is_refused(data_range):
    with pytest.raises(ValueError, match="data_range"):
        metrics.psnr(np.zeros((1, 1, 1)), np.zeros((1, 1, 1)), data_range)


def scipy_ssim(x, y, data_range):
    """Equation 13 of Wang et al. with a two-dimensional window, one channel at a time, in float64."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 1.5**2))
    window = window / window.sum()
    local = lambda a: signal.correlate2d(a, window, mode="valid")
    values = []
    for channel in range(x.shape[-1]):
        a, b = x[..., channel].astype(np.float64), y[..., channel].astype(np.float64)
        mean_a, mean_b = local(a), local(b)
        var_a, var_b, cov = local(a * a) - mean_a**2, local(b * b) - mean_b**2, local(a * b) - mean_a * mean_b
        c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        values.append(
            (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
        )
    return np.mean(values)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 2e-6), ("float64", 1e-12)])
def test_ssim_equals_the_definition_with_scipys_windows(dtype, tolerance):
    with jax.enable_x64(True):
        image, reference = images(2, 14, 19, 3, dtype=dtype)
        image = 0.5 * image + 0.5 * reference
        for data_range in (1, 255):
            scaled = image * data_range, reference * data_range
            got = ssim(*scaled, data_range)
            expected = [scipy_ssim(*pair, data_range) for pair in zip(*scaled, strict=True)]
            assert got.dtype == dtype
            np.testing.assert_allclose(got, expected, rtol=tolerance)
            assert 0.3 < expected[0] < 0.95


def test_ssim_of_two_constants_is_their_luminance():
    """Variances 0: (2 a b + c1) / (a^2 + b^2 + c1)."""
    a, b = (np.full((2, 14, 19, 3), value, np.float32) for value in (0.2, 0.6))
    np.testing.assert_allclose(ssim(a, b, 1), (0.24 + 1e-4) / (0.4 + 1e-4), rtol=1e-3)


def test_ssim_of_equal_images_is_one_and_of_opposite_ones_below_zero():
    image = images(2, 14, 19, 3, dtype=np.float32)[0]
    np.testing.assert_allclose(ssim(image, image, 1), 1, atol=1e-6)
    assert np.all(np.asarray(ssim(1 - image, image, 1)) < -0.5)
    # An image as small as a window is enough.
    assert jax.eval_shape(metrics.ssim, *2 * [np.zeros((11, 11, 1), np.float32)]).shape == ()


def test_ssim_refuses_what_is_smaller_than_a_window():
    with pytest.raises(ValueError, match=r"\(10, 20\) pixels"):
        metrics.ssim(np.zeros((10, 20, 3)), np.zeros((10, 20, 3)))
    with pytest.raises(ValueError, match=r"\[\.\.\., H, W, C\]"):
        metrics.ssim(np.zeros((12, 12, 3)), np.zeros((12, 12, 1)))
    with pytest.raises(ValueError, match="data_range"):
        metrics.ssim(np.zeros((12, 12, 3)), np.zeros((12, 12, 3)), 0)


def test_bytes_are_converted_before_they_are_subtracted():
    a, b = np.full((8, 8, 3), 10, np.uint8), np.full((8, 8, 3), 12, np.uint8)
    x: Any
    y: Any
    for x, y in ((a, b), (b, a), (a.tolist(), b.tolist())):
        assert float(metrics.psnr(x, y, 255.0)) == pytest.approx(10 * np.log10(255**2 / 4), rel=1e-5)
    with pytest.raises(ValueError, match="image is uint8 up to 10 with data_range 1.0; of bytes it is 255"):
        metrics.psnr(a, b)
