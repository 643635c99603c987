"""Training of `guided_diffusion`: a classifier of noisy images, if there is one, then the U-Net."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.command import checks, cli, image_data
from experiments.ddpm.evaluate import EvalContext
from experiments.ddpm.model import build_model
from experiments.ddpm.train import finish, fit_denoiser, objective
from experiments.guided_diffusion import classifier, figures
from experiments.guided_diffusion.config import Config, build_classifier, variants
from experiments.guided_diffusion.evaluate import GuidedEvaluation, cond_of_samples
from experiments.guided_diffusion.presets import PAPER
from jaxgen import data, diffusion, training


class Prepared(NamedTuple):
    """The images and networks of a config.

    Attributes:
        images: training and test images.
        model: the U-Net, and what its output means.
        classes: number of classes of the labels, whether or not the network takes them; 0 where they are not used.
        classifier: a trained one, or None.
    """

    images: image_data.Splits
    model: diffusion.DiffusionModel
    classes: int
    classifier: diffusion.Pretrained | None


def validate_and_load(config: Config) -> Prepared:
    """Checks the config and reads the images and a trained classifier.

    Raises:
        ValueError: the config has problems; all are named.
        FileNotFoundError: there is no such classifier.
    """

    def counts(train: data.Images, test: data.Images) -> list[str]:
        problems = config.check_size(train.shape) + config.evaluation.check(train, test)
        return problems + checks.errors_of(lambda: count_classes(config, (train, test)))

    images = image_data.validate_and_load(config, counts=counts)
    shape, settings, problems = images[0].shape, config.classifier, []
    classes = count_classes(config, images)
    labels = {"classes": classes if config.labels.conditional else 0, "label_dropout": config.labels.dropout}
    model = build_model(config.network, config.process, shape, low_resolution=config.low_resolution, **labels)
    built = [model]
    if settings.num_steps and not settings.trained:
        problems = checks.errors_of(lambda: cli.check_split(config.train, settings.batch_size))
        built.append(build_classifier(settings.network, config.process, classes, shape))
    shapes = [lambda network=network: jax.eval_shape(network.init, jax.random.key(0)) for network in built]
    checks.refuse(problems + checks.errors_of(*shapes))
    trained = classifier.find(settings.trained, model, classes) if settings.trained else None
    config.evaluation.note_data(*images)
    return Prepared(images, model, classes, trained)


def count_classes(config: Config, images: image_data.Splits) -> int:
    """The number of classes, or 0 if neither the model nor a classifier uses labels.

    Raises:
        ValueError: labels are needed and missing, outside the classes, or not counted.
    """
    if not (config.labels.conditional or config.classifier.exists):
        return 0
    classes, (train, test) = config.labels.classes, images
    if isinstance(train.image, data.OnDisk):
        found = train.image.num_classes
        for split in images:
            check_labels(split.read(np.arange(1)).get("label"), classes or found or data.MAX_CLASSES)
        if max(classes, found) < 1:
            raise ValueError("labels.classes is 0; labels on disk are not counted: say how many classes there are")
        if classes and found > classes:
            raise ValueError(f"labels.classes is {classes}, and there are {found} class folders")
        return classes or found
    if train.label is not None:
        classes = classes or int(train.label.max()) + 1
    for split in images:
        check_labels(split.label, classes)
    checks.refuse(data.split_problems(train, test, labelled=True))
    return classes


def check_labels(labels: Any, classes: int) -> None:
    """Raises ValueError where labels [N] are missing, or are not from 0 to classes - 1."""
    if labels is None:
        raise ValueError(
            "the images have no labels: put them into one folder a class, or set --labels.no-conditional "
            "--labels.dropout 0 --classifier.num-steps 0 --guidance.kinds none"
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"labels go from {labels.min()} to {labels.max()}, outside the {classes} classes 0 to {classes - 1}: "
            "--labels.classes says how many there are"
        )


def train(config: Config, prepared: Prepared, run: training.Run) -> dict:
    """Trains, evaluates, draws the figures, and returns the results."""
    image_data.record(run, config.data, prepared.images)
    key, model = training.keys.root(config.seed), prepared.model
    trained = fit_classifier(config, prepared, key, run)
    averaged = training.fetch(fit(config, prepared, key, run).ema)
    config = dataclasses.replace(config, evaluation=config.evaluation.fit_to_data(*prepared.images))
    context = EvalContext(config.evaluation, model, averaged, key, run, config.train.num_steps, prepared.images)
    guided = GuidedEvaluation(context, config, trained)
    metrics = guided.evaluate()
    figures.draw(run.figures, guided, metrics)
    return finish(context, metrics, PAPER.get(run.preset, {}))


def fit_classifier(
    config: Config, prepared: Prepared, key: jax.Array, run: training.Run
) -> diffusion.Pretrained | None:
    """The classifier: from elsewhere, or after its stage, or none."""
    settings, train_set = config.classifier, prepared.images[0]
    if prepared.classifier is not None or not settings.num_steps:
        return prepared.classifier
    model = build_classifier(settings.network, config.process, prepared.classes, train_set.shape)
    made = batches(train_set, settings.batch_size, config.data, prepared.classes)
    return classifier.fit(settings, config.train, model, made, key, run)


def fit(config: Config, prepared: Prepared, key: jax.Array, run: training.Run) -> training.TrainState:
    """Trains the U-Net; previews are of one class after another."""
    (train_set, test_set), model = prepared.images, prepared.model
    options = {"label_dropout": config.labels.dropout, "uniform_share": config.timesteps.uniform_share}
    classes = prepared.classes if config.labels.conditional else 0
    return fit_denoiser(
        config,
        model,
        batches(train_set, config.train.batch_size, config.data, classes),
        objective(config.process, model, **options),
        key,
        run,
        history=config.timesteps.init_history(config.process),
        num_previews=40,
        preview_columns=10,
        cond=lambda numbers: cond_of_samples(model, test_set, numbers),
    )


def batches(
    images: data.Images, batch_size: int, config: image_data.ImageData, classes: int
) -> training.DeviceBatches | training.HostBatches:
    """`data.image_batches`, where labels that come from disk must be below `classes` (0: any)."""
    made = data.image_batches(images, batch_size, flip=config.flip, workers=config.workers)
    if not classes or isinstance(made, training.DeviceBatches):
        return made

    def read(key, step, positions):
        batch: Any = made.make(key, step, positions)
        check_labels(batch.get("label"), classes)
        return batch

    return dataclasses.replace(made, make=read)


def make_sample_fn(config: Config, prepared: Prepared) -> Callable[[Any, jax.Array, jax.Array], jax.Array] | None:
    """(params of the U-Net, keys [n], numbers [n]) -> samples, for `training.ParallelSampler`: the classes in turn.

    Guided as the evaluation's last variant of classifier-free guidance, or not at all. None for an upsampler, whose
    samples also depend on images.
    """
    model = prepared.model
    if model.low_resolution is not None:
        return None
    free = [v for v in variants(config, model.schedule) if v.kind == "classifier_free"]
    variant = free[-1] if free else diffusion.SamplingVariant(config.evaluation.sampler)
    draw = diffusion.make_sampler(model, variant)

    def function(params: Any, keys: jax.Array, numbers: jax.Array) -> jax.Array:
        labels = {} if model.num_classes is None else {"labels": (numbers % model.num_classes).astype(jnp.int32)}
        return draw({"denoiser": params, "scale": jnp.float32(variant.scale)}, keys, labels)

    return function
