"""What a radiance field looks like: held-out views, depth, the cameras, and progress over time."""

import json
import sys
from pathlib import Path

import numpy as np

from jaxgen import nerf, pictures, training


def describe_cameras(run: training.Run, scene) -> None:
    """Writes poses.txt and figures/cameras.png, and shows what looks wrong."""
    # In NDC the bounds are of another space.
    report = nerf.describe_poses(scene.train.pose, *((None, None) if scene.ndc else (scene.near, scene.far)))
    (run.workdir / "poses.txt").write_text(report.text)
    for problem in report.problems:
        print(f"cameras: {problem}", file=sys.stderr)
    held_out = scene.test.pose
    pictures.save_png(run.figures / "cameras.png", cameras_picture(scene.train.pose, held_out, report))


def cameras_picture(poses: np.ndarray, held_out: np.ndarray, report: nerf.PoseReport) -> np.ndarray:
    """Every camera as a dot with its axis of view, and the point that they look at: uint8 [H, W, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.6), dpi=120, layout="constrained")
    axes = figure.add_subplot(projection="3d")
    length = 0.25 * report.distance
    for name, color, some in (("training", "#3f90da", poses), ("held out", "#bd1f01", held_out)):
        centre, view, up = some[:, :3, 3], -some[:, :3, 2], some[:, :3, 1]
        axes.scatter(*centre.T, s=12, color=color, label=name)
        axes.quiver(*centre.T, *(length * view).T, color=color, linewidth=0.8, arrow_length_ratio=0.2)
        axes.quiver(*centre.T, *(0.3 * length * up).T, color="#94a4a2", linewidth=0.6, arrow_length_ratio=0)
    axes.scatter(*report.focus[:, None], s=60, marker="x", color="black", label="what they look at")
    everything = np.concatenate([poses[:, :3, 3], held_out[:, :3, 3], report.focus[None]])
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


def depth_picture(depth: np.ndarray, opacity: np.ndarray, near: float, far: float) -> np.ndarray:
    """Mean depth of what is seen, near warm and far cold, over white where nothing is: [H, W] -> uint8 [H, W, 3]."""
    import matplotlib

    mean = depth / np.maximum(opacity, 1e-3)
    nearness = np.clip(1 - (mean - near) / (far - near), 0, 1)
    rgb = matplotlib.colormaps["turbo"](nearness)[..., :3]
    alpha = np.clip(opacity, 0, 1)[..., None]
    return np.rint(255 * (rgb * alpha + 1 - alpha)).astype(np.uint8)


def draw_view(folder: Path, name: str, truth: np.ndarray, seen, near: float, far: float) -> None:
    """One held-out view: the photograph, the rendering, their difference, depth and opacity, side by side."""
    grey = lambda x: np.repeat(np.clip(x, 0, 1)[..., None], 3, axis=-1)
    panels = [
        truth,
        np.clip(seen.color, 0, 1),
        np.clip(1 - 4 * np.abs(seen.color - truth), 0, 1),
        depth_picture(seen.depth, seen.opacity, near, far) / 255,
        grey(seen.opacity),
    ]
    factor = max(1, 160 // truth.shape[0])
    row = pictures.upscale(pictures.grid(np.stack(panels), len(panels)), factor)
    pictures.save_png(folder / f"{name}.png", row)


def draw_progress(run: training.Run) -> None:
    """figures/progress.png: PSNR of the previews over time."""
    path = run.workdir / "measured.json"
    measured = json.loads(path.read_text()) if path.exists() else {}
    points = [(row["seconds"], row["psnr"]) for name, row in measured.items() if name.startswith("preview step ")]
    if points:
        seconds, psnr = np.array(points).T
        order = np.argsort(seconds)
        series = {"held-out view": (seconds[order] / 60, psnr[order])}
        pictures.save_png(run.figures / "progress.png", pictures.curves(series, "minutes", "PSNR / dB"))
