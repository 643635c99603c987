"""The files of COLMAP's models, as text and binary: cameras, images and points.

Format: COLMAP's documentation, "Output Format". There an image is a world-to-camera pose (quaternion w, x, y, z and a
translation) with OpenCV axes, and pixel (0, 0) has its middle at (0.5, 0.5).
"""

import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.files import as_path

FILES = "images/ and sparse/0/ with cameras, images and points3D as .bin or .txt (COLMAP's mapper)"
# Number of the model in binary files; names of its parameters. COLMAP's documentation, "Camera Models".
MODELS = {
    "SIMPLE_PINHOLE": (0, ("f", "cx", "cy")),
    "PINHOLE": (1, ("fx", "fy", "cx", "cy")),
    "SIMPLE_RADIAL": (2, ("f", "cx", "cy", "k1")),
    "RADIAL": (3, ("f", "cx", "cy", "k1", "k2")),
    "OPENCV": (4, ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2")),
    "OPENCV_FISHEYE": (5, ("fx", "fy", "cx", "cy", "k1", "k2", "k3", "k4")),
    "FULL_OPENCV": (6, ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")),
    "FOV": (7, ("fx", "fy", "cx", "cy", "omega")),
    "SIMPLE_RADIAL_FISHEYE": (8, ("f", "cx", "cy", "k1")),
    "RADIAL_FISHEYE": (9, ("f", "cx", "cy", "k1", "k2")),
    "THIN_PRISM_FISHEYE": (10, ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3", "k4", "sx1", "sy1")),
}


class ColmapCamera(NamedTuple):
    """Model, size in pixels, and parameters by name; of a model that is not known, they have no names."""

    model: str
    width: int
    height: int
    values: dict[str, float]


class ColmapImage(NamedTuple):
    """World to camera: quaternion (w, x, y, z) [4], translation [3]; camera's number; file; numbers of points [P]."""

    quaternion: np.ndarray
    translation: np.ndarray
    camera: int
    name: str
    points: np.ndarray


class ColmapModel(NamedTuple):
    """Cameras and images by number; points by number, [3] each."""

    cameras: dict[int, ColmapCamera]
    images: dict[int, ColmapImage]
    points: dict[int, np.ndarray]


def read_colmap_model(folder: str | os.PathLike) -> ColmapModel:
    """The files cameras, images and points3D of a folder, .bin before .txt. A model may have no points3D.

    Raises:
        FileNotFoundError: cameras or images are in neither format.
        ValueError: a damaged file; the message names it, and in text the line.
    """
    folder = as_path(folder)
    cameras, images = (read_part(folder, name) for name in ("cameras", "images"))
    has_points = any((folder / f"points3D.{suffix}").is_file() for suffix in ("bin", "txt"))
    return ColmapModel(cameras, images, read_part(folder, "points3D") if has_points else {})


def part_path(folder: Path, name: str) -> Path:
    """The file of a part of a model, .bin before .txt.

    Args:
        folder: of the model.
        name: "cameras", "images" or "points3D".

    Raises:
        FileNotFoundError: it is in neither format.
    """
    binary, text = (folder / f"{name}.{suffix}" for suffix in ("bin", "txt"))
    if not binary.is_file() and not text.is_file():
        raise FileNotFoundError(f"no {name}.bin or {name}.txt in {folder}; expected {FILES}")
    return binary if binary.is_file() else text


def read_part(folder: Path, name: str) -> dict[int, Any]:
    """Cameras, images or points by number.

    Args:
        folder: of the model.
        name: "cameras", "images" or "points3D".

    Raises:
        FileNotFoundError: it is in neither format.
        ValueError: a damaged file.
    """
    path = part_path(folder, name)
    try:
        return _READERS[f"{name}{path.suffix}"](path)
    except (struct.error, IndexError, UnicodeDecodeError, OverflowError) as error:
        raise ValueError(f"{path}: damaged ({error}); export the model again") from error


def _camera(model: str, width: int, height: int, values: list[float], where: str) -> ColmapCamera:
    if model not in MODELS:
        return ColmapCamera(model, width, height, {str(i): value for i, value in enumerate(values)})
    names = MODELS[model][1]
    if len(values) != len(names):
        raise ValueError(f"{where}: {model} has {len(values)} parameters; expected {', '.join(names)}")
    return ColmapCamera(model, width, height, dict(zip(names, values, strict=True)))


def _lines(path: Path) -> list[tuple[int, str]]:
    """Numbers, from 1, and text of the lines that are no comments."""
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    return [(i, line.strip()) for i, line in enumerate(lines, 1) if not line.lstrip().startswith("#")]


def _parsed(path: Path, number: int, line: str, expected: str, parse: Callable[[str], Any]) -> Any:
    """What `parse` makes of a line.

    Raises:
        ValueError: it fails; the message names the line.
    """
    try:
        return parse(line)
    except (ValueError, IndexError, OverflowError) as error:
        shown = line if len(line) < 80 else line[:77] + "..."
        raise ValueError(f"{path}: line {number}: {shown!r} ({error}); expected {expected}") from error


def _numbered(path: Path, entries: Sequence[tuple[int, Any]]) -> dict[int, Any]:
    found = dict(entries)
    if wrong := [number for number in found if not 0 <= number < 2**63]:
        raise ValueError(f"{path}: an entry has the number {wrong[0]}; numbers are from 0 to 2^63 - 1")
    if len(found) != len(entries):
        numbers = [number for number, _ in entries]
        seen: set[int] = set()
        twice = next(n for n in numbers if n in seen or seen.add(n))
        raise ValueError(f"{path}: two entries have the number {twice}; export the model again")
    return found


def _cameras_text(path: Path) -> dict[int, ColmapCamera]:
    def parse(line: str) -> tuple[int, ColmapCamera]:
        number, model, width, height, *values = line.split()
        return int(number), _camera(model, int(width), int(height), [float(v) for v in values], str(path))

    expected = "CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]"
    return _numbered(path, [_parsed(path, i, line, expected, parse) for i, line in _lines(path) if line])


def _images_text(path: Path) -> dict[int, ColmapImage]:
    """Two lines an image; the second, of points, may be empty."""
    lines = _lines(path)
    while lines and not lines[0][1]:
        lines.pop(0)

    def parse(line: str) -> tuple:
        number, *pose, camera, name = line.split(maxsplit=9)
        if len(pose) != 7:
            raise ValueError(f"{len(pose) + 3} entries")
        return int(number), [float(v) for v in pose], int(camera), name

    def points(line: str) -> np.ndarray:
        entries = line.split()
        if len(entries) % 3:
            raise ValueError(f"{len(entries)} entries")
        return np.array(entries[2::3], np.int64)

    found = []
    for (i, first), (k, second) in zip(lines[::2], [*lines[1::2], (0, "")], strict=False):
        if not first:
            if any(text for _, text in lines[lines.index((i, first)) :]):
                raise ValueError(
                    f"{path}: line {i} is empty; expected two lines an image, that of its points perhaps empty"
                )
            break
        number, pose, camera, name = _parsed(path, i, first, "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME", parse)
        seen = _parsed(path, k, second, "POINTS2D[] as (X, Y, POINT3D_ID), or an empty line", points)
        found.append((number, _image(path, pose, camera, name, seen)))
    return _numbered(path, found)


def _image(path: Path, pose: Sequence[float], camera: int, name: str, points: np.ndarray) -> ColmapImage:
    values = np.array(pose, np.float64)
    if not (np.abs(values) < 1e12).all() or not 1e-3 < np.linalg.norm(values[:4]) < 1e3:
        raise ValueError(
            f"{path}: image {name} has quaternion {values[:4].tolist()} and translation {values[4:].tolist()}; "
            "expected a unit quaternion (w, x, y, z) and finite numbers"
        )
    return ColmapImage(values[:4], values[4:], camera, name, points)


def _points_text(path: Path) -> dict[int, np.ndarray]:
    def parse(line: str) -> tuple[int, np.ndarray]:
        number, x, y, z, *_ = line.split(maxsplit=4)
        return int(number), np.array([float(x), float(y), float(z)])

    expected = "POINT3D_ID X Y Z R G B ERROR TRACK[]"
    return _numbered(path, [_parsed(path, i, line, expected, parse) for i, line in _lines(path) if line])


class _Bytes:
    """A binary file read from front to back."""

    def __init__(self, path: Path):
        self._data, self._at = path.read_bytes(), 0

    def take(self, layout: str) -> tuple:
        found = struct.unpack_from(f"<{layout}", self._data, self._at)
        self._at += struct.calcsize(f"<{layout}")
        return found

    def text(self) -> str:
        end = self._data.find(b"\0", self._at)
        if end < 0:
            raise IndexError("a name without end")
        found, self._at = self._data[self._at : end].decode(), end + 1
        return found

    def rows(self, dtype: list, number: int) -> np.ndarray:
        kind = np.dtype(dtype)
        if number * kind.itemsize > len(self._data) - self._at:
            raise IndexError(f"{number} entries do not fit into the file")
        found = np.frombuffer(self._data, kind, number, self._at)
        self._at += found.nbytes
        return found


def _cameras_binary(path: Path) -> dict[int, ColmapCamera]:
    names, found, file = {number: name for name, (number, _) in MODELS.items()}, [], _Bytes(path)
    for _ in range(file.take("Q")[0]):
        number, model, width, height = file.take("iiQQ")
        name = names.get(model)
        if name is None:
            # Its parameters have an unknown length, so nothing after them can be read.
            raise ValueError(
                f"{path}: camera {number} has camera model number {model}; read are "
                f"{', '.join(names.values())}: export the model as text, or run COLMAP's image_undistorter first"
            )
        values = list(file.take(f"{len(MODELS[name][1])}d"))
        found.append((number, _camera(name, width, height, values, str(path))))
    return _numbered(path, found)


def _images_binary(path: Path) -> dict[int, ColmapImage]:
    found, file = [], _Bytes(path)
    for _ in range(file.take("Q")[0]):
        number, *pose, camera = file.take("I7dI")
        name = file.text()
        points = file.rows([("x", "<f8"), ("y", "<f8"), ("point", "<i8")], file.take("Q")[0])["point"]
        found.append((number, _image(path, pose, camera, name, points)))
    return _numbered(path, found)


def _points_binary(path: Path) -> dict[int, np.ndarray]:
    found, file = [], _Bytes(path)
    for _ in range(file.take("Q")[0]):
        number, x, y, z, _, _, _, _, track = file.take("Q3d3BdQ")
        file.rows([("image", "<u4"), ("point", "<u4")], track)
        found.append((number, np.array([x, y, z])))
    return _numbered(path, found)


_READERS: dict[str, Callable[[Path], Any]] = {
    "cameras.txt": _cameras_text,
    "images.txt": _images_text,
    "points3D.txt": _points_text,
    "cameras.bin": _cameras_binary,
    "images.bin": _images_binary,
    "points3D.bin": _points_binary,
}
