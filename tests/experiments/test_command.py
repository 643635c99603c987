"""The command line: what a person types, wrong and right. In-process, on embedded data, for a few steps.

The fast tier runs each experiment with few images and few methods, the slow tier as it is.
"""

import dataclasses
import json
import sys

import numpy as np
import pytest
from PIL import Image

from experiments import contractive_autoencoder, deep_autoencoder, sparse_autoencoder, vae
from experiments.command import cli
from experiments.vae import evaluate as vae_evaluate
from experiments.vae import figures as vae_figures
from jaxgen import autoencoder, training
from jaxgen import vae as variational
from tests.experiments import one_program, tour_check

SCRIPTS = {
    "deep_autoencoder": deep_autoencoder,
    "sparse_autoencoder": sparse_autoencoder,
    "contractive_autoencoder": contractive_autoencoder,
    "vae": vae,
}
SHORT = {
    "deep_autoencoder": [
        "quick", "--data.name", "digits", "--model.widths", "16", "--train.num-steps", "6", "--train.batch-size", "8",
        "--optimizer.warmup-steps", "2", "--baselines.extra-components", "18", "--train.log-every", "3",
    ],
    "sparse_autoencoder": [
        "quick", "--train.num-steps", "4", "--train.batch-size", "8", "--model.code-size", "20", "--model.k", "3",
        "--model.start-k", "10",
    ],
    "contractive_autoencoder": [
        "quick", "--train.num-steps", "4", "--train.batch-size", "8", "--model.code-size", "20",
        "--classifier-steps", "4", "--methods", "ae", "cae", "kl",
    ],
    "vae": [
        "quick", "--train.num-steps", "4", "--train.batch-size", "8", "--model.widths", "12",
        "--evaluation.num-samples", "5", "--evaluation.examples", "30", "--ema", "0.9",
    ],
}  # fmt: skip

# As above, with less to compile.
SMALL = {
    "sparse_autoencoder": ["--methods", "k_sparse", "--model.code-size", "16"],
    "contractive_autoencoder": ["--methods", "cae", "--model.code-size", "16", "--spectrum-examples", "1"],
    "vae": ["--model.widths", "16"],
}
SMALL = {name: [*SHORT[name], *arguments, "--train.save-every", "2"] for name, arguments in SMALL.items()}

RBM = ["quick", "--data.name", "digits", "--model.activation", "sigmoid", "--pretraining.epochs", "1"]
UNLABELLED = ["quick", "--data.name", "images", "--data.dir", "unlabelled"]


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
        extendable_fields = getattr(script, "extendable_fields", lambda config: ())
        about = script.__doc__ or ""
        cli.main(
            name, script.PRESETS, script.validate_and_load, script.train, about, extendable_fields=extendable_fields
        )
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


@pytest.fixture
def few_programs(monkeypatch):
    """Most of what the experiments compute outside of their steps is one program, or NumPy."""
    one_program.networks(monkeypatch)
    one_program.few_images(monkeypatch)
    one_program.whole(monkeypatch, variational, "interpolate", static=("num", "spherical"))
    one_program.whole(monkeypatch, variational, "traverse")
    one_program.whole(monkeypatch, variational, "init_params", static=("network",))
    one_program.whole(monkeypatch, variational, "reconstruct", static=("network", "likelihood"))
    one_program.whole(monkeypatch, autoencoder, "pca_reconstruct", "sigmoid_contractive_penalty", "saturation")
    one_program.whole(monkeypatch, autoencoder, "dead_units", static=("threshold",))
    one_program.whole(monkeypatch, variational, "sample", static=("network", "likelihood", "num"))
    monkeypatch.setattr(autoencoder, "linear_probe_error", nearest_mean_error)
    # The measures of an estimate are means, which NumPy computes without a program for each.
    estimate = variational.log_marginal_likelihood
    on_host = lambda *args, **kwargs: one_program.on_host(estimate(*args, **kwargs))
    monkeypatch.setattr(variational, "log_marginal_likelihood", on_host)
    monkeypatch.setattr(vae_evaluate, "jnp", np)
    monkeypatch.setattr(vae_figures, "jnp", np)


def nearest_mean_error(train_codes, train_labels, test_codes, test_labels, l2):
    """Test error in percent of the nearest class mean, in place of logistic regression."""
    assert len(train_codes) == len(train_labels) and len(test_codes) == len(test_labels) and l2 > 0
    classes = np.unique(train_labels)
    means = np.stack([train_codes[train_labels == label].mean(axis=0) for label in classes])
    nearest = np.argmin(np.sum((test_codes[:, None] - means[None]) ** 2, axis=-1), axis=1)
    return 100 * np.mean(classes[nearest] != test_labels)


def write_images(folder, number, subfolder):
    """Noise, 8 x 8 to 10 x 10."""
    generator = np.random.default_rng(0)
    for i in range(number):
        side = 8 + i % 3
        (folder / subfolder(i)).mkdir(parents=True, exist_ok=True)
        image = generator.integers(0, 256, (side, side), dtype=np.uint8)
        Image.fromarray(image).save(folder / subfolder(i) / f"{i}.png")


def check_what_is_left_behind(name, workdir):
    results = json.loads((workdir / "results.json").read_text())
    assert results["experiment"] == name and results["preset"] == "quick"
    assert all(isinstance(v, float) for v in results["metrics"].values())
    assert set(results["paper"]) <= set(results["metrics"])
    for file in ("config.json", "environment.json", "metrics.jsonl", "timing.jsonl", "checkpoints"):
        assert (workdir / file).exists()
    assert list((workdir / "figures").glob("*.png"))
    return results


@pytest.mark.parametrize("name", SMALL)
def test_a_small_run_leaves_everything_behind(name, call, capsys, few_programs):
    workdir = call(name, *SMALL[name])
    results = check_what_is_left_behind(name, workdir)
    # After a kill between two checkpoints, the same command trains the rest and measures nothing: it finds the same.
    (workdir / "results.json").unlink()
    one_program.killed_after(2, workdir)
    call(name, *SMALL[name])
    again = json.loads((workdir / "results.json").read_text())
    assert again == {**results, "seconds": again["seconds"]}
    with pytest.raises(SystemExit):
        call(name, *SMALL[name], "--seed", "7")
    assert "seed: 0 -> 7" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        call("deep_autoencoder", *SHORT["deep_autoencoder"])
    assert f"holds a run of '{name}'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_a_short_run_leaves_everything_behind(name, call):
    workdir = call(name, *SHORT[name])
    results = check_what_is_left_behind(name, workdir)
    tour_check.finds_what_it_shows(name, workdir)
    # The same command again has nothing left to train and finds the same parameters.
    call(name, *SHORT[name])
    again = json.loads((workdir / "results.json").read_text())
    assert again["params_sha256"] == results["params_sha256"]


@pytest.mark.slow
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


@pytest.mark.parametrize(
    "name, arguments, message",
    [
        ("deep_autoencoder", ["quik"], "no preset 'quik'; the nearest is 'quick'"),
        ("deep_autoencoder", [], "usage: python -m experiments.deep_autoencoder {quick,"),
        ("deep_autoencoder", ["quick", "--model.code-sise", "3"], "--model.code-size"),
        ("deep_autoencoder", ["quick", "--data.name", "mnits", "--data.dir", "."], "nearest: 'mnist'"),
        ("deep_autoencoder", ["mnist"], "--data.dir"),
        ("deep_autoencoder", ["mnist", "--data.dir", "nowhere"], "nowhere"),
        ("deep_autoencoder", ["quick", "--train.devices", "4", "--train.batch-size", "10"], "12 would"),
        ("deep_autoencoder", ["quick", "--train.devices", "2", "--train.exact-shards", "3"], "exact_shards is 3"),
        ("deep_autoencoder", ["quick", "--train.devices", "99"], "99 devices asked for"),
        ("deep_autoencoder", ["quick", "--pretraining.epochs", "1"], "--model.activation sigmoid"),
        ("deep_autoencoder", ["quick", "--optimizer.learning-rate", "0"], "learning_rate is 0"),
        ("deep_autoencoder", ["quick", "--model.code-size", "0"], "code_size 0 must be at least 1"),
        ("deep_autoencoder", ["paper", "--train.exact-shards", "4"], "conjugate gradients do not keep that promise"),
        ("deep_autoencoder", ["quick", "--lr", "10"], "no option '--lr'; the nearest is '--"),
        ("deep_autoencoder", ["quick", "--optimizer.rate=10"], "the nearest is '--optimizer."),
        ("deep_autoencoder", ["quick", "--seed", "-1"], "seed is -1"),
        ("deep_autoencoder", ["quick", "--optimizer.clip", "-1"], "clip"),
        ("deep_autoencoder", ["quick", "--optimizer.momentum", "1"], "momentum is 1"),
        ("deep_autoencoder", ["quick", "--data.distort", "-1"], "data.distort is -1"),
        ("deep_autoencoder", ["quick", "--data.name", "digits", "--model.code-size", "65"], "has 1 to 64"),
        ("deep_autoencoder", ["quick", "--data.name", "digits", "--baselines.extra-components", "65"], "has 1 to 64"),
        ("deep_autoencoder", [*RBM, "--pretraining.batch-size", "2000"], "the data has 1437 images"),
        ("deep_autoencoder", [*RBM, "--pretraining.batch-size", "50", "--train.devices", "4"], "4 devices"),
        ("sparse_autoencoder", ["quick", "--probe-l2", "-1"], "must not be negative"),
        ("sparse_autoencoder", ["quick", "--model.rho", "1.5"], "model.rho is 1.5"),
        ("sparse_autoencoder", ["quick", "--model.k", "50", "--model.alpha", "3"], "model.alpha k is 150"),
        ("sparse_autoencoder", ["quick", "--model.k", "500"], "from 1 to model.code_size = 144"),
        ("sparse_autoencoder", [*UNLABELLED, "--data.size", "8"], "no labels"),
        ("contractive_autoencoder", ["quick", "--model.masking", "1"], "model.masking is 1"),
        ("contractive_autoencoder", ["quick", "--model.contraction", "-1"], "must not be negative"),
        ("vae", ["quick", "--objective.num-samples", "0"], "num_samples is 0"),
        ("vae", ["quick", "--model.latent-sizes", "0"], "latent_sizes is (0,)"),
        ("vae", ["quick", "--model.latent-sizes", "3", "2"], "no analytic KL"),
        ("vae", ["quick", "--model.likelihood", "gaussian", "--binarization", "fixed"], "--binarization grey"),
        ("vae", ["quick", "--ema", "1"], "ema is 1"),
        ("vae", ["quick", "--train-examples", "99999"], "train_examples is 99999"),
        ("vae", ["quick", "--evaluation.bound-at", "250"], "multiples of the batch size 100"),
        ("vae", ["quick", "--optimizer.schedule", "rounds", "--optimizer.rounds", "0"], "rounds is 0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(name, arguments, message, refused, tmp_path):
    if UNLABELLED[-1] in arguments:
        write_images(tmp_path / UNLABELLED[-1], 10, lambda i: "")
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
    presets = SCRIPTS[name].PRESETS.keys()
    assert {"quick", "mnist"} <= presets and any(preset.startswith("paper") for preset in presets)


@pytest.mark.parametrize("name", SHORT)
def test_the_papers_presets_are_deterministic(name):
    """So that a GPU gives the same bits each time."""
    presets = SCRIPTS[name].PRESETS
    assert all(config.train.deterministic for preset, config in presets.items() if preset.startswith("paper"))


def test_a_run_on_one_s_own_few_images_may_be_made_longer(call, capsys, tmp_path, few_programs):
    """Fewer test images than the figures have room for, of several sizes; a rate that does not depend on the length."""
    write_images(tmp_path / "mine", 20, lambda i: f"class{i % 2}")
    data = ["--data.name", "images", "--data.dir", str(tmp_path / "mine"), "--data.size", "8"]
    long = [*SHORT["deep_autoencoder"], *data, "--optimizer.schedule", "constant"]
    short = [a if a != "6" else "3" for a in long]
    workdir = call("deep_autoencoder", *short)
    results = check_what_is_left_behind("deep_autoencoder", workdir)
    tour_check.finds_what_it_shows("deep_autoencoder", workdir)
    assert (results["step"], (workdir / "figures" / "reconstructions.png").exists()) == (3, True)
    call("deep_autoencoder", *short)
    assert json.loads((workdir / "results.json").read_text())["params_sha256"] == results["params_sha256"]
    call("deep_autoencoder", *long)
    longer = json.loads((workdir / "results.json").read_text())
    assert longer["step"] == 6 and longer["params_sha256"] != results["params_sha256"]
    with pytest.raises(SystemExit):
        call("deep_autoencoder", *short)
    assert "train.num_steps: 6 -> 3" in capsys.readouterr().err


def test_all_problems_of_a_vae_are_named_at_once():
    config = dataclasses.replace(
        vae.PRESETS["quick"],
        ema=1.0,
        model=variational.Architecture(latent_sizes=(3, 2)),
        optimizer=training.Optimizer(learning_rate=-1.0),
    )
    with pytest.raises(ValueError) as refused:
        vae.validate_and_load(config)
    lines = str(refused.value).splitlines()
    assert len(lines) == 3 and all(any(text in line for line in lines) for text in ("ema", "rate", "no analytic KL"))
    samples = dataclasses.replace(config.objective, kl="monte_carlo", num_samples=0)
    with pytest.raises(ValueError, match=r"(?s)ema is 1.0.*num_samples is 0"):
        vae.validate_and_load(dataclasses.replace(config, objective=samples, compared_latent_sizes=(2, 3)))


def test_results_of_a_finished_vae_of_0_1_0_are_not_measured_again(tmp_path):
    """It kept them under a sentence with the evaluation's fields."""
    config = dataclasses.replace(vae.PRESETS["quick"], train=training.Settings(num_steps=7, batch_size=10))
    trained = lambda *arguments: ({"w": np.zeros(2, np.float32)}, {})
    sentence = "vae and figures, step 7, Evaluation(num_samples=1000, examples=10000, bound_at=())"
    with pytest.MonkeyPatch.context() as patch, training.Run(tmp_path, config, experiment="vae", quiet=True) as run:
        patch.setattr(sys.modules["experiments.vae.train"], "train_one", trained)
        patch.setattr(vae_evaluate, "measure_and_draw", lambda *arguments: pytest.fail("measured again"))
        (tmp_path / "measured.json").write_text(json.dumps({sentence: {"test_bound": -90.25}}))
        found = vae.train(config, vae.validate_and_load(config), run)
    assert found["metrics"] == {"test_bound": -90.25}


@pytest.mark.slow
def test_a_sweep_measures_every_model_on_the_way(call):
    """Figure 2 of Kingma & Welling as a table, at a toy's size; a resumed run does not measure again."""
    arguments = [
        "paper_kingma", "--data.name", "digits", "--sweep", "2", "3", "--model.widths", "6", "--train.num-steps", "6",
        "--train.batch-size", "10", "--evaluation.bound-at", "20", "60", "--train.no-deterministic",
    ]  # fmt: skip
    workdir = call("vae", *arguments)
    metrics = json.loads((workdir / "results.json").read_text())["metrics"]
    wanted = {f"nz{n}_bound_at_{at}_{split}" for n in (2, 3) for at in ("2e1", "6e1") for split in ("train", "test")}
    assert wanted <= metrics.keys()
    # The parameters moved in between.
    assert metrics["nz2_bound_at_2e1_test"] != metrics["nz2_bound_at_6e1_test"]
    measured = workdir / "measured.json"
    altered = measured.read_text().replace(str(metrics["nz3_bound_at_2e1_test"]), "-1.25")
    measured.write_text(altered)
    call("vae", *arguments)
    assert json.loads((workdir / "results.json").read_text())["metrics"]["nz3_bound_at_2e1_test"] == -1.25
    # As 0.1.0 recorded them, under sentences.
    bounds = [entry for entry in json.loads(measured.read_text()) if entry["key"]["what"] == "bound"]
    sentences = {f"{e['key']['model']} bound at {e['key']['points']}": e["values"] for e in bounds}
    assert len(sentences) == 4 and "nz3 bound at 20" in sentences
    measured.write_text(json.dumps(sentences))
    call("vae", *arguments)
    assert json.loads((workdir / "results.json").read_text())["metrics"]["nz3_bound_at_2e1_test"] == -1.25


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["--model.architecture", "conv", "--model.channels", "2", "--binarization", "grey"],
        ["--model.latent-sizes", "4", "3", "--model.upper-widths", "5", "--objective.bound", "iwae",
         "--objective.num-samples", "3", "--objective.gradient", "dreg", "--binarization", "fixed"],
        ["--model.likelihood", "discretized_logistic", "--binarization", "grey", "--objective.free-nats", "0.1",
         "--objective.beta-steps", "3", "--objective.num-samples", "2"],
        ["--model.likelihood", "sigmoid_gaussian", "--binarization", "grey", "--no-shuffle", "--train-examples", "50",
         "--optimizer.name", "adagrad", "--objective.parameter-prior"],
    ],
    ids=["conv", "two layers", "logistic", "gaussian"],
)  # fmt: skip
def test_every_kind_of_vae_trains(call, arguments):
    workdir = call("vae", *SHORT["vae"], *arguments)
    metrics = json.loads((workdir / "results.json").read_text())["metrics"]
    assert metrics["negative_log_likelihood"] < -metrics["test_bound"] + 1e-6
