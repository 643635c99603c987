"""Poses and rays in NumPy float64, for tests of other things."""

import numpy as np

from jaxgen import nerf


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def look_at(position, target=(0.0, 0.0, 0.0), up=(0.0, 0.0, 1.0)):
    """The pose of a camera at a position that looks at a target, OpenGL axes: [4, 4]."""
    back = unit(np.subtract(position, target))
    right = unit(np.cross(up, back))
    return np.vstack([np.stack([right, np.cross(back, right), back, position], 1), [0, 0, 0, 1]])


def rays(camera, pose, pixels=None):
    """Through the centers of all pixels, row by row, or through those given: `Rays` [N, 3]."""
    across, down = (camera.pixels() if pixels is None else pixels).reshape(-1, 2).T + 0.5
    x, y = (across - camera.center_x) / camera.focal_x, (camera.center_y - down) / camera.focal_y
    direction = np.stack([x, y, -np.ones_like(x)], -1) @ pose[:3, :3].T
    return nerf.Rays(np.broadcast_to(pose[:3, 3], direction.shape), direction, unit(direction))
