"""Photographs with known cameras: the arrays that every reader of scenes returns, and what is checked of them.

A scene is a dict of NumPy arrays, one row a view:

| name | what |
|---|---|
| image | uint8 [N, H, W, 3], or 4 with alpha (colours not multiplied by it); images of several sizes are filled up |
| pose | float64 [N, 4, 4], camera to world, OpenGL axes: x right, y up, looking along -z |
| intrinsics | float64 [N, 4]: focal_x, focal_y, center_x, center_y in pixels of `image`, from its top left corner |
| name | str [N], the file |
| size | int32 [N, 2], width and height of each image, where they differ |
| mask | bool [N, H, W], pixels that may be used, where there are masks |
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgen.data.photos import Photos


class Scene(dict[str, np.ndarray]):
    """The arrays of a scene, one row a view.

    Attributes:
        report: what was read and what was not, a line each.
        world_from_scene: [4, 4], the similarity from the arrays' world to that of the files.
    """

    def __init__(self, arrays: dict[str, np.ndarray]):
        super().__init__(arrays)
        self.report: list[str] = []
        self.world_from_scene = np.eye(4)


def as_pose(matrix: Any, where: str) -> np.ndarray:
    """A camera-to-world matrix, [4, 4] or [3, 4] -> float64 [4, 4].

    Raises:
        ValueError: another shape, values that are not finite, or a 3 x 3 part that is not a rotation.
    """
    try:
        found = np.asarray(matrix, np.float64)
    except (TypeError, ValueError):
        found = np.zeros(0)
    if found.shape not in ((3, 4), (4, 4)) or not np.isfinite(found).all():
        raise ValueError(f"{where}: a pose must be 3 x 4 or 4 x 4 finite numbers, camera to world")
    if np.abs(found[:3, 3]).max() > 1e12:
        raise ValueError(f"{where}: the camera stands at {found[:3, 3].tolist()}; expected coordinates below 1e12")
    found = np.clip(found, -1e12, 1e12)
    if found.shape == (4, 4) and np.abs(found[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise ValueError(
            f"{where}: the pose is not a rotation and a translation: its last row is {found[3].tolist()}, and must "
            "be 0, 0, 0, 1. Is it scaled, or transposed?"
        )
    rotation = found[:3, :3]
    error = np.abs(rotation.T @ rotation - np.eye(3)).max()
    if error > 1e-3:
        length = np.linalg.norm(rotation, axis=0)
        unit = rotation / np.where(length > 0, length, 1)
        scaled = np.abs(unit.T @ unit - np.eye(3)).max() < 1e-3
        raise ValueError(
            f"{where}: the pose is not a rotation (|R^T R - I| reaches {error:.3g}): its columns must be unit vectors "
            "at right angles. "
            + (
                f"Its columns have lengths {', '.join(f'{x:.4g}' for x in length)}, as those of an object scaled "
                "in Blender: divide each by its length"
                if scaled
                else "Is it transposed?"
            )
        )
    if np.linalg.det(rotation) < 0:
        raise ValueError(
            f"{where}: the pose is a reflection (determinant -1): one axis, or two columns swapped, is in another "
            "convention than OpenGL's"
        )
    return np.concatenate([found[:3], [[0, 0, 0, 1]]])


def as_scene(
    photos: Photos,
    pose: Sequence[np.ndarray] | np.ndarray,
    intrinsics: Sequence[Sequence[float]] | np.ndarray,
    name: Sequence[str],
    where: str | os.PathLike,
) -> Scene:
    """The dict of arrays, with intrinsics scaled from the files' sizes to the images'.

    Args:
        photos: of `read_photos`.
        pose: [N, 4, 4].
        intrinsics: [N, 4] (focal_x, focal_y, center_x, center_y) in pixels of the files.
        name: [N].
        where: folder or file, for the message.

    Raises:
        ValueError: a focal length that is not positive, or a principal point outside of the image.
    """
    numbers = np.asarray(intrinsics, np.float64).reshape(-1, 4)
    outside = ~np.all((numbers[:, 2:] > 0) & (numbers[:, 2:] < photos.full), axis=1)
    wrong = ~np.isfinite(numbers).all(axis=1) | ((numbers[:, :2] <= 0) | (numbers[:, :2] > 1e9)).any(axis=1) | outside
    if wrong.any():
        view = int(np.argmax(wrong))
        focal, center = numbers[view, :2].tolist(), numbers[view, 2:].tolist()
        raise ValueError(
            f"{where}: {name[view]} has focal lengths {focal} and principal point {center} for an image of "
            f"{photos.full[view, 0]} x {photos.full[view, 1]} pixels; focal lengths are positive and the point is "
            "inside the image. Are the intrinsics those of another resolution?"
        )
    scene = Scene({
        "image": photos.image,
        "pose": np.asarray(pose, np.float64),
        "intrinsics": numbers * np.tile(photos.size / photos.full, 2),
        "name": np.array([str(n) for n in name]),
    })  # fmt: skip
    if (photos.size != photos.size[0]).any():
        scene["size"] = photos.size.astype(np.int32)
    if photos.mask is not None:
        scene["mask"] = photos.mask
    return scene


def describe_cameras(kinds: Sequence[str], intrinsics: np.ndarray, size: np.ndarray) -> str:
    """A line for the report: cameras by kind and size, and their focal lengths.

    Args:
        kinds: a word for each view.
        intrinsics: [N, 4] in pixels of the files.
        size: [N, 2] of the files.
    """
    groups: dict[tuple, list[float]] = {}
    for kind, row, (width, height) in zip(kinds, np.asarray(intrinsics), size.tolist(), strict=True):
        groups.setdefault((kind, width, height), []).append(float(row[0]))
    parts = [
        f"{len(focal)} {kind} {width} x {height}, focal length {min(focal):.6g}"
        + (f" to {max(focal):.6g}" if max(focal) > min(focal) else "")
        for (kind, width, height), focal in groups.items()
    ]
    off = np.abs(np.asarray(intrinsics)[:, 2:] / size - 0.5).max(axis=1) > 0.2
    where = f"; {off.sum()} principal points are far from the middle: cropped, or intrinsics of another resolution?"
    more = f"; and {len(parts) - 6} more kinds" if len(parts) > 6 else ""
    return f"cameras: {'; '.join(parts[:6])}{more}{where if off.any() else ''}"


def hold_out(number: int, every: int, split: str, where: str | os.PathLike) -> np.ndarray:
    """Indices of a split of `number` views: 0, every, 2 every, ... are the test split, as in LLFF's protocol.

    Args:
        number: views in all.
        every: 8 in the protocol; 0: both splits are all views.
        split: "train" or "test".
        where: folder or file, for the message.

    Raises:
        ValueError: `every` is negative or 1, or the split is empty.
    """
    if every < 0 or every == 1:
        raise ValueError(f"hold_out is {every}; expected 0 (none) or 2 and more (every so many-th view)")
    index = np.arange(number)
    if every:
        index = index[(index % every == 0) == (split == "test")]
    if not len(index):
        raise ValueError(f"{where}: the split {split!r} of {number} views is empty when every {every}th is held out")
    return index
