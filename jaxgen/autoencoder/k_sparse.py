"""k-sparse autoencoders: only the k largest units of a code are kept.

Source: Makhzani & Frey, "k-Sparse Autoencoders" (2013).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Float, Int, same_shape, takes
from jaxgen.autoencoder.networks import Autoencoder, apply
from jaxgen.autoencoder.objectives import BATCH, Loss, check_error, reconstruction_terms


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
    if not jnp.issubdtype(jnp.result_type(k), jnp.integer):
        raise ValueError(f"k has dtype {jnp.result_type(k)}; expected a whole number")
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


@takes(pre_activation=Float("... _"))
def top_k(pre_activation: ArrayLike, k: int | jax.Array) -> jax.Array:
    """The k largest entries of each example, the others set to zero: [..., H] -> [..., H].

    Exactly k are kept, of equal ones those of lower index; the gradient passes through the kept.
    Source: Makhzani & Frey, "k-Sparse Autoencoders" (2013), section 2.1.

    Args:
        pre_activation: [..., H].
        k: int, or int32 scalar (may be traced, then it must be in 0..H).

    Raises:
        ValueError: `k` is negative or larger than H (where its value is known).
    """
    pre_activation = jnp.asarray(pre_activation)
    kept = _top_k_mask(pre_activation, k)
    return jnp.where(kept, pre_activation, jnp.zeros_like(pre_activation))


@takes(x=Float("B D"), reconstruction=Float("B D"), pre_activation=Float("B H"), dead=Int("H"), k=Count())
def auxk_error(
    x: ArrayLike,
    reconstruction: ArrayLike,
    pre_activation: ArrayLike,
    dead: ArrayLike,
    k: int,
    decode: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    """|e - e^|^2 with e = x - x' held constant and e^ the decoding of the k largest dead units: [B, D] -> [B].

    It gives units that are never among the k largest a gradient, so that they learn what the others leave out. Source:
    Gao et al., "Scaling and Evaluating Sparse Autoencoders" (2024), section 2.4 and appendix A.2, where its weight is
    1/32.

    Args:
        x: [B, D].
        reconstruction: x', [B, D].
        pre_activation: [B, H].
        dead: booleans or 0 and 1, [H]: units without activity on many examples.
        k: dead units kept; all of them where there are fewer.
        decode: a code [B, H] -> [B, D], linear and without the decoder's bias.

    Returns:
        [B]; 0 where no unit is dead.

    Raises:
        ValueError: the shapes do not fit, or `k` is larger than H.
    """
    x, reconstruction = jnp.asarray(x), jnp.asarray(reconstruction)
    pre_activation, dead = jnp.asarray(pre_activation), jnp.asarray(dead)
    is_dead = (dead != 0)[None, :]
    # Below all others, so that a living unit is kept only where the dead ones are fewer than k, and is then set to 0.
    kept = _top_k_mask(jnp.where(is_dead, pre_activation, -jnp.inf), k) & is_dead
    error = jax.lax.stop_gradient(x - reconstruction)
    explained = decode(jnp.where(kept, pre_activation, jnp.zeros_like(pre_activation)))
    same_shape(x=x, decoded=explained)
    return jnp.where(jnp.any(is_dead), jnp.sum(jnp.square(error - explained), axis=-1), 0)


@takes(step=Int(""), k=Count(0), start=Count(0), num_steps=Count(0))
def annealed_k(step: ArrayLike, k: int, start: int, num_steps: int) -> jax.Array:
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


@takes(x=Float("... _"))
def k_sparse_encode(
    network: Autoencoder, params: Any, x: ArrayLike, k: int | jax.Array, alpha: float = 1.0
) -> jax.Array:
    """The code with its alpha k largest entries kept, the others zero: [..., D] -> [..., H].

    Makhzani & Frey (2013), section 2.1: train with alpha = 1, encode for classification with a
    slightly larger support, e.g. alpha = 3.

    Raises:
        ValueError: alpha k (rounded) is larger than the code, or alpha is not 1 for a traced k.
    """
    x = jnp.asarray(x)
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
            raise ValueError(f"{name} is {value}; expected 1 <= {name} <= {network.code_size}, the code size")
    if start is None:
        kept_at = lambda step: k
    elif num_steps is None:
        raise ValueError("start is given without num_steps, the length of training")
    else:
        kept_at = lambda step: annealed_k(step, k, start, num_steps)

    @takes(batch=BATCH)
    def loss(params, batch, keys, context):
        del keys
        x = batch["x"]
        now = kept_at(context.step)
        code = k_sparse_encode(network, params, x, now)
        losses, metrics = reconstruction_terms(network, params, x, code, error)
        kept = jnp.broadcast_to(jnp.asarray(now).astype(losses.dtype), losses.shape)
        return losses, metrics | {"k": kept}

    return loss
