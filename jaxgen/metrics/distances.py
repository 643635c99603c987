"""Distances between all pairs of two sets, right to rounding wherever the sets lie."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_PAIRS = 2**22  # numbers of one block of differences


def squared_distances(a: jax.Array, b: jax.Array) -> jax.Array:
    """|a_i - b_j|^2 from the differences themselves: a [N, D], b [M, D] -> [N, M], at least 0.

    The shortcut |a_i|^2 + |b_j|^2 - 2 a_i b_j is faster and has the rounding error of |a_i|^2 + |b_j|^2: wrong for near
    points far from the origin, such as clusters. Here the sum over D runs in a loop of blocks, so that memory is N M.
    """
    size = a.shape[1]
    block = max(1, min(size, _PAIRS // max(1, a.shape[0] * b.shape[0])))
    padded = -size % block
    a, b = (jnp.pad(x, ((0, 0), (0, padded))) for x in (a, b))

    def add(i: jax.Array, total: jax.Array) -> jax.Array:
        part = [jax.lax.dynamic_slice_in_dim(x, i * block, block, axis=1) for x in (a, b)]
        return total + jnp.sum(jnp.square(part[0][:, None, :] - part[1][None, :, :]), axis=-1)

    return jax.lax.fori_loop(0, (size + padded) // block, add, jnp.zeros((a.shape[0], b.shape[0]), a.dtype))


def exact_squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a_i - b_j|^2 in float64 on the host, by one matrix product: a [N, D], b [M, D] -> [N, M], at least 0.

    Move both sets by a common centre first. Pairs whose distance is small next to their norms, where the product loses
    digits, are computed again from their differences.
    """
    squares = [np.sum(np.square(x), axis=1) for x in (a, b)]
    norms = squares[0][:, None] + squares[1][None, :]
    distances = np.maximum(norms - 2 * (a @ b.T), 0)
    rows, columns = np.nonzero(distances < 1e-8 * norms)
    for start in range(0, len(rows), max(1, _PAIRS // a.shape[1])):
        part = slice(start, start + max(1, _PAIRS // a.shape[1]))
        distances[rows[part], columns[part]] = np.sum(np.square(a[rows[part]] - b[columns[part]]), axis=1)
    return distances


def check_sets(**sets: Any) -> None:
    """Raises ValueError unless each is [N, D] with N at least 1 and one D."""
    shapes = {name: x.shape for name, x in sets.items()}
    if any(len(s) != 2 or s[0] < 1 for s in shapes.values()) or len({s[1] for s in shapes.values()}) > 1:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"shapes are {found}; expected [N, D] each, N at least 1, with the same D")
