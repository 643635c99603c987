"""Batches of rays of posed images, in the stateless order."""

import jax.numpy as jnp

from experiments.nerf.config import Rays
from jaxgen import data, nerf


def ray_batches(scene: nerf.Scene, batch_size: int, settings: Rays) -> data.DeviceBatches:
    """{"rays": Rays [b, 3], "rgb": float32 [b, 3]}, made inside the step from images that stay on the device as bytes.

    Image and pixel are computed from (key, step, position). Every ray of every image is visited once before any is
    visited again (within the crop, while there is one).
    """
    views = scene.train
    _, height, width = shape = views.image.shape[:3]
    crop = max(1, int(height * settings.crop_fraction)), max(1, int(width * settings.crop_fraction))
    lists = {"all": views.usable_pixels()}
    if settings.crop_steps:
        lists["crop"] = views.usable_pixels(settings.crop_fraction)
    numbers = {name: of[0] for name, of in lists.items() if of is not None}

    def make(key, arrays, step, positions):
        def pixels(name):
            order = key, step, positions, batch_size, shape
            if (listed := lists[name]) is None:
                return data.shuffled_pixels(*order, crop if name == "crop" else None, one_image=settings.one_image)
            return data.listed_pixels(*order, arrays["pixels"][name], listed[1], one_image=settings.one_image)

        chosen = pixels("all")
        if settings.crop_steps:
            cropped = pixels("crop")
            chosen = tuple(jnp.where(step < settings.crop_steps, a, b) for a, b in zip(cropped, chosen, strict=True))
        return scene.rays_of_pixels(arrays, *chosen)

    return data.DeviceBatches(make, {**views.arrays(), **({"pixels": numbers} if numbers else {})}, batch_size)
