"""Where every random number of a run comes from: key(seed) -> stream -> step -> position in the global batch.

Nothing here depends on a device, a host, the clock or hidden state, so any step can be recomputed alone and a
checkpoint needs no key.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

# A stream's number is part of every recorded result: append, never renumber.
STREAMS = {"params": 0, "order": 1, "model": 2, "eval": 3, "sample": 4, "stage": 5}


def root(seed: int) -> jax.Array:
    """The key of a run: a scalar typed threefry key.

    Threefry by name: the other implementations change between backends and versions.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}; it must be an integer from 0 to 2**32 - 1")
    return jax.random.key(seed, impl="threefry2x32")


def stream(key: jax.Array, name: str) -> jax.Array:
    """The key of one use of randomness ("params", "order", "model", "eval", "sample", "stage")."""
    if name not in STREAMS:
        raise ValueError(f"no random stream {name!r}; the streams are {', '.join(STREAMS)}")
    return jax.random.fold_in(key, STREAMS[name])


def stage(key: jax.Array, number: int) -> jax.Array:
    """The root key of the `number`-th stage of a run that trains several things one after another."""
    return jax.random.fold_in(stream(key, "stage"), number)


def at_step(key: jax.Array, step: jax.Array | int) -> jax.Array:
    """A stream's key at one training step (scalar int)."""
    return jax.random.fold_in(key, step)


def per_example(key: jax.Array, positions: ArrayLike) -> jax.Array:
    """One key for each example, from its position in the *global* batch.

    Args:
        key: scalar key of a stream at a step.
        positions: int [b], positions 0 .. global batch - 1.

    Returns:
        Keys, [b]. They do not depend on how the batch is split over devices.
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.asarray(positions))
