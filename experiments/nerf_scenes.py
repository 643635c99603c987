"""Posed images for NeRF: read from folders, or rendered."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import data, nerf, training


@dataclasses.dataclass(frozen=True)
class Data:
    """Which images."""

    name: Literal["marbles", "blender", "transforms", "llff", "colmap"] = "marbles"
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
    """blender: every so many-th test frame; photographs: every so many-th view is held out"""
    skip_missing: bool = False
    """blender: frames without an image are left out instead of refused"""
    train_views: int = 40
    """marbles: views to train on"""
    test_views: int = 4
    """marbles: views held out"""
    near: float = 2.0
    """where rays begin, in world units along the axis of view; llff and colmap take the bounds of the scene instead"""
    far: float = 6.0
    """where they end"""
    ndc: bool = True
    """llff, and colmap where the cameras face one way: normalised device coordinates"""
    background: Literal["white", "black", "none"] = "white"
    """behind images with alpha; "none": images are opaque, and an empty ray is black"""
    pixel_center: float = 0.5
    """where in a pixel its ray passes: 0.5, or 0.0 as in the authors' code"""


@dataclasses.dataclass(frozen=True)
class Views:
    """Images with cameras: uint8 [N, H, W, 3 or 4], float32 [N, 4, 4], float32 [N, 4], str [N].

    `distortion`: float32 [N, 4], OpenCV's k1, k2, p1, p2, or None where the lenses are straight.
    """

    image: np.ndarray
    pose: np.ndarray
    intrinsics: np.ndarray
    name: np.ndarray
    distortion: np.ndarray | None = None

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
            train, test = _photographs(data.read_transforms, config)
        case "llff":
            train, test = _photographs(data.read_llff, config)
        case "colmap":
            train, test = _photographs(data.read_colmap, config)
            _place(train, test)
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
    ndc = False
    if "bounds" in train:
        both = np.concatenate([train["bounds"], test["bounds"]])
        bounds = float(both.min()), float(both.max())
        ndc = config.ndc and not nerf.describe_poses(train["pose"]).surrounding
        # The authors': a little before the nearest thing.
        near, far = (0.0, 1.0) if ndc else (0.9 * bounds[0], bounds[1])
    return Scene(
        _views(train), _views(test), near, far, background, config.pixel_center,
        data.fingerprint(train) + data.fingerprint(test), bounds, ndc, config.name == "marbles",
    )  # fmt: skip


def _views(scene: dict) -> Views:
    single = lambda name: scene[name].astype(np.float32)
    distortion = single("distortion") if np.any(scene.get("distortion", 0)) else None
    return Views(scene["image"], single("pose"), single("intrinsics"), scene["name"], distortion)


def _size(config: Data) -> dict[str, Any]:
    return {"factor": config.factor, "width": config.width or None}


def _blender(config: Data) -> tuple[dict, dict]:
    read = functools.partial(data.read_blender, config.dir or None, skip_missing=config.skip_missing, **_size(config))
    return read("train", every=config.every), read("test", every=config.test_every)


def _photographs(reader: Callable[..., dict], config: Data) -> tuple[dict, dict]:
    read = functools.partial(reader, config.dir or None, hold_out_every=config.test_every, **_size(config))
    return read("train"), read("test")


def _place(train: dict, test: dict) -> None:
    """Moves and scales COLMAP's world, in place: around the point that the cameras look at, 4 away from it.

    Where they face one way, as LLFF's scenes: the average camera at the origin, the nearest bound at 4 / 3.
    """
    number = len(train["pose"])
    poses = np.concatenate([train["pose"], test["pose"]])
    report = nerf.describe_poses(poses)
    if report.surrounding:
        poses[:, :3, 3] -= report.focus
        scale = 4 / report.distance
    else:
        poses = np.asarray(nerf.recenter_poses(jnp.asarray(poses)), np.float64)
        scale = 1 / (0.75 * min(train["bounds"].min(), test["bounds"].min()))
    poses[:, :3, 3] *= scale
    train["pose"], test["pose"] = poses[:number], poses[number:]
    for split in (train, test):
        split["bounds"] = split["bounds"] * scale


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
