"""Random draws that a caller may give, so that a result can be compared step by step with that of other code.

A random function takes its key first and, optionally, the draws themselves: `noise` (standard normal) or `uniforms` (in
[0, 1)). Given draws take precedence over the key, which may then be None.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Draw = Callable[[Any, tuple[int, ...], Any], jax.Array]
"""(key, shape, dtype) -> an array, e.g. `jax.random.normal`."""


def checked_draws(name: str, given: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Given draws as an array of this dtype.

    Args:
        name: of the argument, for the message.
        given: the draws, of any floating dtype.
        shape: the shape that they must have.
        dtype: of the result; None: that of the draws.

    Raises:
        ValueError: `given` has another shape.
    """
    if np.shape(given) != shape:
        raise ValueError(f"{name} has shape {np.shape(given)}; expected {shape}")
    return jnp.asarray(given, dtype)


def given_or_drawn(name: str, given: Any, key: Any, draw: Draw, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Given draws, or draw(key, shape, dtype) where there are none.

    Args:
        name: of the argument, for messages.
        given: the draws, or None.
        key: what `draw` takes; not used where draws are given.
        draw: makes them from the key.
        shape: the shape of the draws.
        dtype: the dtype of the draws.

    Raises:
        ValueError: `given` has another shape, or neither draws nor a key are given.
    """
    if given is not None:
        return checked_draws(name, given, shape, dtype)
    if key is None:
        raise ValueError(f"there is no key and no {name}; expected a key, or {name} of shape {shape}")
    return draw(key, shape, dtype)


def per_example(draw: Draw) -> Draw:
    """The draw of a batch from one key, which is split, or from keys [B]: example i is drawn from key i alone."""

    def draw_batch(key, shape, dtype):
        keys = jax.random.split(key, shape[0]) if key.ndim == 0 else key
        return jax.vmap(lambda key: draw(key, shape[1:], dtype))(keys)

    return draw_batch
