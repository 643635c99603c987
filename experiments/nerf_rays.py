"""Rays of posed images, visited in the stateless order."""

import dataclasses

import jax
import jax.numpy as jnp

from experiments import nerf_scenes
from jaxgen import data, nerf, training


@dataclasses.dataclass(frozen=True)
class Order:
    """Which rays a step takes."""

    one_image: bool = False
    """all rays of a step from one image, as in the authors' runs on Blender scenes; otherwise from all images"""
    crop_steps: int = 0
    """first steps in which rays come from the middle of the images, where the object is"""
    crop_fraction: float = 0.5
    """height and width of that middle, as a share of the image's"""


def check_order(order: Order, num_steps: int) -> None:
    """Raises ValueError for impossible settings."""
    if not 0 <= order.crop_steps <= num_steps:
        raise ValueError(
            f"rays.crop_steps is {order.crop_steps}; it must be from 0 to num_steps = {num_steps}: where the "
            "training is shortened, shorten it too (--rays.crop-steps)"
        )
    if not 0 < order.crop_fraction <= 1:
        raise ValueError(f"rays.crop_fraction is {order.crop_fraction}; it must be in (0, 1]")


def ray_batches(scene: nerf_scenes.Scene, batch_size: int, order: Order) -> training.DeviceBatches:
    """{"rays": Rays [b, 3], "rgb": float32 [b, 3]}, made inside the step from images that stay on the device as bytes.

    Image and pixel are computed from (key, step, position). Every ray of every image is visited once before any is
    visited again (within the crop, while there is one).
    """
    views = scene.train
    number, height, width = views.image.shape[:3]
    arrays = {
        "image": views.image.reshape(-1, views.image.shape[-1]),
        "pose": views.pose,
        "intrinsics": views.intrinsics,
    }
    if views.distortion is not None:
        arrays["distortion"] = views.distortion
    crop = tuple(max(1, int(size * order.crop_fraction)) for size in (height, width))

    def visit(key, step, positions, rows, columns):
        """image, row, column [b] of a middle of rows x columns."""
        if order.one_image:
            first = jnp.zeros((1,), jnp.int32)
            image = data.shuffled_index(jax.random.fold_in(key, 0), step, first, 1, number)
            pixels = jax.random.fold_in(jax.random.fold_in(key, 1), step)
            pick = lambda i: data.permuted(pixels, (i % (rows * columns)).astype(jnp.uint32), rows * columns)
            pixel = jax.vmap(pick)(positions)
            image = jnp.broadcast_to(image, pixel.shape)
        else:
            index = data.shuffled_index(key, step, positions, batch_size, number * rows * columns)
            image, pixel = index // (rows * columns), index % (rows * columns)
        return image, (height - rows) // 2 + pixel // columns, (width - columns) // 2 + pixel % columns

    def make(key, arrays, step, positions):
        full = visit(key, step, positions, height, width)
        if order.crop_steps:
            cropped = visit(key, step, positions, *crop)
            full = tuple(jnp.where(step < order.crop_steps, a, b) for a, b in zip(cropped, full, strict=True))
        image, row, column = full
        focal_x, focal_y, center_x, center_y = jnp.moveaxis(arrays["intrinsics"][image], -1, 0)
        camera = nerf.Camera(width, height, focal_x, focal_y, center_x, center_y, scene.pixel_center)
        rays = nerf.camera_rays(camera, arrays["pose"][image], jnp.stack([column, row], axis=-1))
        if views.distortion is not None:
            rays = nerf.undistort_rays(rays, arrays["pose"][image], arrays["distortion"][image])
        if scene.ndc:
            rays = nerf.ndc_rays(rays, camera)
        seen = arrays["image"][(image * height + row) * width + column]
        return {"rays": rays, "rgb": nerf_scenes.over(seen, scene.background)}

    return training.DeviceBatches(make, arrays)
