"""The command line: what a person types, wrong and right. In-process, on embedded data, for a few steps."""

import json
import sys

import pytest

from experiments import command, contractive_autoencoder, deep_autoencoder, sparse_autoencoder

SCRIPTS = {
    "deep_autoencoder": deep_autoencoder,
    "sparse_autoencoder": sparse_autoencoder,
    "contractive_autoencoder": contractive_autoencoder,
}
SHORT = {
    "deep_autoencoder": [
        "quick", "--data.name", "digits", "--model.widths", "16", "--train.num-steps", "6", "--train.batch-size", "8",
        "--optimizer.warmup-steps", "2", "--baselines.extra-components", "8", "--train.log-every", "3",
    ],
    "sparse_autoencoder": [
        "quick", "--train.num-steps", "4", "--train.batch-size", "8", "--model.code-size", "20", "--model.k", "3",
        "--model.start-k", "10",
    ],
    "contractive_autoencoder": [
        "quick", "--train.num-steps", "4", "--train.batch-size", "8", "--model.code-size", "20",
        "--classifier-steps", "4", "--methods", "cae", "kl",
    ],
}  # fmt: skip


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Runs a command by name and arguments and returns its run directory."""

    def run(name, *arguments, workdir=tmp_path / "run"):
        script = SCRIPTS[name]
        monkeypatch.chdir(tmp_path)
        where = ["--workdir", str(workdir)] if arguments and arguments[0] in script.PRESETS else []
        if where and "--train.devices" not in arguments:
            where += ["--train.devices", "1"]
        monkeypatch.setattr(sys, "argv", [name, *arguments, *where])
        command.main(name, script.PRESETS, script.prepare, script.train, script.__doc__ or "")
        return workdir

    return run


@pytest.fixture
def refused(call, capsys, tmp_path):
    """Runs a command that must exit with an error and write nothing; returns what it said."""

    def run(name, *arguments):
        with pytest.raises(SystemExit) as stopped:
            call(name, *arguments)
        assert stopped.value.code not in (0, None)
        assert not (tmp_path / "run").exists()
        captured = capsys.readouterr()
        return captured.out + captured.err

    return run


@pytest.mark.parametrize("name", SHORT)
def test_a_short_run_leaves_everything_behind(name, call):
    workdir = call(name, *SHORT[name])
    results = json.loads((workdir / "results.json").read_text())
    assert results["experiment"] == name and results["preset"] == "quick"
    assert all(isinstance(v, float) for v in results["metrics"].values())
    assert set(results["paper"]) <= set(results["metrics"])
    for file in ("config.json", "environment.json", "metrics.jsonl", "timing.jsonl", "checkpoints"):
        assert (workdir / file).exists()
    assert list((workdir / "figures").glob("*.png"))
    # The same command again has nothing left to train and finds the same parameters.
    call(name, *SHORT[name])
    again = json.loads((workdir / "results.json").read_text())
    assert again["params_sha256"] == results["params_sha256"]


def test_pretraining_and_conjugate_gradients(call):
    arguments = [
        "quick", "--data.name", "digits", "--model.widths", "12", "--model.code-size", "2", "--model.activation",
        "sigmoid", "--model.error", "cross_entropy", "--pretraining.epochs", "1", "--fine-tuning",
        "conjugate_gradient", "--train.num-steps", "2", "--train.batch-size", "64", "--train.log-every", "1",
        "--optimizer.warmup-steps", "0", "--baselines.extra-components", "0", "--baselines.logistic-pca",
    ]  # fmt: skip
    workdir = call("deep_autoencoder", *arguments)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert {line.get("stage") for line in lines} == {"rbm-1", "rbm-2", None}
    assert all(line["loss_after"] < line["loss"] for line in lines if "stage" not in line)
    assert (workdir / "figures" / "codes.png").exists()


def test_other_settings_in_the_same_workdir(call, capsys):
    call("sparse_autoencoder", *SHORT["sparse_autoencoder"])
    with pytest.raises(SystemExit):
        call("sparse_autoencoder", *SHORT["sparse_autoencoder"], "--seed", "7")
    assert "seed: 0 -> 7" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        call("deep_autoencoder", *SHORT["deep_autoencoder"])
    assert "holds a run of 'sparse_autoencoder'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("deep_autoencoder", ["quik"], "no preset 'quik'; the nearest is 'quick'"),
        ("deep_autoencoder", [], "usage: python -m experiments.deep_autoencoder {quick,"),
        ("deep_autoencoder", ["quick", "--model.code-sise", "3"], "--model.code-size"),
        ("deep_autoencoder", ["quick", "--data.name", "mnits", "--data.dir", "."], "mnist"),
        ("deep_autoencoder", ["mnist"], "--data.dir"),
        ("deep_autoencoder", ["mnist", "--data.dir", "nowhere"], "nowhere"),
        ("deep_autoencoder", ["quick", "--train.devices", "4", "--train.batch-size", "10"], "12 would"),
        ("deep_autoencoder", ["quick", "--train.devices", "2", "--train.exact-shards", "3"], "exact_shards is 3"),
        ("deep_autoencoder", ["quick", "--train.devices", "99"], "99 devices asked for"),
        ("deep_autoencoder", ["quick", "--pretraining.epochs", "1"], "--model.activation sigmoid"),
        ("deep_autoencoder", ["quick", "--optimizer.learning-rate", "0"], "learning_rate is 0"),
        ("deep_autoencoder", ["quick", "--model.code-size", "0"], "code_size 0 must be at least 1"),
        ("sparse_autoencoder", ["quick", "--model.rho", "1.5"], "model.rho is 1.5"),
        ("sparse_autoencoder", ["quick", "--model.k", "50", "--model.alpha", "3"], "model.alpha k is 150"),
        ("sparse_autoencoder", ["quick", "--model.k", "500"], "from 1 to model.code_size = 144"),
        ("sparse_autoencoder", ["quick", "--data.name", "curves"], "no labels"),
        ("contractive_autoencoder", ["quick", "--model.masking", "1"], "model.masking is 1"),
        ("contractive_autoencoder", ["quick", "--model.contraction", "-1"], "must not be negative"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(name, arguments, message, refused):
    assert message in refused(name, *arguments)


@pytest.mark.parametrize("name", SHORT)
def test_help_names_every_field(name, call, capsys):
    with pytest.raises(SystemExit) as stopped:
        call(name, "quick", "--help")
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert all(field in text for field in ("--workdir", "--seed", "--data.dir", "--train.exact-shards"))


@pytest.mark.parametrize("name", SHORT)
def test_presets_are_complete(name):
    assert {"quick", "mnist", "paper"} <= SCRIPTS[name].PRESETS.keys()
