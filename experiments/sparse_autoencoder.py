"""Sparse autoencoders: an overcomplete code that uses few units at a time.

    python -m experiments.sparse_autoencoder quick
    python -m experiments.sparse_autoencoder mnist --data.dir FOLDER

Four codes of one hidden layer, trained one after another on the same images: plain, L1,
KL-rho (Ng, CS294A lecture notes, 2011) and k-sparse (Makhzani & Frey 2013). Measured by the test error of
multinomial logistic regression on the code, compared with the same on the pixels, and by how the units are used.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from experiments.command import checks, cli, figures, image_data
from jaxgen import autoencoder, data, training


@dataclasses.dataclass(frozen=True)
class Config:
    """Sparse autoencoders of one hidden layer."""

    seed: int = 0
    """random seed"""
    methods: tuple[autoencoder.SparseMethod, ...] = ("plain", "l1", "kl", "k_sparse")
    """the codes to train, in this order"""
    data: image_data.FlatImageData = image_data.FlatImageData()
    model: autoencoder.SparseCode = autoencoder.SparseCode()
    optimizer: training.Optimizer = training.Optimizer("adam", 1e-3, "cosine")
    probe_l2: float = 1e-4
    """weight decay of the logistic regression on standardised codes"""
    train: training.Settings = training.Settings(num_steps=1000, batch_size=100)

    def check(self) -> list[str]:
        """All problems of these settings."""
        problems = self.data.check() + self.model.check(self.methods) + checks.bounds(self, probe_l2=0)
        return problems + self.optimizer.check(self.train.num_steps)


PRESETS = {
    "quick": Config(
        model=autoencoder.SparseCode(code_size=144, k=10, start_k=40, kl_weight=0.3),
        train=training.Settings(num_steps=2000, batch_size=100),
    ),
    "mnist": Config(
        data=image_data.FlatImageData("mnist"),
        train=training.Settings(num_steps=6_000, batch_size=100, save_every=1500),
    ),
    # Makhzani & Frey's widths, annealing and support at test time, at length.
    "paper": Config(
        methods=("k_sparse",),
        data=image_data.FlatImageData("mnist"),
        optimizer=training.Optimizer("sgd", 1e-3, momentum=0.9),
        train=training.Settings(
            num_steps=3_000_000, batch_size=100, save_every=60_000, log_every=6000, deterministic=True
        ),
    ),
}


def train(config: Config, images: image_data.Splits, run: training.Run) -> dict:
    image_data.record(run, config.data, images)
    train_set, root = images[0], training.keys.root(config.seed)
    pixels = lambda: {"pixels_probe_error_percent": probe(config, images, lambda x: x)}
    metrics = dict(run.cached("pixels", pixels))
    trained, steps = {}, 0
    for number, method in enumerate(config.methods):
        network, loss, statistics = build(config, method, train_set.flat.shape[1])
        key = training.keys.stage(root, number)
        optimizer = training.build_optimizer(config.optimizer, config.train.num_steps)
        params = autoencoder.init_params(training.keys.stream(key, "params"), network)
        update = training.update_from_objective(loss, optimizer, statistics=statistics)
        batches = data.image_batches(train_set, config.train.batch_size, flat=True, distort=config.data.distort)
        state = training.create_state(params, optimizer)
        state = training.fit(run, config.train, update=update, state=state, batches=batches, key=key, stage=method)
        steps += int(state.step)
        trained[method] = params = training.fetch(state.params)
        measure = partial(measure_and_draw, config, run, method, network, params, images)
        measured = run.cached("results and figures", measure, method=method, step=config.train.num_steps)
        metrics |= {f"{method}_{name}": value for name, value in measured.items()}
    return run.finish(step=steps, params=trained, metrics=metrics)


validate_and_load = partial(image_data.validate_and_load, labelled=True)


def build(config: Config, method: autoencoder.SparseMethod, data_size: int):
    """(network, loss, statistics or None) of a method."""
    return autoencoder.build_sparse(config.model, method, data_size, config.train.num_steps)


def probe(config: Config, images: image_data.Splits, encode) -> float:
    """Test error in percent of logistic regression on the code."""
    codes, test_codes = (autoencoder.map_in_chunks(encode, split.unit()) for split in images)
    return autoencoder.linear_probe_error(codes, images[0].labels, test_codes, images[1].labels, l2=config.probe_l2)


def measure_and_draw(
    config: Config,
    run: training.Run,
    method: autoencoder.SparseMethod,
    network: autoencoder.Autoencoder,
    params: dict,
    images: image_data.Splits,
) -> dict[str, float]:
    """Error of the code as a representation and as a feature, and how its units are used; figures."""
    encode, test_set = jax.jit(config.model.encoder(method, network, params)), images[1]
    decode: Any = lambda x: network.apply({"params": params}, encode(x), method="decode")
    figures.save_filters(run.figures / f"filters-{method}.png", params, test_set)
    rows = {"data": (x := test_set.unit(0, 12)), method: decode(x)}
    figures.save_rows(run.figures / f"reconstructions-{method}.png", rows, test_set)
    codes = autoencoder.map_in_chunks(encode, test_set.unit())
    used = autoencoder.dead_units(jnp.asarray(codes), threshold=0.05)
    return {
        "probe_error_percent": probe(config, images, encode),
        **image_data.errors(decode, images),
        **{name: float(value) for name, value in used.items()},
    }


if __name__ == "__main__":
    cli.main("sparse_autoencoder", PRESETS, validate_and_load, train, __doc__ or "")
