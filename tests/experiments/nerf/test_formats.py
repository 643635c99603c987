"""The same photographs in every format, of several sizes and focal lengths, train to the same quality."""

import dataclasses
import json

import numpy as np
import pytest

from experiments import nerf as experiment
from experiments.nerf import scenes
from experiments.nerf.data import Data
from jaxgen import nerf, training
from tests.nerf import captures

VIEWS, EVERY = 28, 4
PLAIN = nerf.Camera(40, 40, 50.0, 50.0, 20.0, 20.0)
OTHERS = (
    nerf.Camera(44, 33, 50.0, 50.0, 22.0, 16.5),
    nerf.Camera(33, 44, 46.0, 46.0, 16.5, 22.0),
    nerf.Camera(41, 40, 56.0, 56.0, 20.5, 20.0),
)


def trained(folder, name, **settings):
    """PSNR of the held-out views after a short training."""
    config = experiment.PRESETS["quick"]
    config = dataclasses.replace(
        config,
        data=Data(name, str(folder), test_every=EVERY, near=2.0, far=6.0, **settings),
        evaluation=dataclasses.replace(config.evaluation, film_frames=0, preview_every=0),
        train=dataclasses.replace(config.train, num_steps=900, log_every=300),
    )
    with training.Run(folder / f"run {name}", config, experiment="nerf", quiet=True) as run:
        return experiment.train(config, scenes.load(config.data), run)["metrics"]["psnr"]


def blender(folder, taken):
    """Frames with a field of view of their own."""
    captures.write_blender(folder, taken, EVERY)
    for split in ("train", "test"):
        path = folder / f"transforms_{split}.json"
        described = json.loads(path.read_text())
        chosen = [i for i in range(VIEWS) if (i % EVERY == 0) == (split == "test")]
        for i, frame in zip(chosen, described["frames"], strict=True):
            camera = taken.camera[i]
            frame["camera_angle_x"] = float(2 * np.arctan(0.5 * camera.width / camera.focal_x))
        path.write_text(json.dumps(described))


@pytest.mark.slow
def test_every_format_trains_as_well_as_the_plain_scene(tmp_path):
    pose = np.asarray(nerf.hemisphere(VIEWS, 4.0, (5.0, 75.0), nerf.analytic_scene.TARGET), np.float64)
    cameras = [PLAIN if i % EVERY == 0 else OTHERS[i % 3] for i in range(VIEWS)]
    plain = captures.take(pose, [PLAIN] * VIEWS, background=None)
    mixed = captures.take(pose, cameras, background=None)
    moved = captures.moved(mixed, captures.similarity(0))
    for name in ("plain", "blender", "transforms", "llff", "colmap"):
        (tmp_path / name).mkdir()
    captures.write_transforms(tmp_path / "plain", plain)
    blender(tmp_path / "blender", mixed)
    captures.write_transforms(tmp_path / "transforms", mixed)
    captures.write_llff(tmp_path / "llff", moved)
    captures.write_colmap(tmp_path / "colmap", moved, binary=True)
    expected = trained(tmp_path / "plain", "transforms")
    found = {
        "blender": trained(tmp_path / "blender", "blender"),
        "transforms": trained(tmp_path / "transforms", "transforms"),
        "llff": trained(tmp_path / "llff", "llff", place="auto", up="cameras"),
        "colmap": trained(tmp_path / "colmap", "colmap", up="cameras"),
    }
    print(expected, found)
    assert expected > 20 and all(psnr > expected - 0.3 for psnr in found.values()), (expected, found)
