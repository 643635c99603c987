"""Spectral normalisation (Miyato et al. 2018): every kernel divided by an estimate of its largest singular value.

A kernel [..., out] counts as the matrix W [prod(...), out], also that of a convolution, whose norm as an operator
differs. The estimate is one vector u [out] a kernel, refined by one power iteration a step. That vector is state: it
is passed in and handed back.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Float, Key, takes

Tree = Any


@takes(kernel=Float("... _ O"), u=Float("O"), num_steps=Count(0))
def power_iteration(kernel: ArrayLike, u: ArrayLike, num_steps: int = 1) -> jax.Array:
    """u <- W^T W u, brought to length 1, `num_steps` times: kernel [..., out], u [out] -> [out]. No gradient."""
    kernel, u = jnp.asarray(kernel), jnp.asarray(u)
    matrix, u = jax.lax.stop_gradient((_matrix(kernel), u))
    for _ in range(num_steps):
        u = _unit(matrix.T @ _unit(matrix @ u))
    return u


@takes(kernel=Float("... _ O"), u=Float("O"))
def spectral_norm(kernel: ArrayLike, u: ArrayLike) -> jax.Array:
    """sigma = v^T W u with v = W u / |W u|: kernel [..., out], u [out] of length 1 -> scalar.

    At most the largest singular value, and equal to it once u has converged. u and v are constants for the gradient,
    which is v u^T, the one of the singular value itself.
    """
    kernel, u = jnp.asarray(kernel), jnp.asarray(u)
    matrix = _matrix(kernel)
    u = jax.lax.stop_gradient(u)
    v = jax.lax.stop_gradient(_unit(matrix @ u))
    return v @ (matrix @ u)


@takes(key=Key(""))
def init_spectral(key: jax.Array, params: Tree) -> Tree:
    """Random u of length 1 for every kernel and embedding of a network, from one scalar key.

    Args:
        key: scalar key.
        params: tree of arrays, as Flax names them.

    Returns:
        a tree like `params` with None in place of all other leaves (biases, scales).
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    vectors = [
        _unit(jax.random.normal(jax.random.fold_in(key, i), p.shape[-1:], p.dtype)) if _is_matrix(path, p) else None
        for i, (path, p) in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, vectors)


@takes(num_steps=Count(0))
def advance_spectral(params: Tree, vectors: Tree, num_steps: int = 1) -> Tree:
    """`power_iteration` of every kernel: trees of `init_spectral` -> new vectors. Vectors of None stay None."""
    if vectors is None:
        return None
    return jax.tree.map(lambda p, u: None if u is None else power_iteration(p, u, num_steps), params, vectors)


def spectrally_normalized(params: Tree, vectors: Tree) -> Tree:
    """W / sigma(W) for every kernel that has a vector, other leaves as they are: trees of `init_spectral` -> tree.

    The gradient with respect to `params` passes through sigma. With vectors of None, `params` are returned.
    """
    if vectors is None:
        return params

    def divide(p, u):
        return p if u is None else p / jnp.maximum(spectral_norm(p, u), jnp.finfo(p.dtype).tiny)

    return jax.tree.map(divide, params, vectors)


def _is_matrix(path, p) -> bool:
    return p.ndim >= 2 and getattr(path[-1], "key", None) in ("kernel", "embedding")


def _matrix(kernel: jax.Array) -> jax.Array:
    return kernel.reshape(-1, kernel.shape[-1])


def _unit(x: jax.Array) -> jax.Array:
    # x * rsqrt(v): x / sqrt(v) is compiled with other last bits on some numbers of devices.
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x)), jnp.finfo(x.dtype).tiny))
