"""Sparse codes: KL to a target activation, L1, and k-sparse (notes 1.2)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxgen.autoencoder.networks import Autoencoder, apply
from jaxgen.autoencoder.objectives import Loss, check_error, reconstruction_terms


def _check_rho(rho: float) -> None:
    if not isinstance(rho, Tracer) and not 0 < rho < 1:
        raise ValueError(f"rho is {rho}; expected a target activation inside (0, 1)")


def kl_sparsity(mean_activation: jax.Array, rho: float) -> jax.Array:
    """sum_j KL(rho || m_j) = sum_j rho log(rho/m_j) + (1-rho) log((1-rho)/(1-m_j)), in nats.

    Source: Ng, CS294A lecture notes "Sparse autoencoder" (2011).

    Args:
        mean_activation: m [..., H] in (0, 1), the mean of each unit over the data.
        rho: target in (0, 1).

    Returns:
        [...]; infinite where an m_j is 0 or 1.

    Raises:
        ValueError: `rho` is not in (0, 1).
    """
    _check_rho(rho)
    m = mean_activation
    r = jnp.asarray(rho, m.dtype)
    kl = r * (jnp.log(r) - jnp.log(m)) + (1 - r) * (jnp.log1p(-r) - jnp.log1p(-m))
    return jnp.sum(kl, axis=-1)


def linearized_kl_sparsity(code: jax.Array, mean_activation: jax.Array, rho: float) -> jax.Array:
    """sum_j KL(rho || m_j) + KL'(rho, m_j) (a_ij - m_j), one value per example: [B, H] -> [B].

    With m the mean of `code` over the (global) batch, the mean of this over the batch has exactly
    the value and the gradient of `kl_sparsity(mean(code), rho)`, although each example stands
    alone. KL' = (1-rho)/(1-m) - rho/m.

    Args:
        code: a [B, H].
        mean_activation: m [H], held constant; moved inside (0, 1) by the type's rounding unit, so
            that a dead or saturated unit gets a large but finite gradient.
        rho: target in (0, 1).

    Raises:
        ValueError: `rho` is not in (0, 1).
    """
    _check_rho(rho)
    unit = jnp.finfo(code.dtype).eps
    m = jnp.clip(jax.lax.stop_gradient(mean_activation), unit, 1 - unit)
    slope = (1 - rho) / (1 - m) - rho / m
    return kl_sparsity(m, rho) + jnp.sum((code - m[None, :]) * slope[None, :], axis=-1)


def l1_sparsity(code: jax.Array) -> jax.Array:
    """sum_j |a_j|: [..., H] -> [...]."""
    return jnp.sum(jnp.abs(code), axis=-1)


def _ordered_bits(x: jax.Array) -> jax.Array:
    """Unsigned integers in the order of the floats x (-0 as 0)."""
    width = jnp.finfo(x.dtype).bits
    signed, unsigned = jnp.dtype(f"int{width}"), jnp.dtype(f"uint{width}")
    bits = jax.lax.bitcast_convert_type(jnp.where(x == 0, jnp.zeros_like(x), x), signed)
    bits = jnp.where(bits < 0, ~bits, bits ^ jnp.iinfo(signed).min)
    return jax.lax.bitcast_convert_type(bits, unsigned)


def _top_k_mask(x: jax.Array, k: int | jax.Array) -> jax.Array:
    """Which entries of [..., H] are among the k largest of their last axis, as booleans.

    The k-th largest value is found bit by bit, from the highest: k may be traced, and on a CPU
    this takes a tenth of the time of a sort.
    """
    size = x.shape[-1]
    if not isinstance(k, Tracer) and not 0 <= k <= size:
        raise ValueError(f"k is {k}; expected 0 <= k <= {size}, the size of the code")
    bits = _ordered_bits(jax.lax.stop_gradient(x))
    width = jnp.iinfo(bits.dtype).bits
    k = jnp.asarray(k, jnp.int32)

    def count(chosen: jax.Array) -> jax.Array:
        return jnp.sum(chosen, axis=-1, keepdims=True, dtype=jnp.int32)

    def set_bit(i: jax.Array, threshold: jax.Array) -> jax.Array:
        bit = jnp.ones((), bits.dtype) << (width - 1 - i).astype(bits.dtype)
        candidate = threshold | bit
        return jnp.where(count(bits >= candidate) >= k, candidate, threshold)

    start = jnp.zeros((*x.shape[:-1], 1), bits.dtype)
    threshold = jax.lax.fori_loop(0, width, set_bit, start)
    above, equal = bits > threshold, bits == threshold
    room = k - count(above)
    return above | (equal & (jnp.cumsum(equal, axis=-1, dtype=jnp.int32) <= room))


def top_k(pre_activation: jax.Array, k: int | jax.Array) -> jax.Array:
    """The k largest entries of each example, the others set to zero: [..., H] -> [..., H].

    Exactly k are kept, of equal ones those of lower index; the gradient passes through the kept.
    Source: Makhzani & Frey, "k-Sparse Autoencoders" (2013), section 2.1.

    Args:
        pre_activation: [..., H].
        k: int, or int32 scalar (may be traced, then it must be in 0..H).

    Raises:
        ValueError: `k` is negative or larger than H (where its value is known).
    """
    kept = _top_k_mask(pre_activation, k)
    return jnp.where(kept, pre_activation, jnp.zeros_like(pre_activation))


def annealed_k(step: jax.Array, k: int, start: int, num_steps: int) -> jax.Array:
    """Number of kept units: linear from `start` to `k` over the first half of training, then `k`.

    Source: Makhzani & Frey (2013), section 4.2.1 (where it is counted in epochs).

    Args:
        step: int scalar, 0-based.
        k: final number.
        start: number at step 0.
        num_steps: length of training.

    Returns:
        int32 scalar, rounded to the nearest.
    """
    progress = jnp.asarray(step).astype(jnp.float32) / max(num_steps / 2, 1)
    value = start + (k - start) * jnp.minimum(progress, 1)
    return jnp.round(value).astype(jnp.int32)


def dead_units(codes: jax.Array, threshold: float = 0.0) -> dict[str, jax.Array]:
    """Statistics of the units over N examples; unit j is active on example i if |a_ij| > threshold.

    Args:
        codes: a [N, H].
        threshold: at or below it a unit is silent.

    Returns:
        Scalars: "dead_share", the share of units active on no example; "active_share", the mean
        share of units active on an example; "mean_activation", the mean of a; and
        "lifetime_sparsity", the mean over units that are not dead of
        (1 - (sum_i |a_ij| / N)^2 / (sum_i a_ij^2 / N)) / (1 - 1/N), which is 0 for a constant unit
        and 1 for one active on a single example (Vinje & Gallant, Science 287, 2000).
    """
    n = codes.shape[0]
    if n < 2:
        raise ValueError(f"codes holds {n} examples; expected at least 2")
    magnitude = jnp.abs(codes)
    active = (magnitude > threshold).astype(codes.dtype)
    alive = jnp.max(active, axis=0)
    power = jnp.mean(jnp.square(codes), axis=0)
    ratio = jnp.square(jnp.mean(magnitude, axis=0)) / jnp.where(power > 0, power, 1)
    lifetime = (1 - ratio) / (1 - 1 / n)
    return {
        "dead_share": 1 - jnp.mean(alive),
        "active_share": jnp.mean(active),
        "mean_activation": jnp.mean(codes),
        "lifetime_sparsity": jnp.sum(lifetime * alive) / jnp.maximum(jnp.sum(alive), 1),
    }


def kl_sparsity_statistics(network: Autoencoder) -> Callable[..., dict[str, jax.Array]]:
    """The companion of `kl_sparsity_loss`: statistics(params, batch, keys, context).

    Returns:
        {"mean_activation": code [B, H]}, whose global mean the engine hands to the loss as
        context.statistics.
    """

    def statistics(params, batch, keys, context):
        del keys, context
        return {"mean_activation": apply(network, params, batch["x"], "encode")}

    return statistics


def kl_sparsity_loss(
    network: Autoencoder, rho: float, weight: float, error: str = "squared_error"
) -> Loss:
    """Error + weight sum_j KL(rho || mean over the global batch of unit j's activation).

    The code must lie in (0, 1): code_activation = nn.sigmoid. In Ng's notation the error is
    squared_error / 2, so his beta is half the `weight` here.

    Returns:
        loss(params, batch, keys, context), which needs context.statistics from
        `kl_sparsity_statistics(network)`; metrics "squared_error", the error, "penalty" (without
        the weight, linearised: its batch mean is the KL) and "mean_activation".

    Raises:
        ValueError: `rho` is not in (0, 1), or `error` does not fit; or, when called, no statistics.
    """
    _check_rho(rho)
    check_error(network, error)

    def loss(params, batch, keys, context):
        del keys
        if context.statistics is None or "mean_activation" not in context.statistics:
            raise ValueError(
                'context.statistics has no "mean_activation"; hand'
                " statistics=kl_sparsity_statistics(network) to the engine beside this loss"
            )
        x = batch["x"]
        code = apply(network, params, x, "encode")
        losses, metrics = reconstruction_terms(network, params, x, code, error)
        penalty = linearized_kl_sparsity(code, context.statistics["mean_activation"], rho)
        metrics |= {"penalty": penalty, "mean_activation": jnp.mean(code, axis=-1)}
        return losses + weight * penalty, metrics

    return loss


def l1_sparsity_loss(network: Autoencoder, weight: float, error: str = "squared_error") -> Loss:
    """Error + weight sum_j |a_j|.

    Returns:
        loss(params, batch, keys, context); metrics "squared_error", the error, "penalty" (without
        the weight).

    Raises:
        ValueError: `error` is unknown or does not fit the network's output.
    """
    check_error(network, error)

    def loss(params, batch, keys, context):
        del keys, context
        x = batch["x"]
        code = apply(network, params, x, "encode")
        losses, metrics = reconstruction_terms(network, params, x, code, error)
        penalty = l1_sparsity(code)
        return losses + weight * penalty, metrics | {"penalty": penalty}

    return loss


def k_sparse_encode(
    network: Autoencoder, params: Any, x: jax.Array, k: int | jax.Array, alpha: float = 1.0
) -> jax.Array:
    """The code with its alpha k largest entries kept, the others zero: [..., D] -> [..., H].

    Makhzani & Frey (2013), section 2.1: train with alpha = 1, encode for classification with a
    slightly larger support, e.g. alpha = 3.

    Raises:
        ValueError: alpha k (rounded) is larger than the code, or alpha is not 1 for a traced k.
    """
    if isinstance(k, Tracer):
        if alpha != 1:
            raise ValueError(f"alpha is {alpha} with a traced k; multiply k yourself, in int32")
    else:
        k = round(alpha * int(k))
    pre_code = apply(network, params, x, "pre_code")
    code = network.code_activation(pre_code)
    return jnp.where(_top_k_mask(pre_code, k), code, jnp.zeros_like(code))


def k_sparse_loss(
    network: Autoencoder,
    k: int,
    start: int | None = None,
    num_steps: int | None = None,
    error: str = "squared_error",
) -> Loss:
    """Error of decoding the k-sparse code, k annealed from `start` over the first half of training.

    Args:
        network: linear units and tied weights in the paper.
        k: kept units.
        start: kept units at step 0; None keeps k constant.
        num_steps: length of training, needed with `start`.
        error: "squared_error" or "cross_entropy".

    Returns:
        loss(params, batch, keys, context), which reads context.step; metrics "squared_error", the
        error, and "k".

    Raises:
        ValueError: `k` or `start` is not in 1..code_size, `num_steps` is missing, or `error` does
            not fit the network's output.
    """
    check_error(network, error)
    for name, value in (("k", k), ("start", k if start is None else start)):
        if not 1 <= value <= network.code_size:
            raise ValueError(
                f"{name} is {value}; expected 1 <= {name} <= {network.code_size}, the code size"
            )
    if start is None:
        kept_at = lambda step: k
    elif num_steps is None:
        raise ValueError("start is given without num_steps, the length of training")
    else:
        kept_at = lambda step: annealed_k(step, k, start, num_steps)

    def loss(params, batch, keys, context):
        del keys
        x = batch["x"]
        now = kept_at(context.step)
        code = k_sparse_encode(network, params, x, now)
        losses, metrics = reconstruction_terms(network, params, x, code, error)
        kept = jnp.broadcast_to(jnp.asarray(now).astype(losses.dtype), losses.shape)
        return losses, metrics | {"k": kept}

    return loss
