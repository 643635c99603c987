"""Configurations of the GAN experiment: the paper's values, what is refused, and records of 0.1.0."""

import copy
import dataclasses
import json
import math

import jax
import numpy as np
import pytest

from experiments import gan
from experiments.command import image_data
from experiments.gan.config import Evaluation, Model, Objective
from experiments.gan.train import build, build_losses
from jaxgen import data, training
from tests.experiments.gan.small_runs import splits, tiny


def test_the_papers_settings():
    config = gan.PRESETS["paper"]
    losses = build_losses(config.objective)
    players = build(config.model, splits())

    @jax.jit
    def computed(zero):
        noise = players.noise(jax.random.split(training.keys.root(3), 1000))
        return losses.discriminator(zero, zero), losses.generator(zero), noise

    discriminator, generator, z = jax.device_get(computed(np.zeros(1, np.float32)))
    np.testing.assert_allclose(discriminator, [math.log(2)], rtol=1e-6)
    np.testing.assert_allclose(generator, [math.log(2)], rtol=1e-6)
    assert z.shape == (1000, 100) and 1.7 < np.abs(z).max() < 3**0.5
    params = jax.eval_shape(lambda: players.init(jax.random.key(0), {"x": np.zeros((1, 64), np.float32)}))
    shapes = sorted(x.shape for x in jax.tree.leaves(params) if len(x.shape) == 2)
    assert shapes == [(64, 1200), (100, 1200), (240, 1), (240, 1200), (1200, 64), (1200, 1200)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seeds": 0}, "seeds is 0"),
        ({"data": image_data.FlatImageData("digits")}, "it must be maxout or dcgan"),
        ({"model": Model("maxout")}, "it must be points"),
        ({"model": Model("dcgan")}, "it must be points"),
        ({"data": image_data.FlatImageData("ring", distort=1.0)}, "points have no data.dir"),
        ({"objective": Objective(discriminator_steps=0)}, "discriminator_steps is 0"),
        ({"objective": Objective(ema=1.0)}, "objective.ema is 1.0"),
        ({"objective": Objective(penalty="r1", penalty_weight=-1.0)}, "must not be negative"),
        ({"model": Model(conditional=True)}, "needs model.architecture 'dcgan'"),
        ({"evaluation": Evaluation(select_every=2)}, "only images have a Parzen"),
        ({"generator": training.Optimizer("adam", -1.0)}, "learning_rate is -1.0"),
        ({"data": image_data.FlatImageData(), "model": Model("maxout")}, "held_out is 10000"),
    ],
)
def test_impossible_settings_are_refused(fields, message, few_programs):
    with pytest.raises(ValueError, match=message):
        gan.validate_and_load(tiny("quick", **fields))


def test_exact_shards_refuse_spectral_norms_in_a_simultaneous_game():
    config = tiny("quick", objective=Objective(order="simultaneous", spectral=True))
    exact = dataclasses.replace(config, train=dataclasses.replace(config.train, exact_shards=4))
    (problem,) = exact.check()
    assert "leave it at 0, or set --objective.order alternating" in problem
    for fields in ({"spectral": False}, {"order": "alternating"}):
        assert not dataclasses.replace(exact, objective=dataclasses.replace(exact.objective, **fields)).check()
    assert not config.check()


def test_all_problems_are_named_at_once(few_programs):
    config = tiny("quick", seeds=0, model=Model(noise_size=0), generator=training.Optimizer("adam", -1.0))
    with pytest.raises(ValueError, match="(?s)seeds is 0.*model.noise_size is 0.*learning_rate is -1.0"):
        gan.validate_and_load(config)


def test_images_too_small_for_dcgan_are_refused(monkeypatch):
    odd = data.Images(np.zeros((40, 6, 6, 1), np.uint8), None, "odd")
    monkeypatch.setattr(image_data, "load", lambda config: (odd, odd))
    config = tiny("dcgan", evaluation=Evaluation(held_out=10, centres=0))
    with pytest.raises(ValueError, match="image size of 6"):
        gan.validate_and_load(config)
    labelled = dataclasses.replace(config, model=Model("dcgan", conditional=True))
    with pytest.raises(ValueError, match="needs labels"):
        gan.validate_and_load(labelled)


def test_a_training_is_made_longer_only_where_the_rates_do_not_depend_on_its_length():
    assert gan.extendable_fields(gan.PRESETS["paper"]) == ("train.num_steps",)
    assert not gan.extendable_fields(gan.PRESETS["dcgan"])


# config.json of jaxgen 0.1.0: python -m experiments.gan conditional.
RECORDED = json.loads("""
{"experiment": "gan", "preset": "conditional", "seed": 0, "config": {"seed": 0, "seeds": 1, "data": {"name": "mnist",
"dir": "", "size": 0, "distort": 0.0}, "model": {"architecture": "dcgan", "noise": "normal", "noise_size": 64,
"generator_widths": [128, 128], "discriminator_widths": [128, 128], "channels": 32, "groups": 8, "conditional": true},
"objective": {"loss": "non_saturating", "halved": false, "penalty": "r1", "penalty_weight": 0.1, "spectral": false,
"discriminator_steps": 1, "order": "alternating", "ema": 0.9999}, "generator": {"name": "adam",
"learning_rate": 0.0005, "schedule": "cosine", "rounds": 8, "epoch_steps": 500, "warmup_steps": 0,
"weight_decay": 0.0, "momentum": 0.9, "beta1": 0.5, "epsilon": 1e-08, "start_second_moment": 0.0, "scale": 1.0,
"clip": 0.0}, "discriminator": {"name": "adam", "learning_rate": 0.0005, "schedule": "cosine", "rounds": 8,
"epoch_steps": 500, "warmup_steps": 0, "weight_decay": 0.0, "momentum": 0.9, "beta1": 0.5, "epsilon": 1e-08,
"start_second_moment": 0.0, "scale": 1.0, "clip": 0.0}, "evaluation": {"samples": 10000, "held_out": 10000,
"centres": 10000, "select_every": 2500, "check_every": 0, "frames": 40, "features": ""}, "train": {"num_steps": 15000,
"batch_size": 64, "accumulate": 1, "exact_shards": 0, "log_every": 250, "save_every": 2500, "keep_checkpoints": 3,
"steps_per_call": 0, "prefetch": 0, "devices": 0, "model_devices": 1, "backend": "pmap", "deterministic": false}}}
""")


def resumed(folder, record, config):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(record))
    with training.Run(folder, config, experiment="gan", preset="conditional", quiet=True):
        pass


def test_a_run_of_0_1_0_is_resumed(tmp_path):
    config = gan.PRESETS["conditional"]
    resumed(tmp_path, RECORDED, config)
    assert training.from_dict(config, RECORDED["config"]) == config
    # Untracked fields may have any value.
    record = copy.deepcopy(RECORDED)
    record["config"]["train"] |= {"model_devices": 4, "devices": 8, "log_every": 1}
    record["config"]["data"]["dir"] = "/elsewhere"
    resumed(tmp_path, record, config)
    assert training.from_dict(config, record["config"]).train.model_parallel_size == 4


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("objective", "penalty_weight", 0.2, "objective.penalty_weight: 0.2 -> 0.1"),
        ("generator", "learning_rate", 1e-3, "generator.learning_rate: 0.001 -> 0.0005"),
        ("evaluation", "select_every", 0, "evaluation.select_every: 0 -> 2500"),
        ("train", "num_steps", 10_000, "train.num_steps: 10000 -> 15000"),
    ],
)
def test_a_run_of_0_1_0_with_another_setting_is_refused(part, field, value, message, tmp_path):
    record = copy.deepcopy(RECORDED)
    record["config"][part][field] = value
    with pytest.raises(training.RunRefused, match=message):
        resumed(tmp_path, record, gan.PRESETS["conditional"])
