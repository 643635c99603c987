"""The optimal discriminator of a generator, and the divergence that the game's value then is.

Goodfellow et al. (2014), section 4:

    V(D, G) = E_{x ~ p_r} log D(x) + E_{z ~ p_z} log(1 - D(G(z))),   D = sigmoid(logit)

For a fixed generator D* = p_r / (p_r + p_g) is optimal, and V(D*, G) = 2 JS(p_r || p_g) - 2 log 2; at p_g = p_r that is
-2 log 2, the global minimum over G.
"""

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy
from jax.typing import ArrayLike

from jaxgen.arguments import Float, takes
from jaxgen.gan.objectives import check_pairs


@takes(p_real=Float("...", low=0), p_generated=Float("...", low=0))
def optimal_discriminator(p_real: ArrayLike, p_generated: ArrayLike) -> jax.Array:
    """D*(x) = p_r(x) / (p_r(x) + p_g(x)), densities of one shape -> [0, 1]; 1/2 where both are 0.

    Far from both distributions the densities underflow: use `optimal_logits` there. Subnormal densities may count as 0.
    The gradients of densities that are 0 or normal numbers are finite; they are 0 where both densities are 0.
    """
    return _share(p_real, p_generated)


@takes(log_p_real=Float("..."), log_p_generated=Float("..."))
def optimal_logits(log_p_real: ArrayLike, log_p_generated: ArrayLike) -> jax.Array:
    """The logit of D*: log p_r(x) - log p_g(x), log densities of one shape, nats; 0 where both are -inf."""
    log_p_real, log_p_generated = jnp.asarray(log_p_real), jnp.asarray(log_p_generated)
    inside = jnp.maximum(log_p_real, log_p_generated) != -jnp.inf
    return jnp.where(inside, log_p_real - log_p_generated, 0)


@takes(p=Float("... N", low=0), q=Float("... N", low=0), weights=Float("N"))
def jensen_shannon(p: ArrayLike, q: ArrayLike, weights: ArrayLike | None = None) -> jax.Array:
    """JS(p || q) = KL(p || m) / 2 + KL(q || m) / 2 with m = (p + q) / 2, summed over the last axis.

    Args:
        p: probabilities, or densities at quadrature points, [..., N], at least 0.
        q: of the same shape.
        weights: of the quadrature, [N]; None for probabilities.

    Returns:
        [...], nats, in [0, log 2] where p and q sum (integrate) to 1. The gradient with respect to p is
        log(p / m) / 2. It is finite for all finite p and q: 0 where both are 0, and at p = 0 < q, where the true slope
        is -inf, that of the smallest normal number p. Subnormal numbers may count as 0.

    Raises:
        ValueError: the shapes differ.
    """
    p, q = jnp.asarray(p), jnp.asarray(q)
    check_pairs(p, q)
    integrand = _divergence(p, q) / 2
    if weights is not None:
        integrand = integrand * jnp.asarray(weights).reshape((1,) * (integrand.ndim - 1) + (-1,))
    return jnp.sum(integrand, axis=-1)


def _scaled(p, q):
    """(p, q, p + q) times a power of two, and that power; the sum is 1 where both are 0.

    The scaled sum does not overflow, and the scaled difference of two normal numbers is not subnormal: XLA flushes
    subnormal numbers to 0 on CPU. The factor 1/16 flushes only numbers that are too small to matter next to the other.
    """
    eps = float(jnp.finfo(jnp.result_type(p, q, float)).eps)
    scale = jnp.where(jnp.maximum(p, q) < 16, 1 / eps, 1 / 16)
    p, q = p * scale, q * scale
    total = p + q
    return p, q, jnp.where(total == 0, 1, total), scale


@jax.custom_jvp
def _share(p, q):
    """p / (p + q); 1/2 where both are 0."""
    scaled_p, _, total, _ = _scaled(p, q)
    return jnp.where(jnp.maximum(p, q) == 0, 0.5, scaled_p / total)


@_share.defjvp
def _share_jvp(primals, tangents):
    """(q dp - p dq) / (p + q)^2, without the square, which underflows long before its inverse overflows."""
    p, q, total, scale = _scaled(*primals)
    return _share(*primals), (q / total * tangents[0] - p / total * tangents[1]) * scale / total


@jax.custom_jvp
def _divergence(p, q):
    """p log(p / m) + q log(q / m) with m = (p + q) / 2, at least 0.

    With d = |p - q| / (p + q) this is m ((1 + d) log(1 + d) + (1 - d) log(1 - d)). For small d the logarithms are
    regrouped, because their terms of first order cancel; for large d, 1 - d is computed as 2 min(p, q) / (p + q).
    """
    p, q, total, scale = _scaled(p, q)
    d, rest = jnp.abs(p - q) / total, 2 * jnp.minimum(p, q) / total
    small = jnp.minimum(d, 0.5)
    of_small = jnp.log1p(-jnp.square(small)) + small * (jnp.log1p(small) - jnp.log1p(-small))
    of_large = (1 + d) * jnp.log1p(d) + xlogy(rest, rest)
    return total / 2 * jnp.where(d < 0.5, of_small, of_large) / scale


@_divergence.defjvp
def _divergence_jvp(primals, tangents):
    p, q = primals
    return _divergence(p, q), _log_ratio(p, q) * tangents[0] + _log_ratio(q, p) * tangents[1]


def _log_ratio(p, q):
    """log(p / m) with m = (p + q) / 2; 0 where both are 0, and that of the smallest normal p where only p is less."""
    tiny = float(jnp.finfo(jnp.result_type(p, q, float)).tiny)
    p = jnp.maximum(p, jnp.minimum(q, tiny))
    scaled_p, scaled_q, total, _ = _scaled(p, q)
    d = (scaled_p - scaled_q) / total
    is_small = d < -0.5
    p, q = jnp.where(is_small, p, 1), jnp.where(is_small, q, 1)
    of_small = jnp.log(p) - jnp.log(q) + (math.log(2) - jnp.log1p(p / q))
    return jnp.where(is_small, of_small, jnp.log1p(jnp.maximum(d, -0.5)))
