"""Photographs with known cameras: the arrays that every reader of scenes returns, and what is checked of them.

A scene is a dict of NumPy arrays, one row a view:

| name | what |
|---|---|
| image | uint8 [N, H, W, 3], or 4 with alpha (colours not multiplied by it) |
| pose | float64 [N, 4, 4], camera to world, OpenGL axes: x right, y up, looking along -z |
| intrinsics | float64 [N, 4]: focal_x, focal_y, center_x, center_y in pixels of `image`, from its top left corner |
| name | str [N], the file |
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Scene = dict[str, np.ndarray]

SUFFIXES = (".png", ".jpg", ".jpeg", ".JPG", ".PNG", ".JPEG")


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a whole JSON file ({error}); get it again") from error


def read_photo(path: Path) -> np.ndarray:
    """One image, uint8 [H, W, 3], or [H, W, 4] where the file has transparency.

    A rotation in the metadata is left alone: cameras are calibrated on the pixels as they are stored.

    Raises:
        ValueError: it cannot be decoded, or has more than 8 bits a value.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{path}: cannot be decoded ({error}); expected a whole PNG or JPEG image: replace it"
        ) from error
    if picture.mode in ("I", "F") or ";16" in picture.mode:
        raise ValueError(f"{path}: mode {picture.mode}, more than 8 bits a value; convert the image to 8 bits")
    return np.asarray(picture.convert("RGBA" if picture.has_transparency_data else "RGB"))


def shrink(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """The mean over the area of each new pixel: uint8 [H, W, 3 or 4] -> uint8 [height, width, 3 or 4].

    With alpha it is the mean of what is seen over black, so an edge takes no colour from what is invisible.

    Raises:
        ValueError: the new size is larger.
    """
    if not (0 < width <= image.shape[1] and 0 < height <= image.shape[0]):
        raise ValueError(
            f"an image of {image.shape[1]} x {image.shape[0]} pixels cannot shrink to {width} x {height}; "
            "sizes are from 1 to the image's own"
        )
    if (height, width) == image.shape[:2]:
        return image
    unit = image.astype(np.float32) / 255
    if image.shape[2] == 4:
        unit[..., :3] *= unit[..., 3:]
    rows, columns = _overlaps(height, image.shape[0]), _overlaps(width, image.shape[1])
    small = np.tensordot(np.tensordot(rows, unit, 1), columns, (1, 1)).swapaxes(1, 2)
    if image.shape[2] == 4:
        small[..., :3] /= np.maximum(small[..., 3:], 1e-6)
    return np.rint(255 * np.clip(small, 0, 1)).astype(np.uint8)


def _overlaps(new: int, old: int) -> np.ndarray:
    """[new, old]: which share of each new pixel each old one covers."""
    edges = np.arange(new + 1)[:, None] * (old / new) - np.arange(old)[None, :]
    covered = np.clip(edges, 0, 1)
    return ((covered[1:] - covered[:-1]) * (new / old)).astype(np.float32)


def new_size(size: tuple[int, int], factor: int, width: int | None) -> tuple[int, int]:
    """(width, height) that images of `size` shrink to.

    Args:
        size: (width, height) of the files.
        factor: 2 for half resolution, and so on.
        width: instead of a factor, columns; rows are in proportion.

    Raises:
        ValueError: both are given, or one is not positive.
    """
    if factor < 1 or (width is not None and (width < 1 or factor != 1)):
        raise ValueError(
            f"factor is {factor} and width {width}; give a factor of at least 1, or a width in pixels without a factor"
        )
    if width is None:
        return max(1, round(size[0] / factor)), max(1, round(size[1] / factor))
    return width, max(1, round(size[1] * width / size[0]))


def read_photos(paths: Sequence[Path], factor: int = 1, width: int | None = None) -> tuple[np.ndarray, tuple[int, int]]:
    """All images of a scene, shrunk, and the (width, height) that the files have.

    Returns:
        uint8 [N, H, W, 3 or 4].

    Raises:
        FileNotFoundError: files are missing; the first few are named.
        ValueError: an image cannot be decoded, or differs from the first in size or in having alpha.
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{len(missing)} of {len(paths)} images are missing: {some(missing)}")
    first = read_photo(paths[0])
    size = (first.shape[1], first.shape[0])
    small = new_size(size, factor, width)
    images = np.empty((len(paths), small[1], small[0], first.shape[2]), np.uint8)
    for i, path in enumerate(paths):
        image = first if i == 0 else read_photo(path)
        if image.shape != first.shape:
            raise ValueError(
                f"{path}: {describe(image)}, and {paths[0].name} has {describe(first)}; "
                "all images of a scene must be alike"
            )
        images[i] = shrink(image, *small)
    return images, size


def describe(image: np.ndarray) -> str:
    """Size and kind of an image [H, W, C], in words."""
    return f"{image.shape[1]} x {image.shape[0]} pixels {'with' if image.shape[2] == 4 else 'without'} alpha"


def some(things: Sequence[Any], most: int = 5) -> str:
    """The first few names, for a message."""
    names = [path.name if isinstance(path, Path) else str(path) for path in things]
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")


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
    rotation = found[:3, :3]
    error = np.abs(rotation.T @ rotation - np.eye(3)).max()
    if error > 1e-3:
        raise ValueError(
            f"{where}: the pose is not a rotation (|R^T R - I| reaches {error:.3g}): its columns must be unit vectors "
            "at right angles. Is it scaled, or transposed?"
        )
    if np.linalg.det(rotation) < 0:
        raise ValueError(
            f"{where}: the pose is a reflection (determinant -1): one axis, or two columns swapped, is in another "
            "convention than OpenGL's"
        )
    return np.concatenate([found[:3], [[0, 0, 0, 1]]])


def as_scene(
    image: np.ndarray,
    pose: Sequence[np.ndarray] | np.ndarray,
    intrinsics: Sequence[Sequence[float]] | np.ndarray,
    name: Sequence[str],
    size: tuple[int, int],
    where: str | os.PathLike,
) -> Scene:
    """The dict of arrays, with intrinsics scaled from the files' size to the images'.

    Args:
        image: uint8 [N, H, W, 3 or 4].
        pose: [N, 4, 4].
        intrinsics: [N, 4] (focal_x, focal_y, center_x, center_y) in pixels of the files.
        name: [N].
        size: (width, height) of the files.
        where: folder or file, for the message.

    Raises:
        ValueError: a focal length that is not positive, or a principal point outside of the image.
    """
    numbers = np.asarray(intrinsics, np.float64).reshape(-1, 4)
    outside = ~np.all((numbers[:, 2:] > 0) & (numbers[:, 2:] < np.array(size)), axis=1)
    wrong = ~np.isfinite(numbers).all(axis=1) | (numbers[:, :2] <= 0).any(axis=1) | outside
    if wrong.any():
        view = int(np.argmax(wrong))
        focal, center = numbers[view, :2].tolist(), numbers[view, 2:].tolist()
        raise ValueError(
            f"{where}: {name[view]} has focal lengths {focal} and principal point {center} for an image of "
            f"{size[0]} x {size[1]} pixels; focal lengths are positive and the point is inside the image. "
            "Are the intrinsics those of another resolution?"
        )
    scale = np.array([image.shape[2] / size[0], image.shape[1] / size[1]])
    return {
        "image": image,
        "pose": np.asarray(pose, np.float64),
        "intrinsics": numbers * np.tile(scale, 2),
        "name": np.array([str(n) for n in name]),
    }


def hold_out(number: int, every: int, split: str) -> np.ndarray:
    """Indices of a split of `number` views: 0, every, 2 every, ... are the test split, as in LLFF's protocol.

    Args:
        number: views in all.
        every: 8 in the protocol; 0: both splits are all views.
        split: "train" or "test".

    Raises:
        ValueError: `every` is negative or 1, or the split is empty.
    """
    if every < 0 or every == 1:
        raise ValueError(f"hold_out is {every}; expected 0 (none) or 2 and more (every so many-th view)")
    index = np.arange(number)
    if every:
        index = index[(index % every == 0) == (split == "test")]
    if not len(index):
        raise ValueError(f"the split {split!r} of {number} views is empty when every {every}th is held out")
    return index
