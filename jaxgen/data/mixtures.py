"""Mixtures of equal Gaussians in the plane: a ring and a grid, on which a generator's missing modes can be counted.

Both are known exactly: a density, the places of the modes, and fresh draws from keys.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxgen.data.batches import DeviceBatches


class Mixture(NamedTuple):
    """p(x) = (1/K) sum_k N(x; means[k], std^2 I).

    Attributes:
        means: [K, D], any floating type; draws and densities have it too.
        std: standard deviation of every component, > 0.
    """

    means: jax.Array | np.ndarray
    std: float


def ring_mixture(num_modes: int = 8, radius: float = 2.0, std: float = 0.02, dtype: jax.typing.DTypeLike = jnp.float32):
    """A `Mixture` [num_modes, 2] at angles 2 pi k / num_modes on a circle.

    All modes are distinct. A widely copied notebook takes the angles from linspace(0, 2 pi, 8) with the end point, so
    that its first and last mode are one place and the "ring of 8" has 7 modes, one of double weight.

    Raises:
        ValueError: no modes, or a radius or std that is not positive.
    """
    if num_modes < 1 or radius <= 0 or std <= 0:
        raise ValueError(f"num_modes is {num_modes}, radius {radius}, std {std}; expected 1 or more and positive")
    angle = 2 * math.pi / num_modes * jnp.arange(num_modes).astype(dtype)
    return Mixture(radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1), std)


def grid_mixture(side: int = 5, spacing: float = 2.0, std: float = 0.05, dtype: jax.typing.DTypeLike = jnp.float32):
    """A `Mixture` [side^2, 2] at the points of a square lattice centred at 0, y slowest.

    Raises:
        ValueError: a side below 1, or a spacing or std that is not positive.
    """
    if side < 1 or spacing <= 0 or std <= 0:
        raise ValueError(f"side is {side}, spacing {spacing}, std {std}; expected 1 or more and positive")
    line = spacing * (jnp.arange(side).astype(dtype) - (side - 1) / 2)
    y, x = jnp.meshgrid(line, line, indexing="ij")
    return Mixture(jnp.stack([x.reshape(-1), y.reshape(-1)], axis=1), std)


def draw_mixture(keys: jax.Array, mixture: Mixture) -> jax.Array:
    """One point a key: keys [B] -> [B, D]. Point i depends on keys[i] alone."""
    num_modes, size = mixture.means.shape

    def draw(key):
        which, where = jax.random.split(key)
        mode = mixture.means[jax.random.randint(which, (), 0, num_modes)]
        return mode + mixture.std * jax.random.normal(where, (size,), mixture.means.dtype)

    return jax.vmap(draw)(keys)


def mixture_log_density(mixture: Mixture, x: ArrayLike) -> jax.Array:
    """log p(x), x [..., D] -> [...], nats."""
    x = jnp.asarray(x)
    num_modes, size = mixture.means.shape
    means = mixture.means.reshape((1,) * (x.ndim - 1) + (num_modes, size))
    squares = jnp.sum(jnp.square((x[..., None, :] - means) / mixture.std), axis=-1)
    normaliser = math.log(num_modes) + size * math.log(mixture.std * math.sqrt(2 * math.pi))
    return jax.nn.logsumexp(-squares / 2, axis=-1) - normaliser


def scale_to_unit_variance(mixture: Mixture) -> Mixture:
    """The mixture, scaled about the origin so that its coordinates have mean square 1."""
    unit = float(jnp.sqrt(jnp.mean(jnp.square(mixture.means)) + mixture.std**2))
    return Mixture(mixture.means / unit, mixture.std / unit)


def mixture_batches(mixture: Mixture) -> DeviceBatches:
    """{"x": [b, D]}, points drawn anew at every step, for any batch size: a point depends on (key, step, position)."""

    def make(key, arrays, step, positions):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, step), positions)
        return {"x": draw_mixture(keys, Mixture(arrays["means"], mixture.std))}

    return DeviceBatches(make, {"means": mixture.means})
