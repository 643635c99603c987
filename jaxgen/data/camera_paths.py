"""Files of camera poses: written as a transforms.json, read from there or from a NumPy file."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.data.views import as_pose
from jaxgen.files import as_path, read_json, read_npy


def write_camera_path(
    path: str | os.PathLike,
    poses: Any,
    intrinsics: Any,
    sizes: Any,
    names: Sequence[str] | None = None,
    **more: Any,
) -> None:
    """Writes cameras as a JSON object with `frames`, the format of transforms.json (`read_transforms`).

    Args:
        path: the file.
        poses: [N, 4, 4], camera to world, OpenGL axes.
        intrinsics: [4] or [N, 4]: focal_x, focal_y, center_x, center_y, in pixels.
        sizes: [2] or [N, 2]: width and height in pixels.
        names: of the images, N; None: frame_000.png, ....
        **more: further entries of the object, as JSON holds them.
    """
    poses = np.asarray(poses, np.float64)
    names = [f"frame_{i:03}.png" for i in range(len(poses))] if names is None else names
    intrinsics, sizes = np.broadcast_to(intrinsics, (len(poses), 4)), np.broadcast_to(sizes, (len(poses), 2))
    frames = []
    for name, pose, numbers, size in zip(names, poses, intrinsics, sizes, strict=True):
        camera = dict(zip(("fl_x", "fl_y", "cx", "cy"), map(float, numbers), strict=True))
        camera |= {"w": int(size[0]), "h": int(size[1])}
        frames.append({"file_path": str(name), **camera, "transform_matrix": pose.tolist()})
    Path(path).write_text(json.dumps({**more, "frames": frames}, indent=1))


def read_camera_path(path: str | os.PathLike) -> np.ndarray:
    """Poses of a file: float64 [N, 4, 4], camera to world, OpenGL axes.

    Args:
        path: a .npy file with an array [N, 4, 4] or [N, 3, 4]; or JSON, a list of such matrices or an object with
            `frames` that have a `transform_matrix` each, as `write_camera_path` writes.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read, holds no pose, or something that is not a pose.
    """
    path = as_path(path)
    expected = "expected a .npy file [N, 4, 4], a JSON list of 4 x 4 matrices, or an object with 'frames'"
    if not path.is_file():
        raise FileNotFoundError(f"no file {path} with camera poses; {expected}")
    if path.suffix == ".npy":
        found = read_npy(path)
        if found.dtype.kind not in "fiu" or found.ndim != 3:
            raise ValueError(
                f"{path}: an array of {found.dtype} {found.shape}; expected numbers [N, 4, 4] or [N, 3, 4]"
            )
        matrices = list(found)
    else:
        matrices = read_json(path)
        if isinstance(matrices, dict):
            frames = matrices.get("frames")
            if not isinstance(frames, list) or not all(isinstance(f, dict) and "transform_matrix" in f for f in frames):
                raise ValueError(f"{path}: no list 'frames' with a 'transform_matrix' each; {expected}")
            matrices = [frame["transform_matrix"] for frame in frames]
        if not isinstance(matrices, list):
            raise ValueError(f"{path}: a JSON {type(matrices).__name__}; {expected}")
    if not matrices:
        raise ValueError(f"{path}: there is no pose in it; {expected}")
    return np.stack([as_pose(matrix, f"{path}: pose {i}") for i, matrix in enumerate(matrices)])
