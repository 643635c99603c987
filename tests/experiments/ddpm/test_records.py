"""Records and flags of 0.1.0: config_0_1_0.json was written by that version."""

import copy
import dataclasses
import json
from pathlib import Path

import pytest

from experiments import ddpm
from experiments.command import cli
from experiments.ddpm.model import DiffusionConfig
from jaxgen import training
from jaxgen.training.config import differences
from tests.experiments.ddpm.toys import TINY, changed

RECORD = json.loads((Path(__file__).parent / "config_0_1_0.json").read_text())
UNTRACKED = {
    "data.dir", "data.on_disk", "data.test_split", "data.workers", "preview_every", "evaluation", "train.log_every",
    "train.save_every", "train.keep_checkpoints", "train.steps_per_call", "train.prefetch", "train.devices",
    "train.model_devices", "train.backend",
}  # fmt: skip


def altered_leaves(tree, prefix=""):
    """Yields (dotted name, the tree with another value there)."""
    for name, value in tree.items():
        if isinstance(value, dict):
            for inner, other in altered_leaves(value, f"{prefix}{name}."):
                yield inner, {**tree, name: other}
        else:
            yield prefix + name, {**tree, name: other_value(value)}


def other_value(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return f"other {value}"
    return [*value, 1] if isinstance(value, list) else value + 1


def check_resumed(folder, record, config, untracked, extendable_fields):
    """The run of the record is resumed, unless a tracked field differs; then it is refused and nothing is written."""
    path = folder / "config.json"
    refused, altered = set(), dict(altered_leaves(record["config"]))
    for name, other in altered.items():
        path.write_text(json.dumps({**record, "config": other}))
        before = path.read_bytes()
        try:
            with training.Run(folder, config, experiment=record["experiment"], quiet=True):
                pass
        except training.RunRefused as refusal:
            assert name in str(refusal) and path.read_bytes() == before
            refused.add(name)
    assert altered.keys() - refused == {name for name in altered if {name, name.split(".")[0]} & untracked}
    path.write_text(json.dumps(record))
    longer = dataclasses.replace(config, train=dataclasses.replace(config.train, num_steps=10))
    with pytest.raises(training.RunRefused, match=r"train.num_steps: \d -> 10"):
        training.Run(folder, longer, experiment=record["experiment"], quiet=True)
    for resumed in (config, longer):
        fields = {"extendable_fields": extendable_fields(resumed), "quiet": True}
        with training.Run(folder, resumed, experiment=record["experiment"], preset="quick", **fields):
            pass
    assert training.from_dict(type(config)(), json.loads(path.read_text())["config"]) == longer


def test_a_run_is_resumed_unless_a_tracked_field_differs(tmp_path):
    assert training.from_dict(ddpm.Config(), RECORD["config"]) == TINY
    check_resumed(tmp_path, RECORD, TINY, UNTRACKED, ddpm.extendable_fields)


LOSSES = [
    ("simple", "fixed_large", "mse"),
    ("simple", "fixed_small", "mse"),
    ("bound", "fixed_large", "rescaled_kl"),
    ("bound", "learned", "rescaled_kl"),
    ("hybrid", "learned_range", "rescaled_mse"),
]


@pytest.mark.parametrize("old, variance, now", LOSSES)
def test_old_losses_are_read_from_records(old, variance, now):
    record = copy.deepcopy(RECORD["config"])
    record["process"] |= {"loss": old, "variance": variance}
    config = changed(process=DiffusionConfig(steps=40, loss=now, variance=variance))
    assert training.from_dict(ddpm.Config(), record) == config
    assert not differences(record, config)
    (difference,) = differences(record, changed(process=dataclasses.replace(config.process, loss="kl")))
    assert difference == f"process.loss: {now!r} -> 'kl'"


@pytest.mark.parametrize("flag", ["fixed-batch-size", "exact-shard", "exact_shard"])
def test_the_fixed_batch_of_samples_is_read_under_its_old_name(flag):
    arguments = ["quick", f"--evaluation.{flag}", "8"]
    _, config, _ = cli.parse("experiments.ddpm", ddpm.PRESETS, arguments, "", cli.Options())
    assert config.evaluation.fixed_batch_size == 8
    record = copy.deepcopy(RECORD["config"])
    record["evaluation"]["exact_shard"] = 8
    assert training.from_dict(ddpm.Config(), record).evaluation.fixed_batch_size == 8


@pytest.mark.parametrize("old, variance, now", LOSSES)
def test_old_flags_are_read(old, variance, now):
    flags = ["--process.loss", old, "--process.variance", variance, "--train.model-devices", "2"]
    preset, config, _ = cli.parse("experiments.ddpm", ddpm.PRESETS, ["quick", *flags], "", cli.Options())
    assert preset == "quick" and config.train.model_parallel_size == 2
    expected = dataclasses.replace(ddpm.PRESETS["quick"].process, loss=now, variance=variance)
    assert config.process == expected and not config.check()
