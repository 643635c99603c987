"""Settings of `guided_diffusion`: the papers' networks and presets, refusals, and what is measured."""

import jax.numpy as jnp
import pytest

from experiments import guided_diffusion
from experiments.command import image_data
from experiments.ddpm.model import build_model
from experiments.guided_diffusion.config import DiffusionConfig, Labels, Network, build_classifier, variants
from jaxgen import diffusion
from jaxgen.diffusion import Sampler
from tests.experiments.ddpm.toys import changed as with_fields
from tests.experiments.guided_diffusion.toys import SHAPE, TINY, changed, write_images


def test_the_papers_networks():
    """Whose parameters are counted where the networks are tested."""
    presets = guided_diffusion.PRESETS
    for size in (64, 128, 256, 512):
        config, shape = presets[f"imagenet{size}"], (size, size, 3)
        model = build_model(config.network, config.process, shape, classes=1000)
        assert model.network == diffusion.adm_unet(size) and not model.rescaled_timesteps
        classifier = build_classifier(config.classifier.network, config.process, 1000, shape)
        assert classifier.network == diffusion.adm_classifier(size) and classifier.is_classifier
    preset = presets["upsample"]
    upsampler = build_model(preset.network, preset.process, (256, 256, 3), classes=1000, low_resolution=64)
    assert upsampler.network == diffusion.adm_upsampler(256)
    to_512 = with_fields(preset, network__attention=(32, 16), network__head_channels=64)
    upsampler = build_model(to_512.network, to_512.process, (512, 512, 3), classes=1000, low_resolution=128)
    assert upsampler.network == diffusion.adm_upsampler(512)
    cifar10 = presets["cifar10_iddpm"]
    model = build_model(cifar10.network, cifar10.process, (32, 32, 3))
    assert model.network == diffusion.iddpm_unet(32)
    assert (model.rescaled_timesteps, model.schedule.num_original_steps) == (True, 4000)
    simple = build_model(cifar10.network, DiffusionConfig(loss="simple"), (32, 32, 3))
    assert simple.network == diffusion.iddpm_unet(32, out_channels=3)
    process = DiffusionConfig(variance="fixed_large")
    narrow = build_model(Network(dtype="bfloat16", remat=True), process, SHAPE, classes=9, label_dropout=0.1)
    assert (narrow.network.dtype, narrow.network.remat, narrow.network.num_classes) == (jnp.bfloat16, True, 10)
    assert (narrow.num_classes, narrow.null_label) == (9, 9)


def test_the_papers_settings():
    big = {n: c for n, c in guided_diffusion.PRESETS.items() if n not in ("quick", "mnist")}
    for config in big.values():
        assert (config.ema, config.ema_warm_up, config.train.deterministic) == (0.9999, False, True)
        assert (config.optimizer.name, config.optimizer.schedule, config.optimizer.weight_decay) == (
            "adamw", "constant", 0,
        )  # fmt: skip
        assert config.process.p_variance == "learned_range" and config.process.loss == "rescaled_mse"
        assert (config.labels.dropout, config.timesteps.sampler) == (0, "uniform")
        assert guided_diffusion.extendable_fields(config) == ("train.num_steps",)
    seen = {
        n: (c.process.schedule, c.process.steps, c.optimizer.learning_rate, c.train.batch_size, c.train.num_steps)
        for n, c in big.items()
    }
    assert seen == {
        "cifar10_iddpm": ("cosine", 4000, 1e-4, 128, 500_000),
        "imagenet64": ("cosine", 1000, 3e-4, 2048, 540_000),
        "imagenet128": ("linear", 1000, 1e-4, 256, 4_360_000),
        "imagenet256": ("linear", 1000, 1e-4, 256, 1_980_000),
        "imagenet512": ("linear", 1000, 1e-4, 256, 1_940_000),
        "upsample": ("linear", 1000, 1e-4, 256, 500_000),
    }
    classifiers = {
        n: (c.classifier.optimizer.learning_rate, c.classifier.batch_size, c.classifier.num_steps)
        for n, c in big.items()
        if c.classifier.exists
    }
    assert classifiers == {
        "imagenet64": (6e-4, 1024, 300_000),
        "imagenet128": (3e-4, 256, 300_000),
        "imagenet256": (3e-4, 256, 500_000),
        "imagenet512": (3e-4, 256, 500_000),
    }
    for name in classifiers:
        chosen = big[name].classifier
        assert (chosen.optimizer.name, chosen.optimizer.schedule, chosen.optimizer.weight_decay) == (
            "adamw", "linear", 0.05,
        )  # fmt: skip
        assert (chosen.crop, big[name].data.flip, big[name].evaluation.sampler) == (0.8, True, Sampler(steps="250"))
    assert [big[n].guidance.scales for n in classifiers] == [(1,), (0.5,), (1,), (4,)]


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"labels__classes": 9}, "labels go from 0 to 9, outside the 9 classes 0 to 8"),
        (
            {"labels": Labels(conditional=False)},
            "'classifier', and the model is unconditional, so it has no classes",
        ),
        ({"labels__dropout": 0.0}, "needs the model without labels too, and labels.dropout is 0"),
        ({"labels__conditional": False}, "leaves labels out that the network is not told"),
        ({"classifier__num_steps": 0}, "'classifier', and the run has no classifier: set --classifier.num-steps"),
        ({"classifier__trained": "nowhere"}, "no nowhere; --classifier.trained is the folder of a run"),
        ({"classifier__network__head_channels": 0}, "pooling by attention needs head_channels"),
        ({"classifier__crop": 0.0}, "classifier.crop is 0"),
        ({"classifier__batch_size": 0}, "classifier.batch_size at least 1"),
        ({"guidance__interval": (0.5, 0.2)}, "guidance.interval is"),
        ({"guidance__kinds": ()}, "guidance.kinds or guidance.scales is empty"),
        ({"process": DiffusionConfig(loss="simple", variance="learned_range")}, "--process.loss rescaled_mse"),
        ({"timesteps__uniform": 0.0}, "timesteps.uniform 0"),
        ({"low_resolution": 3}, "low_resolution is 3 for images of 8 x 8"),
        ({"low_resolution": 8}, "and be smaller"),
        ({"evaluation__second": Sampler(steps="41")}, "41"),
        ({"network__multipliers": (1, 1, 1, 1, 1)}, "8 x 8 cannot be halved 4 times"),
        ({"ema": 1.0}, "ema is 1.0"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(fields, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        guided_diffusion.validate_and_load(changed(**fields))


def test_images_without_labels_are_refused(tmp_path):
    write_images(tmp_path, 10, lambda i: "")
    with pytest.raises(ValueError, match="the images have no labels: put them into one folder a class"):
        guided_diffusion.validate_and_load(changed(data=image_data.ImageData("images", str(tmp_path))))


def test_every_variant_is_measured_once():
    schedule = TINY.process.make_schedule()

    def named(**fields):
        return [v.name for v in variants(changed(guidance=with_fields(TINY.guidance, **fields)), schedule)]

    assert named() == [
        "unguided", "classifier_1", "classifier_3", "without_labels", "classifier_free_3", "classifier_3_3_steps",
    ]  # fmt: skip
    assert named(kinds=("none",)) == ["unguided", "unguided_3_steps"]
    assert named(kinds=("classifier_alone",)) == [
        "without_labels", "classifier_alone_1", "classifier_alone_3", "classifier_alone_3_3_steps",
    ]  # fmt: skip
    assert named(kinds=("classifier_free",), scales=(0.5,)) == ["classifier_free_0.5", "classifier_free_3_3_steps"]
