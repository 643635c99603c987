"""Forward-facing photographs in the layout of LLFF: poses_bounds.npy and a folder of images.

Mildenhall et al., "Local Light Field Fusion" (2019); the scenes of NeRF's table 1 (fern, fortress, ...).
"""

import os
from pathlib import Path

import numpy as np

from jaxgen.data.checks import check_split, existing_folder, find_file
from jaxgen.data.image_paths import SUFFIXES, images_root, relative_name
from jaxgen.data.photos import exif_note, read_headers, read_photos
from jaxgen.data.views import Scene, as_pose, as_scene, describe_cameras, hold_out
from jaxgen.files import read_npy

FILES = "poses_bounds.npy and images/ (LLFF's scenes, or what its imgs2poses.py makes of yours)"


def read_llff(
    directory: str | os.PathLike | None,
    split: str = "train",
    *,
    factor: int = 1,
    width: int | None = None,
    hold_out_every: int = 8,
    bound_factor: float | None = 0.75,
    recenter: bool = True,
    images: str | os.PathLike | None = None,
) -> Scene:
    """A scene of photographs with bounds of depth.

    Poses are turned from LLFF's axes (down, right, back) to OpenGL's, scaled so that the nearest bound of all views is
    1 / bound_factor, and recentred, all before the split, as in the authors' code: then a near plane at distance 1 and
    `nerf.ndc_rays` suit the scene.

    Args:
        directory: the scene's folder.
        split: "train" or "test".
        factor: 4 and 8 in the paper's runs; images_{factor}/ is read where it is there, otherwise images/ is shrunk by
            an area average.
        width: instead of a factor, so many columns (of the widest image).
        hold_out_every: 8: views 0, 8, 16, ... are the test split; 0: both splits are all views.
        bound_factor: as above; None: poses and bounds keep their scale.
        recenter: moves the world so that the average camera is at the origin and looks along -z.
        images: folder of the images, instead of images/ and images_{factor}/.

    Returns:
        image, pose, intrinsics, name (`jaxgen.data.views`), and bounds: float64 [N, 2], nearest and farthest depth.
        Its attribute `world_from_scene` undoes the scale and the recentring.

    Raises:
        FileNotFoundError: no such folder, file or image.
        ValueError: a damaged file, another number of images than of poses, a pose that is not a rotation, bounds that
            are not 0 < near < far, images whose shape does not fit the intrinsics.
    """
    check_split(split)
    folder = existing_folder(directory, FILES)
    path = find_file(folder, ["poses_bounds.npy"], FILES)
    rows = _rows(path)
    poses, bounds = rows[:, :15].reshape(-1, 3, 5), rows[:, 15:]
    wrong = ~((bounds[:, 0] > 1e-12) & (bounds[:, 0] < bounds[:, 1]) & (bounds[:, 1] < 1e12))
    if wrong.any():
        view = int(np.argmax(wrong))
        raise ValueError(f"{path}: view {view} has bounds {bounds[view].tolist()}; expected 0 < near < far")
    paths, already = _images(folder, factor, images_root(images))
    if len(paths) != len(poses):
        raise ValueError(
            f"{path} has {len(poses)} poses and {paths[0].parent} {len(paths)} images; there must be one pose for each "
            "image in the order of names"
        )
    matrices = np.stack([_opengl(pose, f"{path}: view {i} ({paths[i].name})") for i, pose in enumerate(poses)])
    scale = 1.0 if bound_factor is None else 1 / (bounds.min() * bound_factor)
    matrices[:, :3, 3] *= scale
    world = np.eye(4)
    if recenter:
        try:
            world = average(matrices)
        except ValueError as error:
            raise ValueError(f"{path}: {error}; recenter=False keeps the poses as they are") from error
        matrices = np.linalg.inv(world) @ matrices
    chosen = hold_out(len(paths), hold_out_every, split, path)
    headers = read_headers(paths)
    sizes = np.array([header[:2] for header in headers])
    stated = poses[:, [1, 0], 4]
    _check_sizes(path, paths, sizes, stated, factor if already else 1)
    photos = read_photos(
        [paths[i] for i in chosen], 1 if already else factor, width,
        headers=[headers[i] for i in chosen], widest=int(sizes[:, 0].max()),
    )  # fmt: skip
    # The file's focal length is in pixels of the original images.
    focal = poses[:, 2, 4] * sizes[:, 0] / stated[:, 0]
    intrinsics = np.stack([focal, focal, sizes[:, 0] / 2, sizes[:, 1] / 2], axis=1)
    names = [relative_name(paths[i], folder) for i in chosen]
    scene = as_scene(photos, matrices[chosen], intrinsics[chosen], names, path)
    scene["bounds"] = bounds[chosen] * scale
    world[:3] /= scale
    scene.world_from_scene = world
    rule = f"every {hold_out_every}th view is held out" if hold_out_every else "both splits are all views"
    scene.report = [
        f"{path.name}: {len(paths)} poses and images; {rule}",
        describe_cameras(["pinhole"] * len(paths), intrinsics, sizes),
        *exif_note(headers),
    ]
    return scene


def average(poses: np.ndarray) -> np.ndarray:
    """The pose with the mean centre that looks along the mean axis with the mean up: float64 [N, 4, 4] -> [4, 4].

    Raises:
        ValueError: there is no mean axis: cameras look in opposite directions, or all around.
    """

    def unit(v):
        length = np.linalg.norm(v)
        if length < 1e-6:
            raise ValueError("the cameras look in opposite directions, so they have no mean direction or mean up")
        return v / length

    back = unit(poses[:, :3, 2].mean(axis=0))
    right = unit(np.cross(poses[:, :3, 1].mean(axis=0), back))
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, poses[:, :3, 3].mean(axis=0)], axis=1)
    return pose


def _rows(path: Path) -> np.ndarray:
    """float64 [N, 17], finite."""
    rows = read_npy(path)
    if rows.dtype.kind not in "fiu":
        raise ValueError(f"{path}: an array of {rows.dtype}; expected real numbers [N, 17]")
    if rows.ndim != 2 or rows.shape[1] != 17 or not len(rows):
        raise ValueError(f"{path}: shape {rows.shape}; expected [N, 17]: 3 x 5 numbers of a pose, near and far")
    rows = np.array(rows, np.float64)
    if not np.isfinite(rows).all():
        view, column = (int(x) for x in np.argwhere(~np.isfinite(rows))[0])
        raise ValueError(f"{path}: view {view}, column {column} is {rows[view, column]}; expected finite numbers")
    return rows


def _opengl(pose: np.ndarray, where: str) -> np.ndarray:
    """[3, 5] with columns (down, right, back | centre | height, width, focal) -> [4, 4]."""
    down, right, back, centre = pose[:, :4].T
    return as_pose(np.stack([right, -down, back, centre], axis=1), where)


def _images(folder: Path, factor: int, root: Path | None) -> tuple[list[Path], bool]:
    """The images in the order of names, and whether they are shrunk by the factor already."""
    listed = lambda place: sorted(p for p in place.iterdir() if p.suffix in SUFFIXES and not p.name.startswith("."))
    small = folder / f"images_{factor}"
    if root is None and factor > 1 and small.is_dir() and (paths := listed(small)):
        return paths, True
    place = root or folder / "images"
    if not place.is_dir() or not (paths := listed(place)):
        raise FileNotFoundError(f"no images in {place}; expected {FILES}")
    return paths, False


def _check_sizes(path: Path, images: list[Path], sizes: np.ndarray, stated: np.ndarray, factor: int) -> None:
    """The files' (width, height) must be those that the intrinsics are for, divided by the factor and rounded."""
    wrong = (np.abs(sizes - stated / factor) > 1).any(axis=1) | (stated < 1).any(axis=1)
    if wrong.any():
        view = int(np.argmax(wrong))
        raise ValueError(
            f"{path} gives its focal lengths for images of {stated[view, 0]:g} x {stated[view, 1]:g} pixels, and the "
            f"files have {sizes[view, 0]} x {sizes[view, 1]} ({images[view].name})"
            f"{f' at factor {factor}' if factor > 1 else ''}: are they resized, or turned by EXIF?"
        )
