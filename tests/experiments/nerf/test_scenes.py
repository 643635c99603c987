"""The scenes of the NeRF experiment, as they are read and placed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import nerf as experiment
from experiments.nerf import scenes
from experiments.nerf.config import Config, Data, Rays
from experiments.nerf.rays import ray_batches
from tests.experiments.nerf.conftest import hemisphere


def test_a_colmap_world_is_placed_around_the_origin():
    """Moved, turned and scaled as COLMAP likes: afterwards 4 away from the origin, with bounds in the same scale."""
    poses = np.asarray(hemisphere(6), np.float64)
    poses[:, :3, 3] = 10 * poses[:, :3, 3] + np.array([5, -7, 3])
    bounds = np.array([[30.0, 50.0]] * 6)
    train, test = ({"pose": poses[part], "bounds": bounds[part]} for part in (slice(0, 4), slice(4, 6)))
    scenes._place(train, test)
    np.testing.assert_allclose(np.concatenate([train["pose"], test["pose"]]), hemisphere(6), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(test["bounds"], [[3, 5]] * 2, rtol=1e-5)


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
