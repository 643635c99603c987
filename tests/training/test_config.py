"""Configs as data: read back, under the names that fields had before, and where a record lacks fields."""

import dataclasses
import json

import pytest

from jaxgen import training
from jaxgen.training.config import differences


@dataclasses.dataclass(frozen=True)
class Inner:
    depth: int = training.renamed(2, "num_layers", "layers")
    rate: float = 0.5
    workers: int = training.untracked(1, old_names=("threads",))


@dataclasses.dataclass(frozen=True)
class Outer:
    seed: int = 0
    inner: Inner = Inner()
    widths: tuple[int, ...] = (3, 4)
    sizes: tuple[tuple[int, int], ...] = ((1, 2),)
    folder: str = training.untracked("", old_names=("dir",))
    train: training.Settings = training.Settings(num_steps=5, batch_size=2)


@dataclasses.dataclass(frozen=True)
class Upgraded:
    """A field that was a number and is a name now."""

    seed: int = 0
    mode: str = "linear"

    @staticmethod
    def upgrade(recorded):
        if "degree" in recorded:
            recorded["mode"] = {1: "linear", 2: "square"}[recorded.pop("degree")]
        return recorded


CHANGED = Outer(3, Inner(4, 0.25, 9), (), ((1, 2), (3, 4)), "there", training.Settings(7, 8, backend="shard_map"))


def as_json(config):
    return json.loads(json.dumps(training.to_dict(config)))


@pytest.mark.parametrize("config", [Outer(), CHANGED])
def test_what_was_recorded_is_read_back(config):
    assert training.from_dict(Outer(), as_json(config)) == config
    assert training.from_dict(CHANGED, as_json(config)) == config


def test_old_names_are_read():
    recorded = as_json(CHANGED)
    recorded["dir"] = recorded.pop("folder")
    recorded["inner"] = {"layers": 4, "rate": 0.25, "threads": 9}
    recorded["train"]["model_devices"] = recorded["train"].pop("model_parallel_size")
    assert training.from_dict(Outer(), recorded) == CHANGED
    recorded["inner"] = {"num_layers": 6, "rate": 0.25, "threads": 9}
    assert training.from_dict(Outer(), recorded).inner.depth == 6
    assert recorded["inner"] == {"num_layers": 6, "rate": 0.25, "threads": 9}


def test_old_names_are_listed_by_their_dotted_names():
    assert training.old_names(Outer()) == {
        "inner.num_layers": "inner.depth",
        "inner.layers": "inner.depth",
        "inner.threads": "inner.workers",
        "dir": "folder",
        "train.model_devices": "train.model_parallel_size",
    }


def test_a_field_that_the_record_lacks_is_as_its_class_defines_it():
    """Not as the preset has it: the run was made before there was such a field."""
    recorded = as_json(CHANGED)
    del recorded["widths"], recorded["inner"]["rate"], recorded["train"]["exact_shards"]
    preset = dataclasses.replace(CHANGED, inner=Inner(rate=0.125))
    read = training.from_dict(preset, recorded)
    assert read == dataclasses.replace(CHANGED, inner=Inner(4, 0.5, 9), widths=(3, 4))
    assert not differences(recorded, read)
    assert differences(recorded, preset) == [
        "inner.depth: 4 -> 2",
        "inner.rate: 0.5 -> 0.125",
        "widths: [3, 4] -> []",
    ]


def test_a_field_that_no_longer_exists_is_named():
    with pytest.raises(ValueError, match="has a field 'colour' that Inner lacks"):
        training.from_dict(Outer(), {"inner": {"colour": 1}})
    recorded = as_json(Outer()) | {"colour": "red"}
    assert differences(recorded, Outer()) == ["colour: 'red' -> '(absent)'"]


def test_differences_are_found_under_old_names():
    recorded = as_json(Outer())
    recorded["inner"]["layers"] = recorded["inner"].pop("depth")
    assert not differences(recorded, Outer())
    assert differences(recorded, dataclasses.replace(Outer(), inner=Inner(depth=5))) == ["inner.depth: 2 -> 5"]


def test_untracked_fields_decide_nothing_under_any_name():
    changed = dataclasses.replace(Outer(), inner=Inner(workers=9), folder="elsewhere")
    recorded = as_json(Outer())
    recorded["dir"], recorded["inner"]["threads"] = recorded.pop("folder"), recorded["inner"].pop("workers")
    assert not differences(recorded, changed)
    settings = {"log_every", "save_every", "keep_checkpoints", "steps_per_call", "prefetch", "devices", "backend"}
    names = training.untracked_fields(Outer())
    assert set(names) >= {"folder", "inner.workers", "train.model_parallel_size", *(f"train.{n}" for n in settings)}
    assert not {"seed", "inner.depth", "train.num_steps", "train.exact_shards"} & set(names)


def test_values_of_earlier_versions_are_translated():
    assert training.from_dict(Upgraded(), {"seed": 1, "degree": 2}) == Upgraded(1, "square")
    assert not differences({"seed": 0, "degree": 1}, Upgraded())
    assert differences({"seed": 0, "degree": 2}, Upgraded()) == ["mode: 'square' -> 'linear'"]


def test_what_a_config_cannot_hold_is_refused():
    with pytest.raises(TypeError, match="not function"):
        training.to_dict({"f": lambda: 0})
