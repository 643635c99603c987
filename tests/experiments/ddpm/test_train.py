"""Runs of `ddpm`: resuming, the average, and what is left behind."""

import dataclasses
import json
import shutil
from functools import partial

import jax
import numpy as np
import pytest

from experiments import ddpm
from experiments.ddpm import figures
from experiments.ddpm.train import fit
from experiments.sample_batches import feature_classifier
from jaxgen import training
from tests.experiments import one_program
from tests.experiments.ddpm.toys import TINY, changed, make_networks_small, model_of


def trained(folder, config, num_steps, preview_every=2):
    """Trains in a run directory and returns (state, figures' bytes)."""
    config = dataclasses.replace(
        config, preview_every=preview_every, train=dataclasses.replace(config.train, num_steps=num_steps)
    )
    train_set, _ = ddpm.validate_and_load(config)
    grow = ddpm.extendable_fields(config)
    with training.Run(folder, config, experiment="ddpm", extendable_fields=grow, quiet=True) as run:
        state = fit(config, model_of(config), train_set, training.keys.root(config.seed), run)
        return jax.device_get(state), {path.name: path.read_bytes() for path in run.figures.glob("*.png")}


def stopped(folder, config):
    """Trains two steps in the folder "resumed"."""
    trained(folder / "resumed", config, 2)


def killed(folder, config):
    """Makes "resumed" of "whole", as if it had been killed after two steps."""
    shutil.copytree(folder / "whole", folder / "resumed")
    one_program.killed_after(2, folder / "resumed")
    (folder / "resumed" / "figures" / "preview-0000004.png").unlink()


def check_resumed(folder, config, interrupt, last, preview_every=2):
    """One training of four steps, and one that was interrupted after two: the same bits, the same last preview.

    Returns:
        The last state, and what `last(folder, config)` returned for the second half.
    """
    whole, previews = trained(folder / "whole", config, 4, preview_every)
    interrupt(folder, config)
    figures = folder / "resumed" / "figures"
    first = (figures / "preview-0000002.png").read_bytes()
    assert [path.name for path in figures.iterdir()] == ["preview-0000002.png"]
    found = last(folder / "resumed", config)
    runs = [training.Checkpoints(folder / name / "checkpoints") for name in ("whole", "resumed")]
    ends = {training.tree_digest(run.arrays(4)) for run in runs}
    assert len(ends) == 1 and training.tree_digest(runs[1].arrays(2)) not in ends
    assert previews["preview-0000004.png"] == (figures / "preview-0000004.png").read_bytes() != first
    return whole, found


@pytest.mark.slow
def test_a_resumed_run_is_the_same_bit_for_bit(tmp_path):
    check_resumed(tmp_path, TINY, stopped, partial(trained, num_steps=4), preview_every=4)


@pytest.fixture
def small_network(monkeypatch):
    make_networks_small(monkeypatch)


def measured_run(folder, config):
    prepared = ddpm.validate_and_load(config)
    grow = ddpm.extendable_fields(config)
    with training.Run(folder, config, experiment="ddpm", preset="quick", extendable_fields=grow, quiet=True) as opened:
        return ddpm.train(config, prepared, opened)["metrics"]


def check_what_is_left_behind(folder, metrics):
    assert metrics["bits_per_dim"] == pytest.approx(metrics["rate"] + metrics["distortion"])
    assert metrics["bound_images"] == 5 and metrics["fid_samples"] == metrics["floor_images"] == 12
    assert {"classifier_fid", "classifier_fid_floor", "precision", "recall_floor"} <= metrics.keys()
    figures = {path.stem for path in (folder / "figures").glob("*.png")}
    assert figures >= {"samples", "neighbours", "denoising", "interpolations", "bound", "preview-0000004"}
    assert json.loads((folder / "results.json").read_text())["paper"] == {}


def check_evaluation_continued(folder, config, metrics):
    """An evaluation that was cut off goes on from its pieces: what stands in them is what is reported.

    What is measured may change on a trained run.
    """
    (folder / "measured.json").unlink()
    pieces = sorted((folder / "evaluation" / "step-4").glob("bound-*"))
    assert [path.name for path in pieces] == ["bound-0-4.npz", "bound-4-4.npz"]
    arrays = dict(np.load(pieces[1]))
    np.savez(pieces[1], **{**arrays, "prior": arrays["prior"] + np.float32(10)})
    times = lambda: {path: path.stat().st_mtime_ns for path in (folder / "evaluation").rglob("*.npz")}
    before = times()
    evaluation = dataclasses.replace(config.evaluation, samples=10)
    again = measured_run(folder, dataclasses.replace(config, evaluation=evaluation))
    assert times() == before and again["fid_samples"] == 10
    assert again["bits_per_dim"] == pytest.approx(metrics["bits_per_dim"] + 10 / 5)


def test_a_small_run_leaves_everything_behind_and_resumes(tmp_path, monkeypatch, small_network):
    one_program.networks(monkeypatch)
    one_program.pixel_features(monkeypatch)
    config = changed(train__save_every=1, train__keep_checkpoints=4)
    end, metrics = check_resumed(tmp_path, config, killed, measured_run)
    folder = tmp_path / "resumed"
    # The average forgets the random start: after one step it is 1/10 of the start and 9/10 of the new parameters, not
    # 99/100 and 1/100.
    average = model_of(TINY).init(training.keys.stream(training.keys.root(0), "params"))
    average = jax.tree.map(lambda x: np.asarray(x, np.float64), average)
    with training.Checkpoints(folder / "checkpoints") as checkpoints:
        for step in range(1, 5):
            arrays = checkpoints.arrays(step)
            decay = min(0.99, step / (9 + step))
            params = {n.partition("/params/")[2]: x for n, x in arrays.items() if n.startswith("state/params/")}
            average = {
                layer: {name: decay * x + (1 - decay) * params[f"{layer}/{name}"] for name, x in of_layer.items()}
                for layer, of_layer in average.items()
            }
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), end.ema, average)
    check_what_is_left_behind(folder, metrics)
    monkeypatch.setattr(figures, "draw", lambda *_: None)
    check_evaluation_continued(folder, config, metrics)
    with pytest.raises(training.RunRefused, match=r"network.dropout: 0.5 -> 0.25"):
        training.Run(folder, changed(network__dropout=0.25), experiment="ddpm", quiet=True)


@pytest.mark.slow
def test_everything_is_left_behind_and_nothing_is_computed_twice(tmp_path, monkeypatch, small_network):
    small = feature_classifier.Settings(channels=2, num_features=4, steps=3, batch_size=8)
    cached = feature_classifier.cached
    monkeypatch.setattr(feature_classifier, "cached", lambda *data: cached(*data, settings=small))
    folder = tmp_path / "run"
    metrics = measured_run(folder, TINY)
    check_what_is_left_behind(folder, metrics)
    check_evaluation_continued(folder, TINY, metrics)
