"""Batches of images in the stateless order: which image is at a position depends on (key, step, position) alone."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.data.augment import random_affine
from jaxgen.data.batches import DeviceBatches, HostBatches
from jaxgen.data.image_set import Images, OnDisk, signed
from jaxgen.data.order import locate, shuffled_index


def image_batches(
    images: Images,
    batch_size: int,
    *,
    flat: bool = False,
    flip: bool = False,
    distort: float = 0.0,
    binarize: bool = False,
    shuffle: bool = True,
    workers: int = 1,
) -> DeviceBatches | HostBatches:
    """{"x", "label": int32 [b] (if there are labels)}; x is float32 [b, H, W, C] in [-1, 1], or flat [b, D] in [0, 1].

    Images in memory are kept on the device as bytes. Everything random is drawn anew at each visit of an image.

    Args:
        images: a split.
        batch_size: examples a step, of all devices.
        flat: vectors in [0, 1] instead of images in [-1, 1].
        flip: half of the images are mirrored left to right.
        distort: half of the images are distorted at random; 1: up to 10 degrees, 10 % in size, 0.1 shear and 1 pixel.
        binarize: each pixel is drawn as black or white, its grey level in [0, 1] being the probability of white.
        shuffle: without, every epoch visits the images in their own order.
        workers: threads that read images on disk.

    Raises:
        ValueError: distortion or binarization of images on disk, or a negative distortion.
    """
    if distort < 0:
        raise ValueError(f"distort is {distort}; it must be 0 or more")
    num_examples, on_disk = len(images), isinstance(images.image, OnDisk)
    if on_disk and (flat or distort or binarize):
        raise ValueError("images on disk are read as images in [-1, 1]: flat, distort and binarize need them in memory")

    def choose(key, step, positions):
        """Indices [b], and the keys [b] of what is drawn for each example."""
        order, augment = jax.random.split(key)
        if shuffle:
            chosen = shuffled_index(order, step, positions, batch_size, num_examples)
        else:
            chosen = locate(step, positions, batch_size, num_examples)[1]
        return chosen, _per_example(augment, step, positions)

    mirrored = lambda keys: jax.vmap(jax.random.bernoulli)(keys) if flip else jnp.zeros(keys.shape, bool)

    def make(key, arrays, step, positions):
        chosen, keys = choose(jax.random.clone(key) if binarize else key, step, positions)
        batch = {name: array[chosen] for name, array in arrays.items()}
        x = batch["x"]
        if flip:
            x = x.reshape(-1, *images.shape)
            x = jnp.where(mirrored(jax.random.clone(keys) if distort else keys)[:, None, None, None], x[:, :, ::-1], x)
            x = x.reshape(batch["x"].shape)
        if not (flat or distort or binarize):
            return {**batch, "x": signed(x)}
        x = x.astype(jnp.float32) / 255
        if distort:
            x = jax.vmap(lambda key, x: _distorted(key, x.reshape(images.shape), distort).reshape(x.shape))(keys, x)
        if binarize:
            # split gave the keys 0 and 1 of the same kind.
            pixels = _per_example(jax.random.fold_in(key, 2), step, positions)
            x = jax.vmap(lambda key, x: jax.random.bernoulli(key, x).astype(x.dtype))(pixels, x)
        return {**batch, "x": x if flat else 2 * x - 1}

    if not on_disk:
        arrays = {"x": images.flat if flat else images.image}
        arrays |= {} if images.label is None else {"label": images.label}
        return DeviceBatches(make, arrays, batch_size)

    @jax.jit
    def choose_on_disk(key, step, positions):
        chosen, keys = choose(key, step, positions)
        return chosen, mirrored(keys)

    def read(key, step, positions):
        chosen, flipped = (np.asarray(a) for a in choose_on_disk(key, step, positions))
        batch = images.read(chosen)
        x = batch.pop("image")
        x[flipped] = x[flipped][:, :, ::-1]
        return {**batch, "x": signed(x)}

    return HostBatches(read, prefetch=max(2, workers), workers=workers, batch_size=batch_size)


def array_batches(arrays: Any, batch_size: int) -> DeviceBatches:
    """Rows of arrays in the stateless order, each once an epoch; the arrays stay on the device.

    Args:
        arrays: a tree of arrays [N, ...], such as {"x": features} or rays and their colors.
        batch_size: examples a step, of all devices.

    Returns:
        batches: the same tree, [b, ...].
    """
    num_examples = len(jax.tree.leaves(arrays)[0])

    def make(key, arrays, step, positions):
        chosen = shuffled_index(key, step, positions, batch_size, num_examples)
        return jax.tree.map(lambda array: array[chosen], arrays)

    return DeviceBatches(make, arrays, batch_size)


def slices(num: int, batch_size: int) -> Iterator[slice]:
    """0 .. num in pieces of `batch_size`, the last one shorter."""
    return (slice(i, min(i + batch_size, num)) for i in range(0, num, batch_size))


def _per_example(key: jax.Array, step: jax.Array, positions: jax.Array) -> jax.Array:
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, step), positions)


def _distorted(key: jax.Array, x: jax.Array, amount: float) -> jax.Array:
    amounts = {"rotation": 10 * amount, "scale": 0.1 * amount, "shear": 0.1 * amount, "shift": amount}
    whether, how = jax.random.split(key)
    # Resampling blurs a little: half the images stay as they are, as test images do.
    return jnp.where(jax.random.bernoulli(whether), random_affine(how, x, **amounts), x)
