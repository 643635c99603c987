"""Training of a generator and a discriminator: the players, their update, and one run over all seeds."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from experiments.command import checks
from experiments.gan import diagnostics, evaluate, figures
from experiments.gan.config import PAPER_PARZEN, Config, Model, Objective
from experiments.gan.context import EvalContext, Trained
from experiments.gan.data import Images, Points, load
from experiments.sample_batches import feature_classifier
from jaxgen import gan, training

PENALTIES = {"none": None, "r1": gan.r1_penalty, "gradient": gan.gradient_penalty}


def train(config: Config, data: Points | Images, run: training.Run) -> dict:
    """Trains the players for each seed, evaluates and draws them; the results of `run.finish`."""
    if isinstance(data, Images):
        run.record_dataset(config.data.name, data.train.fingerprint + data.test.fingerprint)
    measured, params = [], {}
    for seed in range(config.seed, config.seed + config.seeds):
        stage = f"seed{seed}" if config.seeds > 1 else ""
        key = training.keys.root(seed)
        context = EvalContext(config, data, run, stage, key, build(config.model, data), build_losses(config.objective))
        trained = train_one(context)
        params[stage or "gan"] = {"generator": trained.generator, "discriminator": trained.discriminator}
        measured.append(evaluate.measure(context, trained))
        figures.draw(context, trained)
    steps = config.seeds * config.train.num_steps
    paper = {}
    if config.data.is_test_of("mnist") and config.model.architecture == "maxout" and config.seeds == 1:
        paper = {"parzen": PAPER_PARZEN}
    return run.finish(step=steps, params=params, metrics=evaluate.over_seeds(measured), paper=paper)


def validate_and_load(config: Config) -> Points | Images:
    """The data of a configuration.

    Raises:
        ValueError: all problems of the configuration, or what reading the data refuses.
    """
    problems, settings = config.check(), config.evaluation
    try:
        data = load(config.data, settings.held_out, config.model.architecture == "dcgan", config.model.conditional)
    except (ValueError, OSError) as error:
        checks.refuse(problems and [*problems, str(error)])
        raise
    init = lambda key: build(config.model, data).init(key, data.example())
    checks.refuse(problems or checks.errors_of(lambda: jax.eval_shape(init, jax.random.key(0))))
    if isinstance(data, Images) and data.has_features and settings.features:
        feature_classifier.check(settings.features, data.whole, data.test)
    config.note_data(data)
    return data


def build(model: Model, data: Points | Images) -> gan.Players:
    """The players of a config for data of this shape."""
    noise = (gan.normal_noise if model.noise == "normal" else gan.uniform_noise)(model.noise_size)
    match model.architecture:
        case "points":
            return gan.mlp_players(data.shape[0], noise, model.generator_widths, model.discriminator_widths)
        case "maxout":
            assert isinstance(data, Images)
            x = data.train.unit()
            return gan.maxout_players(x, noise, model.generator_widths, model.discriminator_widths)
        case "dcgan":
            num_classes = data.num_classes if model.conditional else 0
            return gan.dcgan_players(data.shape, noise, model.channels, model.groups, num_classes)


def build_losses(objective: Objective) -> gan.Losses:
    """What each player minimises."""
    losses: gan.Losses = getattr(gan, objective.loss.upper())  # NON_SATURATING, SATURATING, ...
    if objective.halved:
        return gan.Losses(lambda real, fake: 0.5 * losses.discriminator(real, fake), losses.generator)
    return losses


def build_update(config: Config, players: gan.Players):
    """(optimizer, update) of a config."""
    objective, steps = config.objective, config.train.num_steps
    optimizer = gan.separate_optimizers(
        training.build_optimizer(config.generator, steps),
        training.build_optimizer(config.discriminator, steps * objective.discriminator_steps),
    )
    return optimizer, gan.two_player_update(
        players,
        optimizer,
        build_losses(objective),
        order=objective.order,
        discriminator_steps=objective.discriminator_steps,
        penalty=PENALTIES[objective.penalty],
        penalty_weight=objective.penalty_weight,
        spectral=objective.spectral,
        ema_decay=training.warm_up_decay(objective.ema) if objective.ema else None,
    )


def init_state(key: jax.Array, objective: Objective, params: Any, optimizer: Any) -> training.TrainState:
    """The state before the first step, with a moving average and spectral vectors if the objective has them."""
    spectral = {"spectral": gan.init_spectral(key, params["discriminator"])} if objective.spectral else None
    state = training.create_state(params, optimizer, model_state=spectral)
    # A copy: the parameters' own buffers are given away (donated) at the first step.
    return state.replace(ema={"generator": jax.tree.map(jnp.copy, params["generator"])}) if objective.ema else state


def train_one(context: EvalContext) -> Trained:
    """Trains the players of one seed."""
    config, settings = context.config, context.config.train
    optimizer, update = build_update(config, context.players)
    for_params, for_spectral = jax.random.split(training.keys.stream(context.key, "params"))
    params = context.players.init(for_params, context.data.example())
    state = init_state(for_spectral, config.objective, params, optimizer)
    save_frame = figures.frame_callback(context)
    if not isinstance(state.step, Tracer):  # where only shapes are wanted
        save_frame[1](0, state)
    callbacks = [diagnostics.callback(context), save_frame]
    if config.evaluation.select_every:
        callbacks.append(evaluate.select_callback(context))
    state = training.fit(
        context.run,
        settings,
        update=update,
        state=state,
        batches=context.data.batches(settings.batch_size, config.objective.discriminator_steps),
        key=context.key,
        stage=context.stage,
        callbacks=callbacks,
    )
    generator, last = training.fetch((context.generator(state), state.params["generator"]))
    if config.evaluation.select_every:
        generator = evaluate.best_generator(context).restore({"generator": generator})["generator"]
    return Trained(generator, last, training.fetch(context.discriminator(state)))


def make_sample_fn(config: Config, data: Points | Images):
    """(both players' params, keys [n], numbers [n]) -> G(z), for `training.ParallelSampler`.

    With labels, sample i is of class i modulo the number of classes.
    """
    players = build(config.model, data)

    def generate(params: Any, keys: jax.Array, numbers: jax.Array) -> jax.Array:
        labels = (numbers % data.num_classes).astype(jnp.int32) if players.condition else None
        return players.generate(params["generator"], keys, labels)

    return generate
