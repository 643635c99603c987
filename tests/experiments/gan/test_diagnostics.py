"""Diagnostics while training: what is measured, what is warned of, and when."""

from typing import Any

import jax
import numpy as np
import optax
import pytest

from experiments import gan as experiment
from experiments.gan import diagnostics
from experiments.gan.context import EvalContext
from experiments.gan.data import load
from experiments.gan.train import build, build_losses
from jaxgen import training
from tests.experiments.gan.small_runs import measured, tiny


@pytest.fixture
def context(tmp_path, few_programs):
    config = tiny("quick")
    data = load(config.data, 1, False)
    with training.Run(tmp_path, config, experiment="gan", quiet=True) as run:
        players, losses = build(config.model, data), build_losses(config.objective)
        yield EvalContext(config, data, run, "", training.keys.root(0), players, losses)


HEALTHY = {
    "discriminator_loss": 1.3, "generator_loss": 0.8, "value": -1.3, "real_probability": 0.55, "fake_probability": 0.45,
    "variance": 0.9, "shift": 0.01,
}  # fmt: skip


def test_a_lasting_collapse_is_warned_of_once_with_the_flags_that_help(context, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(diagnostics, "measure_state", lambda context, state: {**HEALTHY, "variance": 0.01})
    every, check = diagnostics.callback(context)
    assert every == 1
    state: Any = None
    printed = []
    for step in (1, 2, 3):
        check(step, state)
        printed.append(capsys.readouterr().err)
    assert not printed[0] and not printed[2]
    assert printed[1].startswith("gan step 2: the generator has collapsed to one mode") and "Try an R1" in printed[1]
    assert "--objective.penalty, --objective.discriminator-steps, --generator.learning-rate" in printed[1]
    assert measured(tmp_path, "diagnostics") == {step: {**HEALTHY, "variance": 0.01} for step in (1, 2, 3)}


def test_every_flag_that_is_named_exists():
    config = experiment.PRESETS["quick"]
    for flags in diagnostics.FLAGS.values():
        for flag in flags.split(", "):
            part, field = flag.removeprefix("--").replace("-", "_").split(".")
            assert hasattr(getattr(config, part), field), flag


def test_the_modes_of_a_mixture_are_counted(context):
    params = context.players.init(training.keys.root(1), context.data.example())
    found = diagnostics.measure_state(context, training.create_state(params, optax.identity()))
    assert {"modes", "modes_in_all", "variance", "value"} <= found.keys() and found["modes_in_all"] == 8
    # Values that are not finite are left out: the loop stops a run that has diverged.
    broken = {**params, "generator": jax.tree.map(lambda x: np.full_like(x, np.nan), params["generator"])}
    found = diagnostics.measure_state(context, training.create_state(broken, optax.identity()))
    assert found.keys() == {"real_probability"}
