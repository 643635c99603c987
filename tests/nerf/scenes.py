"""A scene whose colors say which pixel they are."""

import numpy as np

from jaxgen import nerf
from tests.nerf import numpy_cameras

N, H, W = 3, 6, 8


def views(distortion=None):
    """Three views, colors (80 image, 40 row, 30 column); pixels of even columns have an alpha of 51, others of 255."""
    image, row, column = np.meshgrid(np.arange(N), np.arange(H), np.arange(W), indexing="ij")
    alpha = np.where(column % 2, 255, 51)
    pixels = np.stack([80 * image, 40 * row, 30 * column, alpha], axis=-1).astype(np.uint8)
    places = [(4.0, 0.0, 0.5), (0.0, 3.9, 1.0), (-2.7, -2.7, 1.5)]
    poses = np.stack([numpy_cameras.look_at(place) for place in places]).astype(np.float32)
    intrinsics = np.array([[9, 10, 4, 3], [11, 12, 4.5, 2.5], [13, 14, 4, 3]], np.float32)
    return nerf.Views(pixels, poses, intrinsics, np.array(["a", "b", "c"]), distortion)


def scene(background=None, distortion=None, **changes):
    """With these views for training and held out."""
    both = views(distortion)
    return nerf.Scene(both, both, 2.0, 6.0, background, 0.5, "", (2.0, 6.0), **changes)


def pixels_of(rgb):
    """(image, row, column) [3, ...] of colors [..., 3] in [0, 1] without a background."""
    return np.moveaxis(np.rint(255 * np.asarray(rgb)).astype(int), -1, 0) // np.array([80, 40, 30]).reshape(
        3, *[1] * (np.ndim(rgb) - 1)
    )
