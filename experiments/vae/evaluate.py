"""Measures of a variational autoencoder: bounds, -log p and active units."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.command import checks, image_data
from experiments.vae import figures
from experiments.vae.config import Config
from jaxgen import data, training, vae


class Context(NamedTuple):
    """One of the models that a run trains.

    Attributes:
        name: of the model, "" for one alone.
        key: root key of its training and its measurements.
        network: its network.
        likelihood: p(x | z).
    """

    name: str
    key: jax.Array
    network: vae.VAE
    likelihood: vae.Likelihood

    def eval_key(self, number: int) -> jax.Array:
        """The key of measurement `number`; no two share one."""
        return jax.random.fold_in(training.keys.stream(self.key, "eval"), number)


def bounds(context: Context, images: image_data.Splits, stochastic: bool, params: Any, points: int) -> dict[str, float]:
    """The bound on up to 10,000 training and test images, by names that hold the number of images trained on.

    Args:
        context: the model.
        images: training and test images.
        stochastic: the training images are grey, and binarized here.
        params: parameters.
        points: number of images trained on.
    """
    train_set, test_set = images
    if stochastic:
        train_set = data.binarized(context.eval_key(2), train_set.select(slice(10_000)))
    name, key, measured = f"bound_at_{points:.0e}".replace("+0", ""), training.keys.stream(context.key, "eval"), {}
    for split, part in {"train": train_set, "test": test_set}.items():
        x = part.unit(0, 10_000)
        estimates = vae.log_marginal_likelihood(
            jax.random.clone(key), context.network, params, context.likelihood, x, 1, batch_size=1000
        )
        measured[f"{name}_{split}"] = float(jnp.mean(estimates.elbo))
    return measured


def measure_and_draw(
    config: Config, context: Context, params: Any, splits: image_data.Splits, run: training.Run
) -> dict[str, float]:
    """The bound, -log p and the active units on test images, the bound on as many training images; figures."""
    name, _, network, likelihood = context
    images, num_samples = splits[1], config.evaluation.num_samples or 1
    x = images.unit(0, config.evaluation.examples)
    estimates = vae.log_marginal_likelihood(context.eval_key(3), network, params, likelihood, x, num_samples)
    measured = {"test_bound": float(jnp.mean(estimates.elbo)), "test_examples": len(x)}
    if config.evaluation.num_samples:
        measured |= estimates.summary(x.shape[1])
    measured["train_bound"] = train_bound(config, context, params, splits[0].select(slice(len(x))))
    checks.note_memorization(-measured["train_bound"], -measured["test_bound"], "minus the bound", len(splits[0]))
    means = vae.posterior_means(context.eval_key(4), network, params, x)
    counts = [vae.active_units(layer) for layer in means]
    measured["active_units"] = sum(counts)
    if len(counts) > 1:
        measured |= {f"active_units_{i}": count for i, count in enumerate(counts, 1)}
    key = training.keys.stream(context.key, "sample")
    figures.draw(run.figures, name, key, network, params, likelihood, images, means[0])
    return measured


def train_bound(config: Config, context: Context, params: Any, images: data.Images) -> float:
    """The bound on training images, one sample of z for each."""
    if config.binarization == "stochastic":
        images = data.binarized(context.eval_key(5), images)
    estimates = vae.log_marginal_likelihood(
        context.eval_key(6), context.network, params, context.likelihood, images.unit(), 1
    )
    return float(jnp.mean(estimates.elbo))
