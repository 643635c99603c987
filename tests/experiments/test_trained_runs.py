"""Networks from the folders of runs: what their configs and checkpoints say."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments import ddpm, guided_diffusion, guided_networks, trained_runs
from experiments.guided_classifier import Classifier
from jaxgen import diffusion, training


def filled(network, size, *values):
    """Parameters that are all the value, one tree for each of the values."""
    shapes = diffusion.parameter_shapes(network, size)
    return [jax.tree.map(lambda s, value=value: np.full(s.shape, value, np.float32), shapes) for value in values]


def folder(path, experiment, config, **checkpoints):
    """A run folder with checkpoints {stage: (step, params, ema)}."""
    with training.Run(path, config, experiment=experiment, preset="quick", quiet=True) as run:
        for stage, (step, params, ema) in checkpoints.items():
            with run.checkpoints("" if stage == "main" else stage) as opened:
                opened.save(step, {"state": {"params": params, "ema": ema}})
    return path


def all_are(tree, value):
    return all(np.all(x == value) for x in jax.tree.leaves(tree))


def test_the_average_of_a_plain_model(tmp_path):
    config = ddpm.Config(
        network=ddpm.Network(8, (1,), 1, (), groups=4),
        process=ddpm.Process("cosine", 50, variance="learned_range", loss="hybrid"),
    )
    network = ddpm.build(config.network, config.process, (8, 8, 1))
    params, ema = filled(network, 8, 0.0, 0.25)
    model = trained_runs.load(folder(tmp_path / "run", "ddpm", config, main=(3, params, ema)))
    assert (model.name, model.network, model.size, model.channels) == ("run at step 3", network, 8, 1)
    assert (model.variance, model.schedule.num_steps) == ("learned_range", 50)
    assert all_are(model.params, 0.25)
    with pytest.raises(ValueError, match="there is no checkpoint in"):
        trained_runs.load(folder(tmp_path / "new", "ddpm", config))
    with pytest.raises(ValueError, match="is a run of 'vae'"):
        trained_runs.load(folder(tmp_path / "other", "vae", config))
    with pytest.raises(ValueError, match="is a run of 'ddpm', which trains no classifier"):
        trained_runs.load_classifier(tmp_path / "run")


def test_a_guided_model_and_its_classifier(tmp_path):
    quick = guided_diffusion.PRESETS["quick"]
    config = dataclasses.replace(
        quick,
        data=dataclasses.replace(quick.data, name="images", size=8, dir="nowhere"),
        network=dataclasses.replace(
            quick.network, channels=8, multipliers=(1,), attention=(), groups=4, head_channels=8
        ),
        classifier=dataclasses.replace(
            quick.classifier, network=dataclasses.replace(quick.classifier.network, multipliers=(1,), attention=())
        ),
        process=dataclasses.replace(quick.process, steps=60, rescaled_timesteps=True),
        low_resolution=4,
    )
    small = config.classifier.network
    conditions = guided_networks.Conditions(5, config.labels.dropout, 4)
    network = guided_networks.build(config.network, conditions, (8, 8, 1), learned=config.process.learned).network
    encoder = guided_networks.build_classifier(small, 5, (8, 8, 1)).network
    (params, ema), (guide,) = filled(network, 8, 0.0, 0.5), filled(encoder, 8, 2.0)
    steps = config.classifier.num_steps
    path = folder(tmp_path / "run", "guided_diffusion", config, main=(7, params, ema), classifier=(steps, guide, None))
    model = trained_runs.load(path)
    assert (model.network, model.size, model.channels, model.low_resolution) == (network, 8, 1, 4)
    assert (model.num_classes, model.null_label, model.rescaled) == (5, 5, True) and all_are(model.params, 0.5)
    classifier = trained_runs.load_classifier(path)
    assert (classifier.network, classifier.num_classes, classifier.rescaled) == (encoder, 5, True)
    assert classifier.schedule.exact_betas == model.schedule.exact_betas and all_are(classifier.params, 2.0)
    early = folder(tmp_path / "early", "guided_diffusion", config, classifier=(steps - 1, guide, None))
    with pytest.raises(ValueError, match=f"for {steps - 1} of {steps} steps; run it to the end"):
        trained_runs.load_classifier(early)
    without = dataclasses.replace(config, classifier=Classifier(trained="elsewhere"))
    with pytest.raises(ValueError, match="took its classifier from elsewhere"):
        trained_runs.load_classifier(folder(tmp_path / "without", "guided_diffusion", without))


def test_a_config_is_rebuilt_from_what_was_recorded():
    config = dataclasses.replace(
        guided_diffusion.PRESETS["imagenet512"], guidance=guided_diffusion.Guidance(scales=(0.5, 3.0))
    )
    assert trained_runs.rebuilt(guided_diffusion.Config(), training.to_dict(config)) == config
    with pytest.raises(ValueError, match="has a field 'colour' that Config does not have"):
        trained_runs.rebuilt(ddpm.Config(), {"colour": 3})
