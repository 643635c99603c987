"""Posed images, and what lies between them and a radiance field: bounds, lenses, NDC, the background.

Mildenhall et al. (2020), section 6 and appendix C; the types are ours.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxgen.arguments import takes
from jaxgen.arguments.values import array
from jaxgen.nerf.cameras import Camera, Rays, camera_rays
from jaxgen.nerf.distortion import undistort_rays
from jaxgen.nerf.ndc import ndc_rays, reference_camera

BACKGROUNDS: dict[str, float | None] = {"white": 1.0, "black": 0.0, "none": None}
"""Grey level behind images with alpha; None where images are opaque."""


@dataclasses.dataclass(frozen=True)
class Views:
    """Images with their cameras.

    Attributes:
        image: uint8 [N, H, W, 3 or 4]. Images of several sizes are filled up on the right and below.
        pose: float32 [N, 4, 4], camera to world, OpenGL axes.
        intrinsics: float32 [N, 4]: focal_x, focal_y, center_x, center_y, in pixels.
        name: str [N].
        distortion: float32 [N, 4, 5, 8 or 9], coefficients of the lenses (`jaxgen.nerf.distortion`), or None without
            distortion.
        size: int32 [N, 2], width and height of each image, or None where all fill `image`.
        mask: bool [N, H, W], pixels to train on and to measure, or None for all.

    Raises:
        ValueError: more pixels than 32-bit numbers can count, or sizes or masks that do not fit the images.
    """

    image: np.ndarray
    pose: np.ndarray
    intrinsics: np.ndarray
    name: np.ndarray
    distortion: np.ndarray | None = None
    size: np.ndarray | None = None
    mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        number, height, width = self.image.shape[:3]
        if number * height * width >= 2**31:
            raise ValueError(
                f"{number} images of {width} x {height} pixels are {number * height * width} pixels; at most 2^31 - 1 "
                "can be counted: shrink the images (factor or width), or use fewer"
            )
        if self.size is not None and (self.size.shape != (number, 2) or (self.size > (width, height)).any()):
            raise ValueError(f"sizes {self.size.shape} do not fit images of shape {self.image.shape}")
        if self.mask is not None and self.mask.shape != (number, height, width):
            raise ValueError(f"masks have shape {self.mask.shape}, and the images {self.image.shape}")

    @property
    def sizes(self) -> np.ndarray:
        """int32 [N, 2], width and height of each image."""
        number, height, width = self.image.shape[:3]
        return np.tile(np.array([[width, height]], np.int32), (number, 1)) if self.size is None else self.size

    def camera(self, i: int, pixel_center: float) -> Camera:
        """The camera of one view."""
        width, height = (int(x) for x in self.sizes[i])
        focal_x, focal_y, center_x, center_y = (float(x) for x in self.intrinsics[i])
        return Camera(width, height, focal_x, focal_y, center_x, center_y, pixel_center)

    def lens(self, i: int) -> np.ndarray:
        """Distortion [4, 5, 8 or 9] of one view, four zeros without."""
        return np.zeros(4, np.float32) if self.distortion is None else self.distortion[i]

    def rgb(self, i: int, background: float | None) -> np.ndarray:
        """float32 [H, W, 3] of one view over the background, in its own size."""
        width, height = self.sizes[i]
        return np.asarray(over_background(jnp.asarray(self.image[i, :height, :width]), background))

    def mask_of(self, i: int) -> np.ndarray | None:
        """bool [H, W] of one view in its own size, pixels to measure; None: all."""
        width, height = self.sizes[i]
        return None if self.mask is None else self.mask[i, :height, :width]

    def arrays(self) -> dict[str, np.ndarray]:
        """What `Scene.rays_of_pixels` reads: pixels as uint8 [N H W, 3 or 4], poses, intrinsics and distortion."""
        pixels = self.image.reshape(-1, self.image.shape[-1])
        arrays = {"image": pixels, "pose": self.pose, "intrinsics": self.intrinsics}
        return arrays if self.distortion is None else {**arrays, "distortion": self.distortion}

    def usable_pixels(self, crop_fraction: float = 1.0) -> tuple[np.ndarray, np.ndarray] | None:
        """The pixels to train on, or None where these are all pixels of images of one size.

        Args:
            crop_fraction: height and width of the middle of the images from which pixels are taken.

        Returns:
            (numbers of pixels in `arrays()["image"]`, int32 [P], image by image; where each image's begin, int32
            [N + 1]).

        Raises:
            ValueError: no image has such a pixel.
        """
        if self.size is None and self.mask is None:
            return None
        number, height, width = self.image.shape[:3]
        parts = []
        for i, size in enumerate(self.sizes):
            columns, rows = (max(1, int(x * crop_fraction)) for x in size)
            left, top = (size[0] - columns) // 2, (size[1] - rows) // 2
            usable = np.zeros((height, width), bool)
            usable[top : top + rows, left : left + columns] = True
            if self.mask is not None:
                usable &= self.mask[i]
            parts.append(np.flatnonzero(usable) + i * height * width)
        if not sum(map(len, parts)):
            crop = f" within the crop, {crop_fraction:g} of its height and width" if crop_fraction != 1 else ""
            raise ValueError(f"the masks leave no pixel of any image{crop}; white is what may be used")
        return np.concatenate(parts).astype(np.int32), np.cumsum([0, *map(len, parts)]).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Scene:
    """Two sets of views of one world.

    Attributes:
        train: views to train on.
        test: views that are held out.
        near: where samples begin along a ray, in NDC if `ndc`, otherwise in world units along the axis of view
            (through a fisheye: along the ray).
        far: where they end.
        background: grey level behind images with alpha; None: images are opaque, and an empty ray is black.
        pixel_center: as in `Camera`.
        fingerprint: sha256 of the images and poses.
        bounds: nearest and farthest depth in world units.
        ndc: whether samples are taken in normalised device coordinates.
        exact: whether the views are of `analytic_scene`, whose depth is known.
        world_from_scene: [4, 4], the similarity (rotation, scale, translation) that takes points of this scene to the
            world in which the files describe it; None: they are the same.
        near_plane: distance of the near plane of NDC.
        report: what was read, a line each.
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
    world_from_scene: np.ndarray | None = None
    near_plane: float = 1.0
    report: tuple[str, ...] = ()

    @functools.cached_property
    def reference(self) -> Camera:
        """The camera whose projective space is that of NDC, for all views."""
        views = self.train, self.test
        intrinsics, sizes = (np.concatenate([getattr(v, name) for v in views]) for name in ("intrinsics", "sizes"))
        return reference_camera(intrinsics, sizes, self.pixel_center)

    def field_rays(self, rays: Rays, pose: Any, distortion: Any = None) -> Rays:
        """The rays [..., 3] of a camera as the field is sampled along them: without distortion, in NDC if `ndc`."""
        if distortion is not None:
            rays = undistort_rays(rays, pose, distortion)
        return ndc_rays(rays, self.reference, self.near_plane) if self.ndc else rays

    def rays_of_pixels(
        self, arrays: dict[str, jax.Array], image: ArrayLike, row: ArrayLike, column: ArrayLike
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
        rays = self.field_rays(rays, pose, None if distortion is None else distortion[image])
        pixel = arrays["image"][(image * height + row) * width + column]
        return {"rays": rays, "rgb": over_background(pixel, self.background)}


@takes(views=Views)
def run_along_minus_z(views: Views) -> bool:
    """Whether all rays run along -z, as NDC needs it: those of the corners of every image, through its lens."""
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * (views.sizes[:, None] - 1)
    return bool((np.asarray(_corner_rays(views.pose, views.intrinsics, views.distortion, corners)) < -1e-3).all())


@jax.jit
def _corner_rays(pose: jax.Array, intrinsics: jax.Array, distortion: jax.Array | None, corners: jax.Array) -> jax.Array:
    """The third components of the unit vectors of viewing, [N, 4]."""
    focal_x, focal_y, center_x, center_y = jnp.moveaxis(intrinsics[:, None], -1, 0)
    rays = camera_rays(Camera(1, 1, focal_x, focal_y, center_x, center_y), pose[:, None], corners)
    if distortion is not None:
        rays = undistort_rays(rays, pose[:, None], distortion[:, None])
    return jnp.asarray(rays.view)[..., 2]


def over_background(image: ArrayLike, background: float | None) -> jax.Array:
    """uint8 [..., 3 or 4] -> float32 [..., 3] over a grey level; without a level or alpha, the colors alone."""
    image = jnp.asarray(array("image", image))
    unit = image.astype(jnp.float32) / 255
    if background is None or image.shape[-1] == 3:
        return unit[..., :3]
    return unit[..., :3] * unit[..., 3:] + (1 - unit[..., 3:]) * background
