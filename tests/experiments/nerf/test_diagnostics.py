"""How the NeRF experiment reports a collapse, and what it lets pass."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments import nerf as experiment
from experiments.nerf import diagnostics
from experiments.nerf.config import Model, Rays, Sampling
from experiments.nerf.train import build_optimizer, ray_batches
from jaxgen import nerf, training
from tests.nerf import scenes


def test_an_empty_field_stops_the_run_and_says_what_helps(few_programs):
    """A network whose density is below zero everywhere: no gradient leads out."""
    config = dataclasses.replace(experiment.PRESETS["quick"], model=Model(depth=2, width=8, skips=(), view_width=8))
    scene, network = scenes.scene(1.0), config.model.build()
    params = nerf.init_params(jax.random.key(0), network)
    for tree in params.values():
        tree["density"] = {"kernel": np.zeros((8, 1), np.float32), "bias": -np.ones(1, np.float32)}
    loss = nerf.nerf_loss(network, 2.0, 6.0, **Sampling(coarse=4, fine=4).settings(1.0))
    every, check = diagnostics.callback(500, loss, ray_batches(scene, 1024, Rays()), jax.random.key(1))
    state = training.create_state(params, build_optimizer(config))
    assert every == 500
    check(400, state)
    with pytest.raises(nerf.Collapsed, match=r"step 500: the field is empty.*--rays.crop-steps.*softplus.*delay"):
        check(500, state)
    # One that sees something is left alone, whatever its images look like.
    for tree in params.values():
        tree["density"] = {"kernel": np.zeros((8, 1), np.float32), "bias": np.ones(1, np.float32)}
    check(500, training.create_state(params, build_optimizer(config)))


def test_a_good_image_of_nothing_is_no_collapse():
    rgb = np.ones((100, 3), np.float32)
    rgb[:2] = 0
    found = {"opacity": np.full(100, 0.001), "coarse_squared_error": np.full(100, 0.001)}
    diagnostics.check_collapse(500, found, rgb)
    with pytest.raises(nerf.Collapsed):
        diagnostics.check_collapse(500, found | {"coarse_squared_error": np.full(100, 0.02)}, rgb)


def test_a_fog_of_one_colour_is_told_and_a_scene_that_fills_the_image_is_not(capsys):
    rgb = np.linspace(0, 1, 300, dtype=np.float32).reshape(100, 3)
    found = {"opacity": np.ones(100), "coarse_squared_error": np.full(100, np.var(rgb, axis=0).mean())}
    diagnostics.check_collapse(500, found, rgb)
    said = capsys.readouterr().err
    assert "no better than one colour: mean opacity 1 over 100 training rays" in said and "Remedies" in said
    diagnostics.check_collapse(500, found | {"fine_squared_error": np.full(100, 0.05)}, rgb)
    assert not capsys.readouterr().err
