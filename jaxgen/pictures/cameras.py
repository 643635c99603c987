"""Pictures of cameras in space, and of depth."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from jaxgen.pictures.files import Picture

_COLORS = ("#3f90da", "#bd1f01", "#ffa90e")


def cameras(poses: Mapping[str, ArrayLike], focus: ArrayLike, length: float) -> Picture:
    """Every camera as a dot with its axis of view and its up direction, and the point that they look at.

    Args:
        poses: {name: camera to world [N, 4, 4], OpenGL axes}, at most three sets.
        focus: the point, [3].
        length: of the axes of view, in world units.

    Returns:
        uint8 [H, W, 3].
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.6), dpi=120, layout="constrained")
    axes = figure.add_subplot(projection="3d")
    places = [np.asarray(focus)[None]]
    for (name, some), color in zip(poses.items(), _COLORS, strict=False):
        some = np.asarray(some)
        centre, view, up = some[:, :3, 3], -some[:, :3, 2], some[:, :3, 1]
        axes.scatter(*centre.T, s=12, color=color, label=name)
        axes.quiver(*centre.T, *(length * view).T, color=color, linewidth=0.8, arrow_length_ratio=0.2)
        axes.quiver(*centre.T, *(0.3 * length * up).T, color="#94a4a2", linewidth=0.6, arrow_length_ratio=0)
        places.append(centre)
    axes.scatter(*places[0].T, s=60, marker="x", color="black", label="what they look at")
    everything = np.concatenate(places)
    middle, half = (everything.max(0) + everything.min(0)) / 2, np.ptp(everything, axis=0).max() / 2 + length
    for set_limits, m in zip((axes.set_xlim, axes.set_ylim, axes.set_zlim), middle, strict=True):
        set_limits(m - half, m + half)
    axes.set_xlabel("x")
    axes.set_ylabel("y")
    axes.set_zlabel("z")
    axes.legend(loc="upper left", frameon=False)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def depth_map(depth: ArrayLike, opacity: ArrayLike, near: float, far: float) -> Picture:
    """Mean depth, near warm and far cold, over white in proportion to the transparency.

    Args:
        depth: [H, W], not divided by the opacity.
        opacity: [H, W], in [0, 1].
        near: depth of the warmest color.
        far: depth of the coldest.

    Returns:
        uint8 [H, W, 3].
    """
    import matplotlib

    depth, opacity = np.asarray(depth), np.asarray(opacity)
    nearness = np.clip(1 - (depth / np.maximum(opacity, 1e-3) - near) / (far - near), 0, 1)
    rgb = matplotlib.colormaps["turbo"](nearness)[..., :3]
    alpha = np.clip(opacity, 0, 1)[..., None]
    return np.rint(255 * (rgb * alpha + 1 - alpha)).astype(np.uint8)
