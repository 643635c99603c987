"""Posed images for NeRF: read or rendered, and visited ray by ray in the stateless order."""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import data, nerf, training


@dataclasses.dataclass(frozen=True)
class Data:
    """Which images."""

    name: Literal["marbles", "blender", "transforms", "llff"] = "marbles"
    """"marbles" is embedded and has exact ground truth; the others are read from a folder"""
    dir: str = training.free("")
    """folder of the scene"""
    width: int = 0
    """columns to which images are shrunk (area average); 0: as they are, or by `factor`"""
    factor: int = 1
    """instead of a width: 2 for half resolution, and so on"""
    every: int = 1
    """blender: every so many-th training frame"""
    test_every: int = 8
    """blender: every so many-th test frame; transforms and llff: every so many-th view is held out"""
    skip_missing: bool = False
    """blender: frames without an image are left out instead of refused"""
    train_views: int = 40
    """marbles: views to train on"""
    test_views: int = 4
    """marbles: views held out"""
    near: float = 2.0
    """where rays begin, in world units along the axis of view"""
    far: float = 6.0
    """where they end"""
    ndc: bool = True
    """llff: normalised device coordinates; near and far are then 0 and 1, otherwise those of the scene's bounds"""
    background: Literal["white", "black", "none"] = "white"
    """behind images with alpha; "none": images are opaque, and an empty ray is black"""
    pixel_center: float = 0.5
    """where in a pixel its ray passes: 0.5, or 0.0 as in the authors' code"""


@dataclasses.dataclass(frozen=True)
class Views:
    """Images with cameras: uint8 [N, H, W, 3 or 4], float32 [N, 4, 4], float32 [N, 4], str [N]."""

    image: np.ndarray
    pose: np.ndarray
    intrinsics: np.ndarray
    name: np.ndarray

    def camera(self, i: int, pixel_center: float) -> nerf.Camera:
        """The camera of one view."""
        height, width = self.image.shape[1:3]
        focal_x, focal_y, center_x, center_y = (float(x) for x in self.intrinsics[i])
        return nerf.Camera(width, height, focal_x, focal_y, center_x, center_y, pixel_center)

    def rgb(self, i: int, background: float | None) -> np.ndarray:
        """float32 [H, W, 3] of one view over the background."""
        return np.asarray(over(jnp.asarray(self.image[i]), background))


@dataclasses.dataclass(frozen=True)
class Scene:
    """Both splits, and what lies between them and the world.

    `near` and `far` are what is sampled between, in NDC if `ndc`; `bounds` are the nearest and farthest depth in world
    units. `exact` is whether the views are of the analytic scene, whose depth is known.
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


BACKGROUNDS = {"white": 1.0, "black": 0.0, "none": None}


def load(config: Data) -> Scene:
    """The scene of a config.

    Raises:
        ValueError: near >= far, one view, images without alpha where a background was asked for, a setting that the
            data does not have, or what the readers refuse.
    """
    if not 0 <= config.near < config.far:
        raise ValueError(f"data.near is {config.near} and data.far {config.far}; need 0 <= near < far")
    match config.name:
        case "marbles":
            train, test = _marbles(config)
        case "blender":
            train, test = _blender(config)
        case "transforms":
            train, test = _transforms(config)
        case "llff":
            train, test = _llff(config)
    background = BACKGROUNDS[config.background]
    for split in (train, test):
        channels = split["image"].shape[-1]
        if background is not None and channels != 4:
            raise ValueError(
                f"data.background is {config.background!r}, and the images have no alpha to put it behind (e.g. "
                f"{split['name'][0]}): set --data.background none, or give images with alpha"
            )
    if len(train["image"]) < 2:
        raise ValueError(
            "one view to train on: nothing says how far away anything is. Give at least two (a few dozen are usual), "
            "from different places"
        )
    near, far = bounds = config.near, config.far
    ndc = config.name == "llff" and config.ndc
    if config.name == "llff":
        both = np.concatenate([train["bounds"], test["bounds"]])
        bounds = float(both.min()), float(both.max())
        # The authors': a little before the nearest thing.
        near, far = (0.0, 1.0) if ndc else (0.9 * bounds[0], bounds[1])
    return Scene(
        _views(train), _views(test), near, far, background, config.pixel_center,
        data.fingerprint(train) + data.fingerprint(test), bounds, ndc, config.name == "marbles",
    )  # fmt: skip


def _views(scene: dict) -> Views:
    single = lambda name: scene[name].astype(np.float32)
    return Views(scene["image"], single("pose"), single("intrinsics"), scene["name"])


def _size(config: Data) -> dict[str, Any]:
    return {"factor": config.factor, "width": config.width or None}


def _blender(config: Data) -> tuple[dict, dict]:
    read = functools.partial(data.read_blender, config.dir or None, skip_missing=config.skip_missing, **_size(config))
    return read("train", every=config.every), read("test", every=config.test_every)


def _transforms(config: Data) -> tuple[dict, dict]:
    read = functools.partial(data.read_transforms, config.dir or None, hold_out_every=config.test_every)
    splits = read("train", **_size(config)), read("test", **_size(config))
    for split in splits:
        if np.any(split["distortion"]):
            raise ValueError(
                f"{split['name'][0]} has lens distortion {split['distortion'][0].tolist()} (k1, k2, p1, p2); "
                "undistort the images first"
            )
    return splits


def _llff(config: Data) -> tuple[dict, dict]:
    read = functools.partial(data.read_llff, config.dir or None, hold_out_every=config.test_every)
    return read("train", **_size(config)), read("test", **_size(config))


def _marbles(config: Data) -> tuple[dict, dict]:
    """The analytic scene from a hemisphere of cameras; the held-out ones stand elsewhere."""
    if config.width < 1 or min(config.train_views, config.test_views) < 1:
        raise ValueError("marbles need data.width, data.train_views and data.test_views of at least 1")
    camera = nerf.Camera.from_angle(config.width, config.width, nerf.analytic_scene.CAMERA_ANGLE_X)
    splits = []
    for number, turn in ((config.train_views, 0.0), (config.test_views, 70.0)):
        poses = np.asarray(nerf.hemisphere(number, 4.0, (5.0, 75.0), nerf.analytic_scene.TARGET, turn))
        image = nerf.analytic_scene.render_rgba(camera, poses)
        intrinsics = [camera.focal_x, camera.focal_y, camera.center_x, camera.center_y]
        names = np.array([f"marbles {i}" for i in range(number)])
        splits.append({"image": image, "pose": poses, "intrinsics": np.tile(intrinsics, (number, 1)), "name": names})
    return splits[0], splits[1]


def over(image: jax.Array, background: float | None) -> jax.Array:
    """uint8 [..., 3 or 4] -> float32 [..., 3] over a grey level; alpha counts as 1 where there is none."""
    unit = image.astype(jnp.float32) / 255
    if background is None or image.shape[-1] == 3:
        return unit[..., :3]
    return unit[..., :3] * unit[..., 3:] + (1 - unit[..., 3:]) * background


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
        raise ValueError(f"rays.crop_steps is {order.crop_steps}; it must be from 0 to num_steps = {num_steps}")
    if not 0 < order.crop_fraction <= 1:
        raise ValueError(f"rays.crop_fraction is {order.crop_fraction}; it must be in (0, 1]")


def ray_batches(scene: Scene, batch_size: int, order: Order) -> training.DeviceBatches:
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
        if scene.ndc:
            rays = nerf.ndc_rays(rays, camera)
        seen = arrays["image"][(image * height + row) * width + column]
        return {"rays": rays, "rgb": over(seen, scene.background)}

    return training.DeviceBatches(make, arrays)
