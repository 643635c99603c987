"""The rays of a step of the NeRF experiment."""

import dataclasses
from typing import Any, cast

import jax
import numpy as np

from experiments.nerf.config import Rays
from experiments.nerf.train import ray_batches
from jaxgen import nerf
from tests.nerf import scenes
from tests.nerf.scenes import H, N, W

SCENE = scenes.scene()


def steps(batch_size, settings, which):
    """(image, row, column) [steps, batch] of the rays of some steps, read from their colors, and the batches."""
    batches = ray_batches(SCENE, batch_size, settings)
    positions = np.arange(batch_size, dtype=np.int32)
    make = jax.jit(lambda arrays, step: batches.make(jax.random.key(3), arrays, step, positions))
    made = [jax.device_get(make(batches.arrays, np.int32(step))) for step in which]
    return scenes.pixels_of(np.stack([batch["rgb"] for batch in made])), made


def test_an_epoch_visits_every_ray_of_every_image_once():
    found, _ = steps(36, Rays(), range(4))
    visits = np.stack([x.ravel() for x in found], axis=-1)
    assert len(visits) == N * H * W == len(np.unique(visits, axis=0))
    # No batch is of one image.
    assert all(len(np.unique(images)) == N for images in found[0])


def test_a_ray_is_that_of_its_pixel():
    (image, row, column), [batch] = steps(36, Rays(), [1])
    ray_of = jax.jit(nerf.camera_rays)
    for i in range(36):
        view = image[0, i]
        pixel = np.array([column[0, i], row[0, i]], np.int32)
        expected = ray_of(SCENE.train.camera(view, 0.5), SCENE.train.pose[view], pixel)
        for a, b in zip(batch["rays"], expected, strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6)


def test_images_of_several_sizes_and_masks_are_visited_once_by_one_program():
    size = np.array([[W, H], [W - 2, H], [W, H - 3]], np.int32)
    mask = np.ones((N, H, W), bool)
    mask[0, :2] = False
    train = dataclasses.replace(SCENE.train, size=size, mask=mask)
    total = (H - 2) * W + H * (W - 2) + (H - 3) * W
    assert total % 4 == 0
    batches = ray_batches(dataclasses.replace(SCENE, train=train), total // 4, Rays(crop_steps=4, crop_fraction=0.5))
    positions = np.arange(total // 4, dtype=np.int32)
    make = jax.jit(lambda arrays, step: batches.make(jax.random.key(3), arrays, step, positions)["rgb"])
    found = scenes.pixels_of(np.stack([make(batches.arrays, np.int32(step)) for step in range(8)]))
    image, row, column = found[:, :4].reshape(3, -1)
    # First the middle half: columns 2 to 5 and rows 2 and 3 of the first image, whose row 1 is masked.
    assert set(zip(row[image == 0], column[image == 0], strict=True)) == {(r, c) for r in (2, 3) for c in (2, 3, 4, 5)}
    assert set(zip(row[image == 1], column[image == 1], strict=True)) == {(r, c) for r in (1, 2, 3) for c in (1, 2, 3)}
    assert cast(Any, make)._cache_size() == 1
    visits = np.unique(found[:, 4:].reshape(3, -1), axis=1).T
    assert len(visits) == total
    assert all(c < size[i, 0] and r < size[i, 1] and mask[i, r, c] for i, r, c in visits)


def test_rays_of_one_image_and_of_its_middle():
    settings = Rays(one_image=True, crop_steps=3, crop_fraction=0.5)
    (image, row, column), _ = steps(12, settings, range(6))
    assert all(len(set(view)) == 1 for view in image)
    assert sorted(image[:3, 0]) == sorted(image[3:, 0]) == [0, 1, 2]
    # The middle 3 x 4 pixels, each once; then anywhere, none twice.
    for r, c in zip(row[:3], column[:3], strict=True):
        assert sorted(zip(r, c, strict=True)) == [(i, j) for i in (1, 2, 3) for j in (2, 3, 4, 5)]
    for r, c in zip(row[3:], column[3:], strict=True):
        assert len(set(zip(r, c, strict=True))) == 12 and r.max() - r.min() > 2
    assert len(set(zip(row[3:].ravel(), column[3:].ravel(), strict=True))) > 20
