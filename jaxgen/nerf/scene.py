"""Posed images, and what lies between them and a radiance field: bounds, lenses, NDC, the background.

Mildenhall et al. (2020), section 6 and appendix C; the types are ours.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.arguments import Float, Real, takes
from jaxgen.arguments.values import array
from jaxgen.nerf.cameras import Camera, Rays, camera_rays
from jaxgen.nerf.distortion import undistort_rays
from jaxgen.nerf.ndc import ndc_rays
from jaxgen.nerf.pose_report import describe_poses
from jaxgen.nerf.poses import recenter_poses

BACKGROUNDS: dict[str, float | None] = {"white": 1.0, "black": 0.0, "none": None}
"""Grey level behind images with alpha; None where images are opaque."""


@dataclasses.dataclass(frozen=True)
class Views:
    """Images of one size, with their cameras.

    Attributes:
        image: uint8 [N, H, W, 3 or 4].
        pose: float32 [N, 4, 4], camera to world, OpenGL axes.
        intrinsics: float32 [N, 4]: focal_x, focal_y, center_x, center_y, in pixels.
        name: str [N].
        distortion: float32 [N, 4], OpenCV's k1, k2, p1, p2, or None for lenses without distortion.
    """

    image: np.ndarray
    pose: np.ndarray
    intrinsics: np.ndarray
    name: np.ndarray
    distortion: np.ndarray | None = None

    def camera(self, i: int, pixel_center: float) -> Camera:
        """The camera of one view."""
        height, width = self.image.shape[1:3]
        focal_x, focal_y, center_x, center_y = (float(x) for x in self.intrinsics[i])
        return Camera(width, height, focal_x, focal_y, center_x, center_y, pixel_center)

    def lens(self, i: int) -> np.ndarray:
        """Distortion [4] of one view, zeros without."""
        return np.zeros(4, np.float32) if self.distortion is None else self.distortion[i]

    def rgb(self, i: int, background: float | None) -> np.ndarray:
        """float32 [H, W, 3] of one view over the background."""
        return np.asarray(over_background(jnp.asarray(self.image[i]), background))

    def arrays(self) -> dict[str, np.ndarray]:
        """What `Scene.rays_of_pixels` reads: pixels as uint8 [N H W, 3 or 4], poses, intrinsics and distortion."""
        pixels = self.image.reshape(-1, self.image.shape[-1])
        arrays = {"image": pixels, "pose": self.pose, "intrinsics": self.intrinsics}
        return arrays if self.distortion is None else {**arrays, "distortion": self.distortion}


@dataclasses.dataclass(frozen=True)
class Scene:
    """Two sets of views of one world.

    Attributes:
        train: views to train on.
        test: views that are held out.
        near: where samples begin along a ray, in NDC if `ndc`, otherwise in world units along the axis of view.
        far: where they end.
        background: grey level behind images with alpha; None: images are opaque, and an empty ray is black.
        pixel_center: as in `Camera`.
        fingerprint: sha256 of the images and poses.
        bounds: nearest and farthest depth in world units.
        ndc: whether samples are taken in normalised device coordinates.
        exact: whether the views are of `analytic_scene`, whose depth is known.
    """

    train: Views
    test: Views
    near: float
    far: float
    background: float | None
    pixel_center: float
    fingerprint: str
    bounds: tuple[float, float]
    ndc: bool = False
    exact: bool = False

    def field_rays(self, rays: Rays, camera: Camera, pose: Any, distortion: Any = None) -> Rays:
        """The rays [..., 3] of a camera as the field is sampled along them: without distortion, in NDC if `ndc`."""
        if distortion is not None:
            rays = undistort_rays(rays, pose, distortion)
        return ndc_rays(rays, camera) if self.ndc else rays

    def rays_of_pixels(
        self, arrays: dict[str, jax.Array], image: jax.Array, row: jax.Array, column: jax.Array
    ) -> dict[str, Any]:
        """The training rays through pixels, and their colors: a batch for `nerf_loss`.

        Args:
            arrays: `train.arrays()`, on a device.
            image: numbers of training views, int [b].
            row: int [b].
            column: int [b].

        Returns:
            {"rays": Rays [b, 3], "rgb": float32 [b, 3]}.
        """
        height, width = self.train.image.shape[1:3]
        focal_x, focal_y, center_x, center_y = jnp.moveaxis(arrays["intrinsics"][image], -1, 0)
        camera = Camera(width, height, focal_x, focal_y, center_x, center_y, self.pixel_center)
        pose, distortion = arrays["pose"][image], arrays.get("distortion")
        rays = camera_rays(camera, pose, jnp.stack([column, row], axis=-1))
        rays = self.field_rays(rays, camera, pose, None if distortion is None else distortion[image])
        pixel = arrays["image"][(image * height + row) * width + column]
        return {"rays": rays, "rgb": over_background(pixel, self.background)}


def over_background(image: jax.Array, background: float | None) -> jax.Array:
    """uint8 [..., 3 or 4] -> float32 [..., 3] over a grey level; without a level or alpha, the colors alone."""
    image = jnp.asarray(array("image", image))
    unit = image.astype(jnp.float32) / 255
    if background is None or image.shape[-1] == 3:
        return unit[..., :3]
    return unit[..., :3] * unit[..., 3:] + (1 - unit[..., 3:]) * background


@takes(poses=Float(numpy=True), nearest=Real(positive=True))
def place_cameras(poses: np.ndarray, nearest: float) -> tuple[np.ndarray, float]:
    """A reconstructed world, such as COLMAP's, moved and scaled to where networks and bounds expect it.

    Cameras that surround a point: that point at the origin, and the cameras 4 away from it on average, as in the
    Blender scenes. Cameras that face one way, as in LLFF's scenes: the average camera at the origin with the axes of
    the world, and the nearest bound at 4 / 3.

    Args:
        poses: [N, 4, 4], OpenGL axes.
        nearest: the nearest bound of all views, in units of `poses`.

    Returns:
        (new poses float64 [N, 4, 4], the scale by which bounds are to be multiplied).
    """
    report, poses = describe_poses(poses), np.array(poses)
    if report.surrounding:
        poses[:, :3, 3] -= report.focus
        scale = 4 / report.distance
    else:
        poses = np.asarray(recenter_poses(jnp.asarray(poses)), np.float64)
        scale = 1 / (0.75 * nearest)
    poses[:, :3, 3] *= scale
    return poses, scale
