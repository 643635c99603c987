"""Figures of a radiance field: held-out views, depth, the cameras, and progress over time."""

import json
import sys
from pathlib import Path

import numpy as np

from jaxgen import data, nerf, pictures, training


def describe_cameras(run: training.Run, scene: nerf.Scene) -> None:
    """Writes poses.txt, scene.json, cameras.json and figures/cameras.png, and prints what was read and its problems."""
    # In NDC the bounds are in another space.
    report = nerf.describe_poses(scene.train.pose, *((None, None) if scene.ndc else (scene.near, scene.far)))
    (run.workdir / "poses.txt").write_text("".join(f"{line}\n" for line in scene.report) + report.text)
    placed = {
        "world_from_scene": to_world(scene).tolist(),
        "near": scene.near,
        "far": scene.far,
        "bounds": list(scene.bounds),
    }
    (run.workdir / "scene.json").write_text(json.dumps(placed | {"ndc": scene.ndc}, indent=1))
    for line in scene.report:
        print(line)
    for problem in report.problems:
        print(f"cameras: {problem}", file=sys.stderr)
    splits = {"train": scene.train, "test": scene.test}
    join = lambda name: np.concatenate([getattr(views, name) for views in splits.values()])
    lists = {f"{split}_filenames": views.name.tolist() for split, views in splits.items()}
    data.write_camera_path(
        run.workdir / "cameras.json", nerf.move_poses(join("pose"), to_world(scene)), join("intrinsics"),
        join("sizes"), join("name").tolist(), **lists,
    )  # fmt: skip
    poses = {"training": scene.train.pose, "held out": scene.test.pose}
    pictures.save_png(run.figures / "cameras.png", pictures.cameras(poses, report.focus, 0.25 * report.distance))


def to_world(scene: nerf.Scene) -> np.ndarray:
    """The similarity [4, 4] from the scene to the world of its files."""
    return np.eye(4) if scene.world_from_scene is None else scene.world_from_scene


def measured(run: training.Run, what: str) -> list[dict]:
    """The keys and values of one kind of measure in measured.json, in order."""
    path = run.workdir / "measured.json"
    entries = json.loads(path.read_text()) if path.exists() else []
    return [entry for entry in entries if entry["key"]["what"] == what] if isinstance(entries, list) else []


def number(run: training.Run, what: str, key: dict) -> str:
    """What a picture's name ends with: nothing for the first settings of a run folder, -2 for the next, and so on."""
    entries = [e["key"] for e in measured(run, what) if e["values"].get("vertices", 1)]
    drawn = [{n: v for n, v in entry.items() if n not in ("what", "step")} for entry in entries]
    distinct = [settings for i, settings in enumerate(drawn) if settings not in drawn[:i]]
    place = distinct.index(key) if key in distinct else len(distinct)
    return f"-{place + 1}" if place else ""


def draw_view(path: Path, truth: np.ndarray, output: nerf.RenderOutput, scene: nerf.Scene) -> None:
    """One held-out view: the photograph, the rendering, their difference, depth and opacity, side by side."""
    panels = [
        truth,
        np.clip(output.color, 0, 1),
        np.clip(1 - 4 * np.abs(output.color - truth), 0, 1),
        pictures.depth_map(output.depth, output.opacity, scene.near, scene.far) / 255,
        np.repeat(np.clip(output.opacity, 0, 1)[..., None], 3, axis=-1),
    ]
    factor = max(1, 160 // truth.shape[0])
    pictures.save_png(path, pictures.upscale(pictures.grid(np.stack(panels), len(panels)), factor))


def draw_progress(run: training.Run) -> None:
    """figures/progress.png: PSNR of the previews over time."""
    points = [(e["values"]["seconds"], e["values"]["psnr"]) for e in measured(run, "preview")]
    if points:
        seconds, psnr = np.array(sorted(points)).T
        series = {"held-out view": (seconds / 60, psnr)}
        pictures.save_png(run.figures / "progress.png", pictures.curves(series, "minutes", "PSNR / dB"))
