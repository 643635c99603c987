"""Super-resolution: the small image is an input of the network, next to the noisy large one.

Source: Nichol & Dhariwal (2021), section 6, and their code.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Float, takes


@takes(x=Float("_ _ _ _"), low_resolution=Float("_ _ _ _"))
def with_low_resolution(x: ArrayLike, low_resolution: ArrayLike) -> jax.Array:
    """[x, low_resolution enlarged to the size of x by bilinear interpolation], the input of an upsampler.

    Pixels are areas: their centres are at halves (PyTorch's align_corners=False). Source: Nichol & Dhariwal (2021),
    section 6, and their code.

    Args:
        x: x_t, [B, H, W, C].
        low_resolution: in [-1, 1], [B, h, w, C].

    Returns:
        [B, H, W, 2 C].

    Raises:
        ValueError: other numbers of examples or channels, or an image that would have to shrink.
    """
    x, low_resolution = jnp.asarray(x), jnp.asarray(low_resolution)
    fits = x.ndim == low_resolution.ndim == 4 and x.shape[::3] == low_resolution.shape[::3]
    if not fits or any(large < small for large, small in zip(x.shape[1:3], low_resolution.shape[1:3], strict=True)):
        raise ValueError(
            f"x has shape {x.shape} and the small image {low_resolution.shape}; expected [B, H, W, C] and "
            "[B, h, w, C] with h <= H and w <= W"
        )
    enlarged = jax.image.resize(low_resolution, x.shape, "linear")
    return jnp.concatenate([x, enlarged.astype(x.dtype)], axis=-1)


@takes(x=Float("B _ _ _"), size=Count())
def area_mean(x: ArrayLike, size: int) -> jax.Array:
    """Means over squares of pixels: [B, H, W, C] -> [B, size, size, C], where H = W is a multiple of size."""
    x = jnp.asarray(x)
    batch, height, width, channels = x.shape
    squares = x.reshape(batch, size, height // size, size, width // size, channels)
    return squares.mean(axis=(2, 4))
