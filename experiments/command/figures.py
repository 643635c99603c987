"""Figures of flat images that several experiments draw."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen import data, pictures


def magnification(images: data.Images) -> int:
    """By how much small images are enlarged, to about 48 pixels a side."""
    return max(1, 48 // images.shape[0])


def save_filters(path: Path, params: Any, images: data.Images, factor: int = 0) -> None:
    """Draws the incoming weights of the first 100 units of an autoencoder's first layer, as images.

    Args:
        path: of the PNG file.
        params: of the autoencoder.
        images: any split of the data, for the shape of an image.
        factor: magnification; 0: that of the images.
    """
    kernel = np.asarray(params["encoder"]["layers_0"]["kernel"]).T[:100]
    picture = pictures.grid(images.pictures(kernel), 20, rescale=True)
    pictures.save_png(path, pictures.upscale(picture, factor or magnification(images)))


def save_rows(path: Path, rows: Mapping[str, Any], images: data.Images, factor: int = 0) -> None:
    """Draws rows of images below each other, each with its name; values are clipped to [0, 1].

    Args:
        path: of the PNG file.
        rows: {name: vectors [n, D]}.
        images: any split of the data, for the shape of an image.
        factor: magnification; 0: that of the images.
    """
    shown = [images.pictures(np.clip(row, 0, 1)) for row in rows.values()]
    pictures.save_png(path, pictures.strip(shown, list(rows), factor=factor or magnification(images)))


def save_codes(path: Path, codes: np.ndarray, images: data.Images) -> None:
    """Draws 2-D codes [N, 2] of labelled images, up to 500 of each class (Hinton & Salakhutdinov 2006, figure 3)."""
    chosen = np.concatenate([np.flatnonzero(images.labels == c)[:500] for c in np.unique(images.labels)])
    picture = pictures.scatter(codes[chosen], images.labels[chosen], f"codes of {len(chosen)} test images")
    pictures.save_png(path, picture)
