"""Films and meshes: in the world of the files, drawn again from a finished run, and refused before a training."""

import importlib.machinery
import json
import sys
import types

import jax
import numpy as np
import pytest

from experiments import nerf as experiment
from experiments.nerf import drawing, figures, scenes
from experiments.nerf.config import Data
from experiments.nerf.evaluation import Evaluation
from jaxgen import data, nerf, training
from jaxgen.weights import array_digest
from tests.experiments.nerf.test_train import FEW
from tests.nerf import captures

BALL = (nerf.analytic_scene.MARBLES[1],)
LEVEL = 18.0  # half of its strength, where the points of a capture are
TWO_SIZES = [*captures.cameras(5), *captures.cameras(4, 12, 16, 18.0)]
LENS = (-0.05, 0.01, 0.002, -0.001)


@pytest.fixture
def marching_cubes(monkeypatch):
    """In place of scikit-image: the points where edges along x cross the level, with the density's slope."""

    def cross(grid, level, spacing, gradient_direction):
        i, j, k = np.nonzero((grid[1:] > level) != (grid[:-1] > level))
        below, above = grid[i, j, k], grid[i + 1, j, k]
        vertices = np.stack([i + (level - below) / (above - below), j, k], axis=-1) * spacing
        slopes = np.stack(np.gradient(-grid), axis=-1)[i, j, k]
        return vertices, np.array([[0, 1, 2]]), slopes, np.full(len(vertices), level)

    module = types.ModuleType("skimage")
    module.__spec__ = importlib.machinery.ModuleSpec("skimage", None)
    module.measure = types.SimpleNamespace(marching_cubes=cross)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "skimage", module)


def load(kind, folder, capture):
    """The scene of a capture that was written in a format."""
    name, _, how = kind.partition(" ")
    write = {"colmap": captures.write_colmap, "llff": captures.write_llff, "transforms": captures.write_transforms}[
        name
    ]
    write(folder, capture, **({"binary": True} if how == "binary" else {}))
    place = "auto" if name == "transforms" else ""
    return scenes.load(Data(name, str(folder), background="none", ndc=False, place=place))


def nothing(params, camera, pose):
    blank = np.zeros((camera.height, camera.width), np.float32)
    return nerf.RenderOutput(np.zeros((*blank.shape, 3)), np.zeros((*blank.shape, 3)), blank, blank)


@pytest.mark.parametrize(
    ("kind", "cameras", "lens", "pose"),
    [
        ("colmap text", captures.cameras(9), (0.0,) * 4, captures.ring(9)),
        ("colmap binary", TWO_SIZES, LENS, captures.ring(9)),
        ("transforms", TWO_SIZES, LENS, captures.ring(9)),
        ("llff", captures.cameras(9), (0.0,) * 4, captures.facing(9)),
    ],
)
def test_mesh_path_and_cameras_overlay_the_world_that_they_came_from(
    kind, cameras, lens, pose, tmp_path, monkeypatch, marching_cubes, few_programs
):
    """To 0.5 % of the scene's size, in a world that was turned, moved and scaled at random."""
    capture = captures.moved(captures.take(pose, cameras, lens, BALL, draw=False), captures.similarity(11))
    scene = load(kind, tmp_path / "scene", capture)
    size = np.cbrt(np.linalg.det(capture.world[:3, :3]))
    home = np.linalg.inv(capture.world) @ figures.to_world(scene)

    def field(points, view):
        """The ball's density at points of the scene."""
        there = points @ home[:3, :3].T.astype(np.float32) + home[:3, 3].astype(np.float32).reshape(1, 1, 3)
        return 0 * points, nerf.analytic_scene.density(there, BALL)

    monkeypatch.setattr(nerf, "network_field", lambda network, params: field)
    settings = Evaluation(film_frames=4, mesh_level=LEVEL, mesh_resolution=48)
    with training.Run(tmp_path / "run", experiment.PRESETS["quick"], experiment="nerf", quiet=True) as run:
        figures.describe_cameras(run, scene)
        drawing.save_film(nothing, {}, scene, run, settings, 0)
        found = drawing.write_mesh(nerf.NeRF(), {"coarse": {}}, scene, run, settings, 0)
    # The mesh: its vertices are on the sphere on which the points of the capture are.
    content = (run.workdir / "mesh.ply").read_bytes().split(b"end_header\n")[1]
    rows = np.frombuffer(
        content[: 27 * int(found["vertices"])], [("point", "<f4", 3), ("normal", "<f4", 3), ("color", "u1", 3)]
    )
    center = capture.world[:3, :3] @ BALL[0].center + capture.world[:3, 3]
    radius = size * BALL[0].radii[0] * np.sqrt(0.5)
    np.testing.assert_allclose(np.linalg.norm(capture.points - center, axis=1), radius, rtol=1e-6)
    away = rows["point"] - center
    assert len(rows) > 100 and np.abs(np.linalg.norm(away, axis=1) - radius).max() < 0.005 * size
    assert (np.sum(away * rows["normal"], axis=1) > 0.9 * radius).all()
    # The cameras: those of the files.
    cameras_of = json.loads((run.workdir / "cameras.json").read_text())["frames"]
    written = np.array([c["transform_matrix"] for c in sorted(cameras_of, key=lambda c: c["file_path"])])
    np.testing.assert_allclose(written[:, :3, 3], capture.pose[:, :3, 3], atol=0.005 * size)
    np.testing.assert_allclose(written[:, :3, :3], capture.pose[:, :3, :3], atol=1e-3)
    assert [(c["w"], c["h"]) for c in sorted(cameras_of, key=lambda c: c["file_path"])] == [
        (c.width, c.height) for c in cameras
    ]
    # Poses of a file are in that world too, and so is an axis that is up.
    (_, poses, _), written = drawing.film_poses(settings, scene), str(run.workdir / "camera_path.json")
    np.testing.assert_allclose(drawing.film_poses(Evaluation(film_poses=written), scene)[1], poses, atol=1e-4)
    turned = drawing.film_poses(Evaluation(film_frames=4, film_path="turntable", film_up="-y"), scene)[1]
    turned = nerf.move_poses(turned, figures.to_world(scene))
    assert (turned[:, 1, 1] < -0.1).all() and np.ptp(turned[:, 1, 3]) < 1e-3 * size
    # The path: about the target of the ring and its up, or within the square of the facing cameras.
    path = nerf.move_poses(data.read_camera_path(run.workdir / "camera_path.json"), np.linalg.inv(capture.world))
    if kind == "llff":
        assert np.abs(path[:, [0, 2], 3]).max() < 0.31 and (path[:, 1, 3] < -3.9).all() and (path[:, 1, 2] < -0.9).all()
    else:
        offset = path[:, :3, 3] - nerf.analytic_scene.TARGET
        np.testing.assert_allclose(np.linalg.norm(offset, axis=1), 4, atol=0.02)
        np.testing.assert_allclose(offset[:, 2], 2, atol=0.02)
        np.testing.assert_allclose(path[:, :3, 2], offset / 4, atol=0.01)


def test_a_room_is_filmed_from_its_middle_and_its_mesh_reaches_the_walls(tmp_path, few_programs):
    room = captures.take(captures.inside(12), captures.cameras(12, focal=10.0), bodies=captures.ROOM, draw=False)
    capture = captures.moved(room, captures.similarity(3))
    scene = load("colmap text", tmp_path, capture)
    kind, poses, _ = drawing.film_poses(Evaluation(film_frames=4), scene)
    path = nerf.move_poses(nerf.move_poses(poses, figures.to_world(scene)), np.linalg.inv(capture.world))
    assert kind == "panorama" and np.abs(path[:, :3, 3]).max() < 0.6
    assert (np.sum(-path[:, :2, 2] * path[:, :2, 3], axis=1) > 0.3).all() and (path[:, 2, 1] > 0.99).all()
    low, high = drawing.mesh_box(scene, 1.0)
    points = (capture.points - figures.to_world(scene)[:3, 3]) @ np.linalg.inv(figures.to_world(scene)[:3, :3]).T
    seen = np.unique(np.concatenate([number for number, _ in capture.seen]))
    assert ((points[seen] > low) & (points[seen] < high)).all()


def pictures_of(workdir):
    return {
        path.name: array_digest(np.frombuffer(path.read_bytes(), np.uint8))
        for folder in (workdir, workdir / "figures")
        for path in folder.iterdir()
        if path.suffix in (".gif", ".ply", ".png") or path.name.startswith("camera_path")
    }


def test_a_finished_run_draws_what_is_new_and_keeps_what_is_there(call, few_programs, marching_cubes, capsys):
    workdir = call("quick", *FEW, "--evaluation.mesh-level", "1e9", "--evaluation.mesh-resolution", "4")
    printed = capsys.readouterr().err
    results, first = json.loads((workdir / "results.json").read_text()), pictures_of(workdir)
    (mesh,) = (e for e in json.loads((workdir / "measured.json").read_text()) if e["key"]["what"] == "mesh")
    lowest, highest = mesh["values"]["lowest"], mesh["values"]["highest"]
    assert f"at a density of 1e+09: in its box the field runs from {lowest:.3g} to {highest:.3g}" in printed
    assert "mesh.ply" not in first and {"turntable.gif", "camera_path.json"} <= first.keys()
    trained = (workdir / "metrics.jsonl").read_bytes()
    level = str((lowest + highest) / 2)
    settings = ["--evaluation.mesh-resolution", "4", "--evaluation.film-path", "sphere", "--evaluation.film-width", "6"]
    call("quick", *FEW, "--evaluation.mesh-level", level, *settings)
    second = pictures_of(workdir)
    new = {"sphere-2.gif", "sphere-2-depth.gif", "camera_path-2.json", "mesh.ply"}
    assert second.keys() == first.keys() | new and {name: second[name] for name in first} == first
    assert len(data.read_camera_path(workdir / "camera_path-2.json")) == 3
    # Poses from a file, in the files' world: the first film's own, one by one.
    poses = str(workdir / "camera_path.json")
    call("quick", *FEW, "--evaluation.film-poses", poses, "--evaluation.views", "1")
    third = pictures_of(workdir)
    assert third.keys() - second.keys() == {
        *("poses-3.gif", "poses-3-depth.gif", "camera_path-3.json"), *(f"poses-3-{i:03}.png" for i in range(3))
    }  # fmt: skip
    assert third["poses-3.gif"] == first["turntable.gif"]
    # The first settings again: nothing is drawn, and the report of the mesh is repeated.
    (workdir / "figures" / "turntable.gif").unlink()
    capsys.readouterr()
    call("quick", *FEW, "--evaluation.mesh-level", "1e9", "--evaluation.mesh-resolution", "4")
    assert pictures_of(workdir) == {name: digest for name, digest in third.items() if name != "turntable.gif"}
    assert "no surface at a density of 1e+09" in capsys.readouterr().err
    again = json.loads((workdir / "results.json").read_text())
    assert again == {**results, "seconds": again["seconds"]}
    assert (workdir / "metrics.jsonl").read_bytes() == trained


@pytest.fixture(scope="module")
def forward_facing(tmp_path_factory):
    """An LLFF folder, whose field is in NDC."""
    capture = captures.take(captures.facing(9), captures.cameras(9), bodies=BALL, draw=False)
    return str(captures.write_llff(tmp_path_factory.mktemp("fern"), capture))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--evaluation.mesh-level", "10"], "evaluation.mesh_level: the field is in normalised device coordinates"),
        (["--evaluation.film-path", "turntable"], "of the turntable looks sideways or back"),
        (["--evaluation.film-path", "sphere"], "there is no sphere around what they see"),
        (["--evaluation.film-elevation", "10"], "a spiral has no elevation"),
        (["--evaluation.film-poses", "nowhere.json"], "no file nowhere.json with camera poses"),
        (["--evaluation.film-poses", "x", "--evaluation.film-up", "-y"], "film_poses gives each frame"),
        (["--evaluation.film-elevation", "90"], "evaluation.film_elevation is 90.0"),
        (["--evaluation.film-distance", "0"], "must be positive numbers"),
        (["--evaluation.mesh-resolution", "1"], "evaluation.mesh_resolution is 1; it must be at least 2"),
        (["--evaluation.mesh-level", "nan"], "evaluation.mesh_level is nan"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_written(
    arguments, message, call, capsys, forward_facing, tmp_path, few_programs, marching_cubes
):
    with pytest.raises(SystemExit) as stopped:
        call("llff_paper", "--data.dir", forward_facing, "--data.factor", "1", *arguments)
    assert stopped.value.code == 1 and message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_scene_in_ndc_and_one_with_near_0_are_filmed(forward_facing, tmp_path, few_programs):
    ndc = scenes.load(Data("llff", forward_facing, background="none"))
    kind, poses, camera = drawing.film_poses(Evaluation(film_frames=5, film_width=32), ndc)
    assert ndc.ndc and kind == "spiral" and (camera.width, camera.height, camera.focal_x) == (32, 24, 40)
    captures.write_transforms(tmp_path, captures.take(captures.facing(9), captures.cameras(9), bodies=BALL, draw=False))
    near = scenes.load(Data("transforms", str(tmp_path), background="none", near=0.0, far=6.0))
    kind, poses, _ = drawing.film_poses(Evaluation(film_frames=5), near)
    assert kind == "spiral" and (np.linalg.norm(poses[:, :3, 3] - [0, -4, 0], axis=1) < 0.6).all()


def test_drawing_settings_are_free_and_training_settings_are_not(tmp_path):
    config = experiment.PRESETS["quick"]
    with training.Run(tmp_path / "run", config, experiment="nerf", quiet=True) as run:
        recorded = json.loads((run.workdir / "config.json").read_text())
    names = {f"evaluation.{name}" for name in vars(Evaluation())} - {"evaluation.watch_step"}
    assert names <= set(recorded["untracked"])
    assert jax.tree.leaves(recorded["config"]["data"]) and "data.width" not in recorded["untracked"]
