"""Forward-facing photographs in the layout of LLFF: poses_bounds.npy and a folder of images.

Mildenhall et al., "Local Light Field Fusion" (2019); the scenes of NeRF's table 1 (fern, fortress, ...).
"""

import os
from pathlib import Path

import numpy as np

from jaxgen.data.checks import check_split, existing_folder, find_file
from jaxgen.data.views import SUFFIXES, Scene, as_pose, as_scene, hold_out, read_photos

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
        width: instead of a factor, so many columns.
        hold_out_every: 8: views 0, 8, 16, ... are the test split; 0: both splits are all views.
        bound_factor: as above; None: poses and bounds keep their scale.
        recenter: moves the world so that the average camera is at the origin and looks along -z.

    Returns:
        image, pose, intrinsics, name (`jaxgen.data.views`), and bounds: float64 [N, 2], nearest and farthest depth.

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
    wrong = ~(np.isfinite(bounds).all(axis=1) & (bounds[:, 0] > 0) & (bounds[:, 0] < bounds[:, 1]))
    if wrong.any():
        view = int(np.argmax(wrong))
        raise ValueError(f"{path}: view {view} has bounds {bounds[view].tolist()}; expected 0 < near < far")
    paths, already = _images(folder, factor)
    if len(paths) != len(poses):
        raise ValueError(
            f"{path} has {len(poses)} poses and {paths[0].parent} {len(paths)} images; there must be one pose for each "
            "image in the order of names"
        )
    matrices = np.stack([_opengl(pose, f"{path}: view {i} ({paths[i].name})") for i, pose in enumerate(poses)])
    scale = 1.0 if bound_factor is None else 1 / (bounds.min() * bound_factor)
    matrices[:, :3, 3] *= scale
    if recenter:
        matrices = recentred(matrices)
    chosen = hold_out(len(paths), hold_out_every, split)
    images, size = read_photos([paths[i] for i in chosen], 1 if already else factor, width)
    height, columns, focal = poses[chosen, :, 4].T
    _check_sizes(path, size, (columns, height), factor if already else 1)
    # The file's focal length is in pixels of the original images.
    focal = focal * size[0] / columns
    intrinsics = [[f, f, size[0] / 2, size[1] / 2] for f in focal]
    names = [str(paths[i].relative_to(folder)) for i in chosen]
    scene = as_scene(images, matrices[chosen], intrinsics, names, size, path)
    scene["bounds"] = bounds[chosen] * scale
    return scene


def recentred(poses: np.ndarray) -> np.ndarray:
    """The world moved so that the average pose is the identity: float64 [N, 4, 4] -> [N, 4, 4].

    The average has the mean centre, and looks along the mean axis with the mean up.
    """
    unit = lambda v: v / np.linalg.norm(v)
    back = unit(poses[:, :3, 2].mean(axis=0))
    right = unit(np.cross(poses[:, :3, 1].mean(axis=0), back))
    average = np.eye(4)
    average[:3] = np.stack([right, np.cross(back, right), back, poses[:, :3, 3].mean(axis=0)], axis=1)
    return np.linalg.inv(average) @ poses


def _rows(path: Path) -> np.ndarray:
    try:
        rows = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); expected an array of numbers [N, 17]") from error
    if rows.ndim != 2 or rows.shape[1] != 17 or not len(rows):
        raise ValueError(f"{path}: shape {rows.shape}; expected [N, 17]: 3 x 5 numbers of a pose, near and far")
    return rows.astype(np.float64)


def _opengl(pose: np.ndarray, where: str) -> np.ndarray:
    """[3, 5] with columns (down, right, back | centre | height, width, focal) -> [4, 4]."""
    down, right, back, centre = pose[:, :4].T
    return as_pose(np.stack([right, -down, back, centre], axis=1), where)


def _images(folder: Path, factor: int) -> tuple[list[Path], bool]:
    """The images in the order of names, and whether they are shrunk by the factor already."""
    listed = lambda place: sorted(p for p in place.iterdir() if p.suffix in SUFFIXES and not p.name.startswith("."))
    small = folder / f"images_{factor}"
    if factor > 1 and small.is_dir() and (paths := listed(small)):
        return paths, True
    if not (folder / "images").is_dir() or not (paths := listed(folder / "images")):
        raise FileNotFoundError(f"no images in {folder / 'images'}; expected {FILES}")
    return paths, False


def _check_sizes(path: Path, size: tuple[int, int], stated: tuple[np.ndarray, np.ndarray], factor: int) -> None:
    """The files' (width, height) must be those that the intrinsics are for, divided by the factor and rounded."""
    for found, full in zip(size, stated, strict=True):
        if np.abs(found - full / factor).max() > 1:
            raise ValueError(
                f"{path} gives its focal lengths for images of {stated[0][0]:g} x {stated[1][0]:g} pixels, and the "
                f"files have {size[0]} x {size[1]}{f' at factor {factor}' if factor > 1 else ''}: are they resized?"
            )
