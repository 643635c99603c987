"""Arrays in, pictures out: uint8 arrays [H, W, 3], and the two functions that write them to files.

Pillow and matplotlib are imported where they are needed. matplotlib's figures are drawn on their own
canvas, so neither its state nor the display is touched.
"""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

__all__ = [
    "COLORS",
    "captioned",
    "curves",
    "grid",
    "read_png",
    "save_gif",
    "save_png",
    "scatter",
    "strip",
    "upscale",
]

# Petroff, "Accessible Color Sequences for Data Visualization", arXiv:2107.02270, the set of ten: found
# by search so that any two stay apart for the three kinds of colour blindness and in lightness.
COLORS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)

Picture = np.ndarray


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
    rows: Sequence[ArrayLike],
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
            f"a row is {pitch} pixels high, too low for a label; "
            f"use factor={-(-14 // (pitch // factor))} or more"
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

    picture = _pillow_image(image).convert("RGB")
    whole = Image.new("RGB", (picture.width, picture.height + 20), (255, 255, 255))
    whole.paste(picture, (0, 20))
    draw = ImageDraw.Draw(whole)
    draw.text((4, 10), text, fill=(0, 0, 0), font=ImageFont.load_default(size=13), anchor="lm")
    return np.array(whole)


def read_png(path: str | os.PathLike) -> Picture:
    """A picture from a file, uint8 [H, W, 3]."""
    from PIL import Image

    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def save_png(path: str | os.PathLike, image: ArrayLike) -> None:
    """Writes uint8 [H, W] or [H, W, 3] as a PNG file, whole or not at all."""
    _save(path, _pillow_image(image), "PNG")


def save_gif(
    path: str | os.PathLike, frames: Sequence[ArrayLike], seconds_per_frame: float = 0.1
) -> None:
    """Writes uint8 frames [T, H, W] or [T, H, W, 3] as an endless GIF, whole or not at all.

    GIF counts time in hundredths of a second and keeps at most 256 colours a frame; frames of
    more are approximated.

    Raises:
        ValueError: no frames, frames of different shapes, or less than 0.02 seconds a frame, which
            viewers replace by a slow default.
    """
    if not len(frames) or len({np.shape(frame) for frame in frames}) > 1:
        shapes = sorted({np.shape(frame) for frame in frames})
        raise ValueError(f"{len(frames)} frames of shapes {shapes}; need at least one, all alike")
    if not seconds_per_frame >= 0.02:
        raise ValueError(f"seconds_per_frame is {seconds_per_frame}; it must be at least 0.02")
    first, *others = (_pillow_image(frame) for frame in frames)
    milliseconds = 10 * round(100 * seconds_per_frame)
    _save(path, first, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)


def scatter(
    points: ArrayLike,
    labels: ArrayLike | None = None,
    title: str = "",
    *,
    names: Sequence[str] | None = None,
) -> Picture:
    """Points in the plane, coloured by class, each class named in a legend and at its median.

    Args:
        points: [N, 2], finite, drawn in this order; both axes have the same scale.
        labels: int [N] from 0 to 9.
        title: written above.
        names: what to call class 0, 1, ...; by default its number.

    Returns:
        uint8 [H, W, 3].

    Raises:
        ValueError: other shapes, values that are not finite, or labels that are not integers from
            0 to 9 (to the number of names).
    """
    points = np.asarray(points)
    classes = np.zeros(len(points), int) if labels is None else np.asarray(labels)
    if points.ndim != 2 or points.shape[1] != 2 or classes.shape != points.shape[:1]:
        raise ValueError(
            f"points have shape {points.shape} and labels {classes.shape}; need [N, 2] and [N]"
        )
    if not np.all(np.isfinite(points)):
        raise ValueError(f"{np.sum(~np.isfinite(points))} coordinates of points are not finite")
    present = np.unique(classes)
    count = len(COLORS) if names is None else min(len(names), len(COLORS))
    integers = np.issubdtype(classes.dtype, np.integer)
    if not integers or len(present) and not (0 <= present[0] and present[-1] < count):
        raise ValueError(
            f"labels are {classes.dtype} {present[:20]}; need integers from 0 to {count - 1}"
        )

    figure, axes = _figure(title)
    axes.scatter(
        *points.T,
        c=[COLORS[c] for c in classes],
        s=float(np.clip(20_000 / max(len(points), 1), 2, 25)),
        alpha=0.75,
        linewidths=0,
    )
    axes.set_aspect("equal", adjustable="datalim")
    if labels is not None:
        _name_classes(axes, points, classes, {c: str(names[c] if names else c) for c in present})
    return _render(figure)


def curves(
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    xlabel: str = "",
    ylabel: str = "",
    log: str = "",
    title: str = "",
) -> Picture:
    """Lines y(x), one colour a name.

    Args:
        series: {name: (x [N], y [N])}, at most ten. Values of y that are not finite leave a gap.
        xlabel: quantity and unit along x.
        ylabel: quantity and unit along y.
        log: the axes with a logarithmic scale: "", "x", "y" or "xy".
        title: written above.

    Returns:
        uint8 [H, W, 3].

    Raises:
        ValueError: no series or more than ten, x and y of other or different shapes, another value
            of `log`, or a value that is not positive on a logarithmic axis.
    """
    if not 1 <= len(series) <= len(COLORS):
        raise ValueError(f"{len(series)} series; need 1 to {len(COLORS)}, one for each colour")
    if log not in ("", "x", "y", "xy"):
        raise ValueError(f"log is {log!r}; it must be '', 'x', 'y' or 'xy'")
    figure, axes = _figure(title)
    for color, (name, xy) in zip(COLORS, series.items(), strict=False):
        x, y = (np.asarray(values) for values in xy)
        if x.ndim != 1 or x.shape != y.shape:
            raise ValueError(f"{name}: x has shape {x.shape} and y {y.shape}; need two alike [N]")
        for axis, values in (("x", x), ("y", y)):
            if axis in log and np.any(values <= 0):
                raise ValueError(
                    f"{name}: {axis} has {np.sum(values <= 0)} values <= 0, the least "
                    f"{np.nanmin(values)}; a logarithmic axis needs positive ones"
                )
        marker = "o" if len(x) == 1 else None
        axes.plot(x, y, color=color, label=name, linewidth=1.8, marker=marker, clip_on=True)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.set_xscale("log" if "x" in log else "linear")
    axes.set_yscale("log" if "y" in log else "linear")
    axes.grid(True, color="#e4e4e4", linewidth=0.6)
    if len(series) > 1:
        _legend(axes)
    return _render(figure)


def _to_bytes(images: ArrayLike, rescale: bool) -> np.ndarray:
    """[N, H, W], [N, H, W, 1 or 3] -> uint8 [N, H, W, 3]."""
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise ValueError(
            f"images have shape {images.shape}; need [N, H, W], [N, H, W, 1] or [N, H, W, 3], "
            "none of them 0"
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


def _pillow_image(image: ArrayLike) -> Any:
    from PIL import Image

    image = np.asarray(image)
    if image.dtype != np.uint8 or not (image.ndim == 2 or image.ndim == 3 and image.shape[2] == 3):
        raise ValueError(
            f"a picture has type {image.dtype} and shape {image.shape}; need uint8 [H, W] or "
            "[H, W, 3] (grid makes one from floating point)"
        )
    return Image.fromarray(np.ascontiguousarray(image))


def _save(path: str | os.PathLike, image: Any, file_format: str, **options: Any) -> None:
    path = Path(path)
    # In the same folder, because a rename between file systems is not atomic.
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        image.save(part, file_format, **options)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _figure(title: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=12)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color("#888888")
    axes.tick_params(color="#888888", labelsize=9)
    axes.set_axisbelow(True)
    return figure, axes


def _legend(axes: Any, **options: Any) -> None:
    axes.legend(frameon=False, fontsize=10, loc="upper left", bbox_to_anchor=(1.0, 1.0), **options)


def _name_classes(axes: Any, points: np.ndarray, classes: np.ndarray, names: Mapping) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=3, foreground="white")]
    for c, name in names.items():
        x, y = np.median(points[classes == c], axis=0)
        axes.text(x, y, name, ha="center", va="center", fontweight="bold", path_effects=outline)
    dots = [
        Line2D([], [], linestyle="", marker="o", markersize=7, color=COLORS[c], label=name)
        for c, name in names.items()
    ]
    _legend(axes, handles=dots, handletextpad=0.2)


def _render(figure: Any) -> Picture:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
