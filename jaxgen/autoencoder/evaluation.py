"""The papers' own measures: reconstruction error, and how well a code can be classified."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.arguments import Count, Host, Int, Real, takes
from jaxgen.arguments.values import array
from jaxgen.autoencoder.objectives import squared_error
from jaxgen.compiler import check_once
from jaxgen.metrics.distances import exact_squared_distances


@takes(x=Host("N D", dtype=None), batch_size=Count())
def reconstruction_error(reconstruct: Callable[[jax.Array], jax.Array], x: Any, batch_size: int = 1000) -> float:
    """Mean over images of sum_i (x_i - x'_i)^2, the measure of Hinton & Salakhutdinov (2006).

    Args:
        reconstruct: [B, D] -> [B, D], e.g. lambda x: network.apply({"params": params}, x).
        x: [N, D], not necessarily on the device.
        batch_size: examples at a time.

    Raises:
        ValueError: `x` is empty or not [N, D].
    """
    check_once()
    if x.ndim != 2 or len(x) == 0:
        raise ValueError(f"x has shape {x.shape}; expected [N, D] with N at least 1")
    errors = jax.jit(lambda x: squared_error(x, reconstruct(x)))
    starts = range(0, len(x), batch_size)
    values = [np.asarray(errors(jnp.asarray(x[i : i + batch_size]))) for i in starts]
    return float(np.mean(np.concatenate(values), dtype=np.float64))


@takes(chunk=Count())
def map_in_chunks(function: Callable[[jax.Array], jax.Array], x: Any, chunk: int = 1000) -> np.ndarray:
    """function(x), computed and compiled for `chunk` examples at a time: [N, ...] -> [N, ...].

    Args:
        function: [B, ...] -> [B, ...], one row for each example, e.g. an encoder.
        x: [N, ...] with N at least 1, not necessarily on the device.
        chunk: examples at a time.
    """
    compiled, x = jax.jit(function), array("x", x)
    return np.concatenate([np.asarray(compiled(x[i : i + chunk])) for i in range(0, len(x), chunk)])


@takes(x=Host("N ...", dtype=None), labels=Int("N", host=True))
def classification_error(classify: Callable[[jax.Array], jax.Array], x: Any, labels: Any) -> float:
    """Share of wrong labels in percent, the measure of Rifai et al. (2011).

    Args:
        classify: [B, D] -> logits [B, C].
        x: [N, D] with N at least 1, not necessarily on the device.
        labels: int [N].
    """
    predicted = map_in_chunks(lambda x: jnp.argmax(classify(x), axis=-1), x)
    return 100 * float(np.mean(predicted != labels))


def _check_codes(train_codes, train_labels, test_codes, test_labels) -> None:
    for name, codes, labels in (
        ("train", train_codes, train_labels),
        ("test", test_codes, test_labels),
    ):
        if codes.ndim != 2 or labels.shape != codes.shape[:1] or len(codes) == 0:
            raise ValueError(
                f"{name}_codes has shape {codes.shape} and {name}_labels {labels.shape};"
                " expected [N, H] and [N] with N at least 1"
            )
    if train_codes.shape[1] != test_codes.shape[1]:
        raise ValueError(f"train_codes has width {train_codes.shape[1]}, test_codes {test_codes.shape[1]}")


@partial(jax.jit, static_argnames="num_classes")
def _probe_objective(weights, codes, labels, l2, num_classes):
    def objective(weights):
        kernel, bias = weights[:-1], weights[-1]
        log_probability = jax.nn.log_softmax(codes @ kernel + bias[None, :])
        chosen = jnp.take_along_axis(log_probability, labels[:, None], axis=1)
        return -jnp.mean(chosen) + l2 / 2 * jnp.sum(jnp.square(kernel))

    return jax.value_and_grad(objective)(weights.reshape(-1, num_classes))


@takes(
    train_codes=Host("N H", dtype=None),
    train_labels=Int("N", low=0, host=True),
    test_codes=Host("M H", dtype=None),
    test_labels=Int("M", host=True),
    l2=Real(low=0),
    num_iterations=Count(),
)
def linear_probe_error(
    train_codes: Any,
    train_labels: Any,
    test_codes: Any,
    test_labels: Any,
    l2: float = 1e-4,
    num_iterations: int = 300,
) -> float:
    """Test error in percent of multinomial logistic regression on fixed codes.

    Minimises mean cross-entropy + l2 |V|^2 / 2 by L-BFGS. The features are shifted and scaled to
    mean 0 and variance 1 on the training codes (constant ones are left out), so that `l2` means the
    same for every code.

    Args:
        train_codes: [N, H].
        train_labels: int [N], 0..C-1.
        test_codes: [M, H].
        test_labels: int [M].
        l2: weight decay of the kernel V; choose it on held-out training examples.
        num_iterations: L-BFGS steps at most.

    Raises:
        ValueError: the shapes do not fit.
    """
    check_once()
    from scipy.optimize import minimize

    _check_codes(train_codes, train_labels, test_codes, test_labels)
    train_codes, test_codes = (jnp.asarray(a, jnp.float32) for a in (train_codes, test_codes))
    train_labels = jnp.asarray(train_labels, jnp.int32)
    mean, std = jnp.mean(train_codes, axis=0), jnp.std(train_codes, axis=0)
    scale = jnp.where(std > 1e-6 * jnp.max(std), 1 / std, 0)
    normalize = lambda codes: (codes - mean[None, :]) * scale[None, :]
    train_codes, test_codes = normalize(train_codes), normalize(test_codes)
    num_classes = int(jnp.max(train_labels)) + 1

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = jnp.asarray(flat, jnp.float32)
        value, gradient = _probe_objective(weights, train_codes, train_labels, l2, num_classes)
        return float(value), np.asarray(gradient, np.float64).ravel()

    start = np.zeros((train_codes.shape[1] + 1) * num_classes)
    options = {"maxiter": num_iterations, "ftol": 1e-7, "gtol": 1e-5}
    found = minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
    weights = jnp.asarray(found.x, jnp.float32).reshape(-1, num_classes)
    predicted = jnp.argmax(test_codes @ weights[:-1] + weights[-1][None, :], axis=1)
    return 100 * float(np.mean(np.asarray(predicted) != np.asarray(test_labels)))


@takes(
    train_codes=Host("N H"),
    train_labels=Int("N", host=True),
    test_codes=Host("M H"),
    test_labels=Int("M", host=True),
    batch_size=Count(),
)
def neighbour_error(
    train_codes: Any, train_labels: Any, test_codes: Any, test_labels: Any, batch_size: int = 200
) -> float:
    """Test error in percent of the label of the nearest training code (Euclidean).

    Of equally near ones the first counts. In float64 on the host.

    Args:
        train_codes: [N, H].
        train_labels: int [N].
        test_codes: [M, H].
        test_labels: int [M].
        batch_size: test examples at a time; memory is batch_size x N.

    Raises:
        ValueError: the shapes do not fit.
    """
    _check_codes(train_codes, train_labels, test_codes, test_labels)
    centre = train_codes.mean(axis=0)
    train_codes, test_codes = train_codes - centre, test_codes - centre
    batches = (test_codes[i : i + batch_size] for i in range(0, len(test_codes), batch_size))
    nearest = np.concatenate([exact_squared_distances(batch, train_codes).argmin(axis=1) for batch in batches])
    return 100 * float(np.mean(train_labels[nearest] != test_labels))
