"""Films and meshes of a trained field, also again from a finished run with other settings.

Camera paths and meshes are written in the world of the scene's files. The first film of a run folder is named after its
path, and those of other settings are numbered from 2.
"""

import hashlib
import sys
import time
from typing import Any

import numpy as np

from experiments.command import checks
from experiments.nerf import figures
from experiments.nerf.evaluation import Evaluation
from jaxgen import data, nerf, pictures, training

PATH = ("film_path", "film_up", "film_elevation", "film_distance", "film_width")


def refuse(config: Evaluation, scene: nerf.Scene) -> None:
    """Raises ValueError with all that cannot be drawn of a scene, before anything is trained."""
    problems = checks.errors_of(lambda: film_poses(config, scene)) if config.film_frames else []
    if config.mesh_level and scene.ndc:
        problems.append(
            "evaluation.mesh_level: the field is in normalised device coordinates, and a mesh is of the world's; train "
            "with --data.no-ndc, or set it to 0"
        )
    checks.refuse(problems)


def film_poses(config: Evaluation, scene: nerf.Scene) -> tuple[str, np.ndarray, nerf.Camera]:
    """Name of the path, poses [F, 4, 4] in the scene's world, and the camera of the film.

    Raises:
        ValueError: the scene's cameras do not have such a path, or the field cannot be seen from a pose.
    """
    camera, scene_from_world = scene.train.camera(0, scene.pixel_center), np.linalg.inv(figures.to_world(scene))
    if width := config.film_width:
        camera = camera.resized(width, max(1, round(camera.height * width / camera.width)))
    if config.film_poses:
        kind, poses = "poses", nerf.move_poses(data.read_camera_path(config.film_poses), scene_from_world)
    else:
        up = None
        if config.film_up != "auto":
            sign, axis = config.film_up
            up = (-1 if sign == "-" else 1) * nerf.similarity_parts(scene_from_world)[0][:, "xyz".index(axis)]
        kind, poses = nerf.film_path(
            scene.train.pose, *scene.bounds, config.film_frames, config.film_path, up=up,
            elevation=config.film_elevation, distance=config.film_distance,
        )  # fmt: skip
    poses = poses.astype(np.float32)
    if scene.ndc:
        x = (np.array([0, camera.width]) - camera.center_x) / camera.focal_x
        y = (camera.center_y - np.array([0, camera.height])) / camera.focal_y
        corners = np.array([(a, b, -1) for a in x for b in y])
        if (behind := (poses[:, 2, :3] @ corners.T >= 0).any(axis=1)).any():
            raise ValueError(
                f"pose {int(np.argmax(behind))} of the {kind} looks sideways or back, where a field in normalised "
                "device coordinates has nothing: choose --evaluation.film-path spiral, or train with --data.no-ndc"
            )
    return kind, poses, camera


def save_film(
    render: nerf.RenderView, params: Any, scene: nerf.Scene, run: training.Run, config: Evaluation, step: int
) -> dict[str, float]:
    """A film in color and depth, and camera_path.json."""
    kind, poses, camera = film_poses(config, scene)
    changed = {name: getattr(config, name) for name in PATH if getattr(config, name) != getattr(Evaluation(), name)}
    if config.film_poses:
        changed["poses"] = hashlib.sha256(poses.tobytes()).hexdigest()
    key = {"frames": len(poses), **changed}
    number = figures.number(run, "film", key)
    name = kind + number

    def make() -> dict[str, float]:
        start = time.perf_counter()
        outputs = [render(params, camera, pose) for pose in poses]
        seconds = time.perf_counter() - start
        colors = [np.rint(255 * np.clip(output.color, 0, 1)).astype(np.uint8) for output in outputs]
        pictures.save_film(run.figures / name, colors)
        depths = [pictures.depth_map(output.depth, output.opacity, scene.near, scene.far) for output in outputs]
        pictures.save_film(run.figures / f"{name}-depth", depths)
        for i, color in enumerate(colors if config.film_poses else []):
            pictures.save_png(run.figures / f"{name}-{i:03}.png", color)
        numbers = camera.focal_x, camera.focal_y, camera.center_x, camera.center_y
        moved = nerf.move_poses(poses, figures.to_world(scene))
        data.write_camera_path(run.workdir / f"camera_path{number}.json", moved, numbers, (camera.width, camera.height))
        return {"frames": len(poses), "seconds_per_frame": seconds / len(poses)}

    return run.cached("film", make, **key, step=step)


def mesh_box(scene: nerf.Scene, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Two corners of the box: around what the cameras look at, or inside of a room around all that they see."""
    near, far = scene.bounds
    frame, camera = nerf.camera_frame(scene.train.pose, near, far), scene.train.camera(0, scene.pixel_center)
    # Bounds are depths along the axis of view; a ray through a corner is longer.
    reach = far * np.linalg.norm([1, camera.width / camera.focal_x / 2, camera.height / camera.focal_y / 2])
    half = {"around": frame.radius / 4, "inside": frame.radius + reach, "facing": (far - near) / 2}[frame.kind]
    middle = frame.focus
    if frame.kind == "facing":
        average = scene.train.pose.mean(axis=0)
        middle = average[:3, 3] - (near + far) / 2 * average[:3, 2] / np.linalg.norm(average[:3, 2])
    return middle - size * half, middle + size * half


def write_mesh(
    network: nerf.NeRF, params: Any, scene: nerf.Scene, run: training.Run, config: Evaluation, step: int
) -> dict[str, float]:
    """Writes mesh.ply: the surface of the finest network's density, with its color seen along the normal.

    Where the field does not cross the level, nothing is written, and the highest density found is reported.
    """
    level, resolution = config.mesh_level, config.mesh_resolution
    key = {"level": level, "resolution": resolution, "size": config.mesh_size}
    number = figures.number(run, "mesh", key)

    def make() -> dict[str, float]:
        field = nerf.network_field(network, params["fine" if "fine" in params else "coarse"])
        low, high = mesh_box(scene, config.mesh_size)
        density = lambda points: field(points[:, None], 0 * points)[1][:, 0]
        grid = nerf.mesh.density_grid(density, low, high, resolution)
        found = {"lowest": grid.min(), "highest": grid.max(), "vertices": 0, "faces": 0}
        if grid.min() < level < grid.max():
            surface = nerf.mesh.marching_cubes(grid, level, low, high)
            colors = nerf.mesh.vertex_colors(field, surface)
            nerf.mesh.write_ply(
                run.workdir / f"mesh{number}.ply", nerf.mesh.move(surface, figures.to_world(scene)), colors
            )
            found |= {"vertices": len(surface.vertices), "faces": len(surface.faces)}
        return found

    found = run.cached("mesh", make, **key, step=step)
    if not found["vertices"]:
        print(
            f"mesh: no surface at a density of {level:g}: in its box the field runs from {found['lowest']:.3g} to "
            f"{found['highest']:.3g}. The run is finished; the same command with --evaluation.mesh-level "
            f"{found['highest'] / 2:.2g}, or with a larger --evaluation.mesh-size, draws it alone",
            file=sys.stderr,
        )
    return found
