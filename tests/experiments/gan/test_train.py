"""The whole GAN experiment, small."""

import dataclasses
import functools
import importlib

import jax
import pytest

from experiments import gan
from experiments.command import image_data
from experiments.gan import diagnostics, evaluate, figures
from experiments.gan.config import Evaluation, Model, Objective
from experiments.gan.data import load
from jaxgen import pictures, training
from tests.experiments.gan.small_runs import measured, splits, tiny, trained, with_steps


@pytest.mark.slow
def test_a_longer_training_goes_on_where_no_rate_depends_on_its_length(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "GAME_SAMPLES", 500)
    sgd = training.Optimizer("sgd", 0.1, "goodfellow", epoch_steps=1)
    config = tiny("gaussian", generator=sgd, discriminator=sgd, evaluation=Evaluation(frames=2, check_every=3))
    prepared = gan.validate_and_load(config)
    first, grown = (trained(c, prepared, tmp_path / "grown") for c in (with_steps(config, 3), config))
    assert grown == {**trained(config, prepared, tmp_path / "whole"), "seconds": grown["seconds"]}
    assert first["metrics"] != grown["metrics"]


def check_ring(folder, results):
    assert results["metrics"]["modes_in_all"] == 8 and not results["paper"] and results["step"] == 6
    assert {p.name for p in (folder / "figures").iterdir()} >= {"film.gif", "discriminator.png", "game.png"}
    assert {p.stem for p in (folder / "frames").iterdir()} >= {"000000000", "000000006"}
    assert {3, 6} <= measured(folder, "diagnostics").keys()


RING = tiny(
    "quick",
    model=Model(generator_widths=(8,), discriminator_widths=(8,)),
    evaluation=Evaluation(frames=2, check_every=3),
)


def test_a_ring_resumed_and_made_longer(tmp_path, monkeypatch, few_programs):
    # Every batch of points has as many of them.
    for owner, name in ((evaluate, "GAME_SAMPLES"), (diagnostics, "SAMPLES"), (evaluate, "MODE_SAMPLES")):
        monkeypatch.setattr(owner, name, 1000)
    field = functools.partial(pictures.probability_field, resolution=100, factor=1)
    monkeypatch.setattr(pictures, "probability_field", field)
    constant = training.Optimizer("adam", 4e-3, beta1=0.5)
    config = dataclasses.replace(RING, generator=constant, discriminator=constant)
    prepared = gan.validate_and_load(config)
    with monkeypatch.context() as patch:
        patch.setattr(figures, "draw", lambda *_: None)
        first = trained(with_steps(config, 3), prepared, tmp_path)
    assert first["step"] == 3
    grown = trained(config, prepared, tmp_path)
    check_ring(tmp_path, grown)
    assert first["params_sha256"] != grown["params_sha256"] and first["metrics"] != grown["metrics"]
    # Nothing is trained or measured a second time.
    monkeypatch.setattr(figures, "draw", lambda *_: None)
    again = trained(config, prepared, tmp_path)
    assert again == {**grown, "seconds": again["seconds"]}
    with pytest.raises(training.RunRefused, match="seed: 0 -> 5"):
        trained(dataclasses.replace(config, seed=5), prepared, tmp_path)


@pytest.mark.slow
def test_a_ring(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "GAME_SAMPLES", 500)
    check_ring(tmp_path, trained(RING, gan.validate_and_load(RING), tmp_path))
    assert {p.stem for p in (tmp_path / "frames").iterdir()} == {"000000000", "000000002", "000000006"}


def test_several_seeds_are_the_runs_of_each(tmp_path, monkeypatch):
    contexts = []
    # `experiments.gan.train` as an attribute is the function.
    module = importlib.import_module("experiments.gan.train")
    monkeypatch.setattr(module, "train_one", lambda context: contexts.append(context) or module.Trained({}, {}, {}))
    monkeypatch.setattr(evaluate, "measure", lambda context, trained: {"modes": len(contexts)})
    monkeypatch.setattr(figures, "draw", lambda *_: None)
    config = tiny("quick", seed=5, seeds=3)
    found = trained(config, load(config.data, 1, False), tmp_path)["metrics"]
    assert [context.stage for context in contexts] == ["seed5", "seed6", "seed7"]
    for seed, context in enumerate(contexts, 5):
        assert (jax.random.key_data(context.key) == jax.random.key_data(training.keys.root(seed))).all()
    assert found == {"modes": 2.0, "modes_std": 1.0, "modes_least": 1.0, "seeds": 3.0}


@pytest.mark.slow
def test_a_longer_training_selects_among_the_same_steps(tmp_path):
    evaluation = Evaluation(samples=20, centres=6, select_every=2, frames=1)
    config = tiny("mnist", model=Model("maxout", "uniform", 5, (10,), (4,)), evaluation=evaluation)
    selected = []
    for folder, configs in (("grown", (with_steps(config, 3), config)), ("whole", (config,))):
        results = [trained(c, splits(label=False), tmp_path / folder) for c in configs][-1]
        selected.append((measured(tmp_path / folder, "validation"), results["metrics"]))
    assert selected[0] == selected[1] and selected[0][0].keys() == {2, 4, 6}


@pytest.mark.slow
def test_players_with_labels_and_a_normalised_discriminator(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "on_features", lambda *_: {})
    config = tiny(
        "dcgan",
        data=image_data.FlatImageData(),
        model=Model("dcgan", "normal", 4, channels=8, conditional=True),
        objective=Objective("hinge", penalty="none", spectral=True, discriminator_steps=2),
        evaluation=Evaluation(samples=20, centres=0, frames=1),
    )
    found = trained(config, splits(signed=True), tmp_path)["metrics"]
    assert "parzen_of_kmeans_centres" not in found and 0 < found["real_probability"] < 1
    assert (tmp_path / "figures/walks.png").exists()
