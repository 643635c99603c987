"""Layer-wise pretraining by restricted Boltzmann machines.

Source: Hinton & Salakhutdinov, Science 313 (2006) and their released code. Visible units are
binary, with grey levels taken as probabilities; hidden units are binary ("bernoulli"), or linear
with unit variance ("gaussian", the code layer):

    E(v, h) = -b.v - c.h - v W h          (bernoulli)
    E(v, h) = -b.v + |h - c|^2 / 2 - v W h  (gaussian)

Parameters: {"kernel": W [D, H], "visible_bias": b [D], "hidden_bias": c [H]}.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Float, Key, Real, takes
from jaxgen.nn.random import given_or_drawn, per_example

Params = Mapping[str, jax.Array | np.ndarray]

_HIDDEN = ("bernoulli", "gaussian")


def _check_hidden(hidden: str) -> None:
    if hidden not in _HIDDEN:
        raise ValueError(f"hidden is {hidden!r}; expected one of {', '.join(_HIDDEN)}")


def _affine(x: jax.Array, kernel: ArrayLike, bias: ArrayLike) -> jax.Array:
    y = x @ kernel
    return y + jnp.reshape(bias, (1,) * (y.ndim - 1) + (-1,))


@takes(key=Key(""), visible_size=Count(), hidden_size=Count(), scale=Real())
def rbm_params(
    key: jax.Array,
    visible_size: int,
    hidden_size: int,
    scale: float = 0.1,
    dtype: Any = jnp.float32,
) -> Params:
    """W [D, H] ~ scale N(0, 1), b [D] and c [H] zero."""
    return {
        "kernel": scale * jax.random.normal(key, (visible_size, hidden_size), dtype),
        "visible_bias": jnp.zeros(visible_size, dtype),
        "hidden_bias": jnp.zeros(hidden_size, dtype),
    }


@takes(v=Float("... _"))
def hidden_given_visible(params: Params, v: ArrayLike, hidden: str = "bernoulli") -> jax.Array:
    """E[h | v] = sigmoid(v W + c), or v W + c for gaussian units: [..., D] -> [..., H].

    Raises:
        ValueError: `hidden` is neither "bernoulli" nor "gaussian".
    """
    v = jnp.asarray(v)
    _check_hidden(hidden)
    mean = _affine(v, params["kernel"], params["hidden_bias"])
    return jax.nn.sigmoid(mean) if hidden == "bernoulli" else mean


@takes(h=Float("... _"))
def visible_given_hidden(params: Params, h: ArrayLike) -> jax.Array:
    """p(v = 1 | h) = sigmoid(h W^T + b): [..., H] -> [..., D]."""
    h = jnp.asarray(h)
    return jax.nn.sigmoid(_affine(h, params["kernel"].T, params["visible_bias"]))


@takes(v=Float("... _"))
def free_energy(params: Params, v: ArrayLike, hidden: str = "bernoulli") -> jax.Array:
    """F(v) = -log sum_h exp(-E(v, h)) (gaussian: the integral over h), in nats: [..., D] -> [...].

    Raises:
        ValueError: `hidden` is neither "bernoulli" nor "gaussian".
    """
    v = jnp.asarray(v)
    _check_hidden(hidden)
    c = params["hidden_bias"]
    total = _affine(v, params["kernel"], c)
    if hidden == "bernoulli":
        hidden_term = jnp.sum(jax.nn.softplus(total), axis=-1)
    else:
        log_integral = jnp.sum(jnp.square(total), axis=-1) - jnp.sum(jnp.square(c))
        hidden_term = (log_integral + c.shape[0] * math.log(2 * math.pi)) / 2
    return -(v @ params["visible_bias"]) - hidden_term


def _sample_hidden(
    key: jax.Array | None,
    mean: jax.Array,
    hidden: str,
    uniforms: ArrayLike | None,
    noise: ArrayLike | None,
) -> jax.Array:
    if hidden == "bernoulli":
        draw = per_example(jax.random.uniform)
        u = given_or_drawn("uniforms", uniforms, key, draw, mean.shape, mean.dtype)
        return (u < mean).astype(mean.dtype)
    draw = per_example(jax.random.normal)
    return mean + given_or_drawn("noise", noise, key, draw, mean.shape, mean.dtype)


@takes(key=Key("|B"), v=Float("B D", low=0, high=1), uniforms=Float(), noise=Float())
def contrastive_divergence(
    key: jax.Array | None,
    params: Params,
    v: ArrayLike,
    hidden: str = "bernoulli",
    *,
    uniforms: ArrayLike | None = None,
    noise: ArrayLike | None = None,
) -> tuple[Params, jax.Array]:
    """CD-1: <v h>_data - <v h>_reconstruction, with its sign turned so that descent follows it.

    As in the released code: states of h are sampled from the data, the reconstruction v' is the
    probability given those states, and both correlations use the hidden means.

    Args:
        key: one key, split into one for each example, or keys [B]; may be None where the draws
            are given.
        params: the RBM's.
        v: data in [0, 1], [B, D].
        hidden: "bernoulli" or "gaussian".
        uniforms: u in [0, 1), [B, H], in place of the draw of bernoulli units: h = 1 where
            u < p(h = 1 | v).
        noise: standard normal, [B, H], in place of the draw of gaussian units.

    Returns:
        (reconstruction term - data term, averaged over the batch, shaped like `params`; the
        reconstruction v' [B, D]).

    Raises:
        ValueError: `hidden` is neither "bernoulli" nor "gaussian", `v` has the wrong width, the
            draws have the wrong shape or are of the other kind of unit, or there is neither a key
            nor draws.
    """
    v = jnp.asarray(v)
    d = params["kernel"].shape[0]
    if v.shape[-1] != d:
        raise ValueError(f"v has width {v.shape[-1]}, but this RBM has {d} visible units")
    mean = hidden_given_visible(params, v, hidden)
    if (uniforms if hidden == "gaussian" else noise) is not None:
        raise ValueError(
            'uniforms are the draws of "bernoulli" hidden units and noise those of "gaussian" ones,'
            f" but hidden is {hidden!r}"
        )
    states = _sample_hidden(key, mean, hidden, uniforms, noise)
    reconstruction = visible_given_hidden(params, states)
    reconstructed_mean = hidden_given_visible(params, reconstruction, hidden)
    difference = {
        "kernel": (reconstruction.T @ reconstructed_mean - v.T @ mean) / v.shape[0],
        "visible_bias": jnp.mean(reconstruction - v, axis=0),
        "hidden_bias": jnp.mean(reconstructed_mean - mean, axis=0),
    }
    return difference, reconstruction


def contrastive_divergence_update(
    optimizer: optax.GradientTransformation, hidden: str = "bernoulli"
) -> Callable[..., tuple[Any, dict[str, jax.Array]]]:
    """One CD-1 step of an RBM, whose parameters are `state.params`.

    Args:
        optimizer: e.g. `momentum_sgd`; weight decay and momentum are its business.
        hidden: "bernoulli" or "gaussian".

    Returns:
        update(state, batch, keys, mean) -> (state, metrics) on batch["x"] [B, D] in [0, 1]; metric
        "squared_error" of the reconstruction. The batch may hold "uniforms" or "noise" as in
        `contrastive_divergence`.

    Raises:
        ValueError: `hidden` is neither "bernoulli" nor "gaussian".
    """
    _check_hidden(hidden)

    def update(state, batch, keys, mean):
        def phases(batch, keys):
            v = batch["x"]
            difference, reconstruction = contrastive_divergence(
                keys,
                state.params,
                v,
                hidden,
                uniforms=batch.get("uniforms"),
                noise=batch.get("noise"),
            )
            error = jnp.mean(jnp.sum(jnp.square(v - reconstruction), axis=-1))
            return difference, {"squared_error": error}

        gradient, metrics = mean(phases, batch, keys)
        changes, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, changes)
        return state.replace(step=state.step + 1, params=params, opt_state=opt_state), metrics

    return update


def momentum_sgd(
    learning_rate: optax.ScalarOrSchedule,
    momentum: optax.ScalarOrSchedule,
    weight_decay: float = 2e-4,
) -> optax.GradientTransformation:
    """delta <- m delta - lr (g + weight_decay W), W <- W + delta; biases are not decayed.

    The released code's update: 784-1000-500-250 learn at 0.1, the gaussian code layer at 0.001.

    Args:
        learning_rate: number, or schedule of the update count.
        momentum: m, number or schedule, e.g. `two_stage_momentum`.
        weight_decay: acts on the leaves named "kernel".
    """

    def kernels(params):
        return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)

    return optax.chain(
        optax.add_decayed_weights(weight_decay, kernels),
        optax.scale_by_learning_rate(learning_rate),
        optax.inject_hyperparams(optax.trace)(decay=momentum),
    )


@takes(switch_step=Count(0), first=Real(), then=Real())
def two_stage_momentum(switch_step: int, first: float = 0.5, then: float = 0.9) -> optax.Schedule:
    """`first` before update `switch_step`, `then` from it on (the paper's: after 5 epochs)."""
    return lambda step: jnp.where(jnp.less(step, switch_step), first, then)


def unroll(rbms: Sequence[Params]) -> dict:
    """Parameters (a tree) of an untied `Autoencoder` from a stack of RBMs, first layer first.

    The encoder takes kernels and hidden biases, the decoder their transposes and the visible
    biases. If the last RBM is gaussian, its code is linear (code_activation=identity).

    Raises:
        ValueError: the stack is empty, or two neighbours do not fit.
    """
    if not rbms:
        raise ValueError("no RBM was given; expected at least one, first layer first")
    for i, (below, above) in enumerate(zip(rbms[:-1], rbms[1:], strict=True)):
        h, d = below["kernel"].shape[1], above["kernel"].shape[0]
        if h != d:
            raise ValueError(f"RBM {i} has {h} hidden units, but RBM {i + 1} has {d} visible ones")
    encoder = [{"kernel": r["kernel"], "bias": r["hidden_bias"]} for r in rbms]
    decoder = [{"kernel": r["kernel"].T, "bias": r["visible_bias"]} for r in reversed(rbms)]
    return {
        "encoder": {f"layers_{i}": layer for i, layer in enumerate(encoder)},
        "decoder": {f"layers_{i}": layer for i, layer in enumerate(decoder)},
    }
