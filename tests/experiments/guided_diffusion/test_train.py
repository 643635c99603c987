"""Runs of `guided_diffusion`: resuming, what is left behind, a classifier of another run."""

import json
import shutil
from functools import partial
from typing import Any

import numpy as np
import pytest

from experiments import guided_diffusion
from experiments.guided_diffusion import figures
from experiments.guided_diffusion.config import Guidance, Timesteps, variants
from experiments.sample_batches import feature_classifier
from jaxgen import training
from jaxgen.diffusion import Sampler
from tests.experiments import one_program
from tests.experiments.ddpm.toys import changed as with_fields
from tests.experiments.guided_diffusion.toys import (
    SHORT_CHAIN,
    TINY,
    changed,
    make_networks_small,
    run,
    use_few_programs,
)


@pytest.fixture
def small_networks(monkeypatch):
    make_networks_small(monkeypatch)


def stopped(folder, config):
    """Trains four steps in the folder "resumed"."""
    run(folder / "resumed", with_fields(config, train__num_steps=4), whole=False)


def killed(folder, config):
    """Makes "resumed" of "whole", as if it had been killed after four steps."""
    shutil.copytree(folder / "whole", folder / "resumed")
    one_program.killed_after(4, folder / "resumed")


def check_resumed(folder, config, interrupt, last):
    """Eight steps at once, and interrupted after four: the same bits and metrics, of the history of losses too.

    Returns:
        The classifier's parameters, and what `last(folder, config)` returned for the second half.
    """
    _, classifier = run(folder / "whole", config, whole=False)
    interrupt(folder, config)
    found = last(folder / "resumed", config)
    for stage in ("", "classifier"):
        ends = [training.Checkpoints(folder / name / "checkpoints" / stage) for name in ("whole", "resumed")]
        assert [end.steps() for end in ends] == [[3] if stage else [4, 8]] * 2
        assert len({training.tree_digest(end.arrays(end.steps()[-1])) for end in ends}) == 1
    # All losses were remembered, and after the first steps t is no longer uniform.
    checkpoints = training.Checkpoints(folder / "resumed" / "checkpoints")
    for step in (4, 8):
        assert checkpoints.arrays(step)["state/model_state/counts"].sum() == step * 16
    lines = [json.loads(line) for line in (folder / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [(line.get("stage", ""), line["step"]) for line in lines] == [("classifier", 3), ("", 4), ("", 8)]
    assert lines == [json.loads(s) for s in (folder / "resumed" / "metrics.jsonl").read_text().splitlines()]
    assert lines[0].keys() >= {"right", "right_quarter_4"} and lines[1].keys() >= {"timestep", "bound", "error"}
    return classifier, found


@pytest.mark.slow
def test_a_resumed_run_is_the_same_bit_for_bit_history_included(tmp_path, small_networks):
    check_resumed(tmp_path, SHORT_CHAIN, stopped, partial(run, whole=False))


def check_what_is_left_behind(folder, config, metrics):
    assert metrics["bits_per_dim"] == pytest.approx(metrics["rate"] + metrics["distortion"])
    names = [variant.name for variant in variants(config, config.process.make_schedule())]
    for name in names:
        assert {f"{n}_{name}" for n in ("classifier_fid", "precision", "recall", "named_right_percent")} <= set(metrics)
    assert metrics["fid_samples"] == metrics["floor_images"] == 12 and metrics["noisy_accuracy_images"] == 7
    times = np.unique(np.rint(np.linspace(0, config.process.steps - 1, config.evaluation.levels)).astype(int))
    by_noise = [metrics[f"noisy_accuracy_percent_t{t}"] for t in times]
    assert metrics["noisy_accuracy_percent"] == pytest.approx(np.mean(by_noise))
    assert all(value * 7 / 100 == pytest.approx(round(value * 7 / 100)) for value in by_noise)
    figures = {path.stem for path in (folder / "figures").glob("*.png")} - {"preview-0000004"}
    assert figures == {"guided", "neighbours", "bound", "classifier", "tradeoff", "preview-0000008"}
    # Every variant begins with the same noise, and guidance changes what becomes of it.
    pieces = folder / "evaluation" / "step-8"
    drawn = {p.name.removesuffix("-0-5.npz"): dict(np.load(p))["x"] for p in pieces.glob("samples-*-0-5.npz")}
    assert len(drawn) == len(names) and len({x.tobytes() for x in drawn.values()}) == len(names)


def check_measured_again(folder, config, metrics):
    """With fewer variants, and from the pieces: nothing is drawn a second time."""
    (folder / "measured.json").unlink()
    pieces = {path: path.stat().st_mtime_ns for path in (folder / "evaluation").rglob("*.npz")}
    found = run(folder, with_fields(config, guidance=Guidance(("none",))))
    assert pieces == {path: path.stat().st_mtime_ns for path in (folder / "evaluation").rglob("*.npz")}
    assert found == {name: metrics[name] for name in found} and "classifier_fid_unguided" in found
    assert len(found) < len(metrics)


FEW_VARIANTS = with_fields(
    SHORT_CHAIN, guidance=Guidance(("classifier",), (0.0, 30.0)), evaluation__sampler=Sampler("ddim"),
    evaluation__second_scales=(), evaluation__levels=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder of a small run that was stopped once, its classifier's parameters, its metrics)."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_few_programs(monkeypatch)
        classifier, metrics = check_resumed(folder, FEW_VARIANTS, killed, run)
    return folder / "resumed", classifier, metrics


def test_a_small_run_leaves_everything_behind(finished, monkeypatch):
    folder, _, metrics = finished
    use_few_programs(monkeypatch)
    check_what_is_left_behind(folder, FEW_VARIANTS, metrics)
    monkeypatch.setattr(figures, "draw", lambda *_: None)
    check_measured_again(folder, FEW_VARIANTS, metrics)
    with pytest.raises(training.RunRefused, match="labels.dropout: 0.3 -> 0.2"):
        training.Run(folder, with_fields(FEW_VARIANTS, labels__dropout=0.2), experiment="guided_diffusion", quiet=True)


@pytest.mark.slow
def test_everything_is_measured_drawn_and_computed_once(tmp_path, small_networks, small_features):
    folder = tmp_path / "run"
    metrics = run(folder, TINY)
    check_what_is_left_behind(folder, TINY, metrics)
    check_measured_again(folder, changed(evaluation__second_scales=()), metrics)


@pytest.fixture
def small_features(monkeypatch):
    small = feature_classifier.Settings(channels=2, num_features=4, steps=3, batch_size=8)
    cached = feature_classifier.cached
    monkeypatch.setattr(feature_classifier, "cached", lambda *data: cached(*data, settings=small))


@pytest.mark.slow
def test_an_upsampler_trains_on_small_images_and_is_compared_with_the_truth(tmp_path, small_networks, small_features):
    config = changed(
        low_resolution=4, labels__dropout=0.0, timesteps=Timesteps(), guidance=Guidance(("none",)),
        classifier__num_steps=0, evaluation__second_scales=(),
    )  # fmt: skip
    metrics: Any = run(tmp_path, config)
    assert {"bits_per_dim", "classifier_fid_unguided"} <= metrics.keys() and "noisy_accuracy_percent" not in metrics
    assert {"upsampled", "guided"} <= {path.stem for path in (tmp_path / "figures").glob("*.png")}


def test_a_classifier_of_another_run_is_taken_if_it_fits(finished, tmp_path, small_networks):
    first, params, _ = finished
    config = with_fields(SHORT_CHAIN, guidance=Guidance(("classifier",)), evaluation__images=0, evaluation__samples=0)
    taken = with_fields(config, classifier__num_steps=0, classifier__trained=str(first))
    found = guided_diffusion.validate_and_load(taken).classifier
    assert found is not None and training.tree_digest(found.params) == training.tree_digest(params)
    with pytest.raises(ValueError, match="another noise schedule: classifier of resumed: T = 4, .*; this run: T = 5, "):
        guided_diffusion.validate_and_load(with_fields(taken, process__steps=5))
    # Each network has rescaled timesteps, or not, of its own.
    rescaled = guided_diffusion.validate_and_load(with_fields(taken, process__rescaled_timesteps=True))
    assert rescaled.model.rescaled_timesteps and rescaled.classifier is not None
    assert not rescaled.classifier.model.rescaled_timesteps
    with pytest.raises(ValueError, match="classifier of resumed knows 10 classes, this run 11"):
        guided_diffusion.validate_and_load(with_fields(taken, labels__classes=11))
    with pytest.raises(ValueError, match="a run of 'ddpm', which trains no classifier"):
        record = json.loads((first / "config.json").read_text())
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "config.json").write_text(json.dumps({**record, "experiment": "ddpm"}))
        guided_diffusion.validate_and_load(with_fields(taken, classifier__trained=str(tmp_path / "other")))
    with pytest.raises(ValueError, match="there is no checkpoint in .*classifier"):
        (tmp_path / "other" / "config.json").write_text(json.dumps(record))
        guided_diffusion.validate_and_load(with_fields(taken, classifier__trained=str(tmp_path / "other")))
