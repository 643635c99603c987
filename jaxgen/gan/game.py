"""The min-max game of Goodfellow et al. (2014): its value, the best answer to a generator, and what that is worth.

    V(D, G) = E_{x ~ p_r} log D(x) + E_{z ~ p_z} log(1 - D(G(z))),   D = sigmoid(logit)

For a fixed generator D* = p_r / (p_r + p_g) is best, and V(D*, G) = 2 JS(p_r || p_g) - 2 log 2; at p_g = p_r that is
-2 log 2, the global minimum over G.
"""

import math

import jax
import jax.numpy as jnp

VALUE_AT_EQUILIBRIUM = -2 * math.log(2)
"""V when D = 1/2 everywhere: -2 log 2, nats."""


def value(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """log D(x) + log(1 - D(G(z))) for each pair of a real and a generated example; its average is V(D, G).

    Args:
        real_logits: of D(x), [...].
        fake_logits: of D(G(z)), of the same shape.

    Returns:
        [...], at most 0, nats. Finite with finite gradients for every finite logit.

    Raises:
        ValueError: the shapes differ.
    """
    check_pairs(real_logits, fake_logits)
    return -jax.nn.softplus(-real_logits) - jax.nn.softplus(fake_logits)


def optimal_discriminator(p_real: jax.Array, p_generated: jax.Array) -> jax.Array:
    """D*(x) = p_r(x) / (p_r(x) + p_g(x)), densities of one shape -> [0, 1]; 1/2 where both are 0.

    Far from both distributions the densities underflow: use `optimal_logits` there.
    """
    total = p_real + p_generated
    inside = total > 0
    return jnp.where(inside, p_real / jnp.where(inside, total, 1), 0.5)


def optimal_logits(log_p_real: jax.Array, log_p_generated: jax.Array) -> jax.Array:
    """The logit of D*: log p_r(x) - log p_g(x), log densities of one shape, nats."""
    return log_p_real - log_p_generated


def jensen_shannon(p: jax.Array, q: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """JS(p || q) = KL(p || m) / 2 + KL(q || m) / 2 with m = (p + q) / 2, summed over the last axis.

    Args:
        p: probabilities, or densities at quadrature points, [..., N], at least 0.
        q: of the same shape.
        weights: of the quadrature, [N]; None for probabilities.

    Returns:
        [...], nats, in [0, log 2] where p and q sum (integrate) to 1. Zeros are fine. At p = 0 < q the true slope by
        p is -inf; the gradient returned there is finite.

    Raises:
        ValueError: the shapes differ.
    """
    check_pairs(p, q)
    middle = (p + q) / 2
    integrand = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    if weights is not None:
        integrand = integrand * weights.reshape((1,) * (integrand.ndim - 1) + (-1,))
    return jnp.sum(integrand, axis=-1)


def check_pairs(real: jax.Array, fake: jax.Array) -> None:
    """Raises ValueError unless two arrays have one shape, so that nothing is broadcast by accident."""
    if real.shape != fake.shape:
        raise ValueError(f"shapes are {real.shape} and {fake.shape}; both must be the same")


def _relative_entropy(p, q):
    positive = p > 0
    return jnp.where(positive, p * (jnp.log(jnp.where(positive, p, 1)) - jnp.log(jnp.where(positive, q, 1))), 0)
