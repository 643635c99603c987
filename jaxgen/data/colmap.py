"""Scenes of photographs that COLMAP has registered, with OpenGL poses."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxgen.data.checks import check_split, contents, existing_folder
from jaxgen.data.colmap_model import (
    FILES,
    MODELS,
    ColmapCamera,
    ColmapImage,
    ColmapModel,
    part_path,
    read_colmap_model,
    read_part,
)
from jaxgen.data.image_paths import SUFFIXES, find_image, images_root, relative_name, some
from jaxgen.data.photos import check_size, exif_note, read_headers, read_photos
from jaxgen.data.views import Scene, as_pose, as_scene, describe_cameras, hold_out

_DISTORTION = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
_FEW = 10
"""Points below which the depth of a view is that of the others."""
_UNSUPPORTED = ("omega", "sx1", "sy1")


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
        directory: the folder with images/ and sparse/0/ (or sparse/, colmap/sparse/0/, or the model itself).
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
    given = images_root(images)
    root = given or folder / "images"
    paths = [_file_of(view, root, folder if given is None else given, str(place)) for view in views]
    if len(set(paths)) < len(paths):
        twice = next(path for i, path in enumerate(paths) if path in paths[:i])
        raise ValueError(f"{place}: two images are named {twice.name}; expected one of each name")
    cameras = [_camera_of(view, model, place) for view in views]
    bounds = _all_bounds(views, cameras, model.points)
    if not without_points and np.isnan(bounds).any():
        if not model.points:
            part_path(place, "points3D")
        raise ValueError(
            f"{place}: no view sees two points in front of it; depth cannot be bounded: give near and far (--data.near "
            "and --data.far), or export the model with its points3D"
        )
    chosen = hold_out(len(views), hold_out_every, split, folder)
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


def _file_of(view: ColmapImage, root: Path, other: Path, place: str) -> Path:
    """The file of an image, by its name in `root`, or in `other`, as where COLMAP was run on the scene's folder."""
    path, beside = find_image(root, view.name, other if other == root else None, place), other / view.name
    return beside if not path.is_file() and beside.is_file() else path


def _largest_model(folder: Path) -> tuple[Path, ColmapModel, str]:
    """The folder of the model with the most images, the model, and the others in words."""
    above = next((p for p in (folder / "sparse", folder / "colmap" / "sparse") if p.is_dir()), folder / "sparse")
    inside = sorted((p for p in above.iterdir() if p.is_dir()), key=_by_number) if above.is_dir() else []
    has_model = lambda p: any((p / f"images.{suffix}").is_file() for suffix in ("bin", "txt"))
    places = [p for p in [*inside, above, folder] if p.is_dir() and has_model(p)]
    if not places:
        if inside or above.is_dir():
            read_colmap_model(inside[0] if inside else above)
        deeper = [p for p in sorted(folder.glob("*/")) if (p / "sparse").is_dir()]
        hint = f"; there is a sparse/ in {some(deeper)}: give that folder (--data.dir)" if deeper else ""
        raise FileNotFoundError(f"no sparse/0 in {folder}, which holds {contents(folder)}; expected {FILES}{hint}")
    counts = [len(read_part(place, "images")) for place in places]
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
    if camera.model not in MODELS or camera.model == "FOV" or beyond:
        known = [name for name in MODELS if name != "FOV"]
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
    numbers, places = np.array(list(points), np.int64), np.array(list(points.values())).reshape(-1, 3)
    order = np.argsort(numbers)
    order = order[(np.abs(places[order]) < 1e12).all(axis=1)]
    known_points = numbers[order], places[order]
    seen = [_depths(view, camera, *known_points) for view, camera in zip(views, cameras, strict=True)]
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


def _depths(
    image: ColmapImage, camera: ColmapCamera, known: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and depths of the points that a view sees, [P] each: in front of it, and inside of its image.

    Args:
        image: the view.
        camera: its camera.
        known: numbers of all points, rising, [Q].
        places: of these, [Q, 3].
    """
    numbers = image.points[np.isin(image.points, known)]
    local = places[np.searchsorted(known, numbers)] @ _rotation(image.quaternion).T + image.translation
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
