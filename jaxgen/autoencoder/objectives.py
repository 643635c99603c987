"""Reconstruction and classification errors, and the losses built on them.

Notes 1.1; Hinton & Salakhutdinov (2006); denoising: Vincent et al., "Extracting and Composing Robust Features with
Denoising Autoencoders" (2008).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxgen.arguments import Float, Int, Key, takes
from jaxgen.autoencoder.networks import Autoencoder, Classifier, apply, output_of
from jaxgen.nn.random import checked_draws

Loss = Callable[[Any, dict, jax.Array | None, Any], tuple[jax.Array, dict[str, jax.Array]]]
"""loss(params, batch, keys, context) -> (losses [B], {name: [B]})."""

_ERRORS = ("cross_entropy", "squared_error")

BATCH = {"x": Float("B D"), "corrupted": Float(), "label": Int("B")}
"""The entries of a batch, for `takes`."""


def _check_shapes(x: jax.Array, other: jax.Array, name: str) -> None:
    if x.shape != other.shape:
        raise ValueError(f"x has shape {x.shape} and {name} {other.shape}; expected the same")


@takes(x=Float("... D"), reconstruction=Float("... D"))
def squared_error(x: ArrayLike, reconstruction: ArrayLike) -> jax.Array:
    """sum_i (x_i - x'_i)^2: [..., D], [..., D] -> [...].

    Summed over features, as Hinton & Salakhutdinov (2006) report it.

    Raises:
        ValueError: the shapes differ.
    """
    x, reconstruction = jnp.asarray(x), jnp.asarray(reconstruction)
    _check_shapes(x, reconstruction, "reconstruction")
    return jnp.sum(jnp.square(x - reconstruction), axis=-1)


@takes(x=Float("... D", low=0, high=1), logits=Float("... D"))
def cross_entropy(x: ArrayLike, logits: ArrayLike) -> jax.Array:
    """-sum_i [x_i log p_i + (1 - x_i) log(1 - p_i)], p = sigmoid(logits): [..., D] -> [...].

    Computed as softplus(l) - x l, which is finite, as is its gradient, at any logit.

    Args:
        x: data in [0, 1], [..., D].
        logits: [..., D].

    Returns:
        Nats, summed over features, [...].

    Raises:
        ValueError: the shapes differ.
    """
    x, logits = jnp.asarray(x), jnp.asarray(logits)
    _check_shapes(x, logits, "logits")
    return jnp.sum(jax.nn.softplus(logits) - x * logits, axis=-1)


def check_error(network: Autoencoder, error: str) -> None:
    """Refuses an error that is unknown or does not fit the network's output.

    Raises:
        ValueError: `error` is unknown, or it is "cross_entropy" and the output is not "sigmoid".
    """
    if error not in _ERRORS:
        raise ValueError(f"error is {error!r}; expected one of {', '.join(_ERRORS)}")
    if error == "cross_entropy" and network.output != "sigmoid":
        raise ValueError(
            f'error "cross_entropy" needs output="sigmoid", but the network has'
            f' output={network.output!r}; use error="squared_error"'
        )


def reconstruction_terms(
    network: Autoencoder, params: Any, x: jax.Array, code: jax.Array, error: str
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Error of decoding `code` [B, H] against `x` [B, D]: ([B], metrics with "squared_error")."""
    logits = apply(network, params, code, "logits")
    metrics = {"squared_error": squared_error(x, output_of(network.output, logits))}
    if error == "cross_entropy":
        metrics["cross_entropy"] = cross_entropy(x, logits)
    return metrics[error], metrics


def reconstruction_loss(
    network: Autoencoder,
    error: str = "cross_entropy",
    corrupt: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
) -> Loss:
    """L_AE = error(x, f(g(x))), or of the denoising autoencoder error(x, f(g(corrupt(x)))).

    Args:
        network: the autoencoder.
        error: "cross_entropy" or "squared_error".
        corrupt: corrupt(key, x [D]) -> [D], applied to each example with a key of its own.

    Returns:
        loss(params, batch, keys, context) on batch["x"] [B, D]; the metrics are the error and
        always "squared_error" (of the reconstruction from the corrupted input, if any). If the
        batch holds "corrupted" [B, D], that is the input in place of corrupt(key, x), and keys may
        be None.

    Raises:
        ValueError: `error` is unknown or does not fit the network's output; when called, a
            batch["corrupted"] of another shape than x.
    """
    check_error(network, error)

    @takes(batch=BATCH, keys=Key("B"))
    def loss(params, batch, keys, context):
        del context
        x = batch["x"]
        seen = x
        if "corrupted" in batch:
            seen = checked_draws("corrupted", batch["corrupted"], x.shape, x.dtype)
        elif corrupt is not None:
            # Folded, because a penalty may draw from the same example's key too.
            corruption_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, 0)
            seen = jax.vmap(corrupt)(corruption_keys, x)
        code = apply(network, params, seen, "encode")
        return reconstruction_terms(network, params, x, code, error)

    return loss


def classification_loss(network: Classifier) -> Loss:
    """-log softmax(logits)_label on batch["x"] [B, D], batch["label"] [B] int.

    Returns:
        loss(params, batch, keys, context); metrics "cross_entropy" (nats) and "error_rate" (share
        of wrong labels, in [0, 1]).
    """

    @takes(batch=BATCH, keys=Key("B"))
    def loss(params, batch, keys, context):
        del keys, context
        logits = apply(network, params, batch["x"])
        label = batch["label"]
        log_probability = jax.nn.log_softmax(logits)
        losses = -jnp.take_along_axis(log_probability, label[:, None], axis=-1)[:, 0]
        wrong = (jnp.argmax(logits, axis=-1) != label).astype(logits.dtype)
        return losses, {"cross_entropy": losses, "error_rate": wrong}

    return loss
