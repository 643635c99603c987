"""Grids and rows of images as one picture."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxgen.pictures.files import Picture, pillow_image


def grid(
    images: ArrayLike,
    columns: int | None = None,
    padding: int = 1,
    background: float | Sequence[float] = 1.0,
    *,
    rescale: bool = False,
) -> Picture:
    """Images in rows, filled from the left, with `padding` pixels between and around them.

    Args:
        images: [N, H, W], [N, H, W, 1] or [N, H, W, 3]; floating point in [0, 1], or uint8.
        columns: images in a row; by default the grid is about square.
        padding: width of the lines, in pixels.
        background: grey value or (red, green, blue) in [0, 1] of the lines and of empty cells.
        rescale: map each image's smallest value to black and its largest to white (filters have
            no fixed range); an image of one value becomes middle grey.

    Returns:
        uint8 [rows (H + padding) + padding, columns (W + padding) + padding, 3].

    Raises:
        ValueError: another shape, no image, a value that is not finite, or, without `rescale`, a
            value outside [0, 1] by more than rounding to 256 levels hides.
    """
    cells = _to_bytes(images, rescale)
    n, height, width, _ = cells.shape
    if columns is None:
        columns = math.ceil(math.sqrt(n))
    if columns < 1 or padding < 0:
        raise ValueError(f"columns is {columns} and padding {padding}; need at least 1 and 0")
    rows = -(-n // columns)
    pitch_y, pitch_x = height + padding, width + padding
    picture = np.empty((rows * pitch_y + padding, columns * pitch_x + padding, 3), np.uint8)
    picture[:] = _color(background)
    for i, cell in enumerate(cells):
        y, x = padding + i // columns * pitch_y, padding + i % columns * pitch_x
        picture[y : y + height, x : x + width] = cell
    return picture


def strip(
    rows: Sequence[ArrayLike] | np.ndarray,
    labels: Sequence[str] | None = None,
    padding: int = 1,
    background: float | Sequence[float] = 1.0,
    *,
    factor: int = 1,
    rescale: bool = False,
) -> Picture:
    """Rows of images, one below the other: originals, reconstructions, ... of the same examples.

    Args:
        rows: one array [N, H, W], [N, H, W, 1] or [N, H, W, 3] a row, all of the same N, H, W.
        labels: a name for each row, written to its left.
        padding: width of the lines, in pixels of the images.
        background: grey value or (red, green, blue) in [0, 1] of the lines and behind the names.
        factor: each pixel becomes a square of this side.
        rescale: see `grid`.

    Returns:
        uint8 [H', W', 3].

    Raises:
        ValueError: as `grid`; rows of different shapes, another number of labels than of rows, or
            rows too low to write a name beside.
    """
    cells = [_to_bytes(row, rescale) for row in rows]
    shapes = [cell.shape for cell in cells]
    if not cells or len(set(shapes)) > 1:
        raise ValueError(f"the rows' shapes are {shapes}; need at least one row, all alike")
    picture = upscale(grid(np.concatenate(cells), shapes[0][0], padding, background), factor)
    if labels is None:
        return picture
    if len(labels) != len(cells):
        raise ValueError(f"{len(labels)} labels for {len(cells)} rows: {list(labels)}")
    pitch = (shapes[0][1] + padding) * factor
    if pitch < 14:
        raise ValueError(
            f"a row is {pitch} pixels high, too low for a label; use factor={-(-14 // (pitch // factor))} or more"
        )
    return np.concatenate([_names(labels, pitch, len(picture), background), picture], axis=1)


def upscale(image: ArrayLike, factor: int) -> np.ndarray:
    """Each pixel as a square: [H, W] or [H, W, C] -> [factor H, factor W] or [..., C], same type."""
    image = np.asarray(image)
    if image.ndim not in (2, 3) or factor < 1:
        raise ValueError(
            f"image has shape {image.shape} and factor is {factor}; need [H, W] or [H, W, C] and "
            "an integer of at least 1"
        )
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def captioned(image: ArrayLike, text: str) -> Picture:
    """A line of text above a picture uint8 [H, W] or [H, W, 3] -> uint8 [H + 20, W, 3]; text too long is cut."""
    from PIL import Image, ImageDraw, ImageFont

    picture = pillow_image(image).convert("RGB")
    whole = Image.new("RGB", (picture.width, picture.height + 20), (255, 255, 255))
    whole.paste(picture, (0, 20))
    draw = ImageDraw.Draw(whole)
    draw.text((4, 10), text, fill=(0, 0, 0), font=ImageFont.load_default(size=13), anchor="lm")
    return np.array(whole)


def _to_bytes(images: ArrayLike, rescale: bool) -> np.ndarray:
    """[N, H, W], [N, H, W, 1 or 3] -> uint8 [N, H, W, 3]."""
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise ValueError(
            f"images have shape {images.shape}; need [N, H, W], [N, H, W, 1] or [N, H, W, 3], none of them 0"
        )
    unit = images / 255.0 if images.dtype == np.uint8 else images.astype(np.float64)
    if not np.all(np.isfinite(unit)):
        raise ValueError(f"{np.sum(~np.isfinite(unit))} values of the images are not finite")
    if rescale:
        low = unit.min(axis=(1, 2, 3), keepdims=True)
        span = unit.max(axis=(1, 2, 3), keepdims=True) - low
        unit = np.where(span > 0, (unit - low) / np.where(span > 0, span, 1.0), 0.5)
    # Half a level: what it would be rounded away anyway.
    elif unit.min() < -0.5 / 255 or unit.max() > 1 + 0.5 / 255:
        raise ValueError(
            f"values of the images run from {unit.min():.4g} to {unit.max():.4g}; need [0, 1] "
            "(or uint8), or rescale=True"
        )
    levels = np.rint(255 * np.clip(unit, 0.0, 1.0)).astype(np.uint8)
    return np.broadcast_to(levels, (*levels.shape[:3], 3))


def _color(value: float | Sequence[float]) -> np.ndarray:
    """Grey value or three of them -> uint8 [3]."""
    rgb = np.asarray(value, np.float64)
    if rgb.shape not in ((), (3,)) or not np.all((rgb >= 0) & (rgb <= 1)):
        raise ValueError(f"background is {value}; need a grey value or three values in [0, 1]")
    return np.rint(255 * np.broadcast_to(rgb, (3,))).astype(np.uint8)


def _names(labels: Sequence[str], pitch: int, height: int, background: Any) -> Picture:
    """The column of names to the left of a strip, one every `pitch` pixels."""
    from PIL import Image, ImageDraw, ImageFont

    back = _color(background)
    ink = (0, 0, 0) if back.mean() > 127 else (255, 255, 255)
    font = ImageFont.load_default(size=min(max(0.4 * pitch, 11), 16))
    width = math.ceil(max(font.getlength(label) for label in labels)) + 12
    column = Image.new("RGB", (width, height), tuple(int(c) for c in back))
    draw = ImageDraw.Draw(column)
    for i, label in enumerate(labels):
        draw.text((width - 6, (i + 0.5) * pitch), label, fill=ink, font=font, anchor="rm")
    return np.asarray(column)
