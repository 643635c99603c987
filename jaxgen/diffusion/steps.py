"""One step from x_t to x_{t-1}, and back: ancestral, DDIM, DPM-Solver++. Loops over them are in `sampling`.

All take the network's output for (x_t, t), as `p_mean_variance` does, and return x_{t-1} with the x_0 that was
predicted on the way. At t = 0 x_{t-1} is x_0, and nothing adds noise there.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxgen.arguments import Key, Real, takes
from jaxgen.diffusion.arguments import IMAGES, OUTPUT
from jaxgen.diffusion.predictions import Prediction, convert, noise_from_x0
from jaxgen.diffusion.random import normal_or_given
from jaxgen.diffusion.reverse import EditX0, Variance, p_mean_variance, split_output
from jaxgen.diffusion.schedule import Schedule, exact_log_alphas_bar, expand_dims_like, gather


class Step(NamedTuple):
    """What a step leaves.

    Attributes:
        x: x_{t-1}, [B, ...].
        x0: the x_0 predicted from x_t, [B, ...].
    """

    x: jax.Array
    x0: jax.Array


@takes(key=Key("|B"), schedule=Schedule, model_output=OUTPUT, x_t=IMAGES, gradient=IMAGES, noise=IMAGES)
def ancestral_step(
    key: jax.Array | None,
    schedule: Schedule,
    model_output: ArrayLike,
    x_t: ArrayLike,
    t: ArrayLike,
    *,
    prediction: Prediction = "noise",
    variance: Variance = "fixed_large",
    clip: bool = True,
    edit_x0: EditX0 | None = None,
    gradient: ArrayLike | None = None,
    noise: ArrayLike | None = None,
) -> Step:
    """x_{t-1} ~ p_theta(x_{t-1} | x_t), at t = 0 its mean (Ho et al. 2020, algorithm 2).

    Args:
        key: scalar key, or keys [B]; may be None where `noise` is given.
        schedule: the schedule.
        model_output: [B, ..., C], or [B, ..., 2 C] where the variance is learned.
        x_t: [B, ..., C].
        t: integers [B], or a scalar.
        prediction: as in `p_mean_variance`.
        variance: as in `p_mean_variance`.
        clip: as in `p_mean_variance`.
        edit_x0: as in `p_mean_variance`.
        gradient: of s log p(y | x_t), [B, ..., C]: the mean moves by variance x gradient (Dhariwal & Nichol 2021,
            algorithm 1), which is 0 at t = 0 where the variance is "fixed_small". None: no guidance.
        noise: standard normal, [B, ..., C], in place of the draw; multiplied by 0 at t = 0.

    Raises:
        ValueError: noise of another shape, neither a key nor noise, and as in `p_mean_variance`.
    """
    model_output, x_t = jnp.asarray(model_output), jnp.asarray(x_t)
    p = p_mean_variance(
        schedule, model_output, x_t, t, prediction=prediction, variance=variance, clip=clip, edit_x0=edit_x0
    )
    moves = expand_dims_like(jnp.asarray(t) > 0, x_t)
    sigma = jnp.where(moves, jnp.exp(p.log_variance / 2), jnp.zeros((), x_t.dtype))
    mean = p.mean if gradient is None else p.mean + p.variance * gradient
    return Step(mean + sigma * normal_or_given(key, x_t, noise), p.x0)


@takes(key=Key("|B"), schedule=Schedule, model_output=OUTPUT, x_t=IMAGES, eta=Real(), gradient=IMAGES, noise=IMAGES)
def ddim_step(
    key: jax.Array | None,
    schedule: Schedule,
    model_output: ArrayLike,
    x_t: ArrayLike,
    t: ArrayLike,
    *,
    eta: float = 0.0,
    prediction: Prediction = "noise",
    variance: Variance = "fixed_large",
    clip: bool = True,
    edit_x0: EditX0 | None = None,
    gradient: ArrayLike | None = None,
    noise: ArrayLike | None = None,
) -> Step:
    """x_{t-1} = sqrt(alpha-bar_{t-1}) x_0 + sqrt(1 - alpha-bar_{t-1} - sigma^2) eps + sigma z.

    Here sigma^2 = eta^2 beta-tilde_t. With eta = 0 nothing is random, and with eta = 1 it is the ancestral step of
    variance "fixed_small". Source: Song, Meng & Ermon, "Denoising Diffusion Implicit Models" (2020), equations 12 and
    16.

    Args:
        key: scalar key, or keys [B]; may be None where eta is 0 or `noise` is given.
        schedule: the schedule.
        model_output: [B, ..., C], or [B, ..., 2 C] where the variance is learned; DDIM does not use the latter.
        x_t: [B, ..., C].
        t: integers [B], or a scalar.
        eta: in [0, 1].
        prediction: as in `p_mean_variance`.
        variance: as in `p_mean_variance`: whether there is a second half of the output to leave out.
        clip: as in `p_mean_variance`; eps is then the one that belongs to the clipped x_0.
        edit_x0: as in `p_mean_variance`.
        gradient: of s log p(y | x_t), [B, ..., C]: eps moves by -sqrt(1 - alpha-bar) gradient, after clipping (Dhariwal
            & Nichol 2021, algorithm 2). None: no guidance.
        noise: z, standard normal, [B, ..., C], in place of the draw; not used where eta is 0.

    Raises:
        ValueError: eta outside [0, 1], or above 0 without a key or noise; noise of another shape.
    """
    model_output, x_t = jnp.asarray(model_output), jnp.asarray(x_t)
    if not 0 <= eta <= 1:
        raise ValueError(f"eta is {eta}; expected a number in [0, 1]")
    x0 = p_mean_variance(
        schedule, model_output, x_t, t, prediction=prediction, variance=variance, clip=clip, edit_x0=edit_x0
    ).x0
    x0 = _guided(schedule, x0, t, gradient)
    mean = _towards(schedule, x0, noise_from_x0(schedule, x0, x_t, t), t, eta)
    if eta == 0:
        return Step(mean, x0)
    sigma = eta * jnp.sqrt(gather(schedule.posterior_variance, t, x_t))
    return Step(mean + sigma * normal_or_given(key, x_t, noise), x0)


@takes(schedule=Schedule, model_output=OUTPUT, x_prev=IMAGES, seen=IMAGES)
def ddim_inversion_step(
    schedule: Schedule,
    model_output: ArrayLike,
    x_prev: ArrayLike,
    t: ArrayLike,
    *,
    seen: ArrayLike | None = None,
    prediction: Prediction = "noise",
    variance: Variance = "fixed_large",
) -> jax.Array:
    """x_t from x_{t-1}: the x_t from which the DDIM step (eta = 0, no clipping) with this output leads to x_prev.

    The output should be the network's for (x_t, t), and x_t is not known yet: taken for (x_{t-1}, t) instead, the error
    of a whole inversion is of the order of one step; taken for the x_t that this function returned, it shrinks further.
    Source: Song et al. (2020), section 4.3. The authors of "Diffusion Models Beat GANs" pair levels t and t + 1
    instead, which takes the data for x_0 at noise level 0 and ends one level beyond the chain.

    Args:
        schedule: the schedule.
        model_output: the network's output for (seen, t), [B, ..., C], or [B, ..., 2 C] where the variance is learned.
        x_prev: x_{t-1}, the data itself at t = 0, [B, ..., C].
        t: integers [B], or a scalar.
        seen: what the network saw, [B, ..., C]; default x_prev.
        prediction: as in `p_mean_variance`.
        variance: as in `p_mean_variance`.

    Returns:
        x_t, [B, ..., C].
    """
    x_prev = jnp.asarray(x_prev)
    predicted, _ = split_output(model_output, variance)
    noise = convert(schedule, predicted, x_prev if seen is None else seen, t, prediction, "noise")
    # Not a division by the root: see `predictions`.
    inverse_scale_prev = jax.lax.rsqrt(gather(schedule.alphas_bar_prev, t, x_prev))
    x0 = (x_prev - jnp.sqrt(gather(schedule.one_minus_alphas_bar_prev, t, x_prev)) * noise) * inverse_scale_prev
    scale, sigma = gather(schedule.alphas_bar, t, x_prev), gather(schedule.one_minus_alphas_bar, t, x_prev)
    return jnp.sqrt(scale) * x0 + jnp.sqrt(sigma) * noise


@takes(schedule=Schedule, model_output=OUTPUT, x_t=IMAGES, x0_before=IMAGES, gradient=IMAGES)
def dpm_solver_step(
    schedule: Schedule,
    model_output: ArrayLike,
    x_t: ArrayLike,
    t: ArrayLike,
    x0_before: ArrayLike,
    *,
    is_first: jax.Array | bool = False,
    prediction: Prediction = "noise",
    variance: Variance = "fixed_large",
    clip: bool = True,
    edit_x0: EditX0 | None = None,
    gradient: ArrayLike | None = None,
) -> Step:
    """DPM-Solver++(2M): the DDIM step with x_0 extrapolated from this step's and the one before.

    Second order in the step size, measured in half the log of alpha-bar / (1 - alpha-bar). The first step, which has
    none before it, and the last, whose size is infinite, are of first order. Deterministic. Source: Lu et al.,
    "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models" (2022), algorithm 2.

    Args:
        schedule: the schedule, best respaced to "logsnr10" to "logsnr50": with steps equal in time, which grow towards
            the data, it is worse than DDIM at 10 or 20.
        model_output: [B, ..., C], or [B, ..., 2 C] where the variance is learned.
        x_t: [B, ..., C].
        t: integers [B], or a scalar.
        x0_before: the x0 of the step that led to x_t, [B, ..., C]; ignored where there was none.
        is_first: whether there was none, scalar. The last index of the schedule always counts as first.
        prediction: as in `p_mean_variance`.
        variance: as in `p_mean_variance`.
        clip: as in `p_mean_variance`.
        edit_x0: as in `p_mean_variance`.
        gradient: as in `ddim_step`.
    """
    model_output, x_t = jnp.asarray(model_output), jnp.asarray(x_t)
    x0_before = jnp.asarray(x0_before)
    x0 = p_mean_variance(
        schedule, model_output, x_t, t, prediction=prediction, variance=variance, clip=clip, edit_x0=edit_x0
    ).x0
    x0 = _guided(schedule, x0, t, gradient)
    # 1 / (2 r) with r = (lambda_t - lambda_{t+1}) / (lambda_{t-1} - lambda_t), in float64.
    log_alphas_bar = exact_log_alphas_bar(schedule)
    sizes = -np.diff((log_alphas_bar - np.log(-np.expm1(log_alphas_bar))) / 2)
    weights = np.zeros(schedule.num_steps)
    weights[1:-1] = sizes[:-1] / (2 * sizes[1:])
    weight = gather(jnp.asarray(weights, schedule.betas.dtype), t, x_t)
    weight = jnp.where(jnp.asarray(is_first), jnp.zeros((), x_t.dtype), weight)
    extrapolated = x0 + weight * (x0 - x0_before)
    return Step(_towards(schedule, extrapolated, noise_from_x0(schedule, extrapolated, x_t, t), t, 0.0), x0)


def _guided(schedule: Schedule, x0: jax.Array, t: ArrayLike, gradient: ArrayLike | None) -> jax.Array:
    """The x_0 that belongs to eps - sqrt(1 - alpha-bar) gradient."""
    if gradient is None:
        return x0
    noise = gather(schedule.one_minus_alphas_bar, t, x0)
    return x0 + noise * jax.lax.rsqrt(gather(schedule.alphas_bar, t, x0)) * gradient


def _towards(schedule: Schedule, x0: jax.Array, noise: jax.Array, t: ArrayLike, eta: float) -> jax.Array:
    """The mean of the DDIM step from this x_0 and this noise."""
    before = gather(schedule.one_minus_alphas_bar_prev, t, x0)
    # 1 - alpha-bar_{t-1} - sigma^2, written so that nothing cancels.
    rest = gather(schedule.alphas, t, x0) * before + (1 - eta**2) * gather(schedule.betas, t, x0)
    left = before * rest / gather(schedule.one_minus_alphas_bar, t, x0)
    return jnp.sqrt(gather(schedule.alphas_bar_prev, t, x0)) * x0 + jnp.sqrt(left) * noise
