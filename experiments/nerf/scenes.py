"""The scene of a configuration: read from a folder, or rendered."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.nerf.config import Data
from jaxgen import data, nerf


def load(config: Data) -> nerf.Scene:
    """The scene of a config.

    Raises:
        ValueError: one view, images without alpha if there is a background, or what the readers refuse.
    """
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
    background = nerf.BACKGROUNDS[config.background]
    _check(config, background, train, test)
    near, far = bounds = config.near, config.far
    ndc = False
    if "bounds" in train:
        both = np.concatenate([train["bounds"], test["bounds"]])
        bounds = float(both.min()), float(both.max())
        ndc = config.ndc and not nerf.describe_poses(train["pose"]).surrounding
        # As in the authors' code: a little before the nearest thing.
        near, far = (0.0, 1.0) if ndc else (0.9 * bounds[0], bounds[1])
    fingerprint = data.fingerprint(train) + data.fingerprint(test)
    views, exact = (_views(train), _views(test)), config.name == "marbles"
    return nerf.Scene(*views, near, far, background, config.pixel_center, fingerprint, bounds, ndc, exact)


def _check(config: Data, background: float | None, train: dict, test: dict) -> None:
    for split in (train, test):
        if background is not None and split["image"].shape[-1] != 4:
            raise ValueError(
                f"data.background is {config.background!r}, and the images have no alpha to put it behind (e.g. "
                f"{split['name'][0]}): set --data.background none, or give images with alpha"
            )
    if len(train["image"]) < 2:
        raise ValueError(
            "one view to train on: nothing says how far away anything is. Give at least two (a few dozen are usual), "
            "from different places"
        )


def _views(split: dict) -> nerf.Views:
    single = lambda name: split[name].astype(np.float32)
    distortion = single("distortion") if np.any(split.get("distortion", 0)) else None
    return nerf.Views(split["image"], single("pose"), single("intrinsics"), split["name"], distortion)


def _size(config: Data) -> dict[str, Any]:
    return {"factor": config.factor, "width": config.width or None}


def _blender(config: Data) -> tuple[dict, dict]:
    read = functools.partial(data.read_blender, config.dir or None, skip_missing=config.skip_missing, **_size(config))
    return read("train", every=config.every), read("test", every=config.test_every)


def _photographs(reader: Callable[..., dict], config: Data) -> tuple[dict, dict]:
    read = functools.partial(reader, config.dir or None, hold_out_every=config.test_every, **_size(config))
    return read("train"), read("test")


def _place(train: dict, test: dict) -> None:
    """Moves and scales COLMAP's world, in place."""
    poses = np.concatenate([train["pose"], test["pose"]])
    poses, scale = nerf.place_cameras(poses, min(train["bounds"].min(), test["bounds"].min()))
    train["pose"], test["pose"] = np.split(poses, [len(train["pose"])])
    for split in (train, test):
        split["bounds"] = split["bounds"] * scale


def _marbles(config: Data) -> tuple[dict, dict]:
    """The analytic scene from a hemisphere of cameras, the held-out ones between the others."""
    camera = nerf.Camera.from_angle(config.width, config.width, nerf.analytic_scene.CAMERA_ANGLE_X)
    intrinsics = np.array([[camera.focal_x, camera.focal_y, camera.center_x, camera.center_y]])

    def render(number: int, turn: float) -> dict:
        poses = np.asarray(nerf.hemisphere(number, 4.0, (5.0, 75.0), nerf.analytic_scene.TARGET, turn))
        image = nerf.analytic_scene.render_rgba(camera, poses)
        names = np.array([f"marbles {i}" for i in range(number)])
        return {"image": image, "pose": poses, "intrinsics": np.tile(intrinsics, (number, 1)), "name": names}

    return render(config.train_views, 0.0), render(config.test_views, 70.0)
