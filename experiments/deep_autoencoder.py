"""Hinton & Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", Science 313 (2006).

    python -m experiments.deep_autoencoder quick
    python -m experiments.deep_autoencoder mnist --data.dir FOLDER

A deep autoencoder beside PCA (and logistic PCA) of the same code size. The measure is the paper's: squared error
summed over pixels, averaged over test images. Trained directly, or after layer-wise pretraining by restricted
Boltzmann machines.
"""

import dataclasses
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments import command, flat_images, optimizers
from jaxgen import autoencoder, pictures, training

ACTIVATIONS = {"sigmoid": nn.sigmoid, "gelu": nn.gelu, "relu": nn.relu, "tanh": nn.tanh}


@dataclasses.dataclass(frozen=True)
class Model:
    """The autoencoder D - widths - code_size - reversed(widths) - D."""

    widths: tuple[int, ...] = (1000, 500, 250)
    """hidden layers of the encoder; the decoder mirrors them"""
    code_size: int = 30
    """units of the linear code"""
    activation: Literal["sigmoid", "gelu", "relu", "tanh"] = "sigmoid"
    """nonlinearity of the hidden layers"""
    tied: bool = False
    """decoder kernels are the encoder's transposed"""
    error: Literal["cross_entropy", "squared_error"] = "cross_entropy"
    """what is minimised"""


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """Layer-wise restricted Boltzmann machines, CD-1, with the released code's constants."""

    epochs: int = 0
    """for each layer; 0: no pretraining"""
    batch_size: int = 100
    """examples an update"""
    learning_rate: float = 0.1
    """of the layers with logistic units"""
    code_learning_rate: float = 0.001
    """of the layer with Gaussian units"""
    slow_epochs: int = 5
    """epochs with momentum 0.5; then 0.9"""
    weight_decay: float = 2e-4
    """on kernels"""


@dataclasses.dataclass(frozen=True)
class Baselines:
    """What the autoencoder is measured against."""

    logistic_pca: bool = False
    """fit logistic PCA too, with the best code of each image (minutes on MNIST)"""
    extra_components: int = 0
    """PCA with this many components beside the code's own; 0: none"""


@dataclasses.dataclass(frozen=True)
class Config:
    """A deep autoencoder."""

    seed: int = 0
    """of everything random"""
    data: flat_images.Data = flat_images.Data()
    model: Model = Model()
    pretraining: Pretraining = Pretraining()
    fine_tuning: Literal["optimizer", "conjugate_gradient"] = "optimizer"
    """"conjugate_gradient": three line searches a batch, as in the paper; `optimizer` is then not used"""
    optimizer: optimizers.Optimizer = optimizers.Optimizer()
    baselines: Baselines = Baselines()
    train: training.Settings = training.Settings(num_steps=1000, batch_size=100)


MNIST_EPOCH = 60_000
_MNIST = Config(
    data=flat_images.Data("mnist"),
    train=training.Settings(num_steps=40 * MNIST_EPOCH // 250, batch_size=250, save_every=1200),
)
_COSINE = optimizers.Optimizer("adamw", 2e-3, "cosine", warmup_steps=240)
# Without clipping, logistic outputs on these mostly black images saturate at zero and nothing is learned (seen).
_CLIPPED = optimizers.Optimizer("adamw", 1e-3, "cosine", warmup_steps=100, clip=1.0)

PRESETS = {
    # Offline, under two minutes on two cores.
    "quick": Config(
        data=flat_images.Data("curves"),
        model=Model((400, 200, 100, 50, 25), 6, "gelu", error="squared_error"),
        optimizer=_CLIPPED,
        baselines=Baselines(extra_components=18),
        train=training.Settings(num_steps=5000, batch_size=100),
    ),
    # The paper's second data set in its own sizes: AE-6 against PCA-18.
    "curves": Config(
        data=flat_images.Data("curves", distort=0.5),
        model=Model((400, 200, 100, 50, 25), 6, "gelu", error="squared_error"),
        optimizer=_CLIPPED,
        baselines=Baselines(extra_components=18),
        train=training.Settings(num_steps=60_000, batch_size=100, log_every=500, save_every=5000),
    ),
    # The best recipe found for the paper's widths.
    "mnist": dataclasses.replace(
        _MNIST,
        data=flat_images.Data("mnist", distort=0.5),
        model=Model(activation="gelu", error="squared_error"),
        optimizer=_COSINE,
        train=dataclasses.replace(_MNIST.train, num_steps=100 * MNIST_EPOCH // 250),
    ),
    # The paper's logistic units, without pretraining.
    "mnist_logistic": dataclasses.replace(_MNIST, optimizer=_COSINE),
    # The same after pretraining; named 'RBM + Adam' in the results, since the paper fine-tunes by conjugate gradient.
    "mnist_rbm": dataclasses.replace(
        _MNIST, pretraining=Pretraining(epochs=10), optimizer=dataclasses.replace(_COSINE, learning_rate=1e-3)
    ),
    # Logistic PCA with codes linear in x: the autoencoder without hidden layers.
    "mnist_logistic_pca": dataclasses.replace(
        _MNIST, model=Model(widths=()), optimizer=_COSINE,
        train=dataclasses.replace(_MNIST.train, num_steps=20 * MNIST_EPOCH // 250),
    ),  # fmt: skip
    # Every setting of the paper: 50 epochs a layer, then 200 epochs of conjugate gradients on batches of 1,000.
    "paper": dataclasses.replace(
        _MNIST,
        pretraining=Pretraining(epochs=50),
        fine_tuning="conjugate_gradient",
        baselines=Baselines(logistic_pca=True),
        train=training.Settings(
            num_steps=200 * MNIST_EPOCH // 1000, batch_size=1000, log_every=60, save_every=60, deterministic=True
        ),
    ),
    # Two-dimensional codes, to look at (figure 3 of the paper).
    "mnist_2d": dataclasses.replace(
        _MNIST, model=Model(code_size=2, activation="gelu", error="squared_error"), optimizer=_COSINE
    ),
}
# By data and code size. How the paper fits logistic PCA is not known here; its 8.01 is near what codes linear in x give
# (preset mnist_logistic_pca), while the best code of each image does far better (baselines.logistic_pca).
PAPER = {
    ("mnist", 30): {"test_error": 3.00, "pca_error": 13.87},
    ("curves", 6): {"test_error": 1.44, "pca_18_error": 5.90, "error_over_pca_18": 0.244},
}
PAPER_LOGISTIC_PCA = {("mnist", 30): 8.01, ("curves", 6): 7.64}


def train(config: Config, images: tuple[flat_images.FlatImages, ...], run: training.Run) -> dict:
    train_set, test_set = images
    run.note_data(config.data.name, train_set.fingerprint + test_set.fingerprint)
    network = build(config.model, train_set.x.shape[1])
    root = training.keys.root(config.seed)
    if config.pretraining.epochs:
        params = pretrain(config, run, train_set, root)
    else:
        sample = jnp.zeros((1, network.data_size))
        params = network.init(training.keys.stream(root, "params"), sample)["params"]
    loss = autoencoder.reconstruction_loss(network, config.model.error)
    if config.fine_tuning == "conjugate_gradient":
        optimizer, update = optax.identity(), autoencoder.conjugate_gradient_update(loss)
    else:
        optimizer = optimizers.build(config.optimizer, config.train.num_steps)
        update = training.update_from_objective(loss, optimizer)
    state = training.fit(
        run,
        config.train,
        update=update,
        state=training.create_state(params, optimizer),
        batches=flat_images.batches(train_set, config.train.batch_size, config.data.distort),
        key=root,
    )
    params = training.fetch(state.params)
    look = partial(measure_and_draw, config, network, params, train_set, test_set, run)
    metrics = run.once(f"step {config.train.num_steps}", look)
    case = (config.data.name, config.model.code_size)
    paper = {name: value for name, value in PAPER.get(case, {}).items() if name in metrics}
    if not config.model.widths and case in PAPER_LOGISTIC_PCA:
        paper["test_error"] = PAPER_LOGISTIC_PCA[case]
    return run.finish(step=int(state.step), params=params, metrics=metrics, paper=paper)


def prepare(config: Config) -> tuple[flat_images.FlatImages, ...]:
    """Refuses impossible settings and reads the images."""
    if config.pretraining.batch_size < 1:
        raise ValueError(f"pretraining.batch_size is {config.pretraining.batch_size}; it must be at least 1")
    if config.model.code_size < 1 or min(config.model.widths, default=1) < 1:
        raise ValueError(f"widths {config.model.widths} and code_size {config.model.code_size} must be at least 1")
    if config.pretraining.epochs and (config.model.activation != "sigmoid" or config.model.tied):
        raise ValueError(
            "pretraining by Boltzmann machines gives logistic, untied layers: "
            "set --model.activation sigmoid and --model.no-tied, or --pretraining.epochs 0"
        )
    if config.pretraining.epochs < 0:
        raise ValueError(f"pretraining.epochs is {config.pretraining.epochs}; it must be 0 or more")
    if config.fine_tuning == "conjugate_gradient" and config.train.exact_shards:
        raise ValueError(
            "train.exact_shards promises the same bits on any number of devices, and conjugate gradients do not keep "
            "that promise (one device rounds the line search differently): leave it at 0, or --fine-tuning optimizer"
        )
    optimizers.build(config.optimizer, config.train.num_steps)
    images = flat_images.load(config.data)
    most = min(images[0].x.shape)
    code_size, extra = config.model.code_size, config.baselines.extra_components
    for name, number in (("model.code_size", code_size), ("baselines.extra_components", extra)):
        if not 0 <= number <= most:
            raise ValueError(f"{name} is {number}; PCA of this data, which stands beside the code, has 1 to {most}")
    if config.pretraining.epochs:
        if config.pretraining.batch_size > len(images[0].x):
            raise ValueError(
                f"pretraining.batch_size is {config.pretraining.batch_size}; the data has {len(images[0].x)} images"
            )
        command.check_split(config.train, config.pretraining.batch_size)
    return images


def may_grow(config: Config) -> tuple[str, ...]:
    """Longer training is the same training where no schedule knows its length."""
    constant = config.fine_tuning == "conjugate_gradient" or config.optimizer.schedule == "constant"
    return ("train.num_steps",) if constant and not config.pretraining.epochs else ()


def build(model: Model, data_size: int) -> autoencoder.Autoencoder:
    """The network of a config."""
    return autoencoder.Autoencoder(
        data_size, model.widths, model.code_size, ACTIVATIONS[model.activation], tied=model.tied
    )


def pretrain(config: Config, run: training.Run, images: flat_images.FlatImages, root: jax.Array) -> dict:
    """A Boltzmann machine a layer, each on the hidden probabilities of the one below; unrolled."""
    settings = config.pretraining
    sizes = (images.x.shape[1], *config.model.widths, config.model.code_size)
    steps_per_epoch = len(images.x) // settings.batch_size
    features, stack = None, []
    for i, (visible, hidden) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        is_code = i == len(sizes) - 2
        kind = "gaussian" if is_code else "bernoulli"
        key = training.keys.stage(root, i)
        optimizer = autoencoder.momentum_sgd(
            settings.code_learning_rate if is_code else settings.learning_rate,
            autoencoder.two_stage_momentum(settings.slow_epochs * steps_per_epoch),
            settings.weight_decay,
        )
        rbm = autoencoder.rbm_params(training.keys.stream(key, "params"), visible, hidden)
        feed = (
            flat_images.batches(images, settings.batch_size)
            if features is None
            else flat_images.feature_batches(features, settings.batch_size)
        )
        state = training.fit(
            run,
            dataclasses.replace(
                config.train, batch_size=settings.batch_size, num_steps=settings.epochs * steps_per_epoch
            ),
            update=autoencoder.contrastive_divergence_update(optimizer, kind),
            state=training.create_state(rbm, optimizer),
            batches=feed,
            key=key,
            stage=f"rbm-{i + 1}",
        )
        stack.append(training.fetch(state.params))
        up = jax.jit(lambda rbm, v, kind=kind: autoencoder.hidden_given_visible(rbm, v, kind))
        below = images.unit() if features is None else features
        features = np.concatenate([np.asarray(up(stack[-1], below[j : j + 1000])) for j in range(0, len(below), 1000)])
    return autoencoder.unroll(stack)


def measure_and_draw(config, network, params, train_set, test_set, run) -> dict[str, float]:
    """The paper's measure for the autoencoder and its baselines; figures."""
    train_x, test_x = train_set.unit(), test_set.unit()
    reconstruct = lambda x: network.apply({"params": params}, x)
    error = lambda f, x: autoencoder.reconstruction_error(f, x)
    metrics = {"test_error": error(reconstruct, test_x), "train_error": error(reconstruct, train_x)}
    rows = {"data": test_x, f"AE-{config.model.code_size}": reconstruct}
    for size in sorted({config.model.code_size, config.baselines.extra_components} - {0}):
        mean, components = autoencoder.pca(train_x, size)
        project = lambda x, m=mean, c=components: autoencoder.pca_reconstruct(x, m, c)
        name = "pca_error" if size == config.model.code_size else f"pca_{size}_error"
        metrics[name] = error(project, test_x)
        rows[f"PCA-{size}"] = project
        if size == config.baselines.extra_components:
            metrics[f"error_over_pca_{size}"] = metrics["test_error"] / metrics[name]
    if config.baselines.logistic_pca:
        fitted, _ = autoencoder.logistic_pca(train_x, config.model.code_size)
        codes = autoencoder.logistic_pca_codes(test_x, fitted)
        rebuilt = np.asarray(autoencoder.logistic_pca_reconstruct(codes, fitted))
        squares = np.sum((test_x - rebuilt) ** 2, axis=-1, dtype=np.float64)
        metrics["logistic_pca_best_code_error"] = float(np.mean(squares))
        rows[f"logistic PCA-{config.model.code_size}"] = rebuilt
    if train_set.label is not None:
        encode = jax.jit(lambda x: network.apply({"params": params}, x, method="encode"))
        codes = [np.concatenate([encode(x[i : i + 1000]) for i in range(0, len(x), 1000)]) for x in (train_x, test_x)]
        metrics["code_neighbour_error_percent"] = autoencoder.neighbour_error(
            codes[0], train_set.labels, codes[1], test_set.labels
        )
        if config.model.code_size == 2:
            draw_codes(run, codes[1], test_set.labels)
    chosen = spread_over_classes(test_set, 12)
    shown = [r[chosen] if isinstance(r, np.ndarray) else np.asarray(r(test_x[chosen])) for r in rows.values()]
    picture = pictures.strip([test_set.pictures(np.clip(s, 0, 1)) for s in shown], list(rows), factor=2)
    pictures.save_png(run.figures / "reconstructions.png", picture)
    draw_filters(run, params, train_set)
    return metrics


def draw_codes(run, codes, labels) -> None:
    """2-D codes of test images, up to 500 of each class as in the paper's figure 3."""
    chosen = np.concatenate([np.flatnonzero(labels == c)[:500] for c in np.unique(labels)])
    picture = pictures.scatter(codes[chosen], labels[chosen], f"codes of {len(chosen)} test images")
    pictures.save_png(run.figures / "codes.png", picture)


def spread_over_classes(images: flat_images.FlatImages, num: int) -> np.ndarray:
    """The first examples of each class in turn, or the first where there are no labels; at most `num`."""
    num = min(num, len(images.x))
    if images.label is None:
        return np.arange(num)
    rank = np.empty(len(images.x), int)
    for c in np.unique(images.label):
        members = np.flatnonzero(images.label == c)
        rank[members] = np.arange(len(members))
    return np.lexsort((images.label, rank))[:num]


def draw_filters(run, params, images) -> None:
    """The first layer's incoming weights, as images."""
    kernel = np.asarray(params["encoder"]["layers_0"]["kernel"]).T[:100]
    picture = pictures.grid(images.pictures(kernel), 20, rescale=True)
    pictures.save_png(run.figures / "filters.png", pictures.upscale(picture, 2))


if __name__ == "__main__":
    command.main("deep_autoencoder", PRESETS, prepare, train, __doc__ or "", may_grow=may_grow)
