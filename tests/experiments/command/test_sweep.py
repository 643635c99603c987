"""`--sweep field=a,b`: each setting is the run that the same command without the sweep makes."""

import dataclasses
import json
import shutil
import sys

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.command import checks, cli, sweep
from jaxgen import training

X = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Config:
    """The mean of the first columns of X."""

    seed: int = 0
    """random seed"""
    width: int = 2
    """number of columns"""
    sizes: tuple[int, ...] = (1,)
    """sizes"""
    noisy: bool = False
    """a flag"""
    rate: float = 0.1
    """learning rate"""
    weight: float = 1.0
    """weight of the loss"""
    divisor: float = 1.0
    """divisor of the loss"""
    clip: float = 0.0
    """largest gradient norm; 0: no clipping"""
    train: training.Settings = training.Settings(num_steps=3, batch_size=4, devices=1)


PRESETS = {"quick": Config(), "paper": Config(width=3)}
trained, stop_at = [], []


def stop(step, state):
    """Ends the program, as a second Ctrl-C does, at the first step in `stop_at`."""
    if step in stop_at:
        stop_at.clear()
        raise KeyboardInterrupt


def validate_and_load(config):
    checks.refuse(checks.bounds(config, width=1))
    if config.width > X.shape[1]:
        raise ValueError(f"width is {config.width}; there are {X.shape[1]} columns")
    return X[:, : config.width]


def train(config, x, run):
    if isinstance(run, training.Run):  # and not where its size is estimated
        trained.append(config)

    def loss(params, batch, keys, context):
        error = jnp.sum((params["mean"][None] - batch) ** 2, axis=-1)
        return config.weight * error / config.divisor, {}

    optimizer = optax.sgd(config.rate)
    if config.clip:
        optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optimizer)
    take = lambda key, x, step, positions: x[(positions + step * np.int32(4)) % np.int32(len(X))]
    start = {"mean": np.full(config.width, config.seed, np.float32)}
    state = training.fit(
        run, config.train, update=training.update_from_objective(loss, optimizer),
        state=training.create_state(start, optimizer), batches=training.DeviceBatches(take, x),
        key=training.keys.root(config.seed), callbacks=[(1, stop)],
    )  # fmt: skip
    params = training.fetch(state.params)
    metrics = {"first": float(params["mean"][0])} | ({"noisy": 1.0} if config.noisy else {})
    return run.finish(step=int(state.step), params=params, metrics=metrics)


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Runs the command with arguments in a folder, and returns the folder."""

    def run(*arguments, folder="runs"):
        trained.clear()
        workdir = tmp_path / folder
        monkeypatch.setattr(sys, "argv", ["mean", *arguments, "--workdir", str(workdir)])
        cli.main("mean", PRESETS, validate_and_load, train, "Means.")
        return workdir

    return run


def refusal(capsys, call, *arguments):
    with pytest.raises(SystemExit) as stopped:
        call(*arguments)
    assert stopped.value.code not in (0, None) and not trained
    return capsys.readouterr().err


def results_of(folder):
    return json.loads((folder / "results.json").read_text())


def test_a_setting_alone_has_the_parameters_that_it_has_in_the_sweep(call, capsys):
    folder = call("quick", "--sweep", "width=2,4", "--sweep", "seed=0,5", "--train.num-steps", "4")
    table = capsys.readouterr().out
    names = ["width=2,seed=0", "width=2,seed=5", "width=4,seed=0", "width=4,seed=5"]
    # Up to the training, and from the start when it is done.
    assert [(config.width, config.seed) for config in trained] == 2 * [(2, 0), (2, 5), (4, 0), (4, 5)]
    swept = json.loads((folder / "sweep.json").read_text())
    assert (swept["experiment"], swept["preset"]) == ("mean", "quick")
    assert [run["folder"] for run in swept["runs"]] == names
    assert swept["runs"][1]["setting"] == {"width": "2", "seed": "5"}
    assert [run["trained_together"] for run in swept["runs"]] == [2, 2, 2, 2]
    found = [results_of(folder / name) for name in names]
    assert [run["params_sha256"] for run in swept["runs"]] == [results["params_sha256"] for results in found]
    assert len({results["params_sha256"] for results in found}) == 4
    assert all(
        name in table and results["params_sha256"][:12] in table for name, results in zip(names, found, strict=True)
    )
    assert f"{found[3]['metrics']['first']:.5g}" in table

    alone = call("quick", "--width", "4", "--seed", "5", "--train.num-steps", "4", folder="alone")
    assert {**results_of(alone), "seconds": 0} == {**found[3], "seconds": 0}
    record = (alone / "config.json").read_text()
    assert record == (folder / names[3] / "config.json").read_text()


def test_the_same_command_resumes_the_sweep(call):
    folder = call("quick", "--sweep", "seed=1,2")
    before = results_of(folder / "seed=1")
    # A run of its own can be resumed alone, and the sweep takes one setting more.
    call("quick", "--seed", "1", folder="runs/seed=1")
    call("quick", "--sweep", "seed=1,2,3")
    assert results_of(folder / "seed=1")["params_sha256"] == before["params_sha256"]
    assert [run["folder"] for run in json.loads((folder / "sweep.json").read_text())["runs"]] == [
        "seed=1", "seed=2", "seed=3",
    ]  # fmt: skip


def swept_runs(folder):
    """{folder: (settings in one program, sha256)} of a sweep."""
    runs = json.loads((folder / "sweep.json").read_text())["runs"]
    return {run["folder"]: (run["trained_together"], run["params_sha256"]) for run in runs}


@pytest.mark.parametrize(
    "field, values, together",
    [
        ("rate", ["0.1", "0.03", "0.3"], [3, 3, 3]),
        ("weight", ["0.5", "3", "0.7"], [3, 3, 3]),
        # A division by a constant is compiled as a product; clipping is another program than none.
        ("divisor", ["3", "7"], [1, 1]),
        ("clip", ["0", "0.1", "0.3"], [1, 2, 2]),
    ],
)
def test_settings_that_differ_in_constants_are_trained_together(field, values, together, call):
    found = swept_runs(call("quick", "--sweep", f"{field}={','.join(values)}"))
    assert [number for number, _ in found.values()] == together
    for value in values:
        alone = results_of(call("quick", f"--{field}", value, folder=f"alone-{value}"))
        assert found[f"{field}={value}"][1] == alone["params_sha256"]
    assert len({sha for _, sha in found.values()}) == len(values)


@pytest.mark.parametrize("uneven", [False, True])
def test_a_sweep_that_was_stopped_goes_on(uneven, call, tmp_path):
    """Also where one setting was saved later than the other: those are then trained one after another."""
    command = ["quick", "--sweep", "rate=0.1,0.3", "--train.save-every", "1", "--train.steps-per-call", "1"]
    whole = swept_runs(call(*command, folder="whole"))
    stop_at.append(2)
    with pytest.raises(SystemExit) as stopped:
        call(*command)
    assert stopped.value.code == 130
    saved = tmp_path / "runs" / "rate=0.3" / "checkpoints"
    assert sorted(path.name for path in saved.iterdir() if path.is_dir()) == ["1", "2"]
    if uneven:
        shutil.rmtree(saved / "2")
    folder = call(*command)
    assert [sha for _, sha in swept_runs(folder).values()] == [sha for _, sha in whole.values()]
    assert [json.loads(line)["step"] for line in (folder / "rate=0.3" / "metrics.jsonl").read_text().splitlines()] == [
        3
    ]


def test_flags_and_tuples_are_swept(call):
    call("paper", "--sweep", "noisy=true,False", "--sweep", "sizes=3 4,5", "--width", "1")
    assert [(config.noisy, config.sizes, config.width) for config in trained[:4]] == [
        (True, (3, 4), 1), (True, (5,), 1), (False, (3, 4), 1), (False, (5,), 1),
    ]  # fmt: skip


def test_all_settings_are_checked_before_the_first_is_trained(call, capsys, tmp_path):
    assert "width is 7; there are 6 columns" in refusal(capsys, call, "quick", "--sweep", "width=2,7")
    assert "width is 0; it must be at least 1" in refusal(capsys, call, "quick", "--sweep", "width=2,0")
    assert "no option '--widht'; the nearest is '--width'" in refusal(capsys, call, "quick", "--sweep", "widht=2,3")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("values", [["width=2,2"], ["width=2,"], ["width=2", "--sweep", "width=3"]])
def test_what_is_no_sweep_is_refused(values, call, capsys):
    message = refusal(capsys, call, "quick", "--sweep", *values)
    assert "expected each field once, and different values, none empty" in message


def test_the_folder_of_a_run_is_not_that_of_a_sweep(call, capsys):
    call("quick")
    assert "holds a run; choose another --workdir for the sweep" in refusal(
        capsys, call, "quick", "--sweep", "seed=1,2"
    )


def test_sweeps_are_taken_out_of_the_command_line():
    fields, others = sweep.take(["quick", "--sweep", "model.code-size=3,4", "--seed", "1", "--sweep=--ema=0.9"])
    assert fields == {"model.code_size": ["3", "4"], "ema": ["0.9"]} and others == ["quick", "--seed", "1"]
    # The field of 0.1.0 that had this name.
    assert sweep.take(["paper_kingma", "--sweep", "3", "5"]) == ({}, ["paper_kingma", "--sweep", "3", "5"])
    assert sweep.settings(Config(), {}) == []


def test_a_metric_that_one_setting_lacks_is_left_open():
    runs = [
        {"folder": "a=1", "metrics": {"error": 0.123456789}, "params_sha256": "0" * 64, "trained_together": 1},
        {"folder": "a=2", "metrics": {"error": 2.0, "bound": -90.5}, "params_sha256": "f" * 64, "trained_together": 2},
    ]
    assert [line.split() for line in sweep.table(runs).splitlines()] == [
        ["a=1", "a=2"], ["error", "0.12346", "2"], ["bound", "-90.5"], ["parameters", "sha256", "0" * 12, "f" * 12],
        ["settings", "in", "one", "program", "1", "2"],
    ]  # fmt: skip
