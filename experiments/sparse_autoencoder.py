"""Sparse autoencoders: an overcomplete code that uses few units at a time (notes 1.2).

    python -m experiments.sparse_autoencoder quick
    python -m experiments.sparse_autoencoder mnist --data.dir FOLDER

Four codes of one hidden layer, trained one after another on the same images: plain, L1,
KL-rho (Ng, CS294A lecture notes, 2011) and k-sparse (Makhzani & Frey 2013). Measured by the test error of
multinomial logistic regression on the code, beside the same on the pixels, and by how the units are used.
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

Method = Literal["plain", "l1", "kl", "k_sparse"]


@dataclasses.dataclass(frozen=True)
class Model:
    """One hidden layer."""

    code_size: int = 1000
    """units of the code"""
    k: int = 25
    """k-sparse: units kept"""
    start_k: int = 100
    """k-sparse: units kept at the first step; falls to k over the first half of training"""
    alpha: float = 3.0
    """k-sparse: alpha k units are kept when the code is used"""
    rho: float = 0.1
    """KL: target mean activation of each unit"""
    kl_weight: float = 6.0
    """KL: weight beside the summed squared error (twice Ng's beta, whose error has a factor 1/2)"""
    l1_weight: float = 0.1
    """L1: weight beside the summed squared error"""


@dataclasses.dataclass(frozen=True)
class Config:
    """Sparse autoencoders of one hidden layer."""

    seed: int = 0
    """of everything random"""
    methods: tuple[Method, ...] = ("plain", "l1", "kl", "k_sparse")
    """which codes, in this order"""
    data: flat_images.Data = flat_images.Data()
    model: Model = Model()
    optimizer: optimizers.Optimizer = optimizers.Optimizer("adam", 1e-3, "cosine")
    probe_l2: float = 1e-4
    """weight decay of the logistic regression on standardised codes"""
    train: training.Settings = training.Settings(num_steps=1000, batch_size=100)


PRESETS = {
    "quick": Config(
        model=Model(code_size=144, k=10, start_k=40),
        train=training.Settings(num_steps=2000, batch_size=100),
    ),
    "mnist": Config(
        data=flat_images.Data("mnist"),
        train=training.Settings(num_steps=6_000, batch_size=100, save_every=1500),
    ),
    # Makhzani & Frey's widths, annealing and support at test time, at length.
    "paper": Config(
        methods=("k_sparse",),
        data=flat_images.Data("mnist"),
        optimizer=optimizers.Optimizer("sgd", 1e-3, momentum=0.9),
        train=training.Settings(
            num_steps=3_000_000, batch_size=100, save_every=60_000, log_every=6000, deterministic=True
        ),
    ),
}


def train(config: Config, images: tuple[flat_images.FlatImages, ...], run: training.Run) -> dict:
    train_set, test_set = images
    run.note_data(config.data.name, train_set.fingerprint + test_set.fingerprint)
    pixels = lambda: {"pixels_probe_error_percent": probe(config, lambda x: x, train_set, test_set)}
    metrics = dict(run.once("pixels", pixels))
    trained, steps = {}, 0
    for number, method in enumerate(config.methods):
        network, loss, statistics = build(config, method, train_set.x.shape[1])
        key = training.keys.stage(training.keys.root(config.seed), number)
        params = network.init(training.keys.stream(key, "params"), jnp.zeros((1, network.data_size)))["params"]
        optimizer = optimizers.build(config.optimizer, config.train.num_steps)
        state = training.fit(
            run,
            config.train,
            update=training.update_from_objective(loss, optimizer, statistics=statistics),
            state=training.create_state(params, optimizer),
            batches=flat_images.batches(train_set, config.train.batch_size, config.data.distort),
            key=key,
            stage=method,
        )
        steps += int(state.step)
        trained[method] = params = training.fetch(state.params)
        look = partial(measure_and_draw, config, run, method, network, params, train_set, test_set)
        measured = run.once(f"{method} step {config.train.num_steps}", look)
        metrics |= {f"{method}_{name}": value for name, value in measured.items()}
    return run.finish(step=steps, params=trained, metrics=metrics)


def prepare(config: Config) -> tuple[flat_images.FlatImages, ...]:
    """Refuses impossible settings and reads the images."""
    model = config.model
    if model.code_size < 1:
        raise ValueError(f"model.code_size is {model.code_size}; it must be at least 1")
    if "k_sparse" in config.methods:
        for name, value in (("k", model.k), ("start_k", model.start_k), ("alpha k", round(model.alpha * model.k))):
            if not 1 <= value <= model.code_size:
                raise ValueError(f"model.{name} is {value}; it must be from 1 to model.code_size = {model.code_size}")
    if "kl" in config.methods and not 0 < model.rho < 1:
        raise ValueError(f"model.rho is {model.rho}; a mean activation of logistic units lies inside (0, 1)")
    if min(model.kl_weight, model.l1_weight, config.probe_l2) < 0:
        raise ValueError("model.kl_weight, model.l1_weight and probe_l2 must not be negative")
    optimizers.build(config.optimizer, config.train.num_steps)
    return flat_images.labelled(config.data)


def build(config: Config, method: Method, data_size: int):
    """(network, loss, statistics or None) of a method."""
    model = config.model
    logistic = autoencoder.Autoencoder(data_size, (), model.code_size, code_activation=nn.sigmoid)
    rectified = autoencoder.Autoencoder(data_size, (), model.code_size, code_activation=nn.relu, output="linear")
    tied_linear = autoencoder.Autoencoder(data_size, (), model.code_size, output="linear", tied=True)
    if method == "plain":
        return logistic, autoencoder.reconstruction_loss(logistic, "squared_error"), None
    if method == "l1":
        return rectified, autoencoder.l1_sparsity_loss(rectified, model.l1_weight), None
    if method == "kl":
        loss = autoencoder.kl_sparsity_loss(logistic, model.rho, model.kl_weight)
        return logistic, loss, autoencoder.kl_sparsity_statistics(logistic)
    loss = autoencoder.k_sparse_loss(tied_linear, model.k, model.start_k, config.train.num_steps)
    return tied_linear, loss, None


def encoder(config: Config, method: Method, network, params):
    """x -> the code that is classified; for k-sparse with alpha k units."""
    if method == "k_sparse":
        return jax.jit(lambda x: autoencoder.k_sparse_encode(network, params, x, config.model.k, config.model.alpha))
    return jax.jit(lambda x: network.apply({"params": params}, x, method="encode"))


def codes(encode, images: flat_images.FlatImages) -> np.ndarray:
    """[N, H] in chunks."""
    return np.concatenate([np.asarray(encode(images.unit(i, i + 1000))) for i in range(0, len(images.x), 1000)])


def probe(config: Config, encode, train_set, test_set) -> float:
    """Test error in percent of logistic regression on the code."""
    return autoencoder.linear_probe_error(
        codes(encode, train_set), train_set.labels, codes(encode, test_set), test_set.labels, l2=config.probe_l2
    )


def measure_and_draw(config, run, method, network, params, train_set, test_set) -> dict[str, float]:
    """Error of the code as a representation and as a feature, and how its units are used; figures."""
    encode = encoder(config, method, network, params)
    draw(run, method, network, params, encode, test_set)
    decode = lambda x: network.apply({"params": params}, encode(x), method="decode")
    test_codes = codes(encode, test_set)
    used = autoencoder.dead_units(jnp.asarray(test_codes), threshold=0.05)
    return {
        "probe_error_percent": probe(config, encode, train_set, test_set),
        "test_error": autoencoder.reconstruction_error(decode, test_set.unit()),
        **{name: float(value) for name, value in used.items()},
    }


def draw(run, method, network, params, encode, test_set) -> None:
    """What the units look for, and reconstructions."""
    kernel = np.asarray(params["encoder"]["layers_0"]["kernel"]).T[:100]
    picture = pictures.grid(test_set.pictures(kernel), 20, rescale=True)
    factor = max(1, 48 // test_set.shape[0])
    pictures.save_png(run.figures / f"filters-{method}.png", pictures.upscale(picture, factor))
    x = test_set.unit(0, 12)
    rebuilt = np.asarray(network.apply({"params": params}, encode(x), method="decode"))
    rows = [test_set.pictures(x), test_set.pictures(np.clip(rebuilt, 0, 1))]
    picture = pictures.strip(rows, ["data", method], factor=factor)
    pictures.save_png(run.figures / f"reconstructions-{method}.png", picture)


if __name__ == "__main__":
    command.main("sparse_autoencoder", PRESETS, prepare, train, __doc__ or "")
