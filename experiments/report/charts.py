"""Curves of logged quantities: what the charts of a page show, in the pixels of a chart."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 420, 230
LEFT, RIGHT, TOP, BOTTOM = 50, 20, 8, 34
COLORS = 10
POINTS = 400

Series = tuple[Sequence[float], Sequence[float]]


class Line(NamedTuple):
    """A line of a chart.

    Attributes:
        name: in the legend.
        color: 0 to 9.
        stretches: runs of points (x, y) in pixels, between values that are not finite.
        end: the last finite value, in words.
    """

    name: str
    color: int
    stretches: list[list[tuple[float, float]]]
    end: str


class Chart(NamedTuple):
    """A chart; places are in pixels.

    Attributes:
        title: the quantity along y.
        xlabel: the quantity along x.
        scale: of the vertical axis, in words.
        label: the chart in words.
        y_ticks, x_ticks: (place, text).
        lines: none where no value is finite.
    """

    title: str
    xlabel: str
    scale: str
    label: str = ""
    y_ticks: Sequence[tuple[float, str]] = ()
    x_ticks: Sequence[tuple[float, str]] = ()
    lines: Sequence[Line] = ()
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT


def chart(title: str, series: Mapping[str, Series], xlabel: str, colors: Mapping[str, int] | None = None) -> Chart:
    """Lines y(x), one a name, with the value at which each ends.

    The vertical axis is logarithmic where all values are positive and span a factor of 20 or more.

    Args:
        title: the quantity along y.
        series: {name: (x, y)}, at most ten. Values that are not finite leave a gap.
        xlabel: the quantity along x.
        colors: {name: 0 to 9}, for a name that has the same colour in several charts; by default in order.

    Raises:
        ValueError: no series or more than ten, x and y of different lengths, or an x that is not finite.
    """
    if not 1 <= len(series) <= COLORS:
        raise ValueError(f"{len(series)} series; need 1 to {COLORS}, one for each colour")
    for name, (x, y) in series.items():
        if len(x) != len(y) or not all(map(math.isfinite, x)):
            raise ValueError(f"{name}: {len(x)} values of x for {len(y)} of y; need as many, and each x finite")
    values = [value for _, y in series.values() for value in y if math.isfinite(value)]
    if not values:
        return Chart(title, xlabel, ": no finite value")
    is_log = min(values) > 0 and max(values) >= 20 * min(values)
    across = Axis(*_range([v for x, _ in series.values() for v in x]), LEFT, WIDTH - RIGHT, False)
    up = Axis(*_range(values, is_log), HEIGHT - BOTTOM, TOP, is_log)
    lines, words = [], []
    for number, (name, (x, y)) in enumerate(series.items()):
        stretches = [[(across(a), up(b)) for a, b in stretch] for stretch in _unbroken(*thinned(x, y))]
        finite = [value for value in y if math.isfinite(value)]
        end = f"{finite[-1]:.4g}" if finite else "never finite"
        lines.append(Line(name, number if colors is None else colors[name], stretches, end))
        words.append(f"{name} {finite[0]:.4g} to {end}".strip() if finite else f"{name} {end}".strip())
    scale = ", logarithmic" if is_log else ""
    return Chart(
        title, xlabel, scale, f"{title} over {xlabel}{scale}: {'; '.join(words)}",
        [(up(v), _short(v)) for v in up.ticks()], [(across(v), _short(v)) for v in across.ticks()], lines,
    )  # fmt: skip


class Axis:
    """Maps values to pixels, linearly or by logarithms."""

    def __init__(self, low: float, high: float, start: float, end: float, is_log: bool):
        self.low, self.high, self.start, self.end, self.is_log = low, high, start, end, is_log

    def __call__(self, value: float) -> float:
        """The place of a value, in tenths of a pixel."""
        scale = math.log10 if self.is_log else float
        share = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Round values inside the range, about five."""
        if self.is_log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            span = math.log10(self.high / self.low)
            some, every = (1, 2, 5) if span <= 2.5 else (1,), max(1, int(span / 5))
            candidates = [m * 10.0**d for d in decades if d % every == 0 for m in some]
        else:
            step = 10.0 ** math.floor(math.log10((self.high - self.low) / 5))
            step *= next(m for m in (1, 2, 5, 10) if (self.high - self.low) / (m * step) <= 5)
            first = math.ceil(self.low / step - 1e-9)
            # Rounding to the step's own digits: 3 x 0.1 is 0.3.
            digits = max(0, -math.floor(math.log10(step)))
            candidates = [round(i * step, digits) for i in range(first, math.floor(self.high / step + 1e-9) + 1)]
        return [v for v in candidates if self.low * (1 - 1e-9) <= v <= self.high or not self.is_log]


def _range(values: Sequence[float], is_log: bool = False) -> tuple[float, float]:
    """The least and the largest value, set apart where they are one."""
    low, high = min(values), max(values)
    if low < high:
        return low, high
    return (low / 2, high * 2) if is_log else (low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2)


def _short(value: float) -> str:
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * size or (unit == "M" and abs(value) >= size):
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def thinned(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """At most POINTS points: the least and the largest value of every bucket stay, so that no peak is lost.

    A bucket with a value that is not finite keeps it too: a gap stays a gap.
    """
    if len(x) <= POINTS:
        return list(x), list(y)
    size = math.ceil(2 * len(x) / POINTS)
    kept = []
    for start in range(0, len(x), size):
        bucket = range(start, min(start + size, len(x)))
        finite = [i for i in bucket if math.isfinite(y[i])]
        gaps = [i for i in bucket if not math.isfinite(y[i])]
        ends = {min(finite, key=lambda i: y[i]), max(finite, key=lambda i: y[i])} if finite else set()
        kept += sorted(ends | set(gaps[:1]))
    if kept[-1] != len(x) - 1:
        kept.append(len(x) - 1)
    return [x[i] for i in kept], [y[i] for i in kept]


def _unbroken(x: Sequence[float], y: Sequence[float]) -> list[list[tuple[float, float]]]:
    """The stretches of finite values."""
    stretches: list[list[tuple[float, float]]] = [[]]
    for point in zip(x, y, strict=True):
        if math.isfinite(point[1]):
            stretches[-1].append(point)
        elif stretches[-1]:
            stretches.append([])
    return [stretch for stretch in stretches if stretch]
