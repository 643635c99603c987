"""Scenes described by a transforms.json: Blender's synthetic scenes, and photographs with intrinsics.

Poses in these files are camera to world with OpenGL axes already.
"""

import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.data.checks import check_split, existing_folder, find_file, nearest
from jaxgen.data.views import SUFFIXES, Scene, as_pose, as_scene, hold_out, read_json, read_photos, some

BLENDER_FILES = (
    "transforms_train.json, transforms_val.json and transforms_test.json with the images that they name "
    "(NeRF's synthetic scenes, or your own in that format)"
)
BLENDER_SPLITS = ("train", "val", "test")
PHOTO_FILES = "transforms.json with the images that it names"
DISTORTION = ("k1", "k2", "p1", "p2")


def read_blender(
    directory: str | os.PathLike | None,
    split: str = "train",
    *,
    factor: int = 1,
    width: int | None = None,
    every: int = 1,
    skip_missing: bool = False,
) -> Scene:
    """A synthetic scene: transforms_{split}.json with `camera_angle_x` and one pose an image.

    Args:
        directory: the scene's folder.
        split: "train", "val" or "test".
        factor: 2 for half resolution, and so on; an area average.
        width: instead of a factor, so many columns.
        every: takes frames 0, every, 2 every, ... of the file.
        skip_missing: leaves out frames without an image, with a warning that names them, instead of refusing.

    Returns:
        image uint8 [N, H, W, 3 or 4], pose [N, 4, 4], intrinsics and name (`jaxgen.data.views`). Alpha is kept where
        the images have it.

    Raises:
        FileNotFoundError: no such folder or file, or images are missing.
        ValueError: a file that cannot be decoded, a pose that is not a rotation, no frame, images of different sizes.
    """
    if split not in BLENDER_SPLITS:
        raise ValueError(
            f"found split {split!r}; expected train, val or test (nearest: {nearest(split, BLENDER_SPLITS)!r})"
        )
    if every < 1:
        raise ValueError(f"every is {every}; it must be at least 1, which takes all frames")
    folder = existing_folder(directory, BLENDER_FILES)
    path = find_file(folder, [f"transforms_{split}.json"], BLENDER_FILES)
    described = _described(path)
    frames = described["frames"][::every]
    paths = [_image_path(folder, frame, path) for frame in frames]
    there = [p.is_file() for p in paths]
    if not all(there):
        missing = [p.relative_to(folder) for p, found in zip(paths, there, strict=True) if not found]
        message = f"{path}: {len(missing)} of its {len(paths)} images are missing: {some(list(map(str, missing)))}"
        if not any(there) or not skip_missing:
            present = [i for i, found in enumerate(there) if found]
            step = int(np.gcd.reduce(present)) if len(present) > 1 else 0
            fits = step > 1 and present == list(range(0, len(paths), step))
            hint = f"those present are every {step}th: every={step * every} reads them" if fits else (
                "get them, or leave these frames out with skip_missing"
            )  # fmt: skip
            raise FileNotFoundError(f"{message}; {hint}")
        warnings.warn(f"{message}; these frames are left out", stacklevel=2)
        frames = [frame for frame, found in zip(frames, there, strict=True) if found]
        paths = [p for p in paths if p.is_file()]
    poses = [as_pose(frame.get("transform_matrix"), f"{path}: {frame['file_path']}") for frame in frames]
    images, size = read_photos(paths, factor, width)
    intrinsics = [_intrinsics({**described, **frame}, size, path) for frame in frames]
    return as_scene(images, poses, intrinsics, [str(p.relative_to(folder)) for p in paths], size, path)


def write_blender(
    directory: str | os.PathLike, split: str, image: np.ndarray, pose: np.ndarray, angle_x: float
) -> None:
    """Writes a split in the format that `read_blender` reads.

    Args:
        directory: made if absent.
        split: "train", "val" or "test".
        image: uint8 [N, H, W, 3 or 4].
        pose: [N, 4, 4], camera to world, OpenGL axes.
        angle_x: horizontal field of view in radians.
    """
    from PIL import Image

    folder = Path(directory)
    (folder / split).mkdir(parents=True, exist_ok=True)
    frames = []
    for i, (pixels, matrix) in enumerate(zip(image, np.asarray(pose, np.float64), strict=True)):
        Image.fromarray(pixels).save(folder / split / f"r_{i}.png")
        frames.append({"file_path": f"./{split}/r_{i}", "transform_matrix": matrix.tolist()})
    described = {"camera_angle_x": float(angle_x), "frames": frames}
    (folder / f"transforms_{split}.json").write_text(json.dumps(described, indent=1))


def read_transforms(
    directory: str | os.PathLike | None,
    split: str = "train",
    *,
    factor: int = 1,
    width: int | None = None,
    hold_out_every: int = 8,
) -> Scene:
    """Photographs: one transforms.json with intrinsics (fl_x, fl_y, cx, cy, w, h), for all or for each frame.

    Frames are sorted by file name. A list `train_filenames` and `test_filenames` in the file makes the splits; without
    one every `hold_out_every`-th view is held out.

    Args:
        directory: the scene's folder.
        split: "train" or "test".
        factor: as in `read_blender`.
        width: likewise.
        hold_out_every: 8: views 0, 8, 16, ... are the test split; 0: both splits are all views.

    Returns:
        image, pose, intrinsics, name (`jaxgen.data.views`), and distortion: float64 [N, 4], OpenCV's k1, k2, p1, p2.

    Raises:
        FileNotFoundError: no such folder or file, or images are missing.
        ValueError: as `read_blender`; sizes that disagree with the intrinsics; a camera that is not a pinhole with
            OpenCV's distortion.
    """
    check_split(split)
    folder = existing_folder(directory, PHOTO_FILES)
    path = find_file(folder, ["transforms.json"], PHOTO_FILES)
    described = _described(path)
    frames = sorted(described["frames"], key=lambda frame: str(frame.get("file_path")))
    listed = described.get(f"{split}_filenames")
    if listed is not None:
        frames = [frame for frame in frames if frame["file_path"] in set(listed)]
        if not frames:
            raise ValueError(f"{path}: {split}_filenames names none of the frames")
    else:
        frames = [frames[i] for i in hold_out(len(frames), hold_out_every, split)]
    paths = [_image_path(folder, frame, path) for frame in frames]
    poses = [as_pose(frame.get("transform_matrix"), f"{path}: {frame['file_path']}") for frame in frames]
    images, size = read_photos(paths, factor, width)
    merged = [{**described, **frame} for frame in frames]
    for values, image_path in zip(merged, paths, strict=True):
        _check_camera(values, size, path, image_path)
    intrinsics = [_intrinsics(values, size, path) for values in merged]
    scene = as_scene(images, poses, intrinsics, [str(p.relative_to(folder)) for p in paths], size, path)
    scene["distortion"] = np.array([[float(values.get(name, 0)) for name in DISTORTION] for values in merged])
    return scene


def _described(path: Path) -> dict[str, Any]:
    described = read_json(path)
    if not isinstance(described, dict) or not isinstance(described.get("frames"), list) or not described["frames"]:
        raise ValueError(f"{path}: expected an object with a list 'frames' of at least one view")
    if not all(isinstance(frame, dict) and isinstance(frame.get("file_path"), str) for frame in described["frames"]):
        raise ValueError(f"{path}: every frame needs a 'file_path' and a 'transform_matrix'")
    return described


def _image_path(folder: Path, frame: dict[str, Any], path: Path) -> Path:
    """The frame's image; Blender's files leave the .png out."""
    inside = os.path.relpath(folder / frame["file_path"], folder)
    if inside.split(os.sep)[0] == os.pardir:
        raise ValueError(f"{path}: {frame['file_path']} is outside of the scene's folder")
    found = folder / inside
    return found if found.suffix in SUFFIXES else found.with_name(found.name + ".png")


def _intrinsics(values: dict[str, Any], size: tuple[int, int], path: Path) -> list[float]:
    """focal_x, focal_y, center_x, center_y in pixels of the files."""
    width, height = size
    try:
        if "fl_x" in values:
            focal_x = float(values["fl_x"])
            focal_y = float(values.get("fl_y", focal_x))
        else:
            focal_x = _focal(values["camera_angle_x"], width)
            focal_y = _focal(values["camera_angle_y"], height) if "camera_angle_y" in values else focal_x
        return [focal_x, focal_y, float(values.get("cx", width / 2)), float(values.get("cy", height / 2))]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: no usable intrinsics ({error}); expected 'camera_angle_x' in radians, or 'fl_x' in pixels"
        ) from error


def _focal(angle: Any, size: int) -> float:
    if not 0 < float(angle) < np.pi:
        raise ValueError(f"a field of view of {angle} is not inside (0, pi) radians")
    return float(0.5 * size / np.tan(0.5 * float(angle)))


def _check_camera(values: dict[str, Any], size: tuple[int, int], path: Path, image: Path) -> None:
    stated = (int(values.get("w", size[0])), int(values.get("h", size[1])))
    if stated != size:
        raise ValueError(
            f"{image}: {size[0]} x {size[1]} pixels, and {path.name} gives its intrinsics for {stated[0]} x "
            f"{stated[1]}. Use the images that were calibrated (factor and width shrink them here), or scale fl_x, "
            "fl_y, cx, cy, w and h"
        )
    model = str(values.get("camera_model", "OPENCV")).upper()
    beyond = [name for name in ("k3", "k4", "k5", "k6") if float(values.get(name, 0)) != 0]
    if model not in ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL") or beyond:
        raise ValueError(
            f"{path}: camera model {model}{' with ' + ', '.join(beyond) if beyond else ''}; only pinhole cameras with "
            "OpenCV's k1, k2, p1, p2 are read: undistort the images first"
        )
