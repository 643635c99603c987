"""Runs that 0.1.0 began go on: its config.json, as it was written, refuses nothing that decides nothing."""

import dataclasses
import json
import sys

import pytest

from experiments import contractive_autoencoder, deep_autoencoder, sparse_autoencoder, vae
from experiments.command import cli
from jaxgen import training

# config.json of 0.1.0, "config".
VAE = """{
  "seed": 0,
  "data": {"name": "mnist", "dir": "", "size": 0, "distort": 0.0},
  "binarization": "stochastic",
  "train_examples": 0,
  "shuffle": true,
  "model": {"architecture": "mlp", "latent_sizes": [50], "widths": [500], "upper_widths": [100, 100], "activation":
   "tanh", "kernels": "normal_0.01", "channels": 32, "likelihood": "bernoulli", "data_bias": false},
  "sweep": [3, 5, 10, 20, 200],
  "objective": {"bound": "vae", "num_samples": 1, "gradient": "iwae", "kl": "analytic", "beta": 1.0, "beta_steps":
   0, "free_nats": 0.0, "parameter_prior": true},
  "optimizer": {"name": "adagrad", "learning_rate": 0.02, "schedule": "constant", "rounds": 8, "epoch_steps": 500,
   "warmup_steps": 0, "weight_decay": 0.0, "momentum": 0.9, "beta1": 0.9, "epsilon": 1e-08, "start_second_moment":
   0.0, "scale": 1.0, "clip": 0.0},
  "ema": 0.0,
  "evaluation": {"num_samples": 0, "examples": 10000, "bound_at": [1000000, 10000000, 100000000]},
  "train": {"num_steps": 1000000, "batch_size": 100, "accumulate": 1, "exact_shards": 0, "log_every": 1000,
   "save_every": 50000, "keep_checkpoints": 3, "steps_per_call": 0, "prefetch": 0, "devices": 0, "model_devices": 1,
   "backend": "pmap", "deterministic": true}
}"""
DEEP_AUTOENCODER = """{
  "seed": 0,
  "data": {"name": "mnist", "dir": "", "size": 0, "distort": 0.0},
  "model": {"widths": [1000, 500, 250], "code_size": 30, "activation": "sigmoid", "tied": false, "error":
   "cross_entropy"},
  "pretraining": {"epochs": 50, "batch_size": 100, "learning_rate": 0.1, "code_learning_rate": 0.001, "slow_epochs":
   5, "weight_decay": 0.0002},
  "fine_tuning": "conjugate_gradient",
  "optimizer": {"name": "adam", "learning_rate": 0.001, "schedule": "constant", "rounds": 8, "epoch_steps": 500,
   "warmup_steps": 0, "weight_decay": 0.0, "momentum": 0.9, "beta1": 0.9, "epsilon": 1e-08, "start_second_moment":
   0.0, "scale": 1.0, "clip": 0.0},
  "baselines": {"logistic_pca": true, "extra_components": 0},
  "train": {"num_steps": 12000, "batch_size": 1000, "accumulate": 1, "exact_shards": 0, "log_every": 60,
   "save_every": 60, "keep_checkpoints": 3, "steps_per_call": 0, "prefetch": 0, "devices": 0, "model_devices": 1,
   "backend": "pmap", "deterministic": true}
}"""
SPARSE_AUTOENCODER = """{
  "seed": 0,
  "methods": ["plain", "l1", "kl", "k_sparse"],
  "data": {"name": "digits", "dir": "", "size": 0, "distort": 0.0},
  "model": {"code_size": 144, "k": 10, "start_k": 40, "alpha": 3.0, "rho": 0.1, "kl_weight": 6.0, "l1_weight": 0.1},
  "optimizer": {"name": "adam", "learning_rate": 0.001, "schedule": "cosine", "rounds": 8, "epoch_steps": 500,
   "warmup_steps": 0, "weight_decay": 0.0, "momentum": 0.9, "beta1": 0.9, "epsilon": 1e-08, "start_second_moment":
   0.0, "scale": 1.0, "clip": 0.0},
  "probe_l2": 0.0001,
  "train": {"num_steps": 2000, "batch_size": 100, "accumulate": 1, "exact_shards": 0, "log_every": 100,
   "save_every": 1000, "keep_checkpoints": 3, "steps_per_call": 0, "prefetch": 0, "devices": 0, "model_devices": 1,
   "backend": "pmap", "deterministic": false}
}"""
CONTRACTIVE_AUTOENCODER = """{
  "seed": 0,
  "methods": ["ae", "ae_wd", "dae_g", "dae_b", "kl", "cae"],
  "data": {"name": "digits", "dir": "", "size": 0, "distort": 0.0},
  "model": {"code_size": 144, "contraction": 0.1, "weight_decay": 0.0001, "sigma": 0.3, "masking": 0.3, "rho": 0.1,
   "kl_weight": 3.0},
  "optimizer": {"name": "adam", "learning_rate": 0.001, "schedule": "cosine", "rounds": 8, "epoch_steps": 500,
   "warmup_steps": 0, "weight_decay": 0.0, "momentum": 0.9, "beta1": 0.9, "epsilon": 1e-08, "start_second_moment":
   0.0, "scale": 1.0, "clip": 0.0},
  "train": {"num_steps": 2000, "batch_size": 100, "accumulate": 1, "exact_shards": 0, "log_every": 100,
   "save_every": 1000, "keep_checkpoints": 3, "steps_per_call": 0, "prefetch": 0, "devices": 0, "model_devices": 1,
   "backend": "pmap", "deterministic": false},
  "classifier_optimizer": {"name": "adam", "learning_rate": 0.001, "schedule": "cosine", "rounds": 8, "epoch_steps":
   500, "warmup_steps": 0, "weight_decay": 0.0, "momentum": 0.9, "beta1": 0.9, "epsilon": 1e-08,
   "start_second_moment": 0.0, "scale": 1.0, "clip": 0.0},
  "classifier_steps": 600,
  "spectrum_examples": 8
}"""

RECORDS = {
    "vae": (vae, "paper_kingma", VAE),
    "deep_autoencoder": (deep_autoencoder, "paper", DEEP_AUTOENCODER),
    "sparse_autoencoder": (sparse_autoencoder, "quick", SPARSE_AUTOENCODER),
    "contractive_autoencoder": (contractive_autoencoder, "quick", CONTRACTIVE_AUTOENCODER),
}
# Settings of these presets that have changed since 0.1.0: {experiment: what a run of today must be given}.
CHANGED = {
    "sparse_autoencoder": lambda config: dataclasses.replace(
        config, model=dataclasses.replace(config.model, kl_weight=6.0)
    ),
    "contractive_autoencoder": lambda config: dataclasses.replace(config, classifier_steps=600),
}


@pytest.fixture(params=RECORDS)
def begun(request, tmp_path):
    """(run folder of 0.1.0, experiment, preset, its config now with the settings of then)."""
    script, preset, config = RECORDS[request.param]
    record = {"experiment": request.param, "preset": preset, "seed": 0, "config": json.loads(config)}
    (tmp_path / "config.json").write_text(json.dumps(record))
    changed = CHANGED.get(request.param, lambda config: config)
    return tmp_path, request.param, preset, changed(script.PRESETS[preset])


def resume(folder, experiment, preset, config):
    with training.Run(folder, config, experiment=experiment, preset=preset, quiet=True):
        return json.loads((folder / "config.json").read_text())


def test_it_resumes_with_the_preset_of_today(begun):
    folder, experiment, preset, config = begun
    record = resume(folder, experiment, preset, config)
    assert record["config"] == json.loads(json.dumps(training.to_dict(config)))
    assert "train.devices" in record["untracked"]
    assert resume(folder, experiment, preset, config) == record


def test_it_resumes_elsewhere(begun):
    """Another data folder, other devices, other intervals."""
    folder, experiment, preset, config = begun
    settings = dataclasses.replace(config.train, log_every=7, model_parallel_size=2, devices=4, steps_per_call=3)
    data = dataclasses.replace(config.data, dir="elsewhere")
    resume(folder, experiment, preset, dataclasses.replace(config, data=data, train=settings))


def test_what_decides_the_result_is_refused_by_name(begun):
    folder, experiment, preset, config = begun
    settings = dataclasses.replace(config.train, num_steps=3, exact_shards=4)
    changed = dataclasses.replace(config, seed=1, train=settings)
    with pytest.raises(training.RunRefused) as refused:
        resume(folder, experiment, preset, changed)
    lines = str(refused.value).splitlines()[1:-1]
    assert lines == [
        "  seed: 0 -> 1",
        f"  train.num_steps: {config.train.num_steps} -> 3",
        "  train.exact_shards: 0 -> 4",
    ]


def test_its_config_is_read_back(begun):
    folder, *_, config = begun
    recorded = json.loads((folder / "config.json").read_text())["config"]
    assert training.from_dict(config, recorded) == config
    script, _, _ = RECORDS[begun[1]]
    assert all(training.from_dict(other, recorded) == config for other in script.PRESETS.values())


def test_the_compared_sizes_are_a_field_of_another_name_now(tmp_path):
    record = {"experiment": "vae", "preset": "paper_kingma", "seed": 0, "config": json.loads(VAE)}
    (tmp_path / "config.json").write_text(json.dumps(record))
    other = dataclasses.replace(vae.PRESETS["paper_kingma"], compared_latent_sizes=(3, 5))
    with pytest.raises(training.RunRefused, match=r"compared_latent_sizes: \[3, 5, 10, 20, 200\] -> \[3, 5\]"):
        resume(tmp_path, "vae", "paper_kingma", other)


def parse(*arguments):
    return cli.parse("experiments.vae", vae.PRESETS, arguments, "", cli.Options())[1]


def test_flags_of_0_1_0_are_read():
    config = parse("paper_kingma", "--sweep", "3", "5", "--train.model-devices", "2", "--train.log_every=9")
    assert config.compared_latent_sizes == (3, 5)
    assert (config.train.model_parallel_size, config.train.log_every) == (2, 9)
    assert config == parse(
        "paper_kingma",
        "--compared-latent-sizes",
        "3",
        "5",
        "--train.model-parallel-size",
        "2",
        "--train.log-every",
        "9",
    )
    with pytest.raises(SystemExit):
        parse("quick", "--train.model-device", "2")


def test_old_flags_keep_their_values_and_their_no():
    names = {"model.is_tied": "model.tied", "sweep": "compared_latent_sizes"}
    arguments = ["--model.is-tied", "--model.no-is-tied", "--sweep=3", "--model.is_tied=x", "sweep", "--other", "-1"]
    assert cli.rename_flags(names, arguments) == [
        "--model.tied", "--model.no-tied", "--compared-latent-sizes=3", "--model.tied=x", "sweep", "--other", "-1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name, arguments, messages",
    [
        ("vae", ["--ema", "1", "--data.distort", "-1", "--optimizer.learning-rate", "0", "--optimizer.momentum", "2",
                 "--evaluation.bound-at", "250", "--evaluation.examples", "0", "--model.likelihood", "gaussian",
                 "--model.architecture", "conv", "--model.latent-sizes", "3", "2"],
         ["ema is 1", "data.distort is -1", "learning_rate is 0", "momentum is 2", "multiples of the batch size 100",
          "evaluation.examples is 0; it must be at least 2", "--binarization grey", "has one latent layer"]),
        ("sparse_autoencoder", ["--model.rho", "1.5", "--model.k", "500", "--model.alpha", "3", "--probe-l2", "-1",
                                "--model.l1-weight", "-2", "--optimizer.clip", "-1"],
         ["model.rho is 1.5", "model.k is 500", "model.alpha k is 1500", "probe_l2 is -1", "model.l1_weight is -2",
          "clip"]),
        ("deep_autoencoder", ["--model.code-size", "0", "--pretraining.epochs", "1", "--optimizer.warmup-steps", "-1",
                              "--fine-tuning", "conjugate_gradient", "--train.exact-shards", "4"],
         ["code_size 0 must be at least 1", "--model.activation sigmoid", "warmup_steps is -1",
          "conjugate gradients do not keep that promise"]),
        ("deep_autoencoder", ["--data.name", "digits", "--model.code-size", "65", "--baselines.extra-components", "66"],
         ["model.code_size is 65", "baselines.extra_components is 66"]),
        ("contractive_autoencoder", ["--model.masking", "1", "--model.rho", "0", "--classifier-steps", "0",
                                     "--model.contraction", "-1"],
         ["model.masking is 1", "model.rho is 0", "classifier_steps is 0", "model.contraction is -1"]),
    ],
)  # fmt: skip
def test_all_problems_are_named_at_once(name, arguments, messages, monkeypatch, capsys, tmp_path):
    script = RECORDS[name][0]
    workdir = tmp_path / "run"
    monkeypatch.setattr(sys, "argv", [name, "quick", *arguments, "--train.devices", "1", "--workdir", str(workdir)])
    with pytest.raises(SystemExit):
        cli.main(name, script.PRESETS, script.validate_and_load, script.train, "")
    said = capsys.readouterr().err
    assert [message for message in messages if message not in said] == [] and not workdir.exists()
