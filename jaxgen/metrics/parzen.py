"""The Parzen-window log-likelihood: the measure of Goodfellow et al. (2014), Table 1."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Float, Host, Real, takes
from jaxgen.compiler import check_once

from .distances import check_sets, exact_squared_distances, squared_distances

SIGMAS = tuple(float(s) for s in np.logspace(-1, 0, 10))
"""The grid of the authors' released script: 10 values from 0.1 to 1, for data in [0, 1]."""


class ParzenEstimate(NamedTuple):
    """A mean log-likelihood and how it was found.

    Attributes:
        mean: of log p(x) over the test examples, nats.
        standard_error: standard deviation over the test examples / sqrt(their number), nats. It says nothing about
            other samples or another training run.
        sigma: the bandwidth with the highest mean on the validation examples.
        at_edge: whether that is the first or the last of the grid, so that a wider grid would give another number.
        validation: the mean for each bandwidth of the grid, nats.
        log_likelihoods: of each test example, [T], nats.
    """

    mean: float
    standard_error: float
    sigma: float
    at_edge: bool
    validation: tuple[float, ...]
    log_likelihoods: np.ndarray


_SET = Host("_ D")


@takes(samples=_SET, validation=_SET, test=_SET, batch_size=Count())
def parzen_log_likelihood(
    samples: Any,
    validation: Any,
    test: Any,
    sigmas: Sequence[float] = SIGMAS,
    batch_size: int = 100,
) -> ParzenEstimate:
    """Log-likelihood of test data under Gaussians around a model's samples, p(x) = (1/N) sum_n N(x; s_n, sigma^2 I).

    The protocol of Goodfellow et al. (2014), section 5: 10,000 samples of the model; sigma by the mean log-likelihood
    of validation data (the released script: the first 1,000 of the 10,000 validation images); then all test data. On
    MNIST that is 10,000 x 10,000 distances.

    What it is worth: a number to stand beside the paper's, not a likelihood. In high dimension even very many samples
    leave the estimate far from the truth, its ranking of models disagrees with their likelihoods, and centres of
    k-means can score above the training data itself (Theis, van den Oord & Bethge 2016, "A note on the evaluation of
    generative models"). So always show it beside training images, and k-means centres, as the samples.

    Args:
        samples: [N, D], of the model.
        validation: [V, D], held out, not the test data.
        test: [T, D].
        sigmas: bandwidths to choose from, in units of the data.
        batch_size: test examples at a time; memory is batch_size * N numbers a bandwidth.

    Raises:
        ValueError: the sets do not fit together, or sigmas or batch_size are not positive.
    """
    check_once()
    check_sets(samples=samples, validation=validation, test=test)
    if not len(sigmas) or min(sigmas) <= 0 or batch_size < 1:
        raise ValueError(f"sigmas are {tuple(sigmas)} and batch_size {batch_size}; expected positive numbers")
    # In float64 on the host. Near the centre of the data the distances lose the fewest digits.
    centre = samples.mean(axis=0)
    samples = samples - centre

    def evaluate(x, sigmas):
        batches = [x[start : start + batch_size] - centre for start in range(0, len(x), batch_size)]
        return np.concatenate([_exact_log_densities(batch, samples, sigmas) for batch in batches])

    by_sigma = evaluate(validation, tuple(float(s) for s in sigmas)).mean(axis=0)
    best = int(np.argmax(by_sigma))
    sigma = float(sigmas[best])
    found = evaluate(test, (sigma,))[:, 0]
    return ParzenEstimate(
        mean=float(found.mean()),
        standard_error=float(found.std() / math.sqrt(len(found))),
        sigma=sigma,
        at_edge=best in (0, len(sigmas) - 1),
        validation=tuple(float(v) for v in by_sigma),
        log_likelihoods=found,
    )


@takes(x=Float("_ D", finite=True), samples=Float("_ D", finite=True), sigma=Real(positive=True))
def parzen_log_density(x: ArrayLike, samples: ArrayLike, sigma: float) -> jax.Array:
    """log (1/N) sum_n N(x; s_n, sigma^2 I): x [M, D], samples [N, D] -> [M], nats; M N numbers of memory."""
    return _log_densities(x, samples, (sigma,))[:, 0]


def _exact_log_densities(x: np.ndarray, samples: np.ndarray, sigmas: Sequence[float]) -> np.ndarray:
    """The log densities of [M, D] under each bandwidth, in float64: [M, S]."""
    squares = exact_squared_distances(x, samples)
    nearest = squares.min(axis=1, keepdims=True)
    found = []
    for sigma in sigmas:
        normaliser = math.log(len(samples)) + x.shape[1] * math.log(sigma * math.sqrt(2 * math.pi))
        total = np.sum(np.exp((nearest - squares) / (2 * sigma**2)), axis=1)
        found.append(np.log(total) - nearest[:, 0] / (2 * sigma**2) - normaliser)
    return np.stack(found, axis=1)


@functools.partial(jax.jit, static_argnums=2)
def _log_densities(x, samples, sigmas):
    squares = squared_distances(x, samples)
    num, size = samples.shape

    def at(sigma):
        normaliser = math.log(num) + size * math.log(sigma * math.sqrt(2 * math.pi))
        return jax.nn.logsumexp(-squares / (2 * sigma**2), axis=1) - normaliser

    return jnp.stack([at(sigma) for sigma in sigmas], axis=1)


def parzen_table(sets: Mapping[str, Any], validation: Any, test: Any) -> dict[str, float]:
    """`parzen_log_likelihood` of several sets of samples, such as a model's, training data and k-means centres.

    Args:
        sets: {name: samples [N, D]}.
        validation: [V, D], held out, not the test data.
        test: [T, D].

    Returns:
        {name: mean}, and for each name "..._standard_error", "..._sigma" and "..._sigma_at_edge", nats.
    """
    table: dict[str, float] = {}
    for name, samples in sets.items():
        found = parzen_log_likelihood(samples, validation, test)
        table |= {
            name: found.mean,
            f"{name}_standard_error": found.standard_error,
            f"{name}_sigma": found.sigma,
            f"{name}_sigma_at_edge": found.at_edge,
        }
    return table


@takes(x=Host("N D", dtype=None), number=Count())
def kmeans_centres(x: np.ndarray, number: int, seed: int = 0) -> np.ndarray:
    """Centres of data to compare a model's samples with, by mini-batch k-means (scikit-learn).

    It takes one pass from examples drawn at random, and a little more.

    Args:
        x: data, [N, D].
        number: of centres, at most N.
        seed: of the draw of the first centres.

    Returns:
        float32 [number, D].
    """
    from sklearn.cluster import MiniBatchKMeans

    # Each batch must hold several examples for a centre, or the centres stay the examples that they began as.
    batch_size = min(len(x), 2 * number)
    settings: dict[str, Any] = {"batch_size": batch_size, "max_iter": 2, "init": "random", "n_init": 1}
    clusters = MiniBatchKMeans(number, reassignment_ratio=0, random_state=seed, **settings)
    return np.asarray(clusters.fit(x).cluster_centers_, np.float32)
