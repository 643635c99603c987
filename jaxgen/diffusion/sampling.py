"""Drawing from the model: the loops over t, each one compiled program whose cost is the network's.

`denoise(x, t)` is the network's output for x [B, ...] at the *original* timesteps t [B] (int32): what `respace` left
out is the schedule's affair, not the network's. Wrap a call in `jax.jit`, with the parameters as its arguments: outside
of jit the loop is compiled anew for every new closure.

Source: Ho et al. (2020), algorithm 2; the papers of the other methods are named with their steps.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.compiler import check_once
from jaxgen.diffusion.bound import Denoise
from jaxgen.diffusion.draws import example_keys, example_normal
from jaxgen.diffusion.guidance import Guidance
from jaxgen.diffusion.predictions import Prediction
from jaxgen.diffusion.reverse import EditX0, Variance
from jaxgen.diffusion.schedule import Schedule
from jaxgen.diffusion.steps import Step, ancestral_step, ddim_inversion_step, ddim_step, dpm_solver_step
from jaxgen.nn.draws import checked_draws

Method = Literal["ancestral", "ddim", "dpm_solver"]
METHODS = ("ancestral", "ddim", "dpm_solver")


class Trajectory(NamedTuple):
    """What a sampler passed on its way.

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


def sample(
    key: jax.Array | None,
    denoise: Denoise,
    shape: tuple[int, ...],
    schedule: Schedule,
    *,
    method: Method = "ancestral",
    eta: float = 0.0,
    prediction: Prediction = "noise",
    variance: Variance = "fixed_large",
    clip: bool = True,
    edit_x0: EditX0 | None = None,
    guidance: Guidance | None = None,
    dtype: Any = jnp.float32,
    x_last: jax.Array | None = None,
    noise: jax.Array | None = None,
) -> jax.Array:
    """Samples from the model: x_T ~ N(0, I), then every step of the schedule down to the data.

    Sample i depends on (key, i) alone. Its x_T does not depend on the method or the number of steps.

    Args:
        key: scalar key, or keys [B]; may be None where `x_last` and `noise` are given, or where the method draws
            nothing after `x_last`.
        denoise: (x [B, ...], original timesteps [B]) -> the network's output.
        shape: (B, ...).
        schedule: the schedule, respaced or not.
        method: "ancestral", "ddim", or "dpm_solver", which needs the fewest steps, respaced by "logsnr20" or so.
        eta: of DDIM, in [0, 1].
        prediction: as in `p_mean_variance`.
        variance: as in `p_mean_variance`.
        clip: as in `p_mean_variance`.
        edit_x0: as in `p_mean_variance`, at every step: (x0, t) -> x0, with the schedule's own 0-based t.
        guidance: (x [B, ...], original timesteps [B]) -> the gradient of a log probability, `classifier_guidance`.
        dtype: of the samples.
        x_last: x_T, of `shape`, in place of the draw.
        noise: standard normal, [T, *shape], in place of the draws of the steps, in the order in which they are taken:
            entry 0 belongs to t = T - 1. Not used by "dpm_solver" and by "ddim" with eta 0; the last entry is
            multiplied by 0.

    Returns:
        [B, ...]: the model's, in [-1, 1] where clip is true.

    Raises:
        ValueError: an unknown method, prediction or variance; `x_last` or `noise` of another shape, or missing without
            a key.
    """
    check_once()
    keys, x = _start(key, shape, dtype, x_last)
    return denoise_from(
        keys, denoise, x, schedule, method=method, eta=eta, prediction=prediction, variance=variance, clip=clip,
        edit_x0=edit_x0, guidance=guidance, noise=noise,
    )  # fmt: skip


def sample_trajectory(
    key: jax.Array | None,
    denoise: Denoise,
    shape: tuple[int, ...],
    schedule: Schedule,
    num_frames: int,
    *,
    method: Method = "ancestral",
    eta: float = 0.0,
    prediction: Prediction = "noise",
    variance: Variance = "fixed_large",
    clip: bool = True,
    edit_x0: EditX0 | None = None,
    guidance: Guidance | None = None,
    dtype: Any = jnp.float32,
    x_last: jax.Array | None = None,
    noise: jax.Array | None = None,
) -> Trajectory:
    """`sample`, with the states and predictions of `num_frames` equally spaced steps, the first and the last included.

    The samples are those of `sample` with the same arguments. Memory is 2 num_frames times that of a batch.

    Args:
        key: as in `sample`.
        denoise: as in `sample`.
        shape: (B, ...).
        schedule: the schedule.
        num_frames: from 1 (the last step) to T.
        method: as in `sample`.
        eta: as in `sample`.
        prediction: as in `sample`.
        variance: as in `sample`.
        clip: as in `sample`.
        edit_x0: as in `sample`.
        guidance: as in `sample`.
        dtype: as in `sample`.
        x_last: as in `sample`.
        noise: as in `sample`.

    Raises:
        ValueError: fewer than 1 or more than T frames, and as in `sample`.
    """
    check_once()
    if not 1 <= num_frames <= schedule.num_steps:
        raise ValueError(f"num_frames is {num_frames}; the schedule has 1 to {schedule.num_steps}")
    keys, x = _start(key, shape, dtype, x_last)
    step = _stepper(schedule, schedule.num_steps - 1, method, eta, prediction, variance, clip, edit_x0)
    shown = np.round(np.linspace(schedule.num_steps - 1, 0, num_frames)).astype(np.int32)
    shown = shown if num_frames > 1 else np.zeros(1, np.int32)
    # Where a step has no frame it writes beyond the last, which is dropped.
    slots = np.full(schedule.num_steps, num_frames, np.int32)
    slots[shown] = np.arange(num_frames)
    return _loop(keys, denoise, x, schedule, schedule.num_steps - 1, step, guidance, noise, shown, slots)


def denoise_from(
    key: jax.Array | None,
    denoise: Denoise,
    x_t: jax.Array,
    schedule: Schedule,
    *,
    t: int | None = None,
    method: Method = "ancestral",
    eta: float = 0.0,
    prediction: Prediction = "noise",
    variance: Variance = "fixed_large",
    clip: bool = True,
    edit_x0: EditX0 | None = None,
    guidance: Guidance | None = None,
    noise: jax.Array | None = None,
) -> jax.Array:
    """From x_t at index t down to the data; `sample` is this from noise at the last index.

    Args:
        key: scalar key, or keys [B]; may be None where `noise` is given or the method draws nothing.
        denoise: as in `sample`.
        x_t: [B, ...].
        schedule: the schedule.
        t: the 0-based index of x_t; default the last.
        method: as in `sample`.
        eta: as in `sample`.
        prediction: as in `sample`.
        variance: as in `sample`.
        clip: as in `sample`.
        edit_x0: as in `sample`.
        guidance: as in `sample`.
        noise: as in `sample`, of the steps from t down: [t + 1, B, ...].

    Returns:
        x_0, [B, ...].

    Raises:
        ValueError: t is no index of the schedule, and as in `sample`.
    """
    check_once()
    start = schedule.num_steps - 1 if t is None else t
    if not 0 <= start < schedule.num_steps:
        raise ValueError(f"t is {start}; the schedule has indices 0 to {schedule.num_steps - 1}")
    step = _stepper(schedule, start, method, eta, prediction, variance, clip, edit_x0)
    none = np.zeros(0, np.int32)
    return _loop(key, denoise, x_t, schedule, start, step, guidance, noise, none, none).x


def ddim_encode(
    denoise: Denoise,
    x0: jax.Array,
    schedule: Schedule,
    *,
    num_refinements: int = 0,
    prediction: Prediction = "noise",
    variance: Variance = "fixed_large",
) -> jax.Array:
    """The x_T from which DDIM (eta = 0, no clipping) leads back to x0, to the order of one step's size.

    Args:
        denoise: as in `sample`.
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
    check_once()
    if num_refinements < 0:
        raise ValueError(f"num_refinements is {num_refinements}; expected 0 or more")

    def body(x, t):
        def refine(_, seen):
            output = denoise(seen, jnp.broadcast_to(schedule.timesteps[t], (x.shape[0],)))
            return ddim_inversion_step(schedule, output, x, t, seen=seen, prediction=prediction, variance=variance)

        return jax.lax.fori_loop(0, 1 + num_refinements, refine, x), None

    return jax.lax.scan(body, x0, jnp.arange(schedule.num_steps))[0]


def _start(
    key: jax.Array | None, shape: tuple[int, ...], dtype: Any, x_last: jax.Array | None
) -> tuple[jax.Array | None, jax.Array]:
    """Keys for the steps, and x_T."""
    if len(shape) < 2:
        raise ValueError(f"shape is {shape}; expected (B, ...) with at least one axis of features")
    if x_last is not None:
        x_last = checked_draws("x_last", x_last, tuple(shape), dtype)
    if key is None:
        if x_last is None:
            raise ValueError(f"there is no key and no x_last; expected a key, or x_T of shape {shape}")
        return None, x_last
    pairs = jax.vmap(jax.random.split)(example_keys(key, shape[0]))
    drawn = lambda: example_normal(pairs[:, 0], jax.ShapeDtypeStruct(shape, dtype))  # type: ignore[arg-type]
    return pairs[:, 1], drawn() if x_last is None else x_last


Stepper = Callable[
    [jax.Array | None, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array | None, jax.Array | None], Step
]
"""(keys [B], the network's output, x_t, t, the x0 of the step before, the guidance's gradient, noise) -> Step."""


def _stepper(schedule, start, method, eta, prediction, variance, clip, edit_x0) -> Stepper:
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
    if eta and method != "ddim":
        raise ValueError(f"eta is {eta} with method {method!r}; it belongs to 'ddim'")
    options: dict[str, Any] = dict(prediction=prediction, variance=variance, clip=clip, edit_x0=edit_x0)

    def step(keys, output, x, t, before, gradient, noise):
        if method == "ancestral":
            return ancestral_step(keys, schedule, output, x, t, gradient=gradient, noise=noise, **options)
        if method == "ddim":
            return ddim_step(keys, schedule, output, x, t, eta=eta, gradient=gradient, noise=noise, **options)
        is_first = t == start
        return dpm_solver_step(schedule, output, x, t, before, is_first=is_first, gradient=gradient, **options)

    return step


def _loop(key, denoise, x, schedule, start, step, guidance, noise, shown, slots) -> Trajectory:
    batch = x.shape[0]
    keys = None if key is None else example_keys(key, batch)
    if noise is not None:
        noise = checked_draws("noise", noise, (start + 1, *x.shape), x.dtype)
    empty = jnp.zeros((len(shown), *x.shape), x.dtype)
    slot_of = jnp.asarray(slots)

    def body(carry, each):
        x, before, x_frames, x0_frames = carry
        t, given = each
        original = jnp.broadcast_to(schedule.timesteps[t], (batch,))
        output = denoise(x, original)
        gradient = None if guidance is None else guidance(x, original)
        step_keys = None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, t)
        after = step(step_keys, output, x, t, before, gradient, given)
        if len(shown):
            x_frames = x_frames.at[slot_of[t]].set(x, mode="drop")
            x0_frames = x0_frames.at[slot_of[t]].set(after.x0, mode="drop")
        return (after.x, after.x0, x_frames, x0_frames), None

    carry = (x, jnp.zeros_like(x), empty, empty)
    (x, _, x_frames, x0_frames), _ = jax.lax.scan(body, carry, (jnp.arange(start, -1, -1), noise))
    return Trajectory(x, jnp.asarray(shown), x_frames, x0_frames)
