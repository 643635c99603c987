"""The pinhole camera and the ray of a pixel, r(t) = o + t d (Mildenhall et al. 2020).

Axes are OpenGL's: in its own coordinates a camera has x to the right, y up, and looks along -z. A pose is a
camera-to-world matrix: its columns are the camera's x, y, z axes and its centre, in world coordinates. Other axes are
converted in `poses`. Pixels are (column, row), counted from the top left.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxgen.arguments import Each, Float, takes
from jaxgen.nerf.checks import check_vectors
from jaxgen.nerf.poses import check_poses, normalize

_STATIC = ("width", "height", "pixel_center")
_INTRINSICS = ("focal_x", "focal_y", "center_x", "center_y")


class Rays(NamedTuple):
    """r(t) = origin + t direction, one or many.

    Attributes:
        origin: [..., 3].
        direction: [..., 3], not normalised: t is in units of its length.
        view: [..., 3], the unit vector of viewing that the network takes. It stays in world coordinates where
            `ndc_rays` bends the other two.
    """

    origin: jax.Array | np.ndarray
    direction: jax.Array | np.ndarray
    view: jax.Array | np.ndarray


RAYS = Each(Float("... 3"), Rays)
"""What an argument of rays may be."""


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion; lengths in pixels. A pytree whose leaves are the intrinsics.

    Its values are checked where a camera is made, but not where JAX rebuilds one from its leaves: these may be
    gradients or differences, which have any sign.

    Attributes:
        width: columns of the image.
        height: rows of the image.
        focal_x: focal length in pixel widths; scalar, or one for each ray [...].
        focal_y: focal length in pixel heights, likewise.
        center_x: principal point from the left edge of the image, likewise.
        center_y: principal point from its top edge, likewise.
        pixel_center: where in pixel (0, 0) its ray passes, from its top left corner, in both directions: 0.5, its
            middle, for images that were rendered or calibrated that way, which is nearly all; 0.0 reproduces the
            code of the paper.

    Raises:
        ValueError: a size or a focal length is not positive.
    """

    width: int
    height: int
    focal_x: Any
    focal_y: Any
    center_x: Any
    center_y: Any
    pixel_center: float = 0.5

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"a camera of {self.width} x {self.height} pixels; both must be at least 1")
        for name in ("focal_x", "focal_y"):
            focal = getattr(self, name)
            # Transformations of trees put other things than numbers here.
            if isinstance(focal, (int, float, np.ndarray)) and not np.all(np.asarray(focal) > 0):
                raise ValueError(f"{name} is {focal}; a focal length is positive, in pixels")

    def tree_flatten_with_keys(self) -> tuple[tuple, tuple]:
        """Leaves with their names, and what is static."""
        leaves = tuple((jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in _INTRINSICS)
        return leaves, tuple(getattr(self, name) for name in _STATIC)

    @classmethod
    def tree_unflatten(cls, static: tuple, leaves: Sequence[Any]) -> "Camera":
        """A camera with other leaves, which are not checked."""
        camera = object.__new__(cls)
        for name, value in zip((*_STATIC, *_INTRINSICS), (*static, *leaves), strict=True):
            object.__setattr__(camera, name, value)
        return camera

    @classmethod
    def from_angle(cls, width: int, height: int, angle_x: float, pixel_center: float = 0.5) -> "Camera":
        """Square pixels, principal point in the middle, and a horizontal field of view in radians.

        `angle_x` is the `camera_angle_x` of Blender scenes: f = (width / 2) / tan(angle_x / 2).

        Raises:
            ValueError: the angle is not inside (0, pi).
        """
        if not 0 < angle_x < np.pi:
            raise ValueError(f"angle_x is {angle_x}; a field of view is inside (0, pi) radians")
        focal = float(0.5 * width / np.tan(0.5 * angle_x))
        return cls(width, height, focal, focal, width / 2, height / 2, pixel_center)

    def resized(self, width: int, height: int) -> "Camera":
        """The same view on another number of pixels: focal lengths and principal point scale along."""
        across, down = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            focal_x=self.focal_x * across,
            focal_y=self.focal_y * down,
            center_x=self.center_x * across,
            center_y=self.center_y * down,
        )

    def pixels(self) -> np.ndarray:
        """(column, row) of every pixel: [height, width, 2] int32."""
        return np.stack(np.meshgrid(np.arange(self.width), np.arange(self.height)), axis=-1).astype(np.int32)


@takes(camera=Camera, pose=Float(numpy=True), pixels=Float("... 2", numpy=True))
def camera_rays(camera: Camera, pose: ArrayLike, pixels: ArrayLike) -> Rays:
    """The rays through pixels: o the camera's centre, d with length 1 along the camera's axis of view.

    d = R ((x - c_x) / f_x, -(y - c_y) / f_y, -1) with (x, y) = pixel + pixel_center, so t is depth along the axis of
    view, in world units.

    Args:
        camera: its intrinsics are scalars, or one for each ray.
        pose: camera to world, [..., 4, 4] or [..., 3, 4], OpenGL axes; its leading axes broadcast with those of
            `pixels`.
        pixels: (column, row), [..., 2], integers or fractions of pixels.

    Returns:
        rays [..., 3] in the type of `pose`.

    Raises:
        ValueError: wrong shapes, or (outside of jit) a pose whose 3x3 part is not a rotation.
    """
    pose, pixels = jnp.asarray(pose), jnp.asarray(pixels)
    check_vectors("pixels", pixels, 2)
    check_poses(pose)
    lead = jnp.broadcast_shapes(pose.shape[:-2], pixels.shape[:-1])
    number = lambda value: jnp.asarray(value, pose.dtype)
    across, down = (number(pixels[..., i]) + camera.pixel_center for i in (0, 1))
    x = (across - number(camera.center_x)) / number(camera.focal_x)
    y = -(down - number(camera.center_y)) / number(camera.focal_y)
    in_camera = jnp.broadcast_to(jnp.stack([x, y, -jnp.ones_like(x)], axis=-1), (*lead, 3))
    rotation = jnp.broadcast_to(pose[..., :3, :3], (*lead, 3, 3))
    # Sums of products, not a matrix product: accelerators round the factors of those to fewer bits.
    direction = jnp.sum(rotation * in_camera[..., None, :], axis=-1)
    origin = jnp.broadcast_to(pose[..., :3, 3], (*lead, 3))
    return Rays(origin, direction, normalize(direction))
