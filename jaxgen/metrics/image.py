"""How far an image is from its reference."""

import jax
import jax.numpy as jnp


def psnr(image: jax.Array, reference: jax.Array, data_range: float = 1.0) -> jax.Array:
    """Peak signal-to-noise ratio, 10 log10(data_range^2 / MSE), in decibels.

    Args:
        image: [..., H, W, C], floating point.
        reference: the same shape and type.
        data_range: largest possible value minus smallest possible value of a pixel.

    Returns:
        [...]. The squared error is averaged over H, W and C; equal images give +inf. The mean of
        several images' PSNR is not the PSNR of their pooled error: papers report the former.

    Raises:
        ValueError: shapes differ, have fewer than three axes, or data_range is not positive.
    """
    if image.shape != reference.shape or image.ndim < 3:
        raise ValueError(
            f"image has shape {image.shape} and reference {reference.shape}; "
            "both must be the same [..., H, W, C]"
        )
    if not data_range > 0:
        raise ValueError(f"data_range is {data_range}; it must be positive")
    # Scaled before squaring: the squares of 16-bit data stay in range of every float type.
    error = (image - reference) / data_range
    return -10.0 * jnp.log10(jnp.mean(jnp.square(error), axis=(-3, -2, -1)))
