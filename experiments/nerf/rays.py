"""Batches of rays of posed images, in the stateless order."""

import jax.numpy as jnp

from experiments.nerf.config import Rays
from jaxgen import data, nerf


def ray_batches(scene: nerf.Scene, batch_size: int, settings: Rays) -> data.DeviceBatches:
    """{"rays": Rays [b, 3], "rgb": float32 [b, 3]}, made inside the step from images that stay on the device as bytes.

    Image and pixel are computed from (key, step, position). Every ray of every image is visited once before any is
    visited again (within the crop, while there is one).
    """
    number, height, width = shape = scene.train.image.shape[:3]
    crop = tuple(max(1, int(size * settings.crop_fraction)) for size in (height, width))

    def make(key, arrays, step, positions):
        pixels = lambda crop: data.shuffled_pixels(
            key, step, positions, batch_size, shape, crop, one_image=settings.one_image
        )
        chosen = pixels(None)
        if settings.crop_steps:
            cropped = pixels(crop)
            chosen = tuple(jnp.where(step < settings.crop_steps, a, b) for a, b in zip(cropped, chosen, strict=True))
        return scene.rays_of_pixels(arrays, *chosen)

    return data.DeviceBatches(make, scene.train.arrays(), batch_size)
