"""Random small distortions of images, a key for each image."""

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jax.typing import ArrayLike


def random_affine(
    key: jax.Array,
    image: ArrayLike,
    *,
    rotation: float = 0.0,
    scale: float = 0.0,
    shear: float = 0.0,
    shift: float = 0.0,
) -> jax.Array:
    """One image turned, scaled, sheared and moved at random about its centre, bilinearly resampled.

    Each amount is drawn uniformly from minus to plus its bound; what comes from outside the image is 0.

    Args:
        key: scalar key.
        image: float [H, W, C].
        rotation: degrees, counter-clockwise.
        scale: share of the size, for each axis.
        shear: horizontal pixels a vertical pixel.
        shift: pixels, for each axis.

    Returns:
        [H, W, C], of the image's dtype, within its range.
    """
    image = jnp.asarray(image)
    height, width, channels = image.shape
    bounds = jnp.array([rotation * jnp.pi / 180, scale, scale, shear, shift, shift], image.dtype)
    turn, grow_y, grow_x, lean, down, right = bounds * jax.random.uniform(key, (6,), image.dtype, -1, 1)
    cos, sin = jnp.cos(turn), jnp.sin(turn)
    centre = jnp.array([(height - 1) / 2, (width - 1) / 2], image.dtype)
    y, x = jnp.meshgrid(jnp.arange(height, dtype=image.dtype), jnp.arange(width, dtype=image.dtype), indexing="ij")
    # Where each output pixel comes from: the inverse map, about the centre.
    y, x = y - centre[0] - down, x - centre[1] - right
    y, x = (cos * y + sin * x) / (1 + grow_y), (cos * x - sin * y) / (1 + grow_x) + lean * y
    y, x = y + centre[0], x + centre[1]
    resample = lambda plane: map_coordinates(plane, [y, x], order=1, mode="constant", cval=0)
    return jnp.stack([resample(image[..., c]) for c in range(channels)], axis=-1)
