"""The estimate of a run's memory: closed forms, and what is refused before anything is written."""

import dataclasses
import math

import pytest

from experiments import deep_autoencoder, vae
from experiments.command import cli, size
from experiments.verify import short_runs
from jaxgen import training


def changed(config, **changes):
    changes = {"train__devices": 1} | changes
    return short_runs.replace_fields(config, {name.replace("__", "."): value for name, value in changes.items()})


QUICK = deep_autoencoder.PRESETS["quick"]


@pytest.mark.parametrize(
    "module, changes, named",
    [
        (vae, {"train__batch_size": 10**9}, "train.batch_size is 1000000000, which needs at least 59.6 GiB"),
        (vae, {"model__widths": (200, 10**10)}, "model.widths is 10000000000, which needs at least 596 GiB"),
        (
            vae,
            {"evaluation__num_samples": 10**12},
            "evaluation.num_samples is 1000000000000, which needs at least 59,605",
        ),
        (deep_autoencoder, {"model__code_size": 10**10}, "model.code_size is"),
        (deep_autoencoder, {"data__size": 10**6}, "data.size is 1000000, which needs at least 2,794 GiB"),
    ],
)
def test_single_numbers_that_no_machine_holds(module, changes, named, monkeypatch):
    monkeypatch.setattr(size, "host_bytes", lambda: 24 * 2**30)
    with pytest.raises(ValueError, match=named):
        cli.checked(changed(module.PRESETS["quick"], **changes), lambda config: pytest.fail("it went on"))
    assert cli.checked(changed(module.PRESETS["quick"], **changes), lambda config: "on", True) == "on"


def test_no_preset_has_such_a_number(monkeypatch):
    monkeypatch.setattr(size, "host_bytes", lambda: 8 * 2**30)
    for name in short_runs.experiments():
        for config in short_runs.load(name).PRESETS.values():
            size.refuse_huge(config)
            assert not training.not_finite(config)


def test_parameters_optimizer_and_batch_of_an_autoencoder_by_hand(monkeypatch):
    monkeypatch.setattr(size, "host_bytes", lambda: 2**20)
    config = changed(QUICK, model__widths=(50,), model__code_size=7, train__batch_size=80, train__devices=2)
    images = deep_autoencoder.validate_and_load(config)
    (found,) = size.trainings(deep_autoencoder.train, config, images)
    parameters = 4 * (784 * 50 + 50 + 50 * 7 + 7 + 7 * 50 + 50 + 50 * 784 + 784)
    assert found.parts["parameters"] == 2 * parameters
    # Adam's moments; its counts of steps are 4 bytes each.
    assert 0 <= found.parts["optimizer"] - 4 * parameters <= 64 and "moving average" not in found.parts
    assert found.parts["batch"] == 80 * 784 * 4 and found.example == 784
    # At least the gradient of both devices; at most it twice, and each layer's result, its gradient and the loss's.
    layers = 80 * 4 * (50 + 7 + 50 + 784)
    assert 2 * parameters <= found.parts["gradient and activations"] <= 4 * parameters + 4 * layers


def test_a_run_that_does_not_fit_is_refused_with_the_numbers(monkeypatch):
    config = changed(QUICK, train__batch_size=10_000)
    images = deep_autoencoder.validate_and_load(config)
    size.refuse_large(deep_autoencoder.train, config, images)
    monkeypatch.setattr(size, "host_bytes", lambda: 2**26)
    message = (
        r"the training needs at least .* GiB \(parameters .*, gradient and activations .*\); it may take 0.0625 GiB"
    )
    with pytest.raises(ValueError, match=message):
        size.refuse_large(deep_autoencoder.train, config, images)


def test_counts_of_an_evaluation_are_multiplied_by_the_size_of_an_example(monkeypatch):
    config = changed(vae.PRESETS["quick"], evaluation__num_samples=10**7)
    images = vae.validate_and_load(config)
    monkeypatch.setattr(size, "host_bytes", lambda: 2**29)
    with pytest.raises(
        ValueError, match="evaluation.num_samples is 10000000, which needs at least 0.605 GiB for 65 values"
    ):
        size.refuse_large(vae.train, config, images)


@pytest.mark.parametrize("name", [n for n in short_runs.experiments() if n not in ("ddpm", "guided_diffusion", "nerf")])
def test_every_family_is_traced_without_values(name):
    found = traced(name)
    assert found[0].parts["parameters"] > 1000 and found[0].parts["batch"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddpm", "guided_diffusion", "nerf"])
def test_the_large_families_are_traced_without_values(name):
    found = traced(name)
    assert found[-1].parts["parameters"] > 1000 and found[-1].parts["batch"] > 0
    assert [one.stage for one in found] == (["classifier", ""] if name == "guided_diffusion" else [""])


def traced(name):
    script = short_runs.load(name)
    config = short_runs.reduce_config(script.PRESETS["quick"])
    return size.trainings(script.train, config, script.validate_and_load(config), "quick")


@dataclasses.dataclass(frozen=True)
class Inner:
    rate: float = 1.0
    limit: float = dataclasses.field(default=math.inf, metadata={"infinite": True})


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    pair: tuple[float, float] = (0.0, 1.0)


def test_numbers_that_are_not_finite_are_refused_unless_a_field_takes_infinity():
    assert training.not_finite(Outer()) == []
    wrong = Outer(Inner(math.nan, math.nan), (-math.inf, 1.0))
    assert training.not_finite(wrong) == [
        f"{name} is {value}; it must be a finite number"
        for name, value in (("inner.rate", "nan"), ("inner.limit", "nan"), ("pair", "-inf"))
    ]
    with pytest.raises(ValueError, match="optimizer.learning_rate is nan; it must be a finite number"):
        cli.checked(changed(QUICK, optimizer__learning_rate=math.nan), lambda config: pytest.fail("it went on"))
