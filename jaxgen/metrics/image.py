"""How far an image is from its reference."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxgen.arguments import Float, concrete, takes
from jaxgen.arguments.values import array

_WINDOW = 11
_HEIGHTS = [math.exp(-0.5 * ((i - _WINDOW // 2) / 1.5) ** 2) for i in range(_WINDOW)]
_TAPS = [height / sum(_HEIGHTS) for height in _HEIGHTS]


def psnr(image: ArrayLike, reference: ArrayLike, data_range: float = 1.0) -> jax.Array:
    """Peak signal-to-noise ratio, 10 log10(data_range^2 / MSE), in decibels.

    Args:
        image: [..., H, W, C]; bytes are converted before they are subtracted.
        reference: the same shape.
        data_range: largest possible value minus smallest possible value of a pixel: 1, or 255 for bytes.

    Returns:
        [...]. The squared error is averaged over H, W and C; equal images give +inf. The mean of
        several images' PSNR is not the PSNR of their pooled error: papers report the former.

    Raises:
        ValueError: shapes differ, have fewer than three axes, data_range is not positive, or (outside of jit) below
            the largest of whole numbers, or a pixel is not finite.
    """
    image, reference = _images(image, reference, data_range)
    # Scaled before squaring: the squares of 16-bit data stay in range of every float type.
    error = (image - reference) / data_range
    return -10.0 * jnp.log10(jnp.mean(jnp.square(error), axis=(-3, -2, -1)))


def ssim(image: ArrayLike, reference: ArrayLike, data_range: float = 1.0) -> jax.Array:
    """Mean structural similarity with the original's settings, and what the NeRF papers report.

    Windows are Gaussian, 11 x 11 with standard deviation 1.5, and lie inside the image; K_1 = 0.01, K_2 = 0.03. Source:
    Wang, Bovik, Sheikh & Simoncelli, "Image quality assessment" (2004), equation 13 and section III-C.

    Args:
        image: [..., H, W, C]; H and W at least 11; bytes are converted before they are subtracted.
        reference: the same shape.
        data_range: largest possible value minus smallest possible value of a pixel: 1, or 255 for bytes.

    Returns:
        [...], at most 1, the value of equal images. Channels are taken one by one and averaged: a gray conversion, as
        in the original, is left to the caller.

    Raises:
        ValueError: shapes differ or are not of images of at least 11 x 11, or data_range is not positive.
    """
    image, reference = _images(image, reference, data_range)
    if min(image.shape[-3:-1]) < _WINDOW:
        raise ValueError(f"an image of {image.shape[-3:-1]} pixels is smaller than a window, {_WINDOW} x {_WINDOW}")
    x, y = image / data_range, reference / data_range
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x = _blur(jnp.square(x)) - jnp.square(mean_x)
    variance_y = _blur(jnp.square(y)) - jnp.square(mean_y)
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (jnp.square(mean_x) + jnp.square(mean_y) + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return jnp.mean(luminance * structure, axis=(-3, -2, -1))


def _blur(x: jax.Array) -> jax.Array:
    """The Gaussian window's weighted mean, [..., H, W, C] -> [..., H - 10, W - 10, C].

    Sums of shifted images: a convolution may round its factors on accelerators, and the variances are differences of
    nearly equal numbers.
    """
    for axis in (x.ndim - 3, x.ndim - 2):
        size = x.shape[axis] - _WINDOW + 1
        shifted = [jax.lax.slice_in_dim(x, i, i + size, axis=axis) for i in range(_WINDOW)]
        x = jnp.stack([tap * part for tap, part in zip(_TAPS, shifted, strict=True)]).sum(axis=0)
    return x


def _images(image: Any, reference: Any, data_range: float) -> tuple[jax.Array, jax.Array]:
    """Both as floating point."""
    if not (np.ndim(data_range) == 0 and data_range > 0):
        raise ValueError(f"data_range is {data_range}; it must be a positive number")
    for name, x in (("image", image), ("reference", reference)):
        x = array(name, x)
        is_whole = not jnp.issubdtype(x.dtype, jnp.floating)
        if is_whole and x.size and concrete(x) and np.max(x) > data_range:
            raise ValueError(f"{name} is {x.dtype} up to {np.max(x)} with data_range {data_range}; of bytes it is 255")
    return _floating(image, reference)


@takes(image=Float("... H W C", finite=True), reference=Float("... H W C", finite=True))
def _floating(image: jax.Array, reference: jax.Array) -> tuple[jax.Array, jax.Array]:
    return image, reference
