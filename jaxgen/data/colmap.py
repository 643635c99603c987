"""Models of COLMAP, as text and binary: cameras, images and points, turned into a scene with OpenGL poses.

Format: COLMAP's documentation, "Output Format". There an image is a world-to-camera pose (quaternion w, x, y, z and a
translation) with OpenCV axes, and pixel (0, 0) has its middle at (0.5, 0.5).
"""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.checks import check_split, existing_folder
from jaxgen.data.views import Scene, as_pose, as_scene, hold_out, read_photos

FILES = "images/ and sparse/0/ with cameras, images and points3D as .bin or .txt (COLMAP's mapper)"
# Number of the model in binary files; names of its parameters.
_MODELS = {
    "SIMPLE_PINHOLE": (0, ("f", "cx", "cy")),
    "PINHOLE": (1, ("fx", "fy", "cx", "cy")),
    "SIMPLE_RADIAL": (2, ("f", "cx", "cy", "k1")),
    "RADIAL": (3, ("f", "cx", "cy", "k1", "k2")),
    "OPENCV": (4, ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2")),
}
_DISTORTION = ("k1", "k2", "p1", "p2")


class ColmapCamera(NamedTuple):
    """Model, size in pixels, and parameters by name."""

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
    """The files cameras, images and points3D of a folder, .bin before .txt.

    Raises:
        FileNotFoundError: one of the three is in neither format.
        ValueError: a damaged file, or a camera that is not a pinhole with OpenCV's distortion.
    """
    parts = []
    for name in ("cameras", "images", "points3D"):
        binary, text = (Path(folder) / f"{name}.{suffix}" for suffix in ("bin", "txt"))
        if not binary.is_file() and not text.is_file():
            raise FileNotFoundError(f"no {name}.bin or {name}.txt in {folder}; expected {FILES}")
        path = binary if binary.is_file() else text
        try:
            parts.append(_READERS[f"{name}{path.suffix}"](path))
        except (struct.error, IndexError, UnicodeDecodeError, OverflowError) as error:
            raise ValueError(f"{path}: damaged ({error}); export the model again") from error
    return ColmapModel(*parts)


def read_colmap(
    directory: str | os.PathLike | None,
    split: str = "train",
    *,
    factor: int = 1,
    width: int | None = None,
    hold_out_every: int = 8,
) -> Scene:
    """A scene of photographs that COLMAP has registered, sorted by name, in COLMAP's own world and scale.

    Args:
        directory: the folder with images/ and sparse/0/ (or sparse/).
        split: "train" or "test".
        factor: 2 for half resolution, and so on; images/ is shrunk by an area average.
        width: instead of a factor, so many columns.
        hold_out_every: 8: views 0, 8, 16, ... are the test split; 0: both splits are all views.

    Returns:
        image, pose, intrinsics, name (`jaxgen.data.views`), distortion: float64 [N, 4], OpenCV's k1, k2, p1, p2, and
        bounds: float64 [N, 2], depths between which 99.8 % of the points that a view sees lie.

    Raises:
        FileNotFoundError: no such folder or file.
        ValueError: a damaged file, a camera model that is not supported, images whose size is not the cameras', a view
            without points in front of it.
    """
    check_split(split)
    folder = existing_folder(directory, FILES)
    place = next((p for p in (folder / "sparse/0", folder / "sparse") if p.is_dir()), None)
    if place is None:
        raise FileNotFoundError(f"no sparse/0 in {folder}; expected {FILES}")
    model = read_colmap_model(place)
    views = sorted(model.images.values(), key=lambda image: image.name)
    if not views:
        raise ValueError(f"{place}: no image is registered")
    views = [views[i] for i in hold_out(len(views), hold_out_every, split)]
    paths = [folder / "images" / view.name for view in views]
    images, size = read_photos(paths, factor, width)
    cameras = [model.cameras[view.camera] for view in views]
    for view, camera in zip(views, cameras, strict=True):
        if (camera.width, camera.height) != size:
            raise ValueError(
                f"{view.name}: {size[0]} x {size[1]} pixels, and its camera was calibrated at {camera.width} x "
                f"{camera.height}: put the images that COLMAP saw into images/ (factor and width shrink them here)"
            )
    get = lambda camera, *names: next(camera.values[name] for name in names if name in camera.values)
    intrinsics = [
        [get(c, "fx", "f"), get(c, "fy", "f"), get(c, "cx"), get(c, "cy")] for c in cameras
    ]  # fmt: skip
    poses = [as_pose(_opengl(view), f"{place}: {view.name}") for view in views]
    scene = as_scene(images, poses, intrinsics, [f"images/{view.name}" for view in views], size, place)
    scene["distortion"] = np.array([[c.values.get(name, 0.0) for name in _DISTORTION] for c in cameras])
    scene["bounds"] = np.array([_bounds(view, model.points) for view in views])
    return scene


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _opengl(image: ColmapImage) -> np.ndarray:
    """Camera to world with OpenGL axes, [3, 4]."""
    rotation = _rotation(image.quaternion)
    centre = -rotation.T @ image.translation
    return np.concatenate([rotation.T * np.array([1, -1, -1]), centre[:, None]], axis=1)


def _bounds(image: ColmapImage, points: dict[int, np.ndarray]) -> np.ndarray:
    seen = [points[number] for number in image.points.tolist() if number in points]
    axis = _rotation(image.quaternion)[2]
    depths = np.array([axis @ point + image.translation[2] for point in seen])
    depths = depths[depths > 0]
    if len(depths) < 2:
        raise ValueError(f"{image.name} sees {len(depths)} points in front of it; its depth cannot be bounded")
    return np.percentile(depths, [0.1, 99.9])


def _camera(model: str, width: int, height: int, values: list[float], path: Path) -> ColmapCamera:
    if model not in _MODELS:
        raise ValueError(
            f"{path}: camera model {model}; read are {', '.join(_MODELS)}: run COLMAP's image_undistorter first"
        )
    names = _MODELS[model][1]
    if len(values) != len(names):
        raise ValueError(f"{path}: {model} has {len(values)} parameters; expected {', '.join(names)}")
    return ColmapCamera(model, width, height, dict(zip(names, values, strict=True)))


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text().splitlines() if not line.startswith("#")]


def _cameras_text(path: Path) -> dict[int, ColmapCamera]:
    found = {}
    for line in filter(None, _lines(path)):
        number, model, width, height, *values = line.split()
        found[int(number)] = _camera(model, int(width), int(height), [float(v) for v in values], path)
    return found


def _images_text(path: Path) -> dict[int, ColmapImage]:
    """Two lines an image; the second, of points, may be empty."""
    lines = _lines(path)
    while lines and not lines[0]:
        lines.pop(0)
    found = {}
    for first, second in zip(lines[::2], [*lines[1::2], ""], strict=False):
        if not first:
            break
        number, *pose, camera, name = first.split(maxsplit=9)
        values = np.array([float(v) for v in pose])
        points = np.array(second.split()[2::3], np.int64)
        found[int(number)] = ColmapImage(values[:4], values[4:], int(camera), name, points)
    return found


def _points_text(path: Path) -> dict[int, np.ndarray]:
    rows = [line.split(maxsplit=4) for line in filter(None, _lines(path))]
    return {int(row[0]): np.array([float(v) for v in row[1:4]]) for row in rows}


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
    names, found, file = {number: name for name, (number, _) in _MODELS.items()}, {}, _Bytes(path)
    for _ in range(file.take("Q")[0]):
        number, model, width, height = file.take("iiQQ")
        name = names.get(model, f"number {model}")
        size = len(_MODELS[name][1]) if name in _MODELS else 0
        found[number] = _camera(name, width, height, list(file.take(f"{size}d")), path)
    return found


def _images_binary(path: Path) -> dict[int, ColmapImage]:
    found, file = {}, _Bytes(path)
    for _ in range(file.take("Q")[0]):
        number, *pose, camera = file.take("I7dI")
        name = file.text()
        points = file.rows([("x", "<f8"), ("y", "<f8"), ("point", "<i8")], file.take("Q")[0])["point"]
        found[number] = ColmapImage(np.array(pose[:4]), np.array(pose[4:]), camera, name, points)
    return found


def _points_binary(path: Path) -> dict[int, np.ndarray]:
    found, file = {}, _Bytes(path)
    for _ in range(file.take("Q")[0]):
        number, x, y, z, _, _, _, _, track = file.take("Q3d3BdQ")
        file.rows([("image", "<u4"), ("point", "<u4")], track)
        found[number] = np.array([x, y, z])
    return found


_READERS: dict[str, Callable[[Path], Any]] = {
    "cameras.txt": _cameras_text,
    "images.txt": _images_text,
    "points3D.txt": _points_text,
    "cameras.bin": _cameras_binary,
    "images.bin": _images_binary,
    "points3D.bin": _points_binary,
}
