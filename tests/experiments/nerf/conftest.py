"""Fixtures of the NeRF experiment's tests: as few programs as possible."""

import importlib
import sys

import jax
import numpy as np
import pytest

from experiments import nerf as experiment
from experiments.command import cli
from jaxgen import metrics, nerf
from jaxgen.data import write_blender
from tests.experiments import one_program

hemisphere = jax.jit(nerf.hemisphere, static_argnums=(0, 1, 2, 3, 4))


@pytest.fixture
def few_programs(monkeypatch):
    """Most of what the experiment computes outside of its steps is one program, or NumPy."""
    one_program.networks(monkeypatch)
    monkeypatch.setattr(nerf, "hemisphere", hemisphere)
    one_program.whole(monkeypatch, nerf, "turntable", static=("num_frames", "radius", "elevation", "target"))
    one_program.whole(monkeypatch, nerf, "spiral", static=("near", "far", "num_frames", "turns", "depth_rate"))
    one_program.whole(monkeypatch, metrics, "psnr", "ssim", static=("data_range",))
    module = importlib.import_module("jaxgen.nerf.scene")
    one_program.whole(monkeypatch, module, "over_background", static=("background",))


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Runs the command with arguments and returns the run directory."""

    def run(*arguments, workdir=tmp_path / "run"):
        monkeypatch.setattr(sys, "argv", ["nerf", *arguments, "--workdir", str(workdir)])
        about, extendable = experiment.__doc__ or "", experiment.extendable_fields
        cli.main(
            "nerf", experiment.PRESETS, experiment.validate_and_load, experiment.train, about,
            extendable_fields=extendable,
        )  # fmt: skip
        return workdir

    return run


@pytest.fixture(scope="module")
def blender(tmp_path_factory):
    """A Blender folder of noise, without alpha in its test images."""
    folder = tmp_path_factory.mktemp("lego")
    poses = np.asarray(hemisphere(2))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 4), dtype=np.uint8)
    write_blender(folder, "train", pixels, poses, 0.7)
    write_blender(folder, "test", pixels[..., :3], poses, 0.7)
    return str(folder)
