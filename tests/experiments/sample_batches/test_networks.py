"""Networks from the folders of runs: what their configs and checkpoints say."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments import ddpm, guided_diffusion
from experiments.ddpm.model import DiffusionConfig, Network, build_model
from experiments.guided_diffusion.config import Classifier, Guidance, build_classifier
from experiments.sample_batches import networks
from jaxgen import diffusion, training
from tests.diffusion.pretrained.toys import described


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
        network=Network(8, (1,), 1, (), groups=4),
        process=DiffusionConfig("cosine", 50, variance="learned_range", loss="rescaled_mse"),
    )
    model = build_model(config.network, config.process, (8, 8, 1))
    params, ema = filled(model.network, 8, 0.0, 0.25)
    found = networks.load(folder(tmp_path / "run", "ddpm", config, main=(3, params, ema)))
    assert (found.name, described(found.model)) == ("run at step 3", described(model))
    assert (found.model.variance, found.model.schedule.num_steps) == ("learned_range", 50)
    assert all_are(found.params, 0.25)
    with pytest.raises(ValueError, match="there is no checkpoint in"):
        networks.load(folder(tmp_path / "new", "ddpm", config))
    with pytest.raises(ValueError, match="is a run of 'vae'"):
        networks.load(folder(tmp_path / "other", "vae", config))
    with pytest.raises(ValueError, match="is a run of 'ddpm', which trains no classifier"):
        networks.load_classifier(tmp_path / "run")


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
    expected = build_model(
        config.network, config.process, (8, 8, 1), classes=5, label_dropout=config.labels.dropout, low_resolution=4
    )
    encoder = build_classifier(small, config.process, 5, (8, 8, 1))
    (params, ema), (guide,) = filled(expected.network, 8, 0.0, 0.5), filled(encoder.network, 8, 2.0)
    steps = config.classifier.num_steps
    path = folder(tmp_path / "run", "guided_diffusion", config, main=(7, params, ema), classifier=(steps, guide, None))
    found = networks.load(path)
    assert described(found.model) == described(expected) and all_are(found.params, 0.5)
    assert (found.model.shape, found.model.low_resolution, found.model.network.in_channels) == ((8, 8, 1), 4, 2)
    assert (found.model.num_classes, found.model.null_label, found.model.rescaled_timesteps) == (5, 5, True)
    classifier = networks.load_classifier(path)
    assert described(classifier.model) == described(encoder) and all_are(classifier.params, 2.0)
    assert (classifier.model.num_classes, classifier.model.rescaled_timesteps) == (5, True)
    assert classifier.model.schedule.exact_betas == found.model.schedule.exact_betas
    early = folder(tmp_path / "early", "guided_diffusion", config, classifier=(steps - 1, guide, None))
    with pytest.raises(ValueError, match=f"for {steps - 1} of {steps} steps; run it to the end"):
        networks.load_classifier(early)
    without = dataclasses.replace(config, classifier=Classifier(trained="elsewhere"))
    with pytest.raises(ValueError, match="took its classifier from elsewhere"):
        networks.load_classifier(folder(tmp_path / "without", "guided_diffusion", without))


def test_a_config_is_rebuilt_from_what_was_recorded():
    config = dataclasses.replace(guided_diffusion.PRESETS["imagenet512"], guidance=Guidance(scales=(0.5, 3.0)))
    assert training.from_dict(guided_diffusion.Config(), training.to_dict(config)) == config
    with pytest.raises(ValueError, match="has a field 'colour' that Config lacks"):
        training.from_dict(ddpm.Config(), {"colour": 3})
