"""Sines and cosines of the timestep, the input of the networks."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxgen.arguments import Count, takes
from jaxgen.arguments.values import array

Embedding = Literal["sin_cos", "cos_sin"]
EMBEDDINGS = ("sin_cos", "cos_sin")


@takes(width=Count())
def timestep_embedding(t: ArrayLike, width: int, convention: Embedding = "sin_cos") -> jax.Array:
    """[sin(t f_i), cos(t f_i)] or the other way round, with frequencies f_i falling from 1 to about 1e-4.

    "sin_cos": f_i = 10000^(-i / (h - 1)), h = width // 2, of Ho et al. (2020) and others after them. "cos_sin": cosines
    first, f_i = 10000^(-i / h), of Nichol & Dhariwal (2021) and Dhariwal & Nichol (2021). An odd width ends with 0.

    Args:
        t: 0-based timesteps of the original schedule, integers or not, [B].
        width: at least 4.
        convention: "sin_cos" or "cos_sin".

    Returns:
        float32 [B, width].

    Raises:
        ValueError: t is not [B], a width below 4, an unknown convention.
    """
    t = jnp.asarray(array("t", t))
    if t.ndim != 1:
        raise ValueError(f"t has shape {t.shape}; expected one timestep for each example, [B]")
    if width < 4:
        raise ValueError(f"width is {width}; expected at least 4")
    if convention not in EMBEDDINGS:
        raise ValueError(f"convention is {convention!r}; expected one of {', '.join(EMBEDDINGS)}")
    half = width // 2
    last = half - 1 if convention == "sin_cos" else half
    frequencies = jnp.exp(jnp.arange(half, dtype=jnp.float32) * (-math.log(10000) / last))
    angles = t.astype(jnp.float32)[:, None] * frequencies[None]
    parts = [jnp.sin(angles), jnp.cos(angles)]
    if convention == "cos_sin":
        parts.reverse()
    return jnp.pad(jnp.concatenate(parts, axis=1), ((0, 0), (0, width % 2)))


@takes(num_original_steps=Count())
def rescaled_timesteps(t: ArrayLike, num_original_steps: int) -> jax.Array:
    """1000 t / T: timesteps of a schedule of T steps in the units of one of 1000, float32 [B].

    The input of a network trained with "rescaled timesteps" (Nichol & Dhariwal 2021, their code's default).

    Args:
        t: 0-based timesteps of the original schedule, [B].
        num_original_steps: T, the schedule's `num_original_steps`.
    """
    return jnp.asarray(array("t", t)).astype(jnp.float32) * jnp.float32(1000 / num_original_steps)
