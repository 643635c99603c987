"""The scene of a configuration: read from a folder, or rendered."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.nerf.data import Data
from jaxgen import data, nerf
from jaxgen.data.views import Scene as Arrays


def load(config: Data) -> nerf.Scene:
    """The scene of a config.

    Raises:
        ValueError: one view, images without alpha if there is a background, a lens that folds, an image in both splits,
            or what the readers refuse.
    """
    match config.name:
        case "marbles":
            train, test = _marbles(config)
        case "blender":
            train, test = _blender(config)
        case "transforms":
            train, test = _photographs(data.read_transforms, config)
        case "llff":
            extra = {"bound_factor": None} if config.scale else {}
            train, test = _photographs(functools.partial(data.read_llff, **extra), config)
        case "colmap":
            points = config.near is None or config.far is None
            train, test = _photographs(functools.partial(data.read_colmap, without_points=not points), config)
    hidden = _drop_hidden(test)
    if "mask" in train and not train["mask"].any():
        raise ValueError(f"masks hide all of the training views, e.g. {train['name'][0]}: white is what may be used")
    background = nerf.BACKGROUNDS[config.background] if config.alpha == "background" else None
    _check(config, background, train, test)
    world, placed = _place(config, train, test)
    report = [line for line in train.report if line in test.report]
    for name, own, other in (("training", train, test), ("held out", test, train)):
        report += [f"{name}: {line}" for line in own.report if line not in other.report]
    report.append(f"splits: {len(train['image'])} views to train on, {len(test['image'])} held out")
    if hidden:
        report.append(f"masks hide all of {hidden} held-out views, which are left out")
    if config.name != "marbles":
        report.append(f"scene: {placed}")
    bounds, source = _bounds(config, train, test)
    near, far = bounds
    views = _views(train), _views(test)
    for split in views:
        for i, name in enumerate(split.name if split.distortion is not None else ()):
            nerf.check_lens(split.camera(i, config.pixel_center), split.lens(i), name, split.mask_of(i))
    _check_precision(train, test, near, far)
    faces = config.bounded and not nerf.describe_poses(train["pose"]).surrounding
    ndc, plane = config.ndc and faces and all(nerf.run_along_minus_z(split) for split in views), 1.0
    if ndc:
        plane = 1.0 if config.near is None else near
        near, far = 0.0, 1.0 if config.far is None else 1 - plane / far
        report.append(f"samples in NDC from {plane:g} to {'infinity' if far == 1 else config.far}, {source}")
        if not plane > 0:
            raise ValueError("data.near is 0; NDC needs a positive distance: set --data.near or --data.no-ndc")
    else:
        if config.near is None and config.bounded:
            # As in the authors' code: a little before the nearest thing.
            near = 0.9 * near
        report.append(f"near {near:.6g} and far {far:.6g}, {source}")
    fingerprint = data.fingerprint(train) + data.fingerprint(test)
    exact = config.name == "marbles"
    return nerf.Scene(
        *views, near, far, background, config.pixel_center, fingerprint, bounds, ndc, exact,
        world_from_scene=world, near_plane=plane, report=() if exact else tuple(report),
    )  # fmt: skip


def _bounds(config: Data, train: dict, test: dict) -> tuple[tuple[float, float], str]:
    """Nearest and farthest depth, and where they come from."""
    near, far, source = *config.interval(), "by default"
    if "bounds" in train:
        both = np.concatenate([train["bounds"], test["bounds"]])
        near, far = float(both.min()), float(both.max())
        source = f"by the {'points that the views see' if config.name == 'colmap' else 'bounds of the file'}"
        near, far = near if config.near is None else config.near, far if config.far is None else config.far
    given = [name for name in ("near", "far") if getattr(config, name) is not None]
    if not near < far:
        raise ValueError(f"data.near is {near:g} and data.far {far:g} ({source}); need near < far")
    return (near, far), "as given" if len(given) == 2 else source + (f", {given[0]} as given" if given else "")


def _check(config: Data, background: float | None, train: dict, test: dict) -> None:
    for split in (train, test):
        if (background is not None or config.alpha == "mask") and split["image"].shape[-1] != 4:
            raise ValueError(
                f"data.background is {config.background!r}, and the images have no alpha to put it behind (e.g. "
                f"{split['name'][0]}): set --data.background none, or give images with alpha"
                if background is not None
                else f"data.alpha is 'mask', and the images have no alpha (e.g. {split['name'][0]})"
            )
    if len(train["image"]) < 2:
        raise ValueError(
            "one view to train on: nothing says how far away anything is. Give at least two (a few dozen are usual), "
            "from different places"
        )
    both = set(train["name"]) & set(test["name"])
    if both and config.name != "marbles" and (config.test_every or config.name == "blender"):
        raise ValueError(f"{min(both)} is in the training and in the test split; splits may not overlap")


def _check_precision(train: Arrays, test: Arrays, near: float, far: float) -> None:
    """Raises ValueError where the cameras stand so far out that float32 cannot tell one place from the next."""
    reach = max(float(np.abs(split["pose"][:, :3, 3]).max()) for split in (train, test))
    if np.spacing(np.float32(reach)) > 1e-3 * (far - near):
        raise ValueError(
            f"the cameras stand up to {reach:.6g} from the origin, where single precision resolves "
            f"{np.spacing(np.float32(reach)):.2g}, with near {near:.6g} and far {far:.6g}: set --data.place auto, or "
            "move the poses"
        )


def _place(config: Data, train: Arrays, test: Arrays) -> tuple[np.ndarray | None, str]:
    """Moves, turns and scales the world in place; the way back to the files' world, and what was done."""
    around = {"": config.name == "colmap", "auto": True, "none": False}[config.place]
    world, text = train.world_from_scene, "as in the file"
    if around or config.up or config.scale:
        poses = np.concatenate([train["pose"], test["pose"]])
        bounds = None
        if "bounds" in train:
            both = train["bounds"], test["bounds"]
            bounds = min(b.min() for b in both), max(b.max() for b in both)
        placed = nerf.place_scene(poses, bounds, around_origin=around, up=config.up, scale=config.scale)
        train["pose"], test["pose"] = np.split(placed.poses, [len(train["pose"])])
        for split in (train, test):
            if "bounds" in split:
                split["bounds"] = split["bounds"] * placed.scale
        world, text = world @ placed.world_from_scene, placed.text
    elif config.name == "llff":
        text = f"the average camera moved to the origin, scaled by {1 / np.cbrt(np.linalg.det(world[:3, :3])):.6g}"
    return world, text


def _views(split: dict) -> nerf.Views:
    single = lambda name: split[name].astype(np.float32)
    lens = split.get("distortion", np.zeros((1, 4)))
    distortion = single("distortion") if np.any(lens) else None
    size, mask = split.get("size"), split.get("mask")
    return nerf.Views(split["image"], single("pose"), single("intrinsics"), split["name"], distortion, size, mask)


def _drop_hidden(split: Arrays) -> int:
    """Leaves out the views of which nothing can be measured; how many."""
    if "mask" not in split:
        return 0
    seen = split["mask"].any(axis=(1, 2))
    if not seen.any():
        raise ValueError(f"masks hide all of the held-out views, e.g. {split['name'][0]}: hold out others")
    split.update({name: values[seen] for name, values in split.items()})
    return int((~seen).sum())


def _use_alpha(config: Data, split: Arrays) -> Arrays:
    """The split as read, or with alpha as its mask."""
    if config.alpha == "mask" and split["image"].shape[-1] == 4:
        split["mask"] = split.get("mask", True) & (split["image"][..., 3] >= 128)
    return split


def _size(config: Data) -> dict[str, Any]:
    return {"factor": config.factor, "width": config.width or None, "images": config.images or None}


def _blender(config: Data) -> tuple[Arrays, Arrays]:
    read = functools.partial(data.read_blender, config.dir or None, skip_missing=config.skip_missing, **_size(config))
    there = lambda split: bool(config.dir) and (Path(config.dir).expanduser() / f"transforms_{split}.json").is_file()
    held_out = "val" if there("val") and not there("test") else "test"
    train, test = read("train", every=config.every), read(held_out, every=config.test_every)
    return _use_alpha(config, train), _use_alpha(config, test)


def _photographs(reader: Callable[..., Arrays], config: Data) -> tuple[Arrays, Arrays]:
    read = functools.partial(reader, config.dir or None, hold_out_every=config.test_every, **_size(config))
    return _use_alpha(config, read("train")), _use_alpha(config, read("test"))


def _marbles(config: Data) -> tuple[Arrays, Arrays]:
    """The analytic scene from a hemisphere of cameras, the held-out ones between the others."""
    camera = nerf.Camera.from_angle(config.width, config.width, nerf.analytic_scene.CAMERA_ANGLE_X)
    intrinsics = np.array([[camera.focal_x, camera.focal_y, camera.center_x, camera.center_y]])

    def render(number: int, turn: float) -> Arrays:
        poses = np.asarray(nerf.hemisphere(number, 4.0, (5.0, 75.0), nerf.analytic_scene.TARGET, turn))
        image = nerf.analytic_scene.render_rgba(camera, poses)
        names = np.array([f"marbles {i}" for i in range(number)])
        intrinsic = np.tile(intrinsics, (number, 1))
        return Arrays({"image": image, "pose": poses, "intrinsics": intrinsic, "name": names})

    return render(config.train_views, 0.0), render(config.test_views, 70.0)
