"""Pixels of images in the stateless order."""

import functools

import jax
import numpy as np
import pytest

from jaxgen.data import listed_pixels, shuffled_pixels

N, H, W = SHAPE = 3, 6, 8


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def made(step, batch_size, crop, one_image, positions):
    key = jax.random.key(3)
    return shuffled_pixels(key, step, positions, batch_size, SHAPE, crop, one_image=one_image)


def pixels(steps, batch_size, crop=None, one_image=False):
    """int [3, steps, batch]: image, row and column."""
    positions = np.arange(batch_size, dtype=np.int32)
    return np.stack([made(np.int32(step), batch_size, crop, one_image, positions) for step in steps], axis=1)


def test_every_pixel_of_every_image_is_visited_once_an_epoch():
    found = pixels(range(8), 36)
    for epoch in (found[:, :4], found[:, 4:]):
        visits = epoch.reshape(3, -1).T
        assert {tuple(v) for v in visits} == {(i, r, c) for i in range(N) for r in range(H) for c in range(W)}
        assert len(visits) == N * H * W
    assert not np.array_equal(found[:, :4], found[:, 4:])
    # No batch is of one image.
    assert all(len(np.unique(images)) == N for images in found[0])


def test_a_crop_is_the_middle():
    visits = pixels(range(2), 18, (3, 4)).reshape(3, -1).T
    assert sorted(map(tuple, visits)) == [(i, r, c) for i in range(N) for r in (1, 2, 3) for c in (2, 3, 4, 5)]


def test_a_batch_of_one_image():
    image, row, column = pixels(range(6), 12, one_image=True)
    assert all(len(set(images)) == 1 for images in image)
    assert sorted(image[:3, 0]) == sorted(image[3:, 0]) == [0, 1, 2]
    chosen = [set(zip(r, c, strict=True)) for r, c in zip(row, column, strict=True)]
    assert all(len(pixels) == 12 for pixels in chosen) and len(set.union(*chosen)) > 30
    # The next visit of an image takes other pixels.
    visits = {}
    for number, found in zip(image[:, 0], chosen, strict=True):
        visits.setdefault(number, []).append(found)
    assert all(first != second for first, second in visits.values())
    assert row.max() == H - 1 and column.max() == W - 1 and row.min() == column.min() == 0


def test_a_whole_image_at_once_has_each_pixel_once():
    image, row, column = pixels([5], 12, (3, 4), one_image=True)
    assert len(set(image[0])) == 1
    assert sorted(zip(row[0], column[0], strict=True)) == [(r, c) for r in (1, 2, 3) for c in (2, 3, 4, 5)]


def test_any_part_of_a_batch_can_be_computed_alone():
    for one_image in (False, True):
        some = np.array([7, 0, 31], np.int32)
        alone = np.asarray(made(np.int32(2), 36, None, one_image, some))
        np.testing.assert_array_equal(alone, pixels([2], 36, None, one_image)[:, 0, some])


# Images of 8 x 6, 5 x 6 and 8 x 2 pixels inside of 8 x 6, without two that are masked.
USABLE = np.zeros(SHAPE, bool)
USABLE[0], USABLE[1, :, :5], USABLE[2, :2] = True, True, True
USABLE[0, 0, :2] = False
NUMBERS = np.flatnonzero(USABLE).astype(np.int32)
STARTS = np.array([0, 46, 76, 92], np.int32)


@functools.partial(jax.jit, static_argnums=(1, 2))
def listed(steps, batch_size, one_image):
    positions = np.arange(batch_size, dtype=np.int32)
    draw = lambda step: listed_pixels(
        jax.random.key(3), step, positions, batch_size, SHAPE, NUMBERS, STARTS, one_image=one_image
    )
    return jax.vmap(draw)(steps)


def test_every_listed_pixel_is_visited_once_an_epoch():
    visits = np.stack(listed(np.arange(4, dtype=np.int32), 23, False)).reshape(3, -1).T
    assert len(visits) == len(NUMBERS) == len(np.unique(visits, axis=0))
    assert USABLE[tuple(visits.T)].all()


def test_listed_pixels_of_one_image_are_different():
    image, row, column = np.stack(listed(np.arange(6, dtype=np.int32), 16, True))
    assert (image == image[:, :1]).all() and sorted(image[:3, 0]) == sorted(image[3:, 0]) == [0, 1, 2]
    assert USABLE[image, row, column].all()
    assert all(len(set(zip(r, c, strict=True))) == 16 for r, c in zip(row, column, strict=True))
    short = np.flatnonzero(image[:, 0] == 2)
    assert set(zip(row[short[0]], column[short[0]], strict=True)) == {(r, c) for r in range(2) for c in range(8)}


@pytest.mark.parametrize("one_image", [False, True])
def test_more_pixels_than_can_be_counted_are_refused(one_image):
    shape, positions = (2, 2**15, 2**15), np.arange(4, dtype=np.int32)
    with pytest.raises(ValueError, match="2147483648 pixels; at most"):
        shuffled_pixels(jax.random.key(0), 0, positions, 4, shape, one_image=one_image)
    with pytest.raises(ValueError, match="2147483648 pixels; at most"):
        listed_pixels(jax.random.key(0), 0, positions, 4, shape, NUMBERS, STARTS, one_image=one_image)


def test_the_last_pixels_of_the_largest_scene_are_reached():
    """Indices are 32-bit numbers up to the last."""
    shape, positions = (2**9, 2**11 - 1, 2**11), np.arange(2000, dtype=np.int32)
    draw = lambda: shuffled_pixels(jax.random.key(1), 0, positions, 2000, shape)
    image, row, column = np.stack(jax.jit(draw)())
    assert 0 <= image.min() < 8 and 503 < image.max() < shape[0] and row.min() >= 0 and column.min() >= 0
    assert row.max() < shape[1] and column.max() < shape[2]
