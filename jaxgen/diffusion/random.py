"""Noise with a key for each example, so that example i depends on (key, i) and not on the batch it is drawn in.

Ours: the papers' code draws a batch from one generator.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.arguments import Count, Key, as_float, takes
from jaxgen.nn.random import given_or_drawn


@takes(key=Key(), num=Count())
def keys_per_example(key: jax.Array, num: int) -> jax.Array:
    """fold_in(key, i) for each example: a scalar key -> keys [num]. Keys [num] are returned as they are.

    Raises:
        ValueError: no key of `jax.random.key`, or another number of keys.
    """
    if key.ndim == 0:
        return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(num))
    if key.shape != (num,):
        raise ValueError(f"keys of shape {key.shape} for {num} examples; expected one key, or one for each example")
    return key


@takes(key=Key())
def normal_per_example(key: jax.Array, x: jax.Array | np.ndarray | jax.ShapeDtypeStruct) -> jax.Array:
    """eps ~ N(0, I) like x [B, ...], from a scalar key or keys [B]."""
    if not isinstance(x, jax.ShapeDtypeStruct):
        x = as_float("x", x)
    draw = lambda key: jax.random.normal(key, x.shape[1:], x.dtype)
    return jax.vmap(draw)(keys_per_example(key, x.shape[0]))


def normal_or_given(key: jax.Array | None, x: jax.Array, noise: Any) -> jax.Array:
    """The given eps like x [B, ...], or `normal_per_example` where `noise` is None.

    Raises:
        ValueError: `noise` has another shape than x, or there is neither a key nor noise.
    """
    return given_or_drawn("noise", noise, key, lambda key, shape, dtype: normal_per_example(key, x), x.shape, x.dtype)
