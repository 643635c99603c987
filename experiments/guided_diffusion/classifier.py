"""The classifier of noisy images: trained as a stage of the run, or taken from elsewhere, and its accuracy."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.guided_diffusion.config import Classifier
from experiments.sample_batches import networks
from jaxgen import data, diffusion, training
from jaxgen.compiler import compile_per_shape

STAGE = "classifier"


def find(trained: str, model: diffusion.DiffusionModel, classes: int) -> diffusion.Pretrained:
    """The classifier in the folder of a run, or in a released file, for guiding samples of `model`.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: it was trained for another noise schedule, for other classes or images, or not to its end.
    """
    if not Path(trained).expanduser().exists():
        raise FileNotFoundError(f"no {trained}; --classifier.trained is the folder of a run, or a file of weights")
    classifier = networks.load_classifier(trained)
    networks.check_classifier("this run", model, classes, classifier)
    return classifier


def fit(
    config: Classifier,
    settings: training.Settings,
    model: diffusion.DiffusionModel,
    batches: Any,
    root: jax.Array,
    run: training.Run,
) -> diffusion.Pretrained:
    """The classifier after its stage of training.

    Args:
        config: settings of the classifier.
        settings: those of the run's training, of which the steps and the batch are replaced.
        model: the classifier.
        batches: of images and labels.
        root: root key of the run.
        run: the run.
    """
    key = training.keys.stage(root, 0)
    optimizer = training.build_optimizer(config.optimizer, config.num_steps)
    loss = diffusion.classifier_objective(model, noised=config.noised, smallest_crop=config.crop)
    state = training.fit(
        run,
        dataclasses.replace(settings, batch_size=config.batch_size, num_steps=config.num_steps),
        update=training.update_from_objective(loss, optimizer),
        state=training.create_state(model.init(training.keys.stream(key, "params")), optimizer),
        batches=batches,
        key=key,
        stage=STAGE,
    )
    return diffusion.Pretrained(STAGE, model, training.fetch(state.params))


def accuracy(
    classifier: diffusion.Pretrained, images: data.Images, num: int, levels: int, key: jax.Array, batch_size: int
) -> dict[int, float]:
    """{t: percent} of the first `num` images that are classified right, at each of `levels` steps from 0 to T - 1."""
    schedule, params = classifier.model.schedule, classifier.params
    logits = compile_per_shape(lambda params, x, t: classifier.model.classify(params)(x, t))
    steps = np.unique(np.rint(np.linspace(0, schedule.num_steps - 1, levels)).astype(int))
    percent = {}
    for t in steps.tolist():
        right = 0
        for part in data.slices(num, batch_size):
            # A whole batch in any case, so that there is one shape to compile.
            numbers = np.minimum(np.arange(part.start, part.start + batch_size), num - 1)
            batch = images.read(numbers)
            x = jnp.asarray(data.signed(batch["image"]))
            keys = training.keys.per_example(jax.random.fold_in(key, t), jnp.asarray(numbers))
            x_t, _ = diffusion.q_sample(keys, schedule, x, t)
            chosen = np.asarray(logits(params, x_t, jnp.full(batch_size, t, jnp.int32))).argmax(axis=1)
            right += int(np.sum((chosen == batch["label"])[: part.stop - part.start]))
        percent[t] = 100 * right / num
    return percent
