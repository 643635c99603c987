"""Models of COLMAP, as text and binary: cameras, images and points, turned into a scene with OpenGL poses.

Format: COLMAP's documentation, "Output Format". There an image is a world-to-camera pose (quaternion w, x, y, z and a
translation) with OpenCV axes, and pixel (0, 0) has its middle at (0.5, 0.5).
"""

import math
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.checks import check_split, existing_folder
from jaxgen.data.views import (
    SUFFIXES,
    Scene,
    as_pose,
    as_scene,
    check_size,
    describe_cameras,
    exif_note,
    find_image,
    hold_out,
    images_root,
    read_headers,
    read_photos,
    relative_name,
    some,
)

FILES = "images/ and sparse/0/ with cameras, images and points3D as .bin or .txt (COLMAP's mapper)"
# Number of the model in binary files; names of its parameters. COLMAP's documentation, "Camera Models".
_MODELS = {
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
_DISTORTION = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
_FEW = 10
"""Points below which the depth of a view is that of the others."""
_UNSUPPORTED = ("omega", "sx1", "sy1")


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
    cameras, images = (_read(Path(folder), name) for name in ("cameras", "images"))
    has_points = any((Path(folder) / f"points3D.{suffix}").is_file() for suffix in ("bin", "txt"))
    return ColmapModel(cameras, images, _read(Path(folder), "points3D") if has_points else {})


def _path(folder: Path, name: str) -> Path:
    binary, text = (folder / f"{name}.{suffix}" for suffix in ("bin", "txt"))
    if not binary.is_file() and not text.is_file():
        raise FileNotFoundError(f"no {name}.bin or {name}.txt in {folder}; expected {FILES}")
    return binary if binary.is_file() else text


def _read(folder: Path, name: str) -> dict[int, Any]:
    path = _path(folder, name)
    try:
        return _READERS[f"{name}{path.suffix}"](path)
    except (struct.error, IndexError, UnicodeDecodeError, OverflowError) as error:
        raise ValueError(f"{path}: damaged ({error}); export the model again") from error


def read_colmap(
    directory: str | os.PathLike | None,
    split: str = "train",
    *,
    factor: int = 1,
    width: int | None = None,
    hold_out_every: int = 8,
    images: str | os.PathLike | None = None,
    without_points: bool = False,
) -> Scene:
    """A scene of photographs that COLMAP has registered, sorted by name, in COLMAP's own world and scale.

    Of several models the one with the most images is taken; the report names the others.

    Args:
        directory: the folder with images/ and sparse/0/ (or sparse/).
        split: "train" or "test".
        factor: 2 for half resolution, and so on; images/ is shrunk by an area average.
        width: instead of a factor, so many columns (of the widest image).
        hold_out_every: 8: views 0, 8, 16, ... are the test split; 0: both splits are all views.
        images: folder of the images, instead of images/.
        without_points: whether a model in which no view has points is read, without `bounds`, or refused.

    Returns:
        image, pose, intrinsics, name (`jaxgen.data.views`), distortion: float64 [N, 4], OpenCV's k1, k2, p1, p2, or
        [N, 9] with k3, k4, k5, k6 and 1 for a fisheye where a camera has these, and bounds: float64 [N, 2], depths
        between which 99.8 % of the points that a view sees lie (distances through a fisheye). Few points that lie far
        before or behind all others do not count, and a view with fewer than 10 has the bounds of the others.

    Raises:
        FileNotFoundError: no such folder or file.
        ValueError: a damaged file, a camera model that is not supported, a camera that is missing, images whose size is
            not the cameras', or no points.
    """
    check_split(split)
    folder = existing_folder(directory, FILES)
    place, model, others = _largest_model(folder)
    views = sorted(model.images.values(), key=lambda image: image.name)
    if not views:
        raise ValueError(f"{place}: no image is registered")
    root = images_root(images) or folder / "images"
    paths = [find_image(root, view.name, None, str(place)) for view in views]
    if len(set(paths)) < len(paths):
        twice = next(path for i, path in enumerate(paths) if path in paths[:i])
        raise ValueError(f"{place}: two images are named {twice.name}; expected one of each name")
    cameras = [_camera_of(view, model, place) for view in views]
    bounds = _all_bounds(views, cameras, model.points)
    if not without_points and np.isnan(bounds).any():
        if not model.points:
            _path(place, "points3D")
        raise ValueError(
            f"{place}: no view sees two points in front of it; depth cannot be bounded: give near and far (--data.near "
            "and --data.far), or export the model with its points3D"
        )
    chosen = hold_out(len(views), hold_out_every, split)
    pick = lambda things: [things[i] for i in chosen]
    headers = read_headers(pick(paths))
    for path, camera, header in zip(pick(paths), pick(cameras), headers, strict=True):
        advice = "put the images that COLMAP saw into images/ (factor and width shrink them here)"
        check_size(path, header, (camera.width, camera.height), "its camera was calibrated at", advice)
    widest = max(camera.width for camera in cameras)
    photos = read_photos(pick(paths), factor, width, headers=headers, widest=widest)
    intrinsics = np.array([_intrinsics(camera) for camera in cameras])
    names = [relative_name(path, folder) for path in pick(paths)]
    poses = [as_pose(_opengl(view), f"{place}: {view.name}") for view in pick(views)]
    scene = as_scene(photos, poses, intrinsics[chosen], names, place)
    distortion = np.array([_lens(camera) for camera in cameras])
    scene["distortion"] = (distortion if distortion[:, 4:].any() else distortion[:, :4])[chosen]
    if not np.isnan(bounds).any():
        scene["bounds"] = bounds[chosen]
    rule = f"every {hold_out_every}th view is held out" if hold_out_every else "both splits are all views"
    scene.report = [
        f"COLMAP: {_registered(root, paths)}, model {relative_name(place, folder)} ({others}); {rule}",
        describe_cameras([c.model for c in cameras], intrinsics, np.array([[c.width, c.height] for c in cameras])),
        *exif_note(headers),
    ]
    return scene


def _largest_model(folder: Path) -> tuple[Path, ColmapModel, str]:
    """The folder of the model with the most images, the model, and the others in words."""
    above = folder / "sparse"
    inside = sorted((p for p in above.iterdir() if p.is_dir()), key=_by_number) if above.is_dir() else []
    has_model = lambda p: any((p / f"images.{suffix}").is_file() for suffix in ("bin", "txt"))
    places = [p for p in [*inside, above] if p.is_dir() and has_model(p)]
    if not places:
        if inside or above.is_dir():
            read_colmap_model(inside[0] if inside else above)
        raise FileNotFoundError(f"no sparse/0 in {folder}; expected {FILES}")
    counts = [len(_read(place, "images")) for place in places]
    best = int(np.argmax(counts))
    others = [f"{relative_name(p, folder)} with {n}" for p, n in zip(places, counts, strict=True) if p != places[best]]
    return places[best], read_colmap_model(places[best]), f"others: {some(others)}" if others else "the only one"


def _by_number(path: Path) -> tuple[bool, int, str]:
    number = path.name.isdecimal() and len(path.name) < 10
    return not number, int(path.name) if number else 0, path.name


def _registered(root: Path, paths: Sequence[Path]) -> str:
    """How many of the images are registered, and the first of the others."""
    there = {Path(os.path.abspath(p)) for p in root.rglob("*") if p.suffix in SUFFIXES and not p.name.startswith(".")}
    missing = sorted(there - {Path(os.path.abspath(path)) for path in paths})
    without = f", without {some(missing, 3)}" if missing else ""
    return f"{len(paths)} of {len(paths) + len(missing)} images registered{without}"


def _camera_of(view: ColmapImage, model: ColmapModel, place: Path) -> ColmapCamera:
    """The camera of an image, if it is supported."""
    camera = model.cameras.get(view.camera)
    if camera is None:
        raise ValueError(
            f"{place}: image {view.name} has camera {view.camera}, and cameras holds "
            f"{', '.join(map(str, sorted(model.cameras)[:8])) or 'none'}: export the model again, all files at once"
        )
    beyond = [name for name in _UNSUPPORTED if camera.values.get(name)]
    if camera.model not in _MODELS or camera.model == "FOV" or beyond:
        known = [name for name in _MODELS if name != "FOV"]
        kind = camera.model + (f" with {', '.join(beyond)}" if beyond else "")
        raise ValueError(
            f"{place}: image {view.name} has camera model {kind}; read are {', '.join(known)} (without sx1, sy1): run "
            "COLMAP's image_undistorter first"
        )
    if not all(map(math.isfinite, camera.values.values())):
        raise ValueError(f"{place}: camera {view.camera} has parameters that are not finite: {camera.values}")
    return camera


def _intrinsics(camera: ColmapCamera) -> list[float]:
    get = lambda *names: next(camera.values[name] for name in names if name in camera.values)
    return [get("fx", "f"), get("fy", "f"), get("cx"), get("cy")]


def _lens(camera: ColmapCamera) -> list[float]:
    """k1, k2, p1, p2, k3, k4, k5, k6, and 1 for a fisheye."""
    return [*(camera.values.get(name, 0.0) for name in _DISTORTION), float(camera.model.endswith("FISHEYE"))]


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


def _all_bounds(
    views: Sequence[ColmapImage], cameras: Sequence[ColmapCamera], points: dict[int, np.ndarray]
) -> np.ndarray:
    """Bounds of depth of all views, [N, 2]; NaN where no view has any."""
    seen = [_depths(view, camera, points) for view, camera in zip(views, cameras, strict=True)]
    # A point that is astray in one view is wrong, and not to be seen in the others either.
    strays = np.unique(np.concatenate([numbers[is_stray(depths)] for numbers, depths in seen]))
    kept = [depths[~np.isin(numbers, strays)] for numbers, depths in seen]
    number = np.array([len(depths) for depths in kept])
    known = number >= (_FEW if number.max() >= _FEW else 2)
    bounds = np.full((len(views), 2), np.nan)
    for i in np.flatnonzero(known):
        bounds[i] = np.percentile(kept[i], [0.1, 99.9])
    if known.any():
        bounds[~known] = bounds[known, 0].min(), bounds[known, 1].max()
    return bounds


def _depths(image: ColmapImage, camera: ColmapCamera, points: dict[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and depths of the points that a view sees, [P] each: in front of it, and inside of its image."""
    numbers = np.array([number for number in image.points.tolist() if number in points], np.int64)
    seen = np.array([points[number] for number in numbers.tolist()]).reshape(-1, 3)
    local = seen @ _rotation(image.quaternion).T + image.translation
    # Through a fisheye t is the distance.
    fisheye = camera.model.endswith("FISHEYE")
    depths = np.linalg.norm(local, axis=1) if fisheye else local[:, 2]
    good = np.isfinite(depths) & (depths > 0)
    if not fisheye:
        # A lens may bring the border of the image nearer.
        room = 6 if any(_lens(camera)) else 2
        focal_x, focal_y, *_ = _intrinsics(camera)
        good &= np.abs(local[:, 0]) * focal_x < room * camera.width * np.maximum(depths, 0)
        good &= np.abs(local[:, 1]) * focal_y < room * camera.height * np.maximum(depths, 0)
    return numbers[good], depths[good]


def is_stray(depths: np.ndarray) -> np.ndarray:
    """Which of the depths [P] are the few that lie far before or behind all others: bool [P].

    Up to 0.5 % of the depths, at least two but at most a fifth, on each side where the next one is twice as far, or
    half as far.
    """
    order = np.argsort(depths, kind="stable")
    rising = depths[order]
    most = min(max(2, math.ceil(0.005 * len(depths))), len(depths) // 5)
    jumps = rising[1:] > 2 * rising[:-1]
    before = max((i + 1 for i in range(most) if jumps[i]), default=0)
    behind = max((i + 1 for i in range(most) if jumps[len(jumps) - 1 - i]), default=0)
    stray = np.zeros(len(depths), bool)
    stray[order[:before]] = True
    stray[order[len(order) - behind :]] = True
    return stray


def _camera(model: str, width: int, height: int, values: list[float], where: str) -> ColmapCamera:
    if model not in _MODELS:
        return ColmapCamera(model, width, height, {str(i): value for i, value in enumerate(values)})
    names = _MODELS[model][1]
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
    if not np.isfinite(values).all() or not 1e-3 < np.linalg.norm(values[:4]) < 1e3:
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
    names, found, file = {number: name for name, (number, _) in _MODELS.items()}, [], _Bytes(path)
    for _ in range(file.take("Q")[0]):
        number, model, width, height = file.take("iiQQ")
        name = names.get(model)
        if name is None:
            # Its parameters have an unknown length, so nothing after them can be read.
            raise ValueError(
                f"{path}: camera {number} has camera model number {model}; read are "
                f"{', '.join(names.values())}: export the model as text, or run COLMAP's image_undistorter first"
            )
        values = list(file.take(f"{len(_MODELS[name][1])}d"))
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
