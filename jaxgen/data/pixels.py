"""The pixels of images in the stateless order, for rays that are made from their numbers."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxgen.data.order import permuted, shuffled_index

Pixels = tuple[jax.Array, jax.Array, jax.Array]
"""Numbers of image, row and column, int32 [b] each."""


def shuffled_pixels(
    key: jax.Array,
    step: ArrayLike,
    positions: ArrayLike,
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

    Raises:
        ValueError: 2^31 pixels or more.
    """
    number, height, width = shape
    _check_number(number * height * width)
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


def listed_pixels(
    key: jax.Array,
    step: ArrayLike,
    positions: ArrayLike,
    batch_size: int,
    shape: tuple[int, int, int],
    numbers: ArrayLike,
    starts: np.ndarray,
    *,
    one_image: bool = False,
) -> Pixels:
    """The pixels of a batch from a list of pixels, for images of several sizes or with masks.

    Args:
        key: scalar key of the order.
        step: int scalar.
        positions: int [b], positions in the global batch.
        batch_size: size of the global batch.
        shape: (images, height, width), in which a pixel's number is (image * height + row) * width + column.
        numbers: of the pixels, int32 [P], image by image.
        starts: where the pixels of each image begin in `numbers`, and their number, int [images + 1]; NumPy.
        one_image: as in `shuffled_pixels`, of the images that have pixels in the list.

    Returns:
        image, row, column, [b] each.

    Raises:
        ValueError: 2^31 pixels or more.
    """
    images, height, width = shape
    _check_number(images * height * width)
    if one_image:
        first = jnp.zeros((1,), jnp.int32)
        counts = np.diff(starts).astype(np.uint32)
        some = np.flatnonzero(counts).astype(np.int32)
        image = jnp.asarray(some)[shuffled_index(jax.random.fold_in(key, 0), step, first, 1, len(some))[0]]
        pixels, count = jax.random.fold_in(jax.random.fold_in(key, 1), step), jnp.asarray(counts)[image]
        pick = lambda i: permuted(pixels, i.astype(jnp.uint32) % count, count, at_most=int(counts.max()))
        index = jnp.asarray(starts, jnp.int32)[image] + jax.vmap(pick)(positions)
    else:
        index = shuffled_index(key, step, positions, batch_size, int(starts[-1]))
    number = jnp.asarray(numbers)[index]
    return number // (height * width), number // width % height, number % width


def _check_number(pixels: int) -> None:
    if pixels >= 2**31:
        raise ValueError(f"{pixels} pixels; at most 2^31 - 1 can be counted: shrink the images, or use fewer")
