"""Records and flags of 0.1.0: config_0_1_0.json was written by that version."""

import copy
import dataclasses
import json
from pathlib import Path

import pytest

from experiments import guided_diffusion
from experiments.command import cli
from experiments.guided_diffusion.config import DiffusionConfig
from jaxgen import training
from jaxgen.training.config import differences
from tests.experiments.ddpm.test_records import UNTRACKED, check_resumed
from tests.experiments.guided_diffusion.toys import changed

RECORD = json.loads((Path(__file__).parent / "config_0_1_0.json").read_text())


def test_a_run_is_resumed_unless_a_tracked_field_differs(tmp_path):
    config = changed(process=DiffusionConfig("cosine", 40, loss="simple"))
    assert (config.process.loss, config.process.variance) == ("mse", "fixed_large")
    assert training.from_dict(guided_diffusion.Config(), RECORD["config"]) == config
    check_resumed(tmp_path, RECORD, config, UNTRACKED | {"guidance"}, guided_diffusion.extendable_fields)


LOSSES = [
    ("simple", "by_loss", "mse", "fixed_large"),
    ("simple", "fixed_small", "mse", "fixed_small"),
    ("mse", "by_loss", "mse", "by_loss"),
    ("rescaled_mse", "by_loss", "rescaled_mse", "by_loss"),
    ("kl", "learned", "kl", "learned"),
    ("rescaled_kl", "fixed_large", "rescaled_kl", "fixed_large"),
]


@pytest.mark.parametrize("old, old_variance, loss, variance", LOSSES)
def test_old_losses_are_read_from_records(old, old_variance, loss, variance):
    record = copy.deepcopy(RECORD["config"])
    record["process"] |= {"loss": old, "variance": old_variance}
    config = changed(process=DiffusionConfig("cosine", 40, loss=loss, variance=variance))
    assert training.from_dict(guided_diffusion.Config(), record) == config
    assert not differences(record, config)
    other = dataclasses.replace(config, process=dataclasses.replace(config.process, prediction="v"))
    assert differences(record, other) == ["process.prediction: 'noise' -> 'v'"]


@pytest.mark.parametrize("old, old_variance, loss, variance", LOSSES)
def test_old_flags_are_read(old, old_variance, loss, variance):
    flags = ["--process.loss", old, "--process.variance", old_variance, "--train.model-devices", "2"]
    presets = guided_diffusion.PRESETS
    _, config, _ = cli.parse("experiments.guided_diffusion", presets, ["quick", *flags], "", cli.Options())
    expected = dataclasses.replace(presets["quick"].process, loss=loss, variance=variance)
    assert config.process == expected and config.train.model_parallel_size == 2 and not config.check()
