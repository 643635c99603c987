"""Measures of a variational autoencoder: bounds, -log p and active units."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.command import image_data
from experiments.vae import figures
from experiments.vae.config import Evaluation
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
    config: Evaluation, context: Context, params: Any, images: data.Images, run: training.Run
) -> dict[str, float]:
    """The bound, -log p and the active units on test images; figures."""
    name, _, network, likelihood = context
    x, num_samples = images.unit(0, config.examples), config.num_samples or 1
    estimates = vae.log_marginal_likelihood(context.eval_key(3), network, params, likelihood, x, num_samples)
    measured = {"test_bound": float(jnp.mean(estimates.elbo)), "test_examples": len(x)}
    if config.num_samples:
        measured |= estimates.summary(x.shape[1])
    means = vae.posterior_means(context.eval_key(4), network, params, x)
    counts = [vae.active_units(layer) for layer in means]
    measured["active_units"] = sum(counts)
    if len(counts) > 1:
        measured |= {f"active_units_{i}": count for i, count in enumerate(counts, 1)}
    key = training.keys.stream(context.key, "sample")
    figures.draw(run.figures, name, key, network, params, likelihood, images, means[0])
    return measured
