"""Generative adversarial networks: Goodfellow et al. 2014 and what became of the game since (notes 3).

    python -m experiments.gan quick
    python -m experiments.gan mnist --data.dir FOLDER

On mixtures of Gaussians: how many modes the generator has found, the share of good samples, and D beside the best
discriminator. On images: the paper's Parzen-window log-likelihood, always beside the same measure of training images
and of k-means centres, and, where there are labels, the Frechet distance, precision and recall on a classifier's
features. For all: the value of the game, -2 log 2 at its equilibrium.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments import command, flat_images, gan_data, gan_evaluation, gan_figures, gan_health, optimizers
from experiments.gan_game import Game
from jaxgen import gan, training


@dataclasses.dataclass(frozen=True)
class Model:
    """The two players."""

    architecture: Literal["points", "maxout", "dcgan"] = "points"
    """"points": dense layers, no output nonlinearity; "maxout": the paper's for images; "dcgan": convolutions"""
    noise: Literal["normal", "uniform"] = "normal"
    """p_z, of variance 1"""
    noise_size: int = 2
    """dimensions of z"""
    generator_widths: tuple[int, ...] = (128, 128)
    """points, maxout: hidden layers"""
    discriminator_widths: tuple[int, ...] = (128, 128)
    """points: hidden layers; maxout: units of each, with five pieces"""
    channels: int = 32
    """dcgan: of the largest map"""
    groups: int = 8
    """dcgan: of the generator's group normalisation; 0: none"""
    conditional: bool = False
    """dcgan: both players see the label"""


@dataclasses.dataclass(frozen=True)
class Objective:
    """The rules of the game."""

    loss: Literal["non_saturating", "saturating", "least_squares", "wasserstein", "hinge"] = "non_saturating"
    """what each player minimises; "saturating" is the notes' min-max game"""
    halved: bool = False
    """the discriminator's loss is the mean of its two halves, as in the authors' code, not their sum"""
    penalty: Literal["none", "r1", "gradient"] = "none"
    """on the discriminator's gradient: at real points, or between real and generated ones"""
    penalty_weight: float = 0.1
    """gamma of R1; 10 in the paper of the gradient penalty"""
    spectral: bool = False
    """spectral normalisation of the discriminator"""
    discriminator_steps: int = 1
    """steps of the discriminator for one of the generator, each on its own data and noise"""
    order: Literal["alternating", "simultaneous"] = "alternating"
    """whether the generator answers the updated discriminator, or both move at once, as in the authors' code"""
    ema: float = 0.999
    """decay of the generator's moving average, which is then what is evaluated; 0: none"""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How the generator is measured."""

    samples: int = 10_000
    """images: samples of the generator for every measure"""
    held_out: int = 10_000
    """images: the last so many training images choose the Parzen window's width, and the step"""
    centres: int = 10_000
    """images: centres of k-means; 0: that row is left out"""
    select_every: int = 0
    """images: steps between Parzen estimates on held-out images; the best generator is evaluated; 0, or in a
    shorter game: the last one"""
    check_every: int = training.free(0)
    """steps between looks at the health of the game; 0: a twentieth of the training"""
    frames: int = training.free(40)
    """of the film"""
    features: str = training.free("")
    """images: file of the classifier whose features are compared; made where it is not there; empty: in the workdir"""


@dataclasses.dataclass(frozen=True)
class Config:
    """A generative adversarial network."""

    seed: int = 0
    """of everything random"""
    seeds: int = 1
    """trainings one after another, each the one of --seed seed, seed + 1, ...; measured are mean and spread"""
    data: flat_images.Data = flat_images.Data("ring")
    """name also "ring" (8 Gaussians), "grid" (25) and "gaussian" (one, on a line)"""
    model: Model = Model()
    objective: Objective = Objective()
    generator: optimizers.Optimizer = optimizers.Optimizer("adam", 4e-3, "cosine", beta1=0.5)
    discriminator: optimizers.Optimizer = optimizers.Optimizer("adam", 4e-3, "cosine", beta1=0.5)
    evaluation: Evaluation = Evaluation()
    train: training.Settings = training.Settings(num_steps=8000, batch_size=256, save_every=4000)


MNIST_EPOCH = 500  # 50,000 images in batches of 100
_RING = Config(
    objective=Objective(penalty="r1", penalty_weight=0.1, ema=0.99),
    train=training.Settings(num_steps=5000, batch_size=256),
)
_DCGAN = Config(
    data=flat_images.Data("mnist"),
    model=Model("dcgan", "normal", 64),
    objective=Objective(penalty="r1", penalty_weight=0.1),
    generator=optimizers.Optimizer("adam", 5e-4, "cosine", beta1=0.5),
    discriminator=optimizers.Optimizer("adam", 5e-4, "cosine", beta1=0.5),
    train=training.Settings(num_steps=25_000, batch_size=64, log_every=250, save_every=2500),
)
_PLAYERS_2014 = Model("maxout", "uniform", 100, (1200, 1200), (240, 240))
_SGD_2014 = optimizers.Optimizer("sgd", 0.1, "goodfellow", momentum=0.5, epoch_steps=MNIST_EPOCH)

PRESETS = {
    # Offline, about a minute on two cores.
    "quick": _RING,
    # More noise than dimensions of the data, and a discriminator that learns faster than the generator.
    "grid": dataclasses.replace(
        _RING,
        data=flat_images.Data("grid"),
        model=Model(noise_size=16),
        generator=optimizers.Optimizer("adam", 2e-3, "cosine", beta1=0.5),
        train=training.Settings(num_steps=8000, batch_size=256),
    ),
    # The simplest game: D must end at 1/2 wherever there is data.
    "gaussian": Config(
        data=flat_images.Data("gaussian"),
        model=Model(noise_size=1, generator_widths=(16,), discriminator_widths=(16, 16)),
        objective=Objective(penalty="r1", penalty_weight=0.3, ema=0.99),
        generator=optimizers.Optimizer("adam", 5e-3, "cosine", beta1=0.5),
        discriminator=optimizers.Optimizer("adam", 5e-3, "cosine", beta1=0.5),
        train=training.Settings(num_steps=2000, batch_size=128),
    ),
    # The paper's players with Adam and R1: without it the discriminator has won after two epochs.
    "mnist": Config(
        data=flat_images.Data("mnist"),
        model=_PLAYERS_2014,
        objective=Objective(penalty="r1", penalty_weight=0.1),
        generator=optimizers.Optimizer("adam", 2e-4, beta1=0.5),
        discriminator=optimizers.Optimizer("adam", 2e-4, beta1=0.5),
        evaluation=Evaluation(select_every=5 * MNIST_EPOCH),
        train=training.Settings(num_steps=60 * MNIST_EPOCH, batch_size=100, save_every=5 * MNIST_EPOCH),
    ),
    "dcgan": _DCGAN,
    # Both players see the label. The best of all on MNIST, in three quarters of an hour on two cores.
    "conditional": dataclasses.replace(
        _DCGAN,
        model=dataclasses.replace(_DCGAN.model, conditional=True),
        objective=dataclasses.replace(_DCGAN.objective, ema=0.9999),
        evaluation=Evaluation(select_every=2500),
        train=dataclasses.replace(_DCGAN.train, num_steps=15_000),
    ),
    # The configuration that the authors released, without the end that it lacks: the epoch with the highest Parzen
    # estimate on their validation images.
    "paper": Config(
        data=flat_images.Data("mnist"),
        model=_PLAYERS_2014,
        objective=Objective(halved=True, order="simultaneous", ema=0.0),
        generator=_SGD_2014,
        discriminator=_SGD_2014,
        evaluation=Evaluation(select_every=5 * MNIST_EPOCH),
        train=training.Settings(
            num_steps=1000 * MNIST_EPOCH, batch_size=100, log_every=MNIST_EPOCH, save_every=5 * MNIST_EPOCH,
            deterministic=True,
        ),
    ),
}  # fmt: skip
PAPER_PARZEN = 225.0  # nats, table 1, MNIST; standard error over the test images 2


def train(config: Config, data: gan_data.Points | gan_data.Images, run: training.Run) -> dict:
    if isinstance(data, gan_data.Images):
        run.note_data(config.data.name, data.train.fingerprint + data.test.fingerprint)
    measured, trained = [], {}
    for seed in range(config.seed, config.seed + config.seeds):
        name = f"seed{seed}" if config.seeds > 1 else ""
        key = training.keys.root(seed)
        game = Game(config, data, run, name, key, build(config.model, data), losses_of(config.objective))
        generator, last, discriminator = play(game)
        trained[name or "gan"] = {"generator": generator, "discriminator": discriminator}
        measured.append(gan_evaluation.measure(game, generator, last, discriminator))
        gan_figures.draw(game, generator, last, discriminator)
    steps = config.seeds * config.train.num_steps
    paper = {}
    if config.data.name == "mnist" and config.model.architecture == "maxout" and config.seeds == 1:
        paper = {"parzen": PAPER_PARZEN}
    return run.finish(step=steps, params=trained, metrics=gan_evaluation.over_seeds(measured), paper=paper)


def prepare(config: Config) -> gan_data.Points | gan_data.Images:
    """Refuses impossible settings and reads the data."""
    objective, evaluation = config.objective, config.evaluation
    images = config.data.name not in gan_data.POINTS
    if not 1 <= config.seeds <= 2**32 - config.seed:
        raise ValueError(f"seeds is {config.seeds}; it must be at least 1")
    if images == (config.model.architecture == "points"):
        raise ValueError(
            f"model.architecture is {config.model.architecture!r}; for the data {config.data.name!r} it must be "
            f"{'maxout or dcgan' if images else 'points'}"
        )
    data = gan_data.load(config.data, evaluation.held_out, config.model.architecture == "dcgan")
    if config.model.conditional and config.model.architecture != "dcgan":
        raise ValueError("model.conditional needs model.architecture 'dcgan'")
    if config.model.conditional and not data.num_classes:
        raise ValueError(f"model.conditional needs labels, and the data {config.data.name!r} have none")
    if not 0 <= objective.ema < 1:
        raise ValueError(f"objective.ema is {objective.ema}; it must be in [0, 1), 0 for none")
    if objective.penalty_weight < 0:
        raise ValueError(f"objective.penalty_weight is {objective.penalty_weight}; it must not be negative")
    if config.model.noise_size < 1 or evaluation.samples < 10 or evaluation.frames < 1:
        raise ValueError("model.noise_size and evaluation.frames must be at least 1, evaluation.samples at least 10")
    if min(evaluation.centres, evaluation.select_every, evaluation.check_every) < 0:
        raise ValueError("evaluation.centres, select_every and check_every must not be negative")
    if evaluation.select_every and not images:
        raise ValueError(f"evaluation.select_every is {evaluation.select_every}; only images have a Parzen estimate")
    if isinstance(data, gan_data.Images) and evaluation.centres > len(data.train.x):
        raise ValueError(f"evaluation.centres is {evaluation.centres}, of {len(data.train.x)} training images")
    players = build(config.model, data)
    labels = {"label": np.zeros(1, np.int32)} if config.model.conditional else {}
    jax.eval_shape(lambda: players.init(jax.random.key(0), {"x": np.zeros((1, *data.shape), np.float32), **labels}))
    update_of(config, players)
    return data


def build(model: Model, data: gan_data.Points | gan_data.Images) -> gan.Players:
    """The players of a config for data of this shape."""
    noise = (gan.normal_noise if model.noise == "normal" else gan.uniform_noise)(model.noise_size)
    match model.architecture:
        case "points":
            start = nn.initializers.glorot_uniform()
            generator = gan.MLPGenerator(data.shape[0], model.generator_widths, output=lambda x: x, kernel_init=start)
            return gan.Players(generator, gan.MLPDiscriminator(model.discriminator_widths, nn.leaky_relu), noise)
        case "maxout":
            # The generator begins with the marginals of the training images, as in the authors' code.
            assert isinstance(data, gan_data.Images)
            bias = gan.constant_bias(gan.marginal_logits(data.train.unit()))
            generator = gan.MLPGenerator(data.shape[0], model.generator_widths, output_bias_init=bias)
            return gan.Players(generator, gan.MaxoutDiscriminator(model.discriminator_widths), noise)
        case "dcgan":
            height, width, channels = data.shape
            if height != width:
                raise ValueError(f"images are {height} x {width}; model.architecture 'dcgan' takes squares")
            classes = data.num_classes if model.conditional else 0
            return gan.Players(
                gan.DCGANGenerator(height, channels, model.channels, model.groups, classes),
                gan.DCGANDiscriminator(height, model.channels, num_classes=classes),
                noise,
                "label" if model.conditional else None,
            )


def drawing(config: Config, data: gan_data.Points | gan_data.Images):
    """(both players' params, keys [n], numbers [n]) -> G(z), for `training.ParallelDraw`; classes take turns."""
    players = build(config.model, data)

    def generate(params, keys, numbers):
        labels = (numbers % data.num_classes).astype(jnp.int32) if players.condition else None
        return players.generate(params["generator"], keys, labels)

    return generate


def losses_of(objective: Objective) -> gan.Losses:
    """What each player minimises."""
    match objective.loss:
        case "non_saturating":
            losses = gan.NON_SATURATING
        case "saturating":
            losses = gan.SATURATING
        case "least_squares":
            losses = gan.LEAST_SQUARES
        case "wasserstein":
            losses = gan.WASSERSTEIN
        case "hinge":
            losses = gan.HINGE
    if objective.halved:
        return gan.Losses(lambda real, fake: 0.5 * losses.discriminator(real, fake), losses.generator)
    return losses


def update_of(config: Config, players: gan.Players):
    """(optimizer, update) of a config."""
    objective, steps = config.objective, config.train.num_steps
    penalties = {"none": None, "r1": gan.r1_penalty, "gradient": gan.gradient_penalty}
    optimizer = gan.separate_optimizers(
        optimizers.build(config.generator, steps),
        optimizers.build(config.discriminator, steps * objective.discriminator_steps),
    )
    return optimizer, gan.two_player_update(
        players,
        optimizer,
        losses_of(objective),
        order=objective.order,
        discriminator_steps=objective.discriminator_steps,
        penalty=penalties[objective.penalty],
        penalty_weight=objective.penalty_weight,
        spectral=objective.spectral,
        ema_decay=training.warm_up_decay(objective.ema) if objective.ema else None,
    )


def start(key: jax.Array, objective: Objective, params: Any, optimizer: Any) -> training.TrainState:
    """The state before the first step, with the moving average and spectral normalisation's vectors where asked for."""
    spectral = {"spectral": gan.init_spectral(key, params["discriminator"])} if objective.spectral else None
    state = training.create_state(params, optimizer, model_state=spectral)
    # A copy: the parameters' own buffers are given away (donated) at the first step.
    return state.replace(ema={"generator": jax.tree.map(jnp.copy, params["generator"])}) if objective.ema else state


def play(game: Game) -> tuple[Any, Any, Any]:
    """Trains; (the generator to evaluate, the last generator itself, the last discriminator)."""
    config, data, settings = game.config, game.data, game.config.train
    optimizer, update = update_of(config, game.players)
    for_params, for_spectral = jax.random.split(training.keys.stream(game.key, "params"))
    x, labels = game.real(0, 1)
    params = game.players.init(for_params, {"x": x, "label": labels} if labels is not None else {"x": x})
    state = start(for_spectral, config.objective, params, optimizer)
    steps = config.objective.discriminator_steps
    batches = (
        data.batches(settings.batch_size, steps, config.data.distort)
        if isinstance(data, gan_data.Images)
        else data.batches(settings.batch_size, steps)
    )
    watch = [
        training.Every(config.evaluation.check_every or max(settings.num_steps // 20, 1), gan_health.watcher(game)),
        gan_figures.filmed(game),
    ]
    watch[-1].action(0, state)
    selected = config.evaluation.select_every
    if selected:
        watch.append(training.Every(selected, gan_evaluation.selector(game)))
    state = training.fit(
        game.run,
        settings,
        update=update,
        state=state,
        batches=batches,
        key=game.key,
        stage=game.name,
        also=watch,
    )
    generator, last = training.fetch((game.generator(state), state.params["generator"]))
    if selected:
        generator = gan_evaluation.selected(game, generator)
    return generator, last, training.fetch(game.discriminator(state))


def may_grow(config: Config) -> tuple[str, ...]:
    """A longer game is the same game where no rate knows its length."""
    rates = {config.generator.schedule, config.discriminator.schedule}
    return ("train.num_steps",) if rates <= {"constant", "goodfellow"} else ()


if __name__ == "__main__":
    command.main("gan", PRESETS, prepare, train, __doc__ or "", may_grow=may_grow)
