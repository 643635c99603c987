"""Settings of `ddpm`: the papers' presets, schedules, refusals, and records and flags of 0.1.0."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import ddpm
from experiments.command import cli
from experiments.ddpm.config import Evaluation
from experiments.ddpm.model import DiffusionConfig, Network, build_model
from jaxgen import data, diffusion
from jaxgen.diffusion import Sampler
from tests.experiments.ddpm.toys import SHAPE, changed


def test_the_papers_networks_and_settings():
    for preset in ("cifar10", "celeba_hq_256", "lsun"):
        config = ddpm.PRESETS[preset]
        side = 32 if preset == "cifar10" else 256
        # Whose parameters are counted where the network is tested.
        assert build_model(config.network, config.process, (side, side, 3)).network == diffusion.ddpm_unet(side)
        assert config.data.flip and config.train.deterministic and not config.ema_warm_up and config.ema == 0.9999
        assert config.process == DiffusionConfig("linear", 1000, 0, 0, "noise", "fixed_large", "mse")
        chosen = config.optimizer
        assert (chosen.name, chosen.warmup_steps, chosen.clip, chosen.schedule) == ("adam", 5000, 1.0, "constant")
        assert config.evaluation.sampler == Sampler() and ddpm.extendable_fields(config) == ("train.num_steps",)
    seen = {n: (c.optimizer.learning_rate, c.train.batch_size, c.train.num_steps) for n, c in ddpm.PRESETS.items()}
    assert seen["cifar10"] == (2e-4, 128, 800_000)
    assert seen["celeba_hq_256"] == (2e-5, 64, 500_000)
    assert seen["lsun"] == (2e-5, 64, 1_200_000)
    narrow = build_model(Network(dtype="bfloat16", remat=True), DiffusionConfig(variance="learned"), SHAPE).network
    assert (narrow.dtype, narrow.remat, narrow.in_channels, narrow.out_channels) == (jnp.bfloat16, True, 1, 2)


def test_schedules_are_those_of_the_library():
    np.testing.assert_allclose(DiffusionConfig().make_schedule().alphas_bar[-1], 4.03582976538e-05, rtol=1e-6)
    cosine = DiffusionConfig("cosine", 4000).make_schedule()
    np.testing.assert_allclose(cosine.betas[0], 9.865818814e-06, rtol=1e-6)
    constant = DiffusionConfig("constant", 10, end=0.3).make_schedule()
    np.testing.assert_allclose(constant.betas, 0.3, rtol=1e-6)
    warm = DiffusionConfig("warmup", 100).make_schedule()
    np.testing.assert_allclose(np.asarray(warm.betas)[[0, 9, 10, 99]], [0.001, 0.2, 0.2, 0.2], rtol=1e-6)
    square = DiffusionConfig("quadratic", 3, 0.01, 0.09).make_schedule()
    np.testing.assert_allclose(square.betas, [0.01, 0.04, 0.09], rtol=1e-6)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"process__steps": 0}, "num_steps is 0"),
        ({"process__end": 1.5}, "inside"),
        ({"process__steps": 20}, "below 1 for T = 20"),
        ({"evaluation__sampler": Sampler(steps="ddim37")}, "cannot be made of 40 steps"),
        ({"preview": Sampler(steps="41")}, "41"),
        ({"evaluation__sampler": Sampler(eta=0.5)}, "eta is 0.5 with method 'ancestral'"),
        ({"network__multipliers": (1, 1, 1, 1, 1)}, "8 x 8 cannot be halved 4 times; the nearest size that can is 16"),
        ({"network__groups": 3}, "3"),
        ({"network__dropout": 1.0}, "dropout is 1.0"),
        ({"process__loss": "rescaled_mse"}, "--process.variance learned_range"),
        ({"process": DiffusionConfig(steps=40, variance="learned", loss="simple")}, "--process.loss rescaled_mse"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"preview_every": -1}, "preview_every is -1"),
        ({"evaluation__images": -1}, "images, samples and fixed_batch_size must be 0 or more"),
        ({"evaluation__samples": 3}, "at least 10"),
        ({"evaluation__batch_size": 0}, "batch_size at least 1"),
        ({"optimizer__learning_rate": 0.0}, "learning_rate is 0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(fields, message):
    with pytest.raises(ValueError, match=message):
        ddpm.validate_and_load(changed(**fields))


def test_data_without_labels_have_no_classifier():
    images = data.Images(np.zeros((9, *SHAPE), np.uint8), None, "none")
    evaluation = Evaluation(images=3, samples=10)
    assert not evaluation.check(images, images) and evaluation.fit_to_data(images, images).samples == 0
    (problem,) = dataclasses.replace(evaluation, inception="nowhere.pth").check(images, images)
    assert "no file nowhere.pth" in problem


def test_all_problems_are_named_at_once():
    with pytest.raises(ValueError) as refused:
        ddpm.validate_and_load(changed(ema=1.0, network__dropout=1.0, preview__eta=2.0, optimizer__learning_rate=0.0))
    lines = str(refused.value).splitlines()
    assert len(lines) == 4 and {line.split()[0] for line in lines} >= {"ema", "network.dropout", "eta"}
    with pytest.raises(ValueError, match=r"must be 0 or more(?s:.*)at least 10(?s:.*)cannot be halved 4 times"):
        ddpm.validate_and_load(
            changed(evaluation__images=-1, evaluation__samples=3, network__multipliers=(1, 1, 1, 1, 1))
        )


def test_a_command_that_is_wrong_says_what_would_be_right(monkeypatch, capsys, tmp_path):
    arguments = ["ddpm", "quick", "--evaluation.sampler.steps", "ddim999", "--workdir", str(tmp_path / "run")]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit):
        cli.main("ddpm", ddpm.PRESETS, ddpm.validate_and_load, ddpm.train, "", extendable_fields=ddpm.extendable_fields)
    assert "the counts that can are" in capsys.readouterr().err and not (tmp_path / "run").exists()
