"""Guided diffusion: Nichol & Dhariwal 2021 and Dhariwal & Nichol 2021, "Diffusion Models Beat GANs" (notes 4).

    python -m experiments.guided_diffusion quick
    python -m experiments.guided_diffusion mnist --data.dir FOLDER

A run trains a classifier of noisy images, if there is one, then the U-Net. Measured with the averaged parameters: the
bound of -log p on test images in bits/dim (of p(x | y) where the network is told the class), how often the classifier
is right at every noise level, and classifier-FID, precision and recall of samples against the scale of guidance, by the
classifier and without one. figures/guided.png shows the same noise at every scale, figures/tradeoff.png what is won and
lost.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import (
    command,
    ddpm_evaluation,
    ddpm_figures,
    guided_classifier,
    guided_evaluation,
    guided_figures,
    guided_training,
    image_batches,
    optimizers,
)
from experiments.ddpm_evaluation import Sampler
from experiments.diffusion_chain import make_schedule
from experiments.guided_classifier import Classifier
from experiments.guided_evaluation import Evaluation, Guidance, Guided, Way, told, ways
from experiments.guided_networks import ClassifierNetwork, Conditions, Network, build, build_classifier
from experiments.guided_training import Process, Timesteps
from jaxgen import pictures, training


@dataclasses.dataclass(frozen=True)
class Labels:
    """What the network is told of classes."""

    conditional: bool = True
    """it is told the class"""
    classes: int = 0
    """how many there are; 0: as many as the training images in memory have"""
    dropout: float = 0.0
    """share of the training examples whose label is left out, so that there is a model without labels too"""


@dataclasses.dataclass(frozen=True)
class Config:
    """A diffusion model and its guide."""

    seed: int = 0
    """of everything random"""
    data: image_batches.Data = image_batches.Data()
    labels: Labels = Labels()
    low_resolution: int = 0
    """side of the small image that an upsampler is given beside the noisy one; 0: none"""
    network: Network = Network()
    process: Process = Process()
    timesteps: Timesteps = Timesteps()
    optimizer: optimizers.Optimizer = optimizers.Optimizer("adamw", 1e-4)
    ema: float = 0.9999
    """decay of the average of the parameters, which is what is evaluated and drawn from"""
    ema_warm_up: bool = True
    """the decay starts low, (1 + step) / (10 + step), so that the average forgets the random start at once"""
    classifier: Classifier = Classifier()
    preview_every: int = training.free(5000)
    """steps between previews of samples while training; 0: none"""
    preview: Sampler = Sampler("dpm_solver", "logsnr20")
    # Free, because nothing trained depends on them: a trained run may be measured again in another way.
    guidance: Guidance = training.free(Guidance())
    evaluation: Evaluation = training.free(Evaluation())
    train: training.Settings = training.Settings(num_steps=500_000, batch_size=256)


class Prepared(NamedTuple):
    """What training needs.

    Attributes:
        train_set: images.
        test_set: images.
        conditions: what the network is told.
        classes: of the labels, whether or not the network is told them; 0 where they are not used.
        classifier: taken from elsewhere, or None.
    """

    train_set: image_batches.Images
    test_set: image_batches.Images
    conditions: Conditions
    classes: int
    classifier: guided_classifier.Trained | None


# Nichol & Dhariwal (2021), README of their code: L_hybrid. L_vlb: --process.loss rescaled_kl
# --timesteps.sampler loss_second_moment.
_CIFAR10 = Config(
    data=image_batches.Data("cifar10"),
    labels=Labels(conditional=False),
    network=Network(128, (1, 2, 2, 2), 3, (16, 8), head_channels=0, resample="conv", dropout=0.3),
    process=Process("cosine", 4000, rescaled_timesteps=True),
    ema_warm_up=False,
    guidance=Guidance(("none",)),
    evaluation=Evaluation(images=10_000, samples=50_000, sampler=Sampler(), batch_size=250),
    train=training.Settings(500_000, 128, log_every=1000, save_every=5000, deterministic=True),
)


def _imagenet(size: int, network: Network, scale: float, steps: int, classifier_steps: int) -> Config:
    """Dhariwal & Nichol (2021), tables 11 and 12 and README: 250 ancestral steps, 50,000 samples, FID by Inception.

    ImageNet is read from disk: a folder a class, or --data.name tfds:imagenet_resized/64x64 --data.size 0
    --data.test-split validation. What differs: images are resized before they are cropped, and weights alone decay, not
    biases and norms. --train.accumulate, --network.remat and --network.dtype bfloat16 spare memory.
    """
    levels = Network(128, network.multipliers, head_channels=64)
    return Config(
        data=image_batches.Data("images", size=size, flip=True, on_disk=True),
        labels=Labels(classes=1000),
        network=network,
        process=Process("linear"),
        ema_warm_up=False,
        classifier=Classifier(
            ClassifierNetwork(multipliers=levels.multipliers),
            optimizers.Optimizer("adamw", 3e-4, "linear", weight_decay=0.05),
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
        process=Process("cosine"),
        optimizer=optimizers.Optimizer("adamw", 2e-3, "cosine", warmup_steps=100, clip=1.0),
        ema=0.999,
        classifier=Classifier(
            ClassifierNetwork(16, (1, 2), 1, (), head_channels=16, groups=8, resample="plain", dropout=0.1),
            optimizers.Optimizer("adamw", 2e-3, "cosine", warmup_steps=50, weight_decay=0.05),
            400,
            64,
        ),
        preview_every=0,
        guidance=Guidance(("classifier_alone", "classifier_free"), (0.0, 1.0, 4.0)),
        evaluation=Evaluation(20, 200, Sampler("ddim", "ddim20"), batch_size=100, classified=360),
        train=training.Settings(1200, 32, log_every=100, save_every=600),
    ),
    # Three quarters of an hour on two cores, evaluation included.
    "mnist": Config(
        data=image_batches.Data("mnist"),
        labels=Labels(dropout=0.1),
        network=Network(16, (1, 2, 4), 1, (7,), head_channels=32, groups=8),
        process=Process("cosine"),
        optimizer=optimizers.Optimizer("adamw", 2e-3, "cosine", warmup_steps=200, clip=1.0),
        ema=0.999,
        classifier=Classifier(
            ClassifierNetwork(16, (1, 2, 2), 1, (7,), head_channels=16, groups=8),
            optimizers.Optimizer("adamw", 2e-3, "cosine", warmup_steps=100, weight_decay=0.05),
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
        process=Process("cosine"),
        optimizer=optimizers.Optimizer("adamw", 3e-4),
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


def prepare(config: Config) -> Prepared:
    """Refuses impossible settings and reads the images."""
    schedule = make_schedule(config.process)
    for sampler in (config.preview, config.evaluation.sampler, config.evaluation.second):
        sampler.schedule(schedule)
    config.process.check()
    config.timesteps.check()
    optimizers.build(config.optimizer, config.train.num_steps)
    for name, value in (("ema", config.ema), ("classifier.crop", config.classifier.crop)):
        if not 0 < value <= 1 or (name == "ema" and value == 1):
            raise ValueError(f"{name} is {value}; it must be in (0, 1{')' if name == 'ema' else ']'}")
    rates = {
        "labels.dropout": config.labels.dropout,
        "network.dropout": config.network.dropout,
        "classifier.network.dropout": config.classifier.network.dropout,
    }
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise ValueError(f"{name} is {rate}; it must be in [0, 1)")
    if config.preview_every < 0:
        raise ValueError(f"preview_every is {config.preview_every}; it must be 0 or more")
    if config.labels.dropout and not config.labels.conditional:
        raise ValueError("labels.dropout leaves labels out that the network is not told: set it to 0")
    train_set, test_set = image_batches.load(config.data)
    classes = count_classes(config, train_set, test_set)
    conditions = Conditions(
        classes if config.labels.conditional else 0, config.labels.dropout, config.low_resolution
    )  # fmt: skip
    config.guidance.check(conditions, config.classifier.exists)
    config.evaluation.check(train_set, test_set)
    check_sizes(config, train_set.shape)
    denoiser = build(
        config.network, conditions, train_set.shape, learned=config.process.learned, rescale=config.process.rescale
    )
    jax.eval_shape(lambda: denoiser.init(jax.random.key(0), train_set.shape))
    return Prepared(train_set, test_set, conditions, classes, prepare_classifier(config, train_set, classes))


def count_classes(config: Config, train_set: image_batches.Images, test_set: image_batches.Images) -> int:
    """K, or 0 where nothing needs labels.

    Raises:
        ValueError: labels are needed and missing, outside the classes, or not counted.
    """
    if not (config.labels.conditional or config.classifier.exists):
        return 0
    classes = config.labels.classes
    if config.data.on_disk:
        if classes < 1:
            raise ValueError("labels.classes is 0; labels on disk are not counted: say how many classes there are")
        return classes
    if train_set.label is not None:
        classes = classes or int(train_set.label.max()) + 1
    for split in (train_set, test_set):
        guided_training.check_labels(split.label, classes)
    return classes


def check_sizes(config: Config, shape: tuple[int, int, int]) -> None:
    """Raises ValueError where the small image does not fit into the large one."""
    small = config.low_resolution
    if small < 0 or (small and (shape[0] != shape[1] or shape[0] % small or small >= shape[0])):
        raise ValueError(
            f"low_resolution is {small} for images of {shape[0]} x {shape[1]}; its side must divide that of a square "
            "image, and be smaller"
        )
    if small and not config.labels.conditional and "classifier_alone" in config.guidance.kinds:
        raise ValueError("an upsampler without labels draws no classes in turn that a classifier could guide to")


def prepare_classifier(
    config: Config, train_set: image_batches.Images, classes: int
) -> guided_classifier.Trained | None:  # fmt: skip
    """The classifier from elsewhere, if the config says so; one that is to be trained is only checked."""
    settings = config.classifier
    if settings.trained:
        return guided_classifier.find(settings.trained, config.process, classes, train_set.shape)
    if settings.num_steps < 0 or settings.batch_size < 1:
        raise ValueError("classifier.num_steps must be 0 or more, and classifier.batch_size at least 1")
    if settings.num_steps:
        optimizers.build(settings.optimizer, settings.num_steps)
        command.check_split(config.train, settings.batch_size)
        network = build_classifier(settings.network, classes, train_set.shape)
        jax.eval_shape(lambda: network.init(jax.random.key(0), train_set.shape))
    return None


def train(config: Config, prepared: Prepared, run: training.Run) -> dict:
    train_set, test_set, conditions = prepared.train_set, prepared.test_set, prepared.conditions
    run.note_data(config.data.name, train_set.fingerprint + test_set.fingerprint)
    key, process = training.keys.root(config.seed), config.process
    denoiser = build(config.network, conditions, train_set.shape, learned=process.learned, rescale=process.rescale)
    model = ddpm_evaluation.Model(
        denoiser, make_schedule(process), process.prediction, process.p_variance, train_set.shape
    )
    classifier = fit_classifier(config, prepared, model, key, run)
    averaged = training.fetch(fit(config, prepared, model, key, run).ema)
    measured = ddpm_evaluation.Measured(config.evaluation, model, averaged, key, run, config.train.num_steps)
    guided = Guided(measured, config.guidance, conditions, classifier, train_set, test_set)
    metrics = guided.evaluate()
    guided_figures.draw(run.figures, guided, metrics)
    paper = PAPER.get(run.preset, {})
    return run.finish(
        step=config.train.num_steps,
        params=averaged,
        metrics=metrics,
        paper={name: value for name, value in paper.items() if name in metrics},
    )


def drawing(config: Config, prepared: Prepared):
    """(params of the U-Net, keys [n], numbers [n]) -> samples, for `training.ParallelDraw`: the classes in turn.

    Guided as the evaluation's first way without a classifier, or not at all. None for an upsampler, whose samples are
    also given images.
    """
    conditions, process, shape = prepared.conditions, config.process, prepared.train_set.shape
    if conditions.low_resolution:
        return None
    denoiser = build(config.network, conditions, shape, learned=process.learned, rescale=process.rescale)
    model = ddpm_evaluation.Model(denoiser, make_schedule(process), process.prediction, process.p_variance, shape)
    free = [way for way in ways(config.guidance, config.evaluation) if way.kind == "classifier_free"]
    way = free[-1] if free else Way("none", 1.0, True, config.evaluation.sampler, "unguided")
    draw = guided_evaluation.drawing(model, config.guidance, conditions, None, way)

    def function(params, keys, numbers):
        labels = {"labels": (numbers % conditions.classes).astype(jnp.int32)} if conditions.classes else {}
        return draw({"denoiser": params, "scale": jnp.float32(way.scale)}, keys, labels)

    return function


def fit_classifier(
    config: Config, prepared: Prepared, model: ddpm_evaluation.Model, key: jax.Array, run: training.Run
) -> guided_classifier.Trained | None:
    """The classifier: from elsewhere, or after its stage, or none."""
    settings = config.classifier
    if prepared.classifier is not None or not settings.num_steps:
        return prepared.classifier
    network = build_classifier(settings.network, prepared.classes, model.shape, config.process.rescale)
    feed = guided_training.batches(prepared.train_set, settings.batch_size, config.data, prepared.classes)
    params = guided_classifier.fit(settings, config.train, model.schedule, network, feed, model.shape, key, run)
    return guided_classifier.Trained(network, params)


def fit(
    config: Config, prepared: Prepared, model: ddpm_evaluation.Model, key: jax.Array, run: training.Run
) -> training.TrainState:
    """Trains the U-Net, drawing previews of the same noise from the averaged parameters, class after class."""
    sample_key, preview = training.keys.stream(key, "sample"), model.sampler(config.preview)
    conditions = prepared.conditions

    def draw_preview(step, state):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(sample_key, jnp.arange(40))
        given = told(conditions, prepared.test_set, np.arange(40))
        picture = pictures.grid(image_batches.to_bytes(preview(state.ema, keys, given)), 10)
        pictures.save_png(run.figures / f"preview-{step:07d}.png", ddpm_figures.enlarged(picture, model.shape))

    return guided_training.fit(
        run,
        config.train,
        loss=guided_training.objective(config.process, config.timesteps, model.schedule, model.network, conditions),
        optimizer=optimizers.build(config.optimizer, config.train.num_steps),
        params=model.network.init(training.keys.stream(key, "params"), model.shape),
        history=config.timesteps.history_of(config.process),
        ema_decay=training.warm_up_decay(config.ema) if config.ema_warm_up else config.ema,
        batches=guided_training.batches(prepared.train_set, config.train.batch_size, config.data, conditions.classes),
        key=key,
        also=[training.Every(config.preview_every, draw_preview)] if config.preview_every else [],
    )


def may_grow(config: Config) -> tuple[str, ...]:
    """Longer training is the same training where the rate does not know its length."""
    return ("train.num_steps",) if config.optimizer.schedule == "constant" else ()


if __name__ == "__main__":
    command.main("guided_diffusion", PRESETS, prepare, train, __doc__ or "", may_grow=may_grow)
