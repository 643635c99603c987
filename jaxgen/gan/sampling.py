"""Samples of a trained generator, x = G(z), z ~ p_z, and logits of a discriminator (Goodfellow et al. 2014)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import ScopeParamShapeError

from jaxgen.arguments import Count, Float, Host, Int, Key, takes
from jaxgen.compiler import check_once
from jaxgen.gan.networks import Players


@takes(key=Key(""), num=Count(), labels=Int(host=True), batch_size=Count(), noise=Float())
def sample(
    key: jax.Array | None,
    players: Players,
    params: Any,
    num: int,
    labels: Any = None,
    batch_size: int = 500,
    *,
    noise: Any = None,
) -> np.ndarray:
    """G(z) for `num` draws of z, in batches on the device.

    Sample i depends on (key, i) and the parameters, not on how many are drawn.

    Args:
        key: scalar key; may be None where `noise` is given.
        players: the players.
        params: the generator's parameters, a tree: the trained ones, or their moving average.
        num: how many, at least 1.
        labels: int [num] for players with a condition.
        batch_size: examples at a time.
        noise: z, [num, Z], in place of the draw from p_z.

    Returns:
        [num, ...].

    Raises:
        ValueError: nothing to draw, labels that are missing, not wanted, or not `num`, noise that is not [num, Z], or
            neither a key nor noise.
    """
    check_once()
    if num < 1 or batch_size < 1:
        raise ValueError(f"num is {num} and batch_size {batch_size}; both must be at least 1")
    if (labels is None) != (players.condition is None) or (labels is not None and len(labels) != num):
        wanted = f"labels of shape ({num},)" if players.condition else "no labels"
        raise ValueError(f"labels are {np.shape(labels) if labels is not None else None}; these players take {wanted}")
    if noise is not None and np.shape(noise)[:1] != (num,):
        raise ValueError(f"noise has shape {np.shape(noise)}; expected ({num}, Z)")
    size = min(batch_size, num)
    parts = []
    for start in range(0, num, size):
        # The last batch is moved back to be full, so that one program serves all.
        begin = min(start, num - size)
        chosen = None if labels is None else jnp.asarray(labels[begin : begin + size])
        z = None if noise is None else jnp.asarray(noise[begin : begin + size])
        drawn = _generate(players, params, key, jnp.arange(begin, begin + size), chosen, z)
        parts.append(np.asarray(drawn)[start - begin :])
    return np.concatenate(parts)


@takes(key=Key(""), num_walks=Count(), num_steps=Count(), labels=Int("_", host=True))
def interpolate(
    key: jax.Array, players: Players, params: Any, num_walks: int, num_steps: int, labels: Any = None
) -> np.ndarray:
    """G(z) on straight lines between pairs of draws of z.

    Args:
        key: scalar key.
        players: the players.
        params: the generator's parameters, a tree.
        num_walks: number of lines.
        num_steps: points on each, both ends included.
        labels: int [num_walks] for players with a condition.

    Returns:
        [num_walks * num_steps, ...], the points of one line after those of another.
    """
    z = np.asarray(players.noise(jax.random.split(key, 2 * num_walks)))
    t = np.linspace(0, 1, num_steps, dtype=z.dtype)[:, None]
    noise = np.concatenate([(1 - t) * a + t * b for a, b in zip(z[0::2], z[1::2], strict=True)])
    labels = None if labels is None else np.repeat(labels, num_steps)
    return sample(None, players, params, len(noise), labels, noise=noise)


@takes(x=Host("N ...", dtype=None, finite=False), labels=Int("N", host=True), batch_size=Count())
def discriminator_logits(
    players: Players, params: Any, x: Any, labels: Any = None, batch_size: int = 1000
) -> np.ndarray:
    """Logits of D(x) without dropout, in batches on the device.

    Args:
        players: the players.
        params: the discriminator's parameters, a tree (with spectral normalisation: `spectrally_normalized`).
        x: examples, [N, ...].
        labels: int [N] for players with a condition.
        batch_size: examples at a time.

    Returns:
        [N].
    """
    parts = []
    for start in range(0, len(x), batch_size):
        part = slice(start, start + batch_size)
        chosen = None if labels is None else jnp.asarray(labels[part])
        try:
            parts.append(np.asarray(_logits(players, params, jnp.asarray(x[part]), chosen)))
        except ScopeParamShapeError as error:
            raise ValueError(
                f"x has shape {x.shape}, which the discriminator's parameters do not fit: {error}"
            ) from None
    return np.concatenate(parts)


@functools.partial(jax.jit, static_argnums=0)
def _generate(players, params, key, numbers, labels, noise):
    keys = None if key is None else jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
    return players.generate(params, keys, labels, noise=noise)


@functools.partial(jax.jit, static_argnums=0)
def _logits(players, params, x, labels):
    return players.discriminate(params, None, x, labels)
