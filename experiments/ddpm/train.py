"""Training of `ddpm`, and what `guided_diffusion` shares of it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.command import image_data
from experiments.ddpm import figures
from experiments.ddpm.config import Config
from experiments.ddpm.evaluate import CondOf, EvalContext, evaluate
from experiments.ddpm.model import DiffusionConfig, build_model
from experiments.ddpm.presets import PAPER_CIFAR10
from jaxgen import data, diffusion, pictures, training
from jaxgen.compiler import compile_per_shape


def train(config: Config, images: image_data.Splits, run: training.Run) -> dict:
    """Trains, evaluates, draws the figures, and returns the results."""
    image_data.record(run, config.data, images)
    key = training.keys.root(config.seed)
    model = build_model(config.network, config.process, images[0].shape)
    averaged = training.fetch(fit(config, model, images[0], key, run).ema)
    evaluation = config.evaluation.fit_to_data(*images)
    context = EvalContext(evaluation, model, averaged, key, run, config.train.num_steps, images)
    metrics = evaluate(context)
    figures.draw(run.figures, context)
    return finish(context, metrics, PAPER_CIFAR10 if config.data.name.endswith("cifar10") else {})


def finish(context: EvalContext, metrics: dict[str, float], paper: dict[str, float]) -> dict:
    """Writes the results, with the paper's values of what was measured."""
    paper = {name: value for name, value in paper.items() if name in metrics}
    return context.run.finish(step=context.step, params=context.params, metrics=metrics, paper=paper)


def fit(
    config: Config, model: diffusion.DiffusionModel, train_set: data.Images, key: jax.Array, run: training.Run
) -> training.TrainState:
    """Trains the network."""
    batches = data.image_batches(train_set, config.train.batch_size, flip=config.data.flip, workers=config.data.workers)
    return fit_denoiser(config, model, batches, objective(config.process, model), key, run)


def objective(process: DiffusionConfig, model: diffusion.DiffusionModel, **options: Any) -> training.Objective:
    """The loss of a config; options are those of `diffusion.denoising_objective`."""
    kind: Any = process.loss
    return diffusion.denoising_objective(model, kind, bound_weight=process.bound_weight, **options)


def fit_denoiser(
    config: Config,
    model: diffusion.DiffusionModel,
    batches: training.DeviceBatches | training.HostBatches,
    loss: training.Objective,
    key: jax.Array,
    run: training.Run,
    *,
    history: diffusion.LossHistory | None = None,
    num_previews: int = 36,
    preview_columns: int = 9,
    cond: CondOf = lambda numbers: {},
) -> training.TrainState:
    """Trains a network and draws previews, always of the same noise, from the averaged parameters.

    Args:
        config: settings.
        model: the network.
        batches: of images.
        loss: of `objective`.
        key: root key of the run.
        run: the run.
        history: of the losses of each timestep, where timesteps are drawn by it; part of the training state.
        num_previews: number of samples of a preview.
        preview_columns: columns of its grid.
        cond: what the samples of previews are conditioned on.
    """
    draw = compile_per_shape(diffusion.make_sampler(model, diffusion.SamplingVariant(config.preview)))
    keys = training.keys.per_example(training.keys.stream(key, "sample"), jnp.arange(num_previews))

    def draw_preview(step: int, state: training.TrainState) -> None:
        # The same keys on purpose, as the noise is always the same.
        samples = draw({"denoiser": state.ema}, jax.random.clone(keys), cond(np.arange(num_previews)))
        picture = figures.enlarged(pictures.grid(data.to_bytes(samples), preview_columns), model.shape)
        pictures.save_png(run.figures / f"preview-{step:07d}.png", picture)

    optimizer = training.build_optimizer(config.optimizer, config.train.num_steps)
    params = model.init(training.keys.stream(key, "params"))
    observe = None if history is None else diffusion.observe_losses
    return training.fit(
        run,
        config.train,
        update=training.update_from_objective(loss, optimizer, ema_decay=config.ema_decay, observe=observe),
        state=training.create_state(params, optimizer, ema=True, model_state=history),
        batches=batches,
        key=key,
        callbacks=[(config.preview_every, draw_preview)] if config.preview_every else [],
    )


def make_sample_fn(config: Config, images: image_data.Splits) -> Callable[[Any, jax.Array, jax.Array], jax.Array]:
    """(params, keys [n], numbers [n]) -> samples of the evaluation's sampler, for `training.ParallelSampler`."""
    model = build_model(config.network, config.process, images[0].shape)
    draw = diffusion.make_sampler(model, diffusion.SamplingVariant(config.evaluation.sampler))
    return lambda params, keys, numbers: draw({"denoiser": params}, keys, {})
