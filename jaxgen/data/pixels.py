"""The pixels of equally large images in the stateless order, for rays that are made from their numbers."""

import jax
import jax.numpy as jnp

from jaxgen.data.order import permuted, shuffled_index

Pixels = tuple[jax.Array, jax.Array, jax.Array]
"""Numbers of image, row and column, int32 [b] each."""


def shuffled_pixels(
    key: jax.Array,
    step: jax.Array | int,
    positions: jax.Array,
    batch_size: int,
    shape: tuple[int, int, int],
    crop: tuple[int, int] | None = None,
    *,
    one_image: bool = False,
) -> Pixels:
    """The pixels of a batch. Every pixel is visited once before any is visited again.

    Args:
        key: scalar key of the order.
        step: int scalar.
        positions: int [b], positions in the global batch.
        batch_size: size of the global batch.
        shape: (images, height, width).
        crop: (rows, columns) of the middle of the images from which pixels are taken; None: all.
        one_image: all pixels of a batch are of one image; the images are visited in shuffled order, and their pixels
            are drawn anew at each step, none twice while the batch has fewer than the image.

    Returns:
        image, row, column, [b] each.
    """
    number, height, width = shape
    rows, columns = crop or (height, width)
    if one_image:
        first = jnp.zeros((1,), jnp.int32)
        image = shuffled_index(jax.random.fold_in(key, 0), step, first, 1, number)
        pixels = jax.random.fold_in(jax.random.fold_in(key, 1), step)
        pick = lambda i: permuted(pixels, (i % (rows * columns)).astype(jnp.uint32), rows * columns)
        pixel = jax.vmap(pick)(positions)
        image = jnp.broadcast_to(image, pixel.shape)
    else:
        index = shuffled_index(key, step, positions, batch_size, number * rows * columns)
        image, pixel = index // (rows * columns), index % (rows * columns)
    return image, (height - rows) // 2 + pixel // columns, (width - columns) // 2 + pixel % columns
