"""Contractive autoencoders: Rifai, Vincent, Muller, Glorot & Bengio, ICML 2011 (notes 1.3).

    python -m experiments.contractive_autoencoder quick
    python -m experiments.contractive_autoencoder mnist --data.dir FOLDER

One tied logistic layer trained as a plain autoencoder, with weight decay, denoising (Gaussian and masking noise), with
a KL-rho sparse code, and contractive; then the same layer fine-tuned as a classifier. For each: the classifier's test
error, the Jacobian's mean Frobenius norm and the share of saturated units before fine-tuning (the paper's table 1), and
the Jacobian's singular values.
"""

import dataclasses
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments import command, flat_images, optimizers
from jaxgen import autoencoder, pictures, training

Method = Literal["ae", "ae_wd", "dae_g", "dae_b", "kl", "cae"]


@dataclasses.dataclass(frozen=True)
class Model:
    """One tied layer of logistic units, cross-entropy."""

    code_size: int = 1000
    """units of the code"""
    contraction: float = 0.1
    """cae: weight of the squared Frobenius norm of the Jacobian"""
    weight_decay: float = 1e-4
    """ae_wd: L2 weight on the kernel"""
    sigma: float = 0.3
    """dae_g: standard deviation of the noise"""
    masking: float = 0.3
    """dae_b: share of the pixels set to zero"""
    rho: float = 0.1
    """kl: target mean activation"""
    kl_weight: float = 3.0
    """kl: weight of the sparsity term"""


@dataclasses.dataclass(frozen=True)
class Config:
    """Contractive autoencoders and what they are compared with."""

    seed: int = 0
    """of everything random"""
    methods: tuple[Method, ...] = ("ae", "ae_wd", "dae_g", "dae_b", "kl", "cae")
    """which, in this order"""
    data: flat_images.Data = flat_images.Data()
    model: Model = Model()
    optimizer: optimizers.Optimizer = optimizers.Optimizer("adam", 1e-3, "cosine")
    train: training.Settings = training.Settings(num_steps=1000, batch_size=100)
    classifier_optimizer: optimizers.Optimizer = optimizers.Optimizer("adam", 1e-3, "cosine")
    classifier_steps: int = 1000
    """updates of the fine-tuned classifier"""
    spectrum_examples: int = training.free(8)
    """test images whose Jacobian is decomposed, for the figure (some seconds each on MNIST)"""


PRESETS = {
    "quick": Config(
        model=Model(code_size=144),
        train=training.Settings(num_steps=2000, batch_size=100),
        classifier_steps=600,
    ),
    # 33 epochs as an autoencoder, 50 as a classifier. Adam fine-tunes the six layers to the same error; momentum keeps
    # more of what they learned before.
    "mnist": Config(
        data=flat_images.Data("mnist"),
        model=Model(contraction=0.3),
        train=training.Settings(num_steps=20_000, batch_size=100, log_every=500, save_every=5000),
        classifier_optimizer=optimizers.Optimizer("sgd", 0.1, "cosine", momentum=0.9),
        classifier_steps=30_000,
    ),
    # The paper gives the network and the measures but no schedule: a long one.
    "paper": Config(
        data=flat_images.Data("mnist"),
        train=training.Settings(num_steps=60_000, batch_size=100, save_every=6000, deterministic=True),
        classifier_steps=60_000,
    ),
}
# Table 1, MNIST: test error in percent and share of saturated units in percent. Its Jacobian norms are in a unit that
# the paper does not define, so only their order can be compared.
PAPER = {
    "cae_error_percent": 1.14, "dae_g_error_percent": 1.18, "dae_b_error_percent": 1.57,
    "ae_wd_error_percent": 1.68, "ae_error_percent": 1.78,
    "cae_saturated_percent": 86.36, "dae_g_saturated_percent": 17.77, "dae_b_saturated_percent": 68.19,
    "ae_wd_saturated_percent": 12.97, "ae_saturated_percent": 49.90,
}  # fmt: skip


def train(config: Config, images: tuple[flat_images.FlatImages, ...], run: training.Run) -> dict:
    train_set, test_set = images
    run.note_data(config.data.name, train_set.fingerprint + test_set.fingerprint)
    classes = int(train_set.labels.max()) + 1
    network = autoencoder.Autoencoder(
        train_set.x.shape[1], (), config.model.code_size, code_activation=nn.sigmoid, tied=True
    )
    metrics, trained = {}, {}
    for method in config.methods:
        params = pretrain(config, run, method, network, train_set)
        measured = dict(run.once(f"{method} layer", partial(measure_and_draw, run, method, network, params, test_set)))
        classifier, fine_tuned = fine_tune(config, run, method, params, classes, train_set)
        error = partial(error_percent, classifier, fine_tuned, test_set)
        measured |= run.once(f"{method} classifier", lambda error=error: {"error_percent": error()})
        metrics |= {f"{method}_{name}": value for name, value in measured.items()}
        trained[method] = {"autoencoder": params, "classifier": fine_tuned}
    layers = {method: params["autoencoder"] for method, params in trained.items()}
    run.once(f"spectra of {config.spectrum_examples}", partial(draw_spectra, config, run, network, layers, test_set))
    paper = {name: value for name, value in PAPER.items() if name in metrics}
    is_papers = config.data.name == "mnist" and config.model.code_size == 1000
    steps = len(config.methods) * (config.train.num_steps + config.classifier_steps)
    return run.finish(step=steps, params=trained, metrics=metrics, paper=paper if is_papers else None)


def prepare(config: Config) -> tuple[flat_images.FlatImages, ...]:
    """Refuses impossible settings and reads the images."""
    model = config.model
    if model.code_size < 1 or config.classifier_steps < 1 or config.spectrum_examples < 1:
        raise ValueError("model.code_size, classifier_steps and spectrum_examples must be at least 1")
    if not 0 < model.rho < 1:
        raise ValueError(f"model.rho is {model.rho}; a mean activation of logistic units lies inside (0, 1)")
    if not 0 <= model.masking < 1:
        raise ValueError(f"model.masking is {model.masking}; it is a share in [0, 1)")
    if min(model.contraction, model.weight_decay, model.sigma, model.kl_weight) < 0:
        raise ValueError("model.contraction, weight_decay, sigma and kl_weight must not be negative")
    optimizers.build(config.optimizer, config.train.num_steps)
    optimizers.build(config.classifier_optimizer, config.classifier_steps)
    return flat_images.labelled(config.data)


def pretrain(config, run, method: Method, network, train_set) -> dict:
    """The layer as an autoencoder. All methods start from the same parameters and see the same batches."""
    root = training.keys.root(config.seed)
    model, statistics, optimizer = config.model, None, config.optimizer
    plain = partial(autoencoder.reconstruction_loss, network, "cross_entropy")
    match method:
        case "ae":
            loss = plain()
        case "ae_wd":
            loss = plain()
            optimizer = dataclasses.replace(optimizer, weight_decay=model.weight_decay)
        case "dae_g":
            loss = plain(lambda key, x: autoencoder.gaussian_noise(key, x, model.sigma))
        case "dae_b":
            loss = plain(lambda key, x: autoencoder.masking_noise(key, x, model.masking))
        case "kl":
            loss = autoencoder.kl_sparsity_loss(network, model.rho, model.kl_weight, "cross_entropy")
            statistics = autoencoder.kl_sparsity_statistics(network)
        case "cae":
            loss = autoencoder.contractive_loss(network, model.contraction)
    params = network.init(training.keys.stream(root, "params"), jnp.zeros((1, network.data_size)))["params"]
    transform = optimizers.build(optimizer, config.train.num_steps)
    state = training.fit(
        run,
        config.train,
        update=training.update_from_objective(loss, transform, statistics=statistics),
        state=training.create_state(params, transform),
        batches=flat_images.batches(train_set, config.train.batch_size, config.data.distort),
        key=root,
        stage=method,
    )
    return training.fetch(state.params)


def measure_and_draw(run, method, network, params, test_set) -> dict[str, float]:
    """Table 1's measures of the Jacobian over the test set; the filters."""
    draw_filters(run, method, params, test_set)
    encode = lambda x: network.apply({"params": params}, x, method="encode")
    chunks = range(0, len(test_set.x), 1000)
    hidden = jnp.concatenate([jax.jit(encode)(test_set.unit(i, i + 1000)) for i in chunks])
    kernel = jnp.asarray(params["encoder"]["layers_0"]["kernel"])
    reconstruct = lambda x: network.apply({"params": params}, x)
    return {
        "jacobian_norm": float(jnp.mean(jnp.sqrt(autoencoder.sigmoid_contractive_penalty(hidden, kernel)))),
        "saturated_percent": 100 * float(jnp.mean(autoencoder.saturation(hidden))),
        "test_error": autoencoder.reconstruction_error(reconstruct, test_set.unit()),
    }


def fine_tune(config, run, method, params, classes, train_set):
    """(network, params) of the classifier that starts from the trained layer."""
    classifier = autoencoder.Classifier(
        train_set.x.shape[1], (), config.model.code_size, classes, code_activation=nn.sigmoid
    )
    head = {"kernel": jnp.zeros((config.model.code_size, classes)), "bias": jnp.zeros(classes)}
    transform = optimizers.build(config.classifier_optimizer, config.classifier_steps)
    state = training.fit(
        run,
        dataclasses.replace(config.train, num_steps=config.classifier_steps),
        update=training.update_from_objective(autoencoder.classification_loss(classifier), transform),
        state=training.create_state(autoencoder.classifier_params(params, head), transform),
        batches=flat_images.batches(train_set, config.train.batch_size),
        key=training.keys.stage(training.keys.root(config.seed), 0),
        stage=f"{method}-classifier",
    )
    return classifier, training.fetch(state.params)


def error_percent(classifier, params, images: flat_images.FlatImages) -> float:
    """Share of wrong labels."""
    predict = jax.jit(lambda x: jnp.argmax(classifier.apply({"params": params}, x), axis=-1))
    found = np.concatenate([predict(images.unit(i, i + 1000)) for i in range(0, len(images.x), 1000)])
    return 100 * float(np.mean(found != images.labels))


def draw_filters(run, method, params, images) -> None:
    """What the units look for."""
    kernel = np.asarray(params["encoder"]["layers_0"]["kernel"])
    picture = pictures.grid(images.pictures(kernel.T[:100]), 20, rescale=True)
    pictures.save_png(run.figures / f"filters-{method}.png", pictures.upscale(picture, max(1, 48 // images.shape[0])))


def draw_spectra(config, run, network, layers, test_set) -> dict[str, float]:
    """Mean singular values of the Jacobian over a few test images, largest first; nothing is measured."""
    some, lines = jnp.asarray(test_set.unit(0, config.spectrum_examples)), {}
    for method, params in layers.items():
        encode = lambda x, params=params: network.apply({"params": params}, x, method="encode")
        spectra = np.mean(jax.jit(partial(autoencoder.jacobian_spectrum, encode))(some), axis=0)
        lines[method] = (np.arange(1, len(spectra) + 1), np.maximum(spectra, 1e-8))
    picture = pictures.curves(lines, "singular value, largest first", "mean over test images", log="y")
    pictures.save_png(run.figures / "jacobian-spectra.png", picture)
    return {}


if __name__ == "__main__":
    command.main("contractive_autoencoder", PRESETS, prepare, train, __doc__ or "")
