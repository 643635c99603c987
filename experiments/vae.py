"""Variational autoencoders: Kingma & Welling 2013, and the importance-weighted bound of Burda et al. 2015 (notes 2).

    python -m experiments.vae quick
    python -m experiments.vae mnist --data.dir FOLDER

Measured on the test images: the bound, -log p by importance sampling with its standard error, and how many latent
dimensions are in use. Everything is summed over pixels and averaged over images, in nats; a pixel that is not binary
under a Bernoulli likelihood must be asked for by name (--binarization grey).
"""

import dataclasses
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments import command, flat_images, optimizers, vae_figures
from jaxgen import training, vae

ACTIVATIONS = {"tanh": nn.tanh, "relu": nn.relu, "gelu": nn.gelu}
# Kingma & Welling draw their weights from N(0, 0.01) and do not say whether that is the variance; read as the standard
# deviation here.
KERNELS = {"glorot": nn.initializers.glorot_uniform(), "normal_0.01": nn.initializers.normal(0.01)}


@dataclasses.dataclass(frozen=True)
class Model:
    """Recognition and generative network."""

    architecture: Literal["mlp", "conv"] = "mlp"
    """"conv" has one latent layer"""
    latent_sizes: tuple[int, ...] = (50,)
    """dimensions of z_1, z_2, ..., from the data upwards"""
    widths: tuple[int, ...] = (200, 200)
    """mlp: hidden layers between x and z_1"""
    upper_widths: tuple[int, ...] = (100, 100)
    """mlp: hidden layers between z_1 and z_2, z_2 and z_3, ..."""
    activation: Literal["tanh", "relu", "gelu"] = "tanh"
    """mlp: nonlinearity of the hidden layers"""
    kernels: Literal["glorot", "normal_0.01"] = "glorot"
    """mlp: how the kernels start"""
    channels: int = 32
    """conv: of the first level"""
    likelihood: Literal["bernoulli", "gaussian", "sigmoid_gaussian", "discretized_logistic"] = "bernoulli"
    """p(x | z); "sigmoid_gaussian": the mean is squashed into (0, 1), the variance learned"""
    data_bias: bool = True
    """bernoulli: the decoder's output bias starts at the logits of the data's mean"""


@dataclasses.dataclass(frozen=True)
class Objective:
    """What is maximised."""

    bound: Literal["vae", "iwae"] = "vae"
    """"vae": the evidence lower bound; "iwae": the importance-weighted bound"""
    num_samples: int = 1
    """samples of z for each image and step"""
    gradient: Literal["iwae", "stl", "dreg"] = "iwae"
    """iwae: how its gradient is estimated"""
    kl: Literal["analytic", "monte_carlo"] = "analytic"
    """vae: how the KL term is computed; more than one latent layer has no analytic one"""
    beta: float = 1.0
    """vae: weight of the KL term"""
    beta_steps: int = 0
    """vae: steps in which beta rises linearly from 0"""
    free_nats: float = 0.0
    """vae: nats that each latent dimension has for nothing"""
    parameter_prior: bool = False
    """vae: the prior N(0, I) on all parameters, as in Kingma & Welling"""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How the test images are measured."""

    num_samples: int = 5000
    """importance samples for each image; 0: log p is not estimated"""
    examples: int = 10_000
    """test images at most"""
    bound_at: tuple[int, ...] = ()
    """numbers of training images seen after which the bound is measured on training and test images"""


@dataclasses.dataclass(frozen=True)
class Config:
    """A variational autoencoder."""

    seed: int = 0
    """of everything random"""
    data: flat_images.Data = flat_images.Data()
    binarization: Literal["stochastic", "fixed", "grey"] = "stochastic"
    """"stochastic": each pixel drawn anew at each visit, the test images once; "fixed": drawn once; "grey": as it is"""
    train_examples: int = 0
    """the first so many training images; 0: all"""
    shuffle: bool = True
    """false: the same order of images in every epoch, as in the released code of Burda et al."""
    model: Model = Model()
    sweep: tuple[int, ...] = ()
    """sizes of z, one model each, trained one after another instead of model.latent_sizes"""
    objective: Objective = Objective()
    optimizer: optimizers.Optimizer = optimizers.Optimizer("adam", 1e-3, "cosine")
    ema: float = 0.0
    """decay of the moving average of the parameters, which is then what is evaluated; 0: none"""
    evaluation: Evaluation = Evaluation()
    train: training.Settings = training.Settings(num_steps=6000, batch_size=100)


MNIST_EPOCH = 600
# 59,600 images in batches of 20; 3^0 + ... + 3^7 = 3,280 epochs.
BURDA_EPOCH = 2980
_BURDA = Config(
    data=flat_images.Data("mnist"),
    train_examples=59_600,
    objective=Objective(kl="monte_carlo"),
    optimizer=optimizers.Optimizer("adam", 1e-3, "rounds", epsilon=1e-4),
    train=training.Settings(
        num_steps=3280 * BURDA_EPOCH, batch_size=20, log_every=BURDA_EPOCH, save_every=10 * BURDA_EPOCH,
        deterministic=True,
    ),
)  # fmt: skip
_KINGMA = Config(
    data=flat_images.Data("mnist"),
    model=Model(widths=(500,), kernels="normal_0.01", data_bias=False),
    sweep=(3, 5, 10, 20, 200),
    objective=Objective(parameter_prior=True),
    optimizer=optimizers.Optimizer("adagrad", 0.02),
    evaluation=Evaluation(num_samples=0, bound_at=(1_000_000, 10_000_000, 100_000_000)),
    train=training.Settings(num_steps=1_000_000, batch_size=100, log_every=1000, save_every=50_000, deterministic=True),
)

PRESETS = {
    # Offline, about a minute on two cores.
    "quick": Config(
        model=Model(latent_sizes=(2,)),
        optimizer=optimizers.Optimizer("adam", 2e-3, "cosine"),
        evaluation=Evaluation(num_samples=1000),
        train=training.Settings(num_steps=5000, batch_size=100),
    ),
    # The best schedule found for the bound with one sample on Burda et al.'s one-layer network: large batches, a high
    # rate, averaged parameters, and a gradient without the score term of log q.
    "mnist": Config(
        data=flat_images.Data("mnist"),
        objective=Objective("iwae", 1, "stl"),
        optimizer=optimizers.Optimizer("adam", 3e-3, "cosine", warmup_steps=MNIST_EPOCH),
        ema=0.9995,
        train=training.Settings(num_steps=600 * MNIST_EPOCH, batch_size=100, log_every=MNIST_EPOCH, save_every=6000),
    ),
    # The importance-weighted bound with five samples, on the first four rounds of the paper's schedule (40 epochs).
    "iwae": dataclasses.replace(
        _BURDA,
        objective=Objective("iwae", 5),
        optimizer=dataclasses.replace(_BURDA.optimizer, rounds=4),
        train=dataclasses.replace(_BURDA.train, num_steps=40 * BURDA_EPOCH, deterministic=False),
    ),
    "frey_faces": Config(
        data=flat_images.Data("frey_faces"),
        binarization="grey",
        model=Model(latent_sizes=(2,), widths=(200,), likelihood="sigmoid_gaussian"),
        train=training.Settings(num_steps=20_000, batch_size=100),
    ),
    # Figure 2 of Kingma & Welling, as a table. Of the rates that they chose from, 0.02.
    "paper_kingma": _KINGMA,
    "paper_kingma_frey": dataclasses.replace(
        _KINGMA,
        data=flat_images.Data("frey_faces"),
        binarization="grey",
        model=dataclasses.replace(_KINGMA.model, widths=(200,), likelihood="sigmoid_gaussian"),
        sweep=(2, 5, 10, 20),
        evaluation=Evaluation(num_samples=0, bound_at=(1_000_000, 10_000_000)),
        train=dataclasses.replace(_KINGMA.train, num_steps=100_000),
    ),
    # Table 1 of Burda et al.: VAE, k = 1; by --objective.bound iwae --objective.num-samples 50 and so on the others.
    "paper_burda": _BURDA,
    # Departures of their released code from their paper, as far as they can be switched here.
    "paper_burda_released": dataclasses.replace(
        _BURDA,
        shuffle=False,
        optimizer=dataclasses.replace(_BURDA.optimizer, beta1=0.99, start_second_moment=1.0, scale=20.0),
    ),
}
# Burda et al. (2015), table 1, MNIST: (bound, samples, latent sizes) -> (-log p by 5,000 samples, active units).
PAPER_BURDA = {
    ("vae", 1, (50,)): (86.76, 19), ("vae", 5, (50,)): (86.47, 20), ("vae", 50, (50,)): (86.35, 20),
    ("iwae", 1, (50,)): (86.76, 19), ("iwae", 5, (50,)): (85.54, 22), ("iwae", 50, (50,)): (84.78, 25),
    ("vae", 1, (100, 50)): (85.33, 21), ("iwae", 50, (100, 50)): (82.90, 33),
}  # fmt: skip


def train(config: Config, prepared: tuple[flat_images.FlatImages, ...], run: training.Run) -> dict:
    train_set, test_set = prepared
    run.note_data(config.data.name, train_set.fingerprint + test_set.fingerprint)
    metrics, trained, steps = {}, {}, 0
    for number, size in enumerate(config.sweep or (0,)):
        model = dataclasses.replace(config.model, latent_sizes=(size,)) if size else config.model
        name = f"nz{size}" if size else ""
        key = training.keys.root(config.seed)
        key = training.keys.stage(key, number) if size else key
        params, bounds = train_one(config, model, run, name, key, train_set, test_set)
        trained[name or "vae"], steps = params, steps + config.train.num_steps
        look = partial(measure_and_draw, config, model, run, name, key, params, test_set)
        what = f"{name or 'vae'} and figures, step {config.train.num_steps}, {config.evaluation}"
        measured = {**bounds, **run.once(what, look)}
        metrics |= {f"{name}_{metric}" if name else metric: value for metric, value in measured.items()}
    return run.finish(step=steps, params=trained, metrics=metrics, paper=paper_values(config, metrics))


def prepare(config: Config) -> tuple[flat_images.FlatImages, ...]:
    """Refuses impossible settings and reads the images."""
    sizes = [(size,) for size in config.sweep] or [config.model.latent_sizes]
    train_set, test_set = flat_images.load(config.data)
    for size in sizes:
        model = dataclasses.replace(config.model, latent_sizes=size)
        build(model, train_set)
        objective(config, model, train_set)
    optimizers.build(config.optimizer, config.train.num_steps)
    if not 0 <= config.ema < 1:
        raise ValueError(f"ema is {config.ema}; it must be in [0, 1), 0 for none")
    if config.evaluation.num_samples < 0 or config.evaluation.examples < 1:
        raise ValueError("evaluation.num_samples must be 0 or more and evaluation.examples at least 1")
    if any(points % config.train.batch_size for points in config.evaluation.bound_at):
        raise ValueError(f"evaluation.bound_at must be multiples of the batch size {config.train.batch_size}")
    if not 0 <= config.train_examples <= len(train_set.x):
        raise ValueError(f"train_examples is {config.train_examples}; the data has {len(train_set.x)}, 0 takes all")
    if config.train_examples:
        train_set = dataclasses.replace(train_set, x=train_set.x[: config.train_examples], label=None)
    if config.binarization != "grey":
        draw = training.keys.stream(training.keys.root(config.seed), "eval")
        test_set = flat_images.binarized(jax.random.fold_in(draw, 1), test_set)
        if config.binarization == "fixed":
            train_set = flat_images.binarized(jax.random.fold_in(draw, 0), train_set)
    if config.model.likelihood != "bernoulli" and config.binarization != "grey":
        raise ValueError(
            f"model.likelihood {config.model.likelihood!r} is for grey levels: set --binarization grey, or "
            "--model.likelihood bernoulli"
        )
    vae.check_data(likelihood_of(config.model, config.binarization), test_set.unit(0, 1000))
    return train_set, test_set


def likelihood_of(model: Model, binarization: str) -> vae.Likelihood:
    """p(x | z) of a config."""
    match model.likelihood:
        case "bernoulli":
            return vae.bernoulli(grey=binarization == "grey")
        case "gaussian":
            return vae.gaussian()
        case "sigmoid_gaussian":
            return vae.gaussian(sigmoid_mean=True)
        case "discretized_logistic":
            return vae.discretized_logistic()


def build(model: Model, images: flat_images.FlatImages) -> vae.VAE:
    """The network of a config for images of this shape."""
    outputs = likelihood_of(model, "grey").outputs
    if model.architecture == "conv":
        if len(model.latent_sizes) != 1:
            raise ValueError(f"model.latent_sizes is {model.latent_sizes}; a convolutional VAE has one latent layer")
        return vae.conv_vae(images.shape, model.latent_sizes[0], model.channels, outputs=outputs)
    widths = (model.widths, *[model.upper_widths] * (len(model.latent_sizes) - 1))
    activation, kernels = ACTIVATIONS[model.activation], KERNELS[model.kernels]
    return vae.mlp_vae(images.x.shape[1], model.latent_sizes, widths, outputs, activation, kernels)


def objective(config: Config, model: Model, images: flat_images.FlatImages):
    """(loss, statistics or None) of a config."""
    chosen, network = config.objective, build(model, images)
    likelihood = likelihood_of(model, config.binarization)
    if chosen.bound == "iwae":
        loss = vae.iwae_loss(network, likelihood, num_samples=chosen.num_samples, gradient=chosen.gradient)
        return loss, None
    beta = chosen.beta
    if chosen.beta_steps:
        beta = lambda step: chosen.beta * jnp.minimum(1.0, step.astype(jnp.float32) / chosen.beta_steps)
    loss = vae.vae_loss(
        network,
        likelihood,
        num_samples=chosen.num_samples,
        beta=beta,
        kl=chosen.kl,
        free_nats=chosen.free_nats,
        weight_decay=1 / len(images.x) if chosen.parameter_prior else 0.0,
    )
    return loss, vae.free_bits_statistics(network) if chosen.free_nats else None


def train_one(config, model: Model, run, name: str, key, train_set, test_set):
    """(parameters to evaluate, {name: bound} at config.evaluation.bound_at) of one model."""
    network, likelihood = build(model, train_set), likelihood_of(model, config.binarization)
    loss, statistics = objective(config, model, train_set)
    bias = None
    if model.data_bias and model.likelihood == "bernoulli":
        bias = vae.mean_logits(train_set.unit())
    params = vae.init_params(training.keys.stream(key, "params"), network, bias)
    optimizer = optimizers.build(config.optimizer, config.train.num_steps)
    stochastic = config.binarization == "stochastic"
    batches = flat_images.batches(
        train_set, config.train.batch_size, config.data.distort, stochastic, shuffle=config.shuffle
    )
    ema = training.warm_up_decay(config.ema) if config.ema else None
    points = [p for p in config.evaluation.bound_at if p <= config.train.num_steps * config.train.batch_size]
    averaged = lambda state: training.fetch(state.ema if config.ema else state.params)

    def bound(images, params) -> float:
        found = vae.log_marginal_likelihood(
            training.keys.stream(key, "eval"), network, params, likelihood, images.unit(0, 10_000), 1, batch_size=1000
        )
        return float(jnp.mean(found.elbo))

    def measure_bounds(points, state) -> dict[str, float]:
        params = averaged(state)
        some = train_set if not stochastic else flat_images.binarized(
            jax.random.fold_in(training.keys.stream(key, "eval"), 2),
            dataclasses.replace(train_set, x=train_set.x[:10_000]),
        )  # fmt: skip
        what = f"bound_at_{points:.0e}".replace("+0", "")
        return {f"{what}_train": bound(some, params), f"{what}_test": bound(test_set, params)}

    def at_point(points, step, state):
        if step == points // config.train.batch_size:
            run.once(f"{name or 'vae'} bound at {points}", lambda: measure_bounds(points, state))

    state = training.fit(
        run,
        config.train,
        update=training.update_from_objective(loss, optimizer, statistics=statistics, ema_decay=ema),
        state=training.create_state(params, optimizer, ema=bool(config.ema)),
        batches=batches,
        key=key,
        stage=name,
        also=[training.Every(p // config.train.batch_size, partial(at_point, p)) for p in points],
    )
    bounds = {}
    for p in points:
        bounds |= run.once(f"{name or 'vae'} bound at {p}", lambda p=p: _never(p))
    return averaged(state), bounds


def _never(points):
    raise ValueError(f"the bound at {points} images was not measured while training; start in an empty --workdir")


def measure_and_draw(config, model, run, name, key, params, test_set) -> dict[str, float]:
    """The bound, -log p and the active units on test images; figures."""
    network, likelihood = build(model, test_set), likelihood_of(model, config.binarization)
    x = test_set.unit(0, config.evaluation.examples)
    # Streams are folded so that no two measurements share a key.
    eval_key = lambda number: jax.random.fold_in(training.keys.stream(key, "eval"), number)
    samples = config.evaluation.num_samples or 1
    found = vae.log_marginal_likelihood(eval_key(3), network, params, likelihood, x, samples)
    measured = {"test_bound": float(jnp.mean(found.elbo)), "test_examples": len(x)}
    if config.evaluation.num_samples:
        nll = -float(jnp.mean(found.log_likelihood))
        measured |= {
            "negative_log_likelihood": nll,
            # Of the mean over images, from how they differ; the sampling error of each image is far smaller.
            "standard_error": float(jnp.std(found.log_likelihood)) / len(x) ** 0.5,
            "sampling_error": float(jnp.sqrt(jnp.sum(jnp.square(found.standard_error)))) / len(x),
            "bits_per_dim": float(vae.bits_per_dim(-jnp.float32(nll), x.shape[1])),
        }
    means = vae.posterior_means(eval_key(4), network, params, x)
    layers = [vae.active_units(layer) for layer in means]
    measured["active_units"] = sum(layers)
    if len(layers) > 1:
        measured |= {f"active_units_{i}": count for i, count in enumerate(layers, 1)}
    vae_figures.draw(
        run.figures, name, training.keys.stream(key, "sample"), network, params, likelihood, test_set, means[0]
    )
    return measured


def drawing(config: Config, prepared: tuple[flat_images.FlatImages, ...]):
    """(params, keys [n], numbers [n]) -> (E[x | z], x) of the first model, for `training.ParallelDraw`."""
    size = config.sweep[:1] or config.model.latent_sizes
    network = build(dataclasses.replace(config.model, latent_sizes=size), prepared[0])
    likelihood = likelihood_of(config.model, config.binarization)
    return lambda params, keys, numbers: vae.sample(keys, network, params, likelihood, len(numbers))


def paper_values(config: Config, metrics: dict) -> dict[str, float]:
    """Burda et al.'s values of this row, where the data and the network are theirs."""
    row = (config.objective.bound, config.objective.num_samples, config.model.latent_sizes)
    theirs = config.data.name == "mnist" and config.binarization == "stochastic" and config.model.architecture == "mlp"
    if not theirs or config.sweep or row not in PAPER_BURDA or "negative_log_likelihood" not in metrics:
        return {}
    nll, active = PAPER_BURDA[row]
    return {"negative_log_likelihood": nll, "active_units": active}


if __name__ == "__main__":
    command.main("vae", PRESETS, prepare, train, __doc__ or "")
