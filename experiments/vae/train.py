"""Trains one or several variational autoencoders, and measures them."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from experiments.command import checks, image_data
from experiments.vae import evaluate
from experiments.vae.config import Config, data_problems, paper_values
from jaxgen import data, training, vae


def validate_and_load(config: Config) -> image_data.Splits:
    """The training and the test images, binarized where they are so once, after refusing impossible settings."""
    train_set, test_set = image_data.validate_and_load(
        config,
        counts=lambda train, _: data_problems(config, train),
        build=lambda train, _: build_problems(config, train),
    )
    if config.train_examples:
        train_set = dataclasses.replace(train_set.select(slice(config.train_examples)), label=None)
    if config.binarization != "grey":
        key = training.keys.stream(training.keys.root(config.seed), "eval")
        test_set = data.binarized(jax.random.fold_in(key, 1), test_set)
        if config.binarization == "fixed":
            train_set = data.binarized(jax.random.fold_in(key, 0), train_set)
    vae.check_data(vae.build_likelihood(config.model, config.binarization == "grey"), test_set.unit(0, 1000))
    return train_set, test_set


def build_problems(config: Config, images: data.Images) -> list[str]:
    """What keeps the models from being built for images of this shape."""

    def attempt(model: vae.Architecture) -> None:
        network, *_ = config.build(model, images.shape, len(images))
        jax.eval_shape(lambda: vae.init_params(jax.random.key(0), network))

    return checks.errors_of(*(partial(attempt, model) for model in config.models.values()))


def train(config: Config, images: image_data.Splits, run: training.Run) -> dict:
    image_data.record(run, config.data, images)
    metrics, trained, steps = {}, {}, 0
    for number, (name, model) in enumerate(config.models.items()):
        key = training.keys.root(config.seed)
        network, likelihood, loss, statistics = config.build(model, images[0].shape, len(images[0]))
        context = evaluate.Context(name, training.keys.stage(key, number) if name else key, network, likelihood)
        params, bounds = train_one(config, context, loss, statistics, images, run)
        trained[name or "vae"], steps = params, steps + config.train.num_steps
        measure = partial(evaluate.measure_and_draw, config, context, params, images, run)
        depends_on = {"model": name, "step": config.train.num_steps, "evaluation": config.evaluation}
        sentence = f"{name or 'vae'} and figures, step {config.train.num_steps}, {config.evaluation}"
        measured = {**bounds, **run.cached("results and figures", measure, old_name=sentence, **depends_on)}
        metrics |= {f"{name}_{metric}" if name else metric: value for metric, value in measured.items()}
    return run.finish(step=steps, params=trained, metrics=metrics, paper=paper_values(config, metrics))


def train_one(
    config: Config, context: evaluate.Context, loss, statistics, images: image_data.Splits, run: training.Run
) -> tuple[Any, dict[str, float]]:
    """(parameters to evaluate, {name: bound} at config.evaluation.bound_at) of one model."""
    train_set, size = images[0], config.train.batch_size
    has_bias = config.model.data_bias and config.model.likelihood == "bernoulli"
    bias = vae.mean_logits(train_set.unit()) if has_bias else None
    params = vae.init_params(training.keys.stream(context.key, "params"), context.network, bias)
    optimizer = training.build_optimizer(config.optimizer, config.train.num_steps)
    ema = training.warm_up_decay(config.ema) if config.ema else None
    stochastic = config.binarization == "stochastic"
    averaged = lambda state: training.fetch(state.ema if config.ema else state.params)

    def cached_bounds(points: int, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        sentence = f"{context.name or 'vae'} bound at {points}"
        return run.cached("bound", measure, old_name=sentence, model=context.name, points=points)

    def at_point(points: int, step: int, state: training.TrainState) -> None:
        if step == points // size:
            params = averaged(state)
            cached_bounds(points, partial(evaluate.bounds, context, images, stochastic, params, points))

    def missing(points: int):
        raise ValueError(f"the bound at {points} images was not measured while training; start in an empty --workdir")

    measured = [points for points in config.evaluation.bound_at if points <= config.train.num_steps * size]
    state = training.fit(
        run,
        config.train,
        update=training.update_from_objective(loss, optimizer, statistics=statistics, ema_decay=ema),
        state=training.create_state(params, optimizer, ema=bool(config.ema)),
        batches=data.image_batches(
            train_set, size, flat=True, distort=config.data.distort, binarize=stochastic, shuffle=config.shuffle
        ),
        key=context.key,
        stage=context.name,
        callbacks=[(points // size, partial(at_point, points)) for points in measured],
    )
    bounds = {}
    for points in measured:
        bounds |= cached_bounds(points, partial(missing, points))
    return averaged(state), bounds


def make_sample_fn(config: Config, images: image_data.Splits):
    """(params, keys [n], numbers [n]) -> (E[x | z], x) of the first model, for `training.ParallelSampler`."""
    network, likelihood, *_ = config.build(next(iter(config.models.values())), images[0].shape, len(images[0]))
    return lambda params, keys, numbers: vae.sample(keys, network, params, likelihood, len(numbers))
