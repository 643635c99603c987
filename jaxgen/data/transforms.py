"""Scenes described by a transforms.json: Blender's synthetic scenes, and photographs with intrinsics.

Poses in these files are camera to world with OpenGL axes already. A frame's own key wins over that of the file, a null
counts as absent, and every key that changes the geometry is used or refused:

| keys | use |
|---|---|
| fl_x, fl_y; x_fov, y_fov in degrees; camera_angle_x, camera_angle_y in radians | focal lengths, by the first given |
| cx, cy, w, h | principal point, and the size that it belongs to |
| k1, k2, k3, p1, p2, and k4, k5, k6 with camera_model FULL_OPENCV | perspective lens |
| k1 to k4 with is_fisheye or a fisheye camera_model | fisheye lens |
| file_path, transform_matrix, mask_path | of each frame |
| train_filenames, val_filenames, test_filenames | splits |
"""

import dataclasses
import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.data.checks import check_split, existing_folder, find_file, nearest
from jaxgen.data.image_paths import find_image, images_root, normal_name, relative_name, some
from jaxgen.data.photos import check_size, exif_note, read_headers, read_photos
from jaxgen.data.transforms_camera import CAMERA_KEYS, REFUSED, TransformsCamera, check_keys
from jaxgen.data.views import Scene, as_pose, as_scene, describe_cameras, hold_out
from jaxgen.files import read_json

BLENDER_FILES = (
    "transforms_train.json, transforms_val.json and transforms_test.json with the images that they name "
    "(NeRF's synthetic scenes, or your own in that format; one transforms.json alone is --data.name transforms)"
)
BLENDER_SPLITS = ("train", "val", "test")
PHOTO_FILES = "transforms.json with the images that it names (with transforms_train.json it is --data.name blender)"
_LISTS = ("train_filenames", "val_filenames", "test_filenames")
_RESIZED = (
    "use the images that were calibrated (factor and width shrink them here), or scale fl_x, fl_y, cx, cy, w and h"
)
_OF_FRAME = {"file_path", "transform_matrix"}


@dataclasses.dataclass(frozen=True)
class _Described:
    """A file, the scene's folder, that of the images, the keys beside the frames, the frames, and their images."""

    path: Path
    folder: Path
    root: Path | None
    common: dict[str, Any]
    frames: list[dict[str, Any]]
    images: list[Path]

    def chosen(self, index: Sequence[int]) -> "_Described":
        """Some of the frames."""
        pick = lambda things: [things[i] for i in index]
        return dataclasses.replace(self, frames=pick(self.frames), images=pick(self.images))


def read_blender(
    directory: str | os.PathLike | None,
    split: str = "train",
    *,
    factor: int = 1,
    width: int | None = None,
    every: int = 1,
    skip_missing: bool = False,
    images: str | os.PathLike | None = None,
) -> Scene:
    """A synthetic scene: transforms_{split}.json with `camera_angle_x`, or other intrinsics, and one pose an image.

    Args:
        directory: the scene's folder.
        split: "train", "val" or "test".
        factor: 2 for half resolution, and so on; an area average.
        width: instead of a factor, so many columns (of the widest image).
        every: takes frames 0, every, 2 every, ... of the file.
        skip_missing: leaves out frames without an image, with a warning that names them, instead of refusing.
        images: folder that holds the images, where they are not in the scene's folder.

    Returns:
        image uint8 [N, H, W, 3 or 4], pose [N, 4, 4], intrinsics and name (`jaxgen.data.views`); where the file has
        them, distortion as `read_transforms`, size and mask. Alpha is kept where the images have it.

    Raises:
        FileNotFoundError: no such folder or file, or images are missing.
        ValueError: a file that cannot be decoded, a pose that is not a rotation, no frame, a key that is not supported,
            sizes that disagree with the intrinsics.
    """
    if split not in BLENDER_SPLITS:
        raise ValueError(
            f"found split {split!r}; expected train, val or test (nearest: {nearest(split, BLENDER_SPLITS)!r})"
        )
    if every < 1:
        raise ValueError(f"every is {every}; it must be at least 1, which takes all frames")
    folder = existing_folder(directory, BLENDER_FILES)
    path = find_file(folder, [f"transforms_{split}.json"], BLENDER_FILES)
    described = _described(path, folder, images)
    number = len(described.frames)
    described = described.chosen(range(0, number, every))
    paths = described.images
    there = [p.is_file() for p in paths]
    if not all(there):
        missing = [relative_name(p, folder) for p, found in zip(paths, there, strict=True) if not found]
        message = f"{path}: {len(missing)} of its {len(paths)} images are missing: {some(missing)}"
        if not any(there) or not skip_missing:
            present = [i for i, found in enumerate(there) if found]
            step = int(np.gcd.reduce(present)) if len(present) > 1 else 0
            fits = step > 1 and present == list(range(0, len(paths), step))
            hint = f"those present are every {step}th: every={step * every} reads them" if fits else (
                "get them, or leave these frames out with skip_missing"
            )  # fmt: skip
            raise FileNotFoundError(f"{message}; {hint}")
        warnings.warn(f"{message}; these frames are left out", stacklevel=2)
        described = described.chosen([i for i, found in enumerate(there) if found])
    scene = _scene(described, factor, width)
    scene.report.insert(0, f"{path.name}: {len(described.frames)} of {number} frames")
    if not scene["distortion"].any():
        del scene["distortion"]
    return scene


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
    images: str | os.PathLike | None = None,
) -> Scene:
    """Photographs: one transforms.json with intrinsics (fl_x, fl_y, cx, cy, w, h), for all or for each frame.

    Frames are sorted by file name. Lists in the file make the splits: the test split is `test_filenames`, or
    `val_filenames`, or what `train_filenames` leaves over; the training split is `train_filenames`, or what the other
    lists leave over. Without lists every `hold_out_every`-th view is held out.

    Args:
        directory: the scene's folder.
        split: "train" or "test".
        factor: as in `read_blender`.
        width: likewise.
        hold_out_every: 8: views 0, 8, 16, ... are the test split; 0: both splits are all views.
        images: as in `read_blender`.

    Returns:
        image, pose, intrinsics, name (`jaxgen.data.views`), distortion: float64 [N, 4], OpenCV's k1, k2, p1, p2, or
        [N, 9] with k3, k4, k5, k6 and 1 for a fisheye where a lens has these, and size and mask where there are any.

    Raises:
        FileNotFoundError: no such folder or file, or images are missing.
        ValueError: as `read_blender`; lists that name no frame or one frame in two splits.
    """
    check_split(split)
    folder = existing_folder(directory, PHOTO_FILES)
    path = find_file(folder, ["transforms.json"], PHOTO_FILES)
    described = _described(path, folder, images)
    names = [normal_name(frame["file_path"], path) for frame in described.frames]
    order = sorted(range(len(names)), key=lambda i: names[i])
    described, names = described.chosen(order), [names[i] for i in order]
    if len(set(described.images)) < len(names):
        twice = next(i for i, image in enumerate(described.images) if image in described.images[:i])
        raise ValueError(
            f"{path}: two frames have the image {names[twice]}; expected one frame for each image, so that no image is "
            "in both splits"
        )
    index, rule = _split(described, names, hold_out_every, split)
    present = read_headers([image for image in described.images if image.is_file()])
    chosen = described.chosen(index)
    scene = _scene(chosen, factor, width, max((header.width for header in present), default=0))
    scene.report.insert(0, f"{path.name}: {len(names)} frames; {rule}")
    return scene


def _split(described: _Described, names: list[str], every: int, split: str) -> tuple[Sequence[int], str]:
    """Frames of a split, and the rule in words."""
    lists = {name: described.common[name] for name in _LISTS if name in described.common}
    if not lists:
        rule = f"every {every}th view is held out" if every else "both splits are all views"
        return hold_out(len(names), every, split, described.path).tolist(), rule
    files = [normal_name(relative_name(image, described.folder), described.path) for image in described.images]
    known = {name: i for i, pair in enumerate(zip(files, names, strict=True)) for name in pair}
    found: dict[str, list[int]] = {}
    taken: dict[int, str] = {}
    for key, listed in lists.items():
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise ValueError(f"{described.path}: {key} must be a list of file names")
        unknown = [name for name in listed if normal_name(name, described.path) not in known]
        if unknown:
            raise ValueError(
                f"{described.path}: {key} names {len(unknown)} files that no frame has: {some(unknown)}; frames are "
                f"named like {names[0]}"
            )
        found[key] = sorted({known[normal_name(name, described.path)] for name in listed})
        for i in found[key]:
            if taken.setdefault(i, key) != key:
                raise ValueError(f"{described.path}: {names[i]} is in {taken[i]} and in {key}; splits may not overlap")
    rest = [i for i in range(len(names)) if i not in taken]
    held_out = next((key for key in ("test_filenames", "val_filenames") if found.get(key)), None)
    keys = {"train": "train_filenames" if found.get("train_filenames") else None, "test": held_out}
    chosen = found.get(keys[split] or "", rest)
    if not chosen:
        raise ValueError(f"{described.path}: {' and '.join(lists)} leave no frame for the split {split!r}")
    rule = ", ".join(f"{name} by {key or 'what the lists leave over'}" for name, key in keys.items())
    return chosen, rule


def _described(path: Path, folder: Path, images: str | os.PathLike | None) -> _Described:
    """The file without nulls, checked as far as all its frames are concerned."""
    described = read_json(path, "an object with a list 'frames' of at least one view")
    if not isinstance(described, dict) or not isinstance(described.get("frames"), list) or not described["frames"]:
        raise ValueError(f"{path}: expected an object with a list 'frames' of at least one view")
    frames = described.pop("frames")
    if not all(isinstance(f, dict) and isinstance(f.get("file_path"), str) and f["file_path"] for f in frames):
        raise ValueError(f"{path}: every frame needs a 'file_path' and a 'transform_matrix'")
    present = lambda part: {key: value for key, value in part.items() if value is not None}
    common, frames = present(described), [present(frame) for frame in frames]
    for place, part in (("", common), *((f"frames[{i}].", frame) for i, frame in enumerate(frames))):
        check_keys(path, place, part)
    root = images_root(images)
    paths = [find_image(folder, frame["file_path"], root, str(path)) for frame in frames]
    named: dict[Path, str] = {}
    for frame, image in zip(frames, paths, strict=True):
        if (other := named.setdefault(image, frame["file_path"])) != frame["file_path"]:
            raise ValueError(f"{path}: {other} and {frame['file_path']} are two frames with one image, {image}")
    return _Described(path, folder, root, common, frames, paths)


def _scene(described: _Described, factor: int, width: int | None, widest: int = 0) -> Scene:
    """The arrays of the frames, with `distortion` [N, 4 or 9] in any case."""
    path, folder, frames, paths = described.path, described.folder, described.frames, described.images
    poses = [as_pose(frame.get("transform_matrix"), f"{path}: {frame['file_path']}") for frame in frames]
    headers = read_headers(paths)
    cameras = [
        TransformsCamera(path, described.common, frame, header[:2])
        for frame, header in zip(frames, headers, strict=True)
    ]
    for camera, image, header in zip(cameras, paths, headers, strict=True):
        how, advice = f"{path.name} gives its intrinsics for", _RESIZED
        check_size(image, header, camera.stated_size(), how, advice)
    lenses = [camera.distortion() for camera in cameras]
    masks = [camera.mask(folder, described.root) for camera in cameras]
    intrinsics = [camera.intrinsics() for camera in cameras]
    photos = read_photos(paths, factor, width, headers=headers, widest=widest, masks=masks)
    names = [relative_name(image, folder) for image in paths]
    scene = as_scene(photos, poses, intrinsics, names, path)
    distortion = np.array([lens for lens, _ in lenses])
    scene["distortion"] = distortion if distortion[:, 4:].any() else distortion[:, :4]
    scene.report = [
        describe_cameras([kind for _, kind in lenses], np.array(intrinsics), photos.full),
        *exif_note(headers),
        *([f"masks: {sum(mask is not None for mask in masks)} images have one"] if any(masks) else []),
        *_other_names(frames, paths),
        *_ignored(described),
    ]
    return scene


def _other_names(frames: list[dict], paths: list[Path]) -> list[str]:
    named = lambda frame: os.path.basename(frame["file_path"].replace("\\", "/"))
    other = [path for frame, path in zip(frames, paths, strict=True) if path.suffix and named(frame) != path.name]
    other = [path for path in other if not path.name.endswith(".png")]
    return [f"{len(other)} images have another suffix than the file says: {some(other, 2)}"] if other else []


def _ignored(described: _Described) -> list[str]:
    keys = set(described.common) - CAMERA_KEYS - set(_LISTS) - REFUSED.keys()
    keys |= {key for frame in described.frames for key in frame} - CAMERA_KEYS - _OF_FRAME - REFUSED.keys()
    return [f"keys without effect here: {', '.join(sorted(keys))}"] if keys else []
