"""Pixels of images in the stateless order."""

import functools

import jax
import numpy as np

from jaxgen.data import shuffled_pixels

N, H, W = SHAPE = 3, 6, 8


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def made(step, batch_size, crop, one_image, positions):
    key = jax.random.key(3)
    return shuffled_pixels(key, step, positions, batch_size, SHAPE, crop, one_image=one_image)


def pixels(steps, batch_size, crop=None, one_image=False):
    """int [3, steps, batch]: image, row and column."""
    positions = np.arange(batch_size, dtype=np.int32)
    return np.moveaxis([made(np.int32(step), batch_size, crop, one_image, positions) for step in steps], 1, 0)


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
