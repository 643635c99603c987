"""Drawing from the model: the loops over t, each one compiled program whose cost is the network's.

`denoise(x, t)` is the network's output for x [B, ...] at the *original* timesteps t [B] (int32), also where `respace`
left steps out. Wrap a call in `jax.jit`, with the parameters as its arguments: outside
of jit the loop is compiled anew for every new closure.

Source: Ho et al. (2020), algorithm 2; the papers of the other methods are named with their steps.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Float, Key, takes
from jaxgen.compiler import check_once
from jaxgen.diffusion.arguments import IMAGES
from jaxgen.diffusion.bound import Denoise
from jaxgen.diffusion.predictions import Prediction
from jaxgen.diffusion.random import keys_per_example, normal_per_example
from jaxgen.diffusion.reverse import Variance
from jaxgen.diffusion.sampler_options import ANCESTRAL, SamplerOptions
from jaxgen.diffusion.schedule import Schedule
from jaxgen.diffusion.steps import Step, ancestral_step, ddim_inversion_step, ddim_step, dpm_solver_step
from jaxgen.nn.random import checked_draws


class Trajectory(NamedTuple):
    """The states of a sampler on its way.

    Attributes:
        x: the sample, [B, ...].
        t: the 0-based index of each frame, falling to 0, [F].
        x_t: the state at each, [F, B, ...].
        x0: the x_0 that was predicted from it, edited and clipped, [F, B, ...].
    """

    x: jax.Array
    t: jax.Array
    x_t: jax.Array
    x0: jax.Array


@takes(key=Key(), schedule=Schedule, x_last=Float())
def sample(
    key: jax.Array | None,
    denoise: Denoise,
    shape: tuple[int, ...],
    schedule: Schedule,
    *,
    options: SamplerOptions = ANCESTRAL,
    dtype: Any = jnp.float32,
    x_last: ArrayLike | None = None,
    noise: ArrayLike | None = None,
    **changes: Any,
) -> jax.Array:
    """Samples from the model: x_T ~ N(0, I), then every step of the schedule down to the data.

    Sample i depends on (key, i) alone. Its x_T does not depend on the method or the number of steps.

    Args:
        key: scalar key, or keys [B]; may be None where `x_last` and `noise` are given, or where the method draws
            nothing after `x_last`.
        denoise: (x [B, ...], original timesteps [B]) -> the network's output.
        shape: (B, ...).
        schedule: the schedule, respaced or not.
        options: method, prediction, variance, guidance and the like.
        dtype: of the samples.
        x_last: x_T, of `shape`, in place of the draw.
        noise: standard normal, [T, *shape], in place of the draws of the steps, in the order in which they are taken:
            entry 0 belongs to t = T - 1. Not used by "dpm_solver" and by "ddim" with eta 0; the last entry is
            multiplied by 0.
        **changes: fields of `SamplerOptions` in place of those of `options`, such as method="ddim".

    Returns:
        [B, ...]: the model's, in [-1, 1] where the options clip.

    Raises:
        ValueError: an unknown method, prediction or variance; `x_last` or `noise` of another shape, or missing without
            a key.
    """
    check_once()
    keys, x = init_sampler(key, shape, dtype, x_last)
    return denoise_from(keys, denoise, x, schedule, options=options, noise=noise, **changes)


@takes(key=Key(), schedule=Schedule, num_frames=Count(0), x_last=Float())
def sample_trajectory(
    key: jax.Array | None,
    denoise: Denoise,
    shape: tuple[int, ...],
    schedule: Schedule,
    num_frames: int,
    *,
    options: SamplerOptions = ANCESTRAL,
    dtype: Any = jnp.float32,
    x_last: ArrayLike | None = None,
    noise: ArrayLike | None = None,
    **changes: Any,
) -> Trajectory:
    """`sample`, with the states and predictions of `num_frames` equally spaced steps, the first and the last included.

    The samples are those of `sample` with the same arguments. Memory is 2 num_frames times that of a batch.

    Args:
        key: scalar key, or keys [B]; None as for `sample`.
        denoise: (x [B, ...], original timesteps [B]) -> the network's output.
        shape: (B, ...).
        schedule: the schedule, respaced or not.
        num_frames: from 1 (the last step) to T.
        options: method, prediction, variance, guidance and the like.
        dtype: of the samples.
        x_last: x_T, of `shape`, in place of the draw.
        noise: standard normal, [T, *shape], in place of the draws of the steps.
        **changes: fields of `SamplerOptions` in place of those of `options`.

    Raises:
        ValueError: fewer than 1 or more than T frames, and the errors of `sample`.
    """
    check_once()
    if not 1 <= num_frames <= schedule.num_steps:
        raise ValueError(f"num_frames is {num_frames}; the schedule has 1 to {schedule.num_steps}")
    keys, x = init_sampler(key, shape, dtype, x_last)
    shown = np.round(np.linspace(schedule.num_steps - 1, 0, num_frames)).astype(np.int32)
    shown = shown if num_frames > 1 else np.zeros(1, np.int32)
    options = dataclasses.replace(options, **changes)
    return _loop(keys, denoise, x, schedule, options, schedule.num_steps - 1, noise, shown)


@takes(key=Key("|B"), x_t=IMAGES, schedule=Schedule, t=Count(-(2**31)))
def denoise_from(
    key: jax.Array | None,
    denoise: Denoise,
    x_t: ArrayLike,
    schedule: Schedule,
    *,
    t: int | None = None,
    options: SamplerOptions = ANCESTRAL,
    noise: ArrayLike | None = None,
    **changes: Any,
) -> jax.Array:
    """From x_t at index t down to the data; `sample` is this from noise at the last index.

    Args:
        key: scalar key, or keys [B]; may be None where `noise` is given or the method draws nothing.
        denoise: (x [B, ...], original timesteps [B]) -> the network's output.
        x_t: [B, ...].
        schedule: the schedule, respaced or not.
        t: the 0-based index of x_t; default the last.
        options: method, prediction, variance, guidance and the like.
        noise: standard normal, [t + 1, B, ...], in place of the draws of the steps from t down, in their order.
        **changes: fields of `SamplerOptions` in place of those of `options`.

    Returns:
        x_0, [B, ...].

    Raises:
        ValueError: t is no index of the schedule, and the errors of `sample`.
    """
    x_t = jnp.asarray(x_t)
    check_once()
    start = schedule.num_steps - 1 if t is None else t
    if not 0 <= start < schedule.num_steps:
        raise ValueError(f"t is {start}; the schedule has indices 0 to {schedule.num_steps - 1}")
    options = dataclasses.replace(options, **changes)
    return _loop(key, denoise, x_t, schedule, options, start, noise, np.zeros(0, np.int32)).x


@takes(x0=IMAGES, schedule=Schedule, num_refinements=Count(-(2**31)))
def ddim_encode(
    denoise: Denoise,
    x0: ArrayLike,
    schedule: Schedule,
    *,
    num_refinements: int = 0,
    prediction: Prediction = "noise",
    variance: Variance = "fixed_large",
) -> jax.Array:
    """The x_T from which DDIM (eta = 0, no clipping) leads back to x0, to the order of one step's size.

    Args:
        denoise: (x [B, ...], original timesteps [B]) -> the network's output.
        x0: [B, ...].
        schedule: the schedule, respaced or not; the more steps, the nearer x0 comes back.
        num_refinements: further evaluations a step, each at the x_t that the one before gave; a few make the inversion
            exact to rounding where the network changes slowly from step to step.
        prediction: as in `p_mean_variance`.
        variance: as in `p_mean_variance`.

    Returns:
        x_T, at the last index of the schedule, [B, ...].

    Raises:
        ValueError: a negative number of refinements.
    """
    x0 = jnp.asarray(x0)
    check_once()
    if num_refinements < 0:
        raise ValueError(f"num_refinements is {num_refinements}; expected 0 or more")

    def body(x, t):
        def refine(_, seen):
            output = denoise(seen, jnp.broadcast_to(schedule.timesteps[t], (x.shape[0],)))
            return ddim_inversion_step(schedule, output, x, t, seen=seen, prediction=prediction, variance=variance)

        return jax.lax.fori_loop(0, 1 + num_refinements, refine, x), None

    return jax.lax.scan(body, x0, jnp.arange(schedule.num_steps))[0]


def init_sampler(
    key: jax.Array | None, shape: tuple[int, ...], dtype: Any, x_last: ArrayLike | None
) -> tuple[jax.Array | None, jax.Array]:
    """Keys [B] for the steps (None without a key), and x_T of `shape`; arguments and errors as in `sample`."""
    if not isinstance(shape, (tuple, list)) or len(shape) < 2:
        raise ValueError(f"shape is {shape}; expected (B, ...) with at least one axis of features")
    if x_last is not None:
        x_last = checked_draws("x_last", x_last, tuple(shape), dtype)
    if key is None:
        if x_last is None:
            raise ValueError(f"there is no key and no x_last; expected a key, or x_T of shape {shape}")
        return None, x_last
    pairs = jax.vmap(jax.random.split)(keys_per_example(key, shape[0]))
    drawn = lambda: normal_per_example(pairs[:, 0], jax.ShapeDtypeStruct(shape, dtype))
    return pairs[:, 1], drawn() if x_last is None else x_last


class SamplerState(NamedTuple):
    """x_t before a step, and the x_0 that the step before predicted, both [B, ...]."""

    x: jax.Array
    x0: jax.Array


def take_step(
    options: SamplerOptions,
    schedule: Schedule,
    denoise: Denoise,
    state: SamplerState,
    t: jax.Array,
    keys: jax.Array | None,
    noise: jax.Array | None,
    is_first: jax.Array,
) -> Step:
    """One step of the chosen method from x_t [B, ...] at index t: the network, the guidance, the equation."""
    x = state.x
    original = jnp.broadcast_to(schedule.timesteps[t], (x.shape[0],))
    output = denoise(x, original)
    gradient = None if options.guidance is None else options.guidance(x, original)
    shared: dict[str, Any] = {
        "prediction": options.prediction,
        "variance": options.variance,
        "clip": options.clip,
        "edit_x0": options.edit_x0,
        "gradient": gradient,
    }
    if options.method == "dpm_solver":
        return dpm_solver_step(schedule, output, x, t, state.x0, is_first=is_first, **shared)
    step_keys = None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, t)
    if options.method == "ddim":
        return ddim_step(step_keys, schedule, output, x, t, eta=options.eta, noise=noise, **shared)
    return ancestral_step(step_keys, schedule, output, x, t, noise=noise, **shared)


def _loop(
    key: jax.Array | None,
    denoise: Denoise,
    x: jax.Array,
    schedule: Schedule,
    options: SamplerOptions,
    start: int,
    noise: ArrayLike | None,
    shown: np.ndarray,
) -> Trajectory:
    """All steps from index `start` down; the states at the indices `shown` are kept."""
    keys = None if key is None else keys_per_example(key, x.shape[0])
    if noise is not None:
        noise = checked_draws("noise", noise, (start + 1, *x.shape), x.dtype)
    empty = jnp.zeros((len(shown), *x.shape), x.dtype)
    # Where a step has no frame it writes beyond the last, which is dropped.
    slots = np.full(schedule.num_steps, len(shown), np.int32)
    slots[shown] = np.arange(len(shown))
    slot_of = jnp.asarray(slots)

    def body(carry: tuple[SamplerState, jax.Array, jax.Array], each: tuple[jax.Array, jax.Array | None]):
        state, x_frames, x0_frames = carry
        t, given = each
        after = take_step(options, schedule, denoise, state, t, keys, given, t == start)
        if len(shown):
            x_frames = x_frames.at[slot_of[t]].set(state.x, mode="drop")
            x0_frames = x0_frames.at[slot_of[t]].set(after.x0, mode="drop")
        return (SamplerState(after.x, after.x0), x_frames, x0_frames), None

    carry = (SamplerState(x, jnp.zeros_like(x)), empty, empty)
    (state, x_frames, x0_frames), _ = jax.lax.scan(body, carry, (jnp.arange(start, -1, -1), noise))
    return Trajectory(state.x, jnp.asarray(shown), x_frames, x0_frames)
