"""Scatter plots and curves, drawn by matplotlib on a canvas of their own."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxgen.pictures.files import Picture

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
        raise ValueError(f"points have shape {points.shape} and labels {classes.shape}; need [N, 2] and [N]")
    if not np.all(np.isfinite(points)):
        raise ValueError(f"{np.sum(~np.isfinite(points))} coordinates of points are not finite")
    present = np.unique(classes)
    count = len(COLORS) if names is None else min(len(names), len(COLORS))
    integers = np.issubdtype(classes.dtype, np.integer)
    if not integers or len(present) and not (0 <= present[0] and present[-1] < count):
        raise ValueError(f"labels are {classes.dtype} {present[:20]}; need integers from 0 to {count - 1}")

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
        Line2D([], [], linestyle="", marker="o", markersize=7, color=COLORS[c], label=name) for c, name in names.items()
    ]
    _legend(axes, handles=dots, handletextpad=0.2)


def _render(figure: Any) -> Picture:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
