"""The scenes of the NeRF experiment, as they are read and placed."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import nerf as experiment
from experiments.nerf import figures, scenes
from experiments.nerf.config import Config, Data, Rays
from experiments.nerf.train import ray_batches
from jaxgen import training
from jaxgen.data.views import Scene as Arrays
from tests.experiments.nerf.conftest import hemisphere
from tests.nerf import captures


def arrays(poses, **more):
    return Arrays({"pose": poses, "image": np.zeros((len(poses), 1, 1, 3), np.uint8), **more})


def test_a_colmap_world_is_placed_around_the_origin():
    """Moved, turned and scaled as COLMAP likes: afterwards 4 away from the origin, with bounds in the same scale."""
    poses = np.asarray(hemisphere(6), np.float64)
    poses[:, :3, 3] = 10 * poses[:, :3, 3] + np.array([5, -7, 3])
    bounds = np.array([[30.0, 50.0]] * 6)
    parts = slice(0, 4), slice(4, 6)
    train, test = (arrays(poses[part], bounds=bounds[part]) for part in parts)
    world, text = scenes._place(Data("colmap"), train, test)
    np.testing.assert_allclose(np.concatenate([train["pose"], test["pose"]]), hemisphere(6), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(test["bounds"], [[3, 5]] * 2, rtol=1e-5)
    np.testing.assert_allclose(
        np.asarray(world), [[10, 0, 0, 5], [0, 10, 0, -7], [0, 0, 10, 3], [0, 0, 0, 1]], atol=1e-3
    )
    assert text == "the point that the cameras look at moved to the origin, scaled by 0.1"
    # The others stay unless they are told.
    train, test = (arrays(poses[part]) for part in parts)
    world, _ = scenes._place(Data("transforms"), train, test)
    np.testing.assert_array_equal(world, np.eye(4))
    np.testing.assert_array_equal(train["pose"], poses[:4])
    world, _ = scenes._place(Data("transforms", scale=0.5, up="-y"), train, test)
    np.testing.assert_allclose(np.asarray(world), [[2, 0, 0, 0], [0, 0, -2, 0], [0, 2, 0, 0], [0, 0, 0, 1]], atol=1e-9)


@pytest.mark.parametrize(
    "settings, bounds, message",
    [
        ({"name": "colmap"}, (1.0, 9.0), "by the points that the views see"),
        ({"name": "colmap", "near": 0.5}, (0.5, 9.0), "see, near as given"),
        ({"name": "llff", "far": 20.0}, (1.0, 20.0), "bounds of the file, far as given"),
        ({"name": "colmap", "near": 2.0, "far": 6.0}, (2.0, 6.0), "as given"),
        ({"name": "colmap", "default_bounds": (3.0, 4.0)}, (1.0, 9.0), "by the points that the views see"),
    ],
)
def test_near_and_far_come_from_the_command_line_or_the_scene(settings, bounds, message):
    split = arrays(np.zeros((2, 4, 4)), bounds=np.array([[1.0, 5.0], [2.0, 9.0]]))
    found, source = scenes._bounds(Data(**settings), split, split)
    assert found == bounds and source.endswith(message)
    with pytest.raises(ValueError, match="data.near is 10 and data.far 9"):
        scenes._bounds(Data("colmap", near=10.0), split, split)


def test_the_embedded_scene_is_exact_and_its_held_out_cameras_are_between_the_others(few_programs):
    scene = scenes.load(Data(width=12, train_views=3, test_views=2))
    assert scene.exact and not scene.ndc and (scene.near, scene.far) == (2.0, 6.0) and scene.background == 1.0
    assert scene.train.image.shape == (3, 12, 12, 4) and scene.test.image.shape == (2, 12, 12, 4)
    distance = np.linalg.norm(scene.train.pose[:, None, :3, 3] - scene.test.pose[:, :3, 3], axis=-1)
    assert distance.min() > 0.1
    assert scene.fingerprint == scenes.load(Data(width=12, train_views=3, test_views=2)).fingerprint


def forward_facing(folder):
    """An LLFF folder of noise: nine cameras on a plane that look along -z."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for i in range(9):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(
            folder / f"images/{i}.png"
        )
        down, right, back = [0, -1, 0], [1, 0, 0], [0, 0, 1]
        pose = np.stack([down, right, back, [0.1 * (i % 3), 0.1 * (i // 3), 0.01 * i], [12, 16, 20]], axis=1)
        rows.append([*pose.ravel(), 2.0, 50.0])
    np.save(folder / "poses_bounds.npy", rows)
    return folder


def test_a_forward_facing_scene_is_sampled_in_ndc(tmp_path, few_programs):
    folder = forward_facing(tmp_path / "fern")
    scene = experiment.validate_and_load(Config(data=Data("llff", str(folder), background="none")))
    assert (scene.near, scene.far, scene.ndc) == (0, 1, True) and scene.bounds == pytest.approx((1 / 0.75, 25 / 0.75))
    batches = ray_batches(scene, 50, Rays())
    positions = np.arange(50, dtype=np.int32)
    make = jax.jit(lambda arrays: batches.make(jax.random.key(0), arrays, jnp.int32(0), positions))
    batch = make(batches.arrays)
    np.testing.assert_allclose(batch["rays"].origin[:, 2], -1)
    np.testing.assert_allclose(batch["rays"].direction[:, 2], 2)
    plain = scenes.load(Data("llff", str(folder), background="none", ndc=False))
    assert (plain.near, plain.far) == pytest.approx((0.9 / 0.75, 25 / 0.75))
    given = scenes.load(Data("llff", str(folder), background="none", near=0.5, far=10.0))
    assert (given.near, given.far, given.near_plane) == (0, pytest.approx(1 - 0.05), 0.5)
    # The mean camera stands at (0.1, 0.1, 0.04), and the nearest bound was 2.
    expected = np.diag([1.5, 1.5, 1.5, 1.0])
    expected[:3, 3] = [0.1, 0.1, 0.04]
    np.testing.assert_allclose(np.asarray(scene.world_from_scene), expected, atol=1e-12)
    assert scene.report[0] == "poses_bounds.npy: 9 poses and images; every 8th view is held out"
    with training.Run(tmp_path / "run", experiment.PRESETS["llff_paper"], experiment="nerf", quiet=True) as run:
        figures.describe_cameras(run, scene)
    assert "facing" in (run.workdir / "poses.txt").read_text()


def test_one_report_of_what_was_read(tmp_path, few_programs):
    """COLMAP: images registered, models, splits, cameras, the placement, near and far; and the transform in the run."""
    taken = captures.take(captures.ring(9), captures.cameras(9))
    captures.write_colmap(tmp_path, captures.moved(taken, captures.similarity(0)))
    scene = scenes.load(Data("colmap", str(tmp_path), background="none"))
    assert scene.report[:3] == (
        "COLMAP: 9 of 9 images registered, model sparse/0 (the only one); every 8th view is held out",
        "cameras: 9 PINHOLE 16 x 12, focal length 20",
        "splits: 7 views to train on, 2 held out",
    )
    assert scene.report[3].startswith("scene: the point that the cameras look at moved to the origin, scaled by")
    assert scene.report[4] == f"near {scene.near:.6g} and far {scene.far:.6g}, by the points that the views see"
    with training.Run(tmp_path / "run", experiment.PRESETS["quick"], experiment="nerf", quiet=True) as run:
        figures.describe_cameras(run, scene)
    written = (run.workdir / "poses.txt").read_text()
    assert all(line in written for line in scene.report) and "what looks wrong" in written
    # The way back: the cameras stand where they were photographed from.
    poses = scene.world_from_scene @ np.concatenate([scene.test.pose, scene.train.pose])
    order = [0, 8, 1, 2, 3, 4, 5, 6, 7]
    np.testing.assert_allclose(
        poses[:, :3, 3], captures.moved(taken, captures.similarity(0)).pose[order, :3, 3], atol=1e-4
    )


def test_what_is_refused_of_a_scene(tmp_path):
    taken = captures.take(captures.ring(4), captures.cameras(4), background=None)
    captures.write_transforms(tmp_path, taken, k1=None)
    load = lambda **settings: scenes.load(Data("transforms", str(tmp_path), test_every=2, **settings))
    plain, masked = load(), load(alpha="mask")
    assert plain.background == 1.0 and plain.train.mask is None and masked.background is None
    np.testing.assert_array_equal(masked.train.mask, plain.train.image[..., 3] >= 128)
    described = json.loads((tmp_path / "transforms.json").read_text())
    described["frames"][1]["k1"] = -3.0
    (tmp_path / "transforms.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match=r"images/001.png: the lens with .* folds 4.4 pixels"):
        load()


def test_held_out_views_that_masks_hide_are_left_out(tmp_path):
    """Of training views they take no part in the order; a scene without anything to measure is refused."""
    taken = captures.take(captures.ring(6), captures.cameras(6))
    captures.write_transforms(tmp_path, taken)
    described = json.loads((tmp_path / "transforms.json").read_text())

    def hide(views):
        for i, frame in enumerate(described["frames"]):
            frame["mask_path"] = f"mask {i}.png"
            Image.fromarray(np.full((12, 16), 0 if i in views else 255, np.uint8)).save(tmp_path / f"mask {i}.png")
        (tmp_path / "transforms.json").write_text(json.dumps(described))

    load = lambda: scenes.load(Data("transforms", str(tmp_path), background="none", test_every=3))
    hide({0, 1})
    scene = load()
    assert scene.test.name.tolist() == ["images/003.png"] and "masks hide all of 1 held-out views" in scene.report[-3]
    batches = ray_batches(scene, 64, Rays(one_image=True))
    positions = np.arange(64, dtype=np.int32)
    draw = jax.jit(lambda arrays, step: batches.make(jax.random.key(0), arrays, step, positions)["rays"].origin[0])
    origins = np.array([draw(batches.arrays, np.int32(step)) for step in range(6)])
    apart = np.linalg.norm(origins[:, None] - scene.train.pose[None, :, :3, 3], axis=2)
    assert sorted(apart.argmin(axis=1)) == [1, 1, 2, 2, 3, 3] and apart.min(axis=1).max() < 1e-5
    hide({0, 3})
    with pytest.raises(ValueError, match="masks hide all of the held-out views, e.g. images/000.png"):
        load()


def test_a_blender_folder_without_a_test_split_holds_out_its_val_split(blender, tmp_path):
    folder = tmp_path / "scene"
    shutil.copytree(blender, folder)
    (folder / "transforms_test.json").rename(folder / "transforms_val.json")
    scene = scenes.load(Data("blender", str(folder), background="none", test_every=1))
    assert "held out: transforms_val.json: 2 of 2 frames" in scene.report
    shutil.copy(folder / "transforms_train.json", folder / "transforms_test.json")
    with pytest.raises(ValueError, match="train/r_0.png is in the training and in the test split"):
        scenes.load(Data("blender", str(folder), test_every=1))


def test_poses_beyond_single_precision_and_masks_of_all_training_views_are_refused(tmp_path):
    capture = captures.take(captures.ring(9), captures.cameras(9), draw=False)
    world = np.eye(4)
    world[:3, 3] = [5e5, 4.1e6, 120.0]
    folder = captures.write_transforms(tmp_path, captures.moved(capture, world))
    with pytest.raises(ValueError, match=r"up to 4.1e\+06 from the origin, where .* 0.25, .*--data.place auto"):
        scenes.load(Data("transforms", dir=str(folder), background="none"))
    scene = scenes.load(Data("transforms", dir=str(folder), background="none", place="auto"))
    np.testing.assert_allclose(np.linalg.norm(scene.train.pose[:, :3, 3], axis=1).mean(), 4, rtol=0.01)
    described = json.loads((folder / "transforms.json").read_text())
    for i, frame in enumerate(described["frames"]):
        frame["mask_path"] = "black.png" if i % 8 else "white.png"
    for name, level in (("black", 0), ("white", 255)):
        Image.fromarray(np.full((12, 16), level, np.uint8)).save(folder / f"{name}.png")
    (folder / "transforms.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="masks hide all of the training views, e.g. images/001.png"):
        scenes.load(Data("transforms", dir=str(folder), background="none", place="auto"))
    top = np.zeros((12, 16), np.uint8)
    top[0] = 255
    Image.fromarray(top).save(folder / "black.png")
    settings = Data("transforms", dir=str(folder), background="none", place="auto")
    with pytest.raises(ValueError, match="no pixel of any image within the crop, 0.5 of its height and width"):
        experiment.validate_and_load(Config(data=settings, rays=Rays(crop_steps=5)))
