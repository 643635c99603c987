"""The whole NeRF experiment, small."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments import nerf as experiment
from experiments.nerf import evaluate
from experiments.nerf.config import Model, Sampling
from experiments.verify import samples, short_runs
from jaxgen import nerf, training
from jaxgen.weights import flatten
from tests.experiments import one_program, tour_check
from tests.nerf import scenes
from tests.nerf.scenes import H, W

FEW = [
    "--data.train-views", "3", "--data.test-views", "2", "--data.width", "12", "--model.depth", "2", "--model.width",
    "8", "--model.view-width", "8", "--sampling.coarse", "6", "--sampling.fine", "4", "--train.num-steps", "6",
    "--train.batch-size", "16", "--train.log-every", "3", "--evaluation.preview-every", "3",
    "--evaluation.film-frames", "3", "--evaluation.watch-step", "3", "--train.devices", "1",
    "--train.save-every", "3",
]  # fmt: skip


def check_run(call, arguments):
    """A run leaves everything behind; after a kill, the same command trains the rest and renders nothing again."""
    workdir = call("quick", *arguments)
    results = json.loads((workdir / "results.json").read_text())
    assert {"psnr", "psnr_coarse", "ssim", "depth_error", "opacity_error"} <= results["metrics"].keys()
    assert results["metrics"]["views"] == 2 and results["paper"] == {}
    measured = json.loads((workdir / "measured.json").read_text())
    values = {tuple(entry["key"].values()): entry["values"] for entry in measured}
    assert {("preview", 3), ("preview", 6), ("view", "marbles 1", 6), ("film", 3, 6)} <= values.keys()
    psnr = [values["view", f"marbles {i}", 6]["psnr"] for i in range(2)]
    assert results["metrics"]["psnr"] == pytest.approx(np.mean(psnr))
    names = {path.name for path in (workdir / "figures").iterdir()}
    assert {"view-0.png", "view-1.png", "cameras.png", "progress.png", "turntable.gif", "turntable-depth.gif"} <= names
    assert "3 cameras" in (workdir / "poses.txt").read_text()
    tour_check.finds_what_it_shows("nerf", workdir)
    (workdir / "figures" / "view-0.png").unlink()
    one_program.killed_after(3, workdir)
    call("quick", *arguments)
    assert not (workdir / "figures" / "view-0.png").exists()
    again = json.loads((workdir / "results.json").read_text())
    assert again == {**results, "seconds": again["seconds"]}
    return workdir


def test_a_small_run_leaves_everything_behind(call, few_programs):
    workdir = check_run(call, FEW)
    with pytest.raises(training.RunRefused, match="model.depth: 2 -> 4"):
        training.Run(workdir, experiment.PRESETS["quick"], experiment="nerf", quiet=True)


@pytest.mark.slow
def test_a_short_run_leaves_everything_behind(call):
    check_run(call, FEW)


@pytest.mark.parametrize(("exact", "count"), [(8, 3), pytest.param(0, 4, marks=pytest.mark.slow)])
def test_pixels_one_by_one_are_those_of_the_view(exact, count, monkeypatch, few_programs):
    """Alone, in chunks and on two devices: bit for bit with exact shards."""
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    scene = scenes.scene()
    config = dataclasses.replace(
        experiment.PRESETS["quick"],
        model=Model(depth=2, width=8, skips=(), view_width=8, position_frequencies=2),
        sampling=Sampling(coarse=6, fine=4),
    )
    network = config.model.build()
    params = nerf.init_params(jax.random.key(1), network)
    render = nerf.view_renderer(network, scene, config.sampling.settings(None), chunk=7)
    view = evaluate.render_held_out(render, params, scene, 0)
    assert np.ptp(view.depth) > 0.1
    numbers = np.array([0, H // 2 * W - 1, H // 2 * W, H * W - 1, H * W])
    sampler = training.ParallelSampler(experiment.make_sample_fn(config, scene), devices=jax.devices()[:2])
    drawn = sampler(params, jax.random.key(0), numbers)
    for name, whole in view._asdict().items():
        flat = whole.reshape(H * W, *whole.shape[2:])
        expected = flat[[H // 2 * W, H * W - 1, 0, H // 2 * W - 1, H // 2 * W]]
        np.testing.assert_allclose(getattr(drawn, name), expected, atol=2e-5, err_msg=name)
    end = short_runs.End({f": {n}": x for n, x in flatten({"state": {"params": params}}).items()}, {}, b"")
    rows = list(samples.rows(short_runs.Trial(experiment, config, scene), end, exact))
    assert len(rows) == count and all(row.holds for row in rows)
    assert not exact or len({rows[0].digest, rows[2].digest}) == 1
