"""Interpolation between two images through their noise."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Key, takes
from jaxgen.diffusion.arguments import IMAGES
from jaxgen.diffusion.bound import Denoise
from jaxgen.diffusion.predictions import Prediction
from jaxgen.diffusion.process import q_sample
from jaxgen.diffusion.random import keys_per_example
from jaxgen.diffusion.reverse import Variance
from jaxgen.diffusion.sampler_options import ANCESTRAL, SamplerOptions
from jaxgen.diffusion.sampling import ddim_encode, denoise_from
from jaxgen.diffusion.schedule import Schedule
from jaxgen.nn.random import checked_draws


@takes(key=Key("|B"), schedule=Schedule, first=IMAGES, second=IMAGES, num=Count(), t=Count(0))
def interpolate(
    key: jax.Array | None,
    denoise: Denoise,
    schedule: Schedule,
    first: ArrayLike,
    second: ArrayLike,
    num: int,
    t: int,
    *,
    options: SamplerOptions = ANCESTRAL,
    noise: tuple[jax.Array, jax.Array, jax.Array] | None = None,
    **changes: Any,
) -> jax.Array:
    """Both images noised to index t, mixed linearly, and denoised with one noise for all mixtures.

    The larger t, the more is invented: the ends come back as other images than they were. Source: Ho et al. (2020),
    section 4.4 (there with 500 of 1000 steps).

    Args:
        key: scalar key, or keys [B]; may be None where `noise` is given.
        denoise: (x [B, ...], original timesteps [B]) -> the network's output.
        schedule: the schedule.
        first: [B, ...].
        second: [B, ...].
        num: mixtures, at least 2, the ends included.
        t: the 0-based index to which the images are noised.
        options: of the steps back.
        noise: in place of the draws, (eps of `first` [B, ...], eps of `second` [B, ...], noise of the steps as in
            `denoise_from` [t + 1, B, ...]).
        **changes: fields of `SamplerOptions` in place of those of `options`.

    Returns:
        [num, B, ...].

    Raises:
        ValueError: fewer than 2 mixtures, t is no index of the schedule, noise of another shape, or neither a key nor
            noise.
    """
    first = jnp.asarray(first)
    share = _shares(num, first)
    keys = [None, None, None]
    if key is not None:
        split = jax.vmap(lambda k: jax.random.split(k, 3))(keys_per_example(key, first.shape[0]))
        keys = [split[:, i] for i in range(3)]
    eps_first, eps_second, eps_steps = (None, None, None) if noise is None else noise
    start = q_sample(keys[0], schedule, first, t, noise=eps_first).x_t
    end = q_sample(keys[1], schedule, second, t, noise=eps_second).x_t
    mixed = (1 - share) * start[None] + share * end[None]
    if eps_steps is not None:
        eps_steps = checked_draws("noise[2]", eps_steps, (t + 1, *first.shape), first.dtype)
        eps_steps = jnp.tile(eps_steps, (1, num, *(1,) * (first.ndim - 1)))
    decoded = denoise_from(
        None if keys[2] is None else jnp.tile(keys[2], num),
        denoise,
        mixed.reshape(-1, *first.shape[1:]),
        schedule,
        t=t,
        options=options,
        noise=eps_steps,
        **changes,
    )
    return decoded.reshape(mixed.shape)


@takes(schedule=Schedule, first=IMAGES, second=IMAGES, num=Count(), num_refinements=Count(0))
def ddim_interpolate(
    denoise: Denoise,
    schedule: Schedule,
    first: ArrayLike,
    second: ArrayLike,
    num: int,
    *,
    num_refinements: int = 0,
    prediction: Prediction = "noise",
    variance: Variance = "fixed_large",
) -> jax.Array:
    """Both images encoded to x_T by DDIM, mixed along a great circle, and decoded: the ends come back as they were.

    Nothing is random. Source: Song et al. (2020), section 5.3 (there between draws of x_T).

    Args:
        denoise: (x [B, ...], original timesteps [B]) -> the network's output.
        schedule: the schedule, best respaced to some 100 steps.
        first: [B, ...].
        second: [B, ...].
        num: mixtures, at least 2, the ends included.
        num_refinements: as in `ddim_encode`.
        prediction: as in `p_mean_variance`.
        variance: as in `p_mean_variance`.

    Returns:
        [num, B, ...].

    Raises:
        ValueError: fewer than 2 mixtures.
    """
    first = jnp.asarray(first)
    share = _shares(num, first)
    encoded = ddim_encode(
        denoise,
        jnp.concatenate([first, second]),
        schedule,
        num_refinements=num_refinements,
        prediction=prediction,
        variance=variance,
    )
    start, end = jnp.split(encoded, 2)
    mixed = _great_circle(start, end, share)
    decoded = denoise_from(
        # Any key: with eta 0 it is not used.
        jax.random.key(0),
        denoise,
        mixed.reshape(-1, *first.shape[1:]),
        schedule,
        method="ddim",
        prediction=prediction,
        variance=variance,
        clip=False,
    )
    return decoded.reshape(mixed.shape)


def _shares(num: int, x: jax.Array) -> jax.Array:
    if num < 2:
        raise ValueError(f"num is {num}; an interpolation has at least 2 points")
    return jnp.linspace(0, 1, num, dtype=x.dtype).reshape(-1, *(1,) * x.ndim)


def _great_circle(start: jax.Array, end: jax.Array, share: jax.Array) -> jax.Array:
    """sin((1 - s) w) / sin(w) start + sin(s w) / sin(w) end, w the angle of each pair: [B, ...] -> [num, B, ...]."""
    axes = tuple(range(1, start.ndim))
    dot = lambda a, b: jnp.sum(a * b, axis=axes, keepdims=True)
    squares = dot(start, start) * dot(end, end)
    cosine = (dot(start, end) / jnp.sqrt(jnp.where(squares > 0, squares, 1)))[None]
    # Where the two are nearly parallel, sin(angle) < 1e-3, the circle is the straight line.
    turns = jnp.abs(cosine) < 1 - 5e-7
    safe = jnp.arccos(jnp.where(turns, cosine, 0))
    weights = [jnp.where(turns, jnp.sin(part * safe) / jnp.sin(safe), part + 0 * safe) for part in (1 - share, share)]
    return weights[0] * start[None] + weights[1] * end[None]
