"""Sparse codes: KL to a target activation (Ng 2011) and L1, and how units are used."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxgen.arguments import Float, Real, takes
from jaxgen.autoencoder.networks import Autoencoder, apply
from jaxgen.autoencoder.objectives import BATCH, Loss, check_error, reconstruction_terms


def _check_rho(rho: float) -> None:
    if not isinstance(rho, Tracer) and not 0 < rho < 1:
        raise ValueError(f"rho is {rho}; expected a target activation inside (0, 1)")


@takes(mean_activation=Float("... _", low=0, high=1), rho=Real())
def kl_sparsity(mean_activation: ArrayLike, rho: float) -> jax.Array:
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
    mean_activation = jnp.asarray(mean_activation)
    _check_rho(rho)
    m = mean_activation
    r = jnp.asarray(rho, m.dtype)
    kl = r * (jnp.log(r) - jnp.log(m)) + (1 - r) * (jnp.log1p(-r) - jnp.log1p(-m))
    return jnp.sum(kl, axis=-1)


@takes(code=Float("B H", low=0, high=1), mean_activation=Float("H", low=0, high=1), rho=Real())
def linearized_kl_sparsity(code: ArrayLike, mean_activation: ArrayLike, rho: float) -> jax.Array:
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
    code, mean_activation = jnp.asarray(code), jnp.asarray(mean_activation)
    _check_rho(rho)
    unit = jnp.finfo(code.dtype).eps
    m = jnp.clip(jax.lax.stop_gradient(mean_activation), unit, 1 - unit)
    slope = (1 - rho) / (1 - m) - rho / m
    return kl_sparsity(m, rho) + jnp.sum((code - m[None, :]) * slope[None, :], axis=-1)


@takes(code=Float("... _"))
def l1_sparsity(code: ArrayLike) -> jax.Array:
    """sum_j |a_j|: [..., H] -> [...]."""
    return jnp.sum(jnp.abs(code), axis=-1)


@takes(codes=Float("N _"), threshold=Real())
def dead_units(codes: ArrayLike, threshold: float = 0.0) -> dict[str, jax.Array]:
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
    codes = jnp.asarray(codes)
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

    @takes(batch=BATCH)
    def statistics(params, batch, keys, context):
        del keys, context
        return {"mean_activation": apply(network, params, batch["x"], "encode")}

    return statistics


@takes(rho=Real(), weight=Real())
def kl_sparsity_loss(network: Autoencoder, rho: float, weight: float, error: str = "squared_error") -> Loss:
    """Error + weight sum_j KL(rho || mean over the global batch of unit j's activation).

    The code must lie in (0, 1): code_activation = nn.sigmoid. In Ng's notation the error is
    squared_error / 2, so his beta is half the `weight` here.

    Returns:
        loss(params, batch, keys, context), which needs context.statistics from
        `kl_sparsity_statistics(network)`; metrics "squared_error", the error, "penalty" (without
        the weight, linearised: its batch mean is the KL) and "mean_activation".

    Raises:
        ValueError: `rho` is not in (0, 1), `error` or the code's activation does not fit; or, when called, no
            statistics.
    """
    _check_rho(rho)
    check_error(network, error)
    ends = network.code_activation(jnp.array([-100.0, 0.0, 100.0], jnp.float32))
    if not jnp.all((ends >= 0) & (ends <= 1)):
        raise ValueError(
            f"the code's activation reaches {float(jnp.min(ends)):g} to {float(jnp.max(ends)):g}; the KL divergence is "
            "of probabilities: use code_activation=nn.sigmoid"
        )

    @takes(batch=BATCH)
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


@takes(weight=Real())
def l1_sparsity_loss(network: Autoencoder, weight: float, error: str = "squared_error") -> Loss:
    """Error + weight sum_j |a_j|.

    Returns:
        loss(params, batch, keys, context); metrics "squared_error", the error, "penalty" (without
        the weight).

    Raises:
        ValueError: `error` is unknown or does not fit the network's output.
    """
    check_error(network, error)

    @takes(batch=BATCH)
    def loss(params, batch, keys, context):
        del keys, context
        x = batch["x"]
        code = apply(network, params, x, "encode")
        losses, metrics = reconstruction_terms(network, params, x, code, error)
        penalty = l1_sparsity(code)
        return losses + weight * penalty, metrics | {"penalty": penalty}

    return loss
