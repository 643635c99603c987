"""Distances between all pairs of two sets."""

import jax
import jax.numpy as jnp


def squared_distances(a: jax.Array, b: jax.Array) -> jax.Array:
    """|a_i - b_j|^2 by one matrix product: a [N, D], b [M, D] -> [N, M], at least 0.

    The rounding error is that of |a_i|^2 + |b_j|^2, so move both sets by a common centre first.
    """
    products = jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
    norms = jnp.sum(jnp.square(a), axis=1)[:, None] + jnp.sum(jnp.square(b), axis=1)[None, :]
    return jnp.maximum(norms - 2 * products, 0)


def check_sets(**sets) -> None:
    """Raises ValueError unless each is [N, D] with N at least 1 and one D."""
    shapes = {name: x.shape for name, x in sets.items()}
    if any(len(s) != 2 or s[0] < 1 for s in shapes.values()) or len({s[1] for s in shapes.values()}) > 1:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"shapes are {found}; expected [N, D] each, N at least 1, with the same D")
