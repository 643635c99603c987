"""The presets of `guided_diffusion`."""

import dataclasses

from experiments.command import image_data
from experiments.guided_diffusion.config import (
    Classifier,
    ClassifierNetwork,
    Config,
    DiffusionConfig,
    Evaluation,
    Guidance,
    Labels,
    Network,
)
from jaxgen import training
from jaxgen.diffusion import Sampler

# Nichol & Dhariwal (2021), README of their code: L_hybrid. L_vlb: --process.loss rescaled_kl
# --timesteps.sampler loss_second_moment.
_CIFAR10 = Config(
    data=image_data.ImageData("cifar10"),
    labels=Labels(conditional=False),
    network=Network(128, (1, 2, 2, 2), 3, (16, 8), head_channels=0, resample="conv", dropout=0.3),
    process=DiffusionConfig("cosine", 4000, rescaled_timesteps=True),
    ema_warm_up=False,
    guidance=Guidance(("none",)),
    evaluation=Evaluation(images=10_000, samples=50_000, sampler=Sampler(), batch_size=250),
    train=training.Settings(500_000, 128, log_every=1000, save_every=5000, deterministic=True),
)


def _imagenet(size: int, network: Network, scale: float, steps: int, classifier_steps: int) -> Config:
    """Dhariwal & Nichol (2021), tables 11 and 12 and README: 250 ancestral steps, 50,000 samples, FID by Inception.

    ImageNet is read from disk: a folder a class, or --data.name tfds:imagenet_resized/64x64 --data.size 0
    --data.test-split validation. What differs: images are resized before they are cropped, and weights alone decay, not
    biases and norms. --train.accumulate, --network.remat and --network.dtype bfloat16 save memory.
    """
    levels = Network(128, network.multipliers, head_channels=64)
    return Config(
        data=image_data.ImageData("images", size=size, flip=True, on_disk=True),
        labels=Labels(classes=1000),
        network=network,
        process=DiffusionConfig("linear"),
        ema_warm_up=False,
        classifier=Classifier(
            ClassifierNetwork(multipliers=levels.multipliers),
            training.Optimizer("adamw", 3e-4, "linear", weight_decay=0.05),
            classifier_steps,
            256,
            crop=0.8,
        ),
        guidance=Guidance(("none", "classifier"), (scale,)),
        # A distance needs --evaluation.inception FILE --evaluation.samples 50000.
        evaluation=Evaluation(images=256, samples=0, sampler=Sampler(steps="250"), batch_size=16, classified=10_000),
        train=training.Settings(steps, 256, log_every=1000, save_every=5000, prefetch=2, deterministic=True),
    )


_64 = _imagenet(64, Network(192, (1, 2, 3, 4), 3, qkv_order="qkv_first", dropout=0.1), 1.0, 540_000, 300_000)
_256 = _imagenet(256, Network(), 1.0, 1_980_000, 500_000)
_512 = (0.5, 1, 1, 2, 2, 4, 4)

PRESETS = {
    # Offline, two minutes on two cores.
    "quick": Config(
        labels=Labels(dropout=0.15),
        network=Network(32, (1, 2), 1, (), head_channels=32, groups=8, resample="plain"),
        process=DiffusionConfig("cosine"),
        optimizer=training.Optimizer("adamw", 2e-3, "cosine", warmup_steps=100, clip=1.0),
        ema=0.999,
        classifier=Classifier(
            ClassifierNetwork(16, (1, 2), 1, (), head_channels=16, groups=8, resample="plain", dropout=0.1),
            training.Optimizer("adamw", 2e-3, "cosine", warmup_steps=50, weight_decay=0.05),
            400,
            64,
        ),
        preview_every=0,
        guidance=Guidance(("classifier_alone", "classifier_free"), (0.0, 1.0, 4.0)),
        evaluation=Evaluation(20, 200, Sampler("ddim", "ddim20"), batch_size=100, classified=360),
        train=training.Settings(800, 32, log_every=100, save_every=400),
    ),
    # Three quarters of an hour on two cores, evaluation included.
    "mnist": Config(
        data=image_data.ImageData("mnist"),
        labels=Labels(dropout=0.1),
        network=Network(16, (1, 2, 4), 1, (7,), head_channels=32, groups=8),
        process=DiffusionConfig("cosine"),
        optimizer=training.Optimizer("adamw", 2e-3, "cosine", warmup_steps=200, clip=1.0),
        ema=0.999,
        classifier=Classifier(
            ClassifierNetwork(16, (1, 2, 2), 1, (7,), head_channels=16, groups=8),
            training.Optimizer("adamw", 2e-3, "cosine", warmup_steps=100, weight_decay=0.05),
            1000,
            64,
        ),
        preview_every=1000,
        guidance=Guidance(("classifier", "classifier_free"), (0.0, 1.0, 2.0, 4.0)),
        evaluation=Evaluation(images=128, samples=1000, second_scales=(0.0, 2.0), batch_size=100),
        train=training.Settings(2810, 64, log_every=100, save_every=500),
    ),
    "cifar10_iddpm": _CIFAR10,
    "imagenet64": dataclasses.replace(
        _64,
        process=DiffusionConfig("cosine"),
        optimizer=training.Optimizer("adamw", 3e-4),
        classifier=dataclasses.replace(
            _64.classifier,
            network=dataclasses.replace(_64.classifier.network, blocks=4),
            optimizer=dataclasses.replace(_64.classifier.optimizer, learning_rate=6e-4),
            batch_size=1024,
        ),
        train=dataclasses.replace(_64.train, batch_size=2048),
    ),
    "imagenet128": _imagenet(128, Network(256, (1, 1, 2, 3, 4), head_channels=0), 0.5, 4_360_000, 300_000),
    "imagenet256": _256,
    "imagenet512": _imagenet(512, Network(multipliers=_512), 4.0, 1_940_000, 500_000),
    # 64 to 256. 128 to 512, with the multipliers of 256: --data.size 512 --low-resolution 128 --network.attention 32 16
    # --network.head-channels 64 --train.num-steps 1050000.
    "upsample": dataclasses.replace(
        _256,
        low_resolution=64,
        network=Network(192, head_channels=0),
        classifier=Classifier(),
        guidance=Guidance(("none",)),
        train=dataclasses.replace(_256.train, num_steps=500_000),
    ),
}  # fmt: skip
# README of guided-diffusion: FID, precision and recall of 50,000 samples by 250 steps, on Inception's features.
PAPER = {
    "imagenet64": {"fid_unguided": 2.07, "precision_unguided": 0.74, "recall_unguided": 0.63},
    "imagenet128": {"fid_classifier_0.5": 2.97, "precision_classifier_0.5": 0.78, "recall_classifier_0.5": 0.59},
    "imagenet256": {"fid_classifier_1": 4.59, "precision_classifier_1": 0.82, "recall_classifier_1": 0.52},
    "imagenet512": {"fid_classifier_4": 7.72, "precision_classifier_4": 0.87, "recall_classifier_4": 0.42},
}
