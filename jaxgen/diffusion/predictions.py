"""Kinds of prediction of a network, and the conversion of one into another.

Given x_t, each of these fixes the others: the noise eps, the data x_0, the posterior mean mu-tilde of x_{t-1}, and the
velocity v = sqrt(alpha-bar) eps - sqrt(1 - alpha-bar) x_0. Sources: Ho et al. (2020), equations 7, 10 and 15; for v
Salimans & Ho, "Progressive Distillation for Fast Sampling of Diffusion Models" (2022).

Throughout: value, x_t [B, ...]; t integers [B] or a scalar, 0-based; the result is [B, ...].
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxgen.arguments import takes
from jaxgen.diffusion.arguments import IMAGES, OUTPUT
from jaxgen.diffusion.schedule import Schedule, gather

Prediction = Literal["noise", "x0", "mean", "v"]
PREDICTIONS = ("noise", "x0", "mean", "v")


@takes(schedule=Schedule, noise=IMAGES, x_t=IMAGES)
def x0_from_noise(schedule: Schedule, noise: ArrayLike, x_t: ArrayLike, t: ArrayLike) -> jax.Array:
    """x_0 = (x_t - sqrt(1 - alpha-bar) eps) / sqrt(alpha-bar): [B, ...]."""
    noise, x_t = jnp.asarray(noise), jnp.asarray(x_t)
    _, sigma = _scale_sigma(schedule, x_t, t)
    return (x_t - sigma * noise) * _inverse_scale(schedule, x_t, t)


@takes(schedule=Schedule, x0=IMAGES, x_t=IMAGES)
def noise_from_x0(schedule: Schedule, x0: ArrayLike, x_t: ArrayLike, t: ArrayLike) -> jax.Array:
    """eps = (x_t - sqrt(alpha-bar) x_0) / sqrt(1 - alpha-bar): [B, ...]."""
    x0, x_t = jnp.asarray(x0), jnp.asarray(x_t)
    scale, _ = _scale_sigma(schedule, x_t, t)
    return (x_t - scale * x0) * _inverse_sigma(schedule, x_t, t)


@takes(schedule=Schedule, x0=IMAGES, x_t=IMAGES)
def mean_from_x0(schedule: Schedule, x0: ArrayLike, x_t: ArrayLike, t: ArrayLike) -> jax.Array:
    """mu-tilde of `q_posterior` (equation 7): [B, ...]."""
    x0, x_t = jnp.asarray(x0), jnp.asarray(x_t)
    x0_weight = gather(schedule.posterior_x0_coefficient, t, x_t)
    return x0_weight * x0 + gather(schedule.posterior_xt_coefficient, t, x_t) * x_t


@takes(schedule=Schedule, mean=IMAGES, x_t=IMAGES)
def x0_from_mean(schedule: Schedule, mean: ArrayLike, x_t: ArrayLike, t: ArrayLike) -> jax.Array:
    """The x_0 whose posterior mean this is: [B, ...]. Divides by 1e-4 and less where alpha-bar is small."""
    mean, x_t = jnp.asarray(mean), jnp.asarray(x_t)
    from_xt = gather(schedule.posterior_xt_coefficient, t, x_t) * x_t
    return (mean - from_xt) / gather(schedule.posterior_x0_coefficient, t, x_t)


@takes(schedule=Schedule, noise=IMAGES, x_t=IMAGES)
def mean_from_noise(schedule: Schedule, noise: ArrayLike, x_t: ArrayLike, t: ArrayLike) -> jax.Array:
    """mu = (x_t - beta / sqrt(1 - alpha-bar) eps) / sqrt(alpha), Ho et al. (2020), equation 11: [B, ...]."""
    noise, x_t = jnp.asarray(noise), jnp.asarray(x_t)
    beta, inverse_sigma = gather(schedule.betas, t, x_t), _inverse_sigma(schedule, x_t, t)
    return (x_t - beta * inverse_sigma * noise) * lax.rsqrt(gather(schedule.alphas, t, x_t))


@takes(schedule=Schedule, noise=IMAGES, x0=IMAGES)
def v_from_noise_and_x0(schedule: Schedule, noise: ArrayLike, x0: ArrayLike, t: ArrayLike) -> jax.Array:
    """v = sqrt(alpha-bar) eps - sqrt(1 - alpha-bar) x_0: [B, ...]."""
    noise, x0 = jnp.asarray(noise), jnp.asarray(x0)
    scale, sigma = _scale_sigma(schedule, x0, t)
    return scale * noise - sigma * x0


@takes(schedule=Schedule, v=IMAGES, x_t=IMAGES)
def x0_from_v(schedule: Schedule, v: ArrayLike, x_t: ArrayLike, t: ArrayLike) -> jax.Array:
    """x_0 = sqrt(alpha-bar) x_t - sqrt(1 - alpha-bar) v: [B, ...]."""
    v, x_t = jnp.asarray(v), jnp.asarray(x_t)
    scale, sigma = _scale_sigma(schedule, x_t, t)
    return scale * x_t - sigma * v


@takes(schedule=Schedule, v=IMAGES, x_t=IMAGES)
def noise_from_v(schedule: Schedule, v: ArrayLike, x_t: ArrayLike, t: ArrayLike) -> jax.Array:
    """eps = sqrt(1 - alpha-bar) x_t + sqrt(alpha-bar) v: [B, ...]."""
    v, x_t = jnp.asarray(v), jnp.asarray(x_t)
    scale, sigma = _scale_sigma(schedule, x_t, t)
    return sigma * x_t + scale * v


@takes(schedule=Schedule, value=OUTPUT, x_t=IMAGES)
def convert(
    schedule: Schedule,
    value: ArrayLike,
    x_t: ArrayLike,
    t: ArrayLike,
    source: Prediction,
    target: Prediction,
) -> jax.Array:
    """The prediction `value` of kind `source` as one of kind `target`.

    Args:
        schedule: the schedule.
        value: [B, ...].
        x_t: what the network saw, [B, ...].
        t: integers [B], or a scalar.
        source: "noise", "x0", "mean" or "v".
        target: likewise.

    Returns:
        [B, ...].

    Raises:
        ValueError: an unknown kind, or a value of another shape than x_t.
    """
    value, x_t = jnp.asarray(value), jnp.asarray(x_t)
    check_prediction(source)
    check_prediction(target)
    if value.shape != x_t.shape:
        raise ValueError(
            f"a prediction of shape {value.shape} for x_t of shape {x_t.shape}; expected the same shape "
            "(split_output takes a learned variance off)"
        )
    if source == target:
        return value
    # Directly where both sides are bounded: by way of x_0 digits would be lost.
    if (source, target) == ("v", "noise"):
        return noise_from_v(schedule, value, x_t, t)
    if (source, target) == ("noise", "mean"):
        return mean_from_noise(schedule, value, x_t, t)
    if (source, target) == ("noise", "v"):
        _, sigma = _scale_sigma(schedule, x_t, t)
        return (value - sigma * x_t) * _inverse_scale(schedule, x_t, t)
    to_x0 = {"noise": x0_from_noise, "mean": x0_from_mean, "v": x0_from_v}
    x0 = value if source == "x0" else to_x0[source](schedule, value, x_t, t)
    if target == "x0":
        return x0
    if target == "v":
        scale, _ = _scale_sigma(schedule, x_t, t)
        return (scale * x_t - x0) * _inverse_sigma(schedule, x_t, t)
    return {"noise": noise_from_x0, "mean": mean_from_x0}[target](schedule, x0, x_t, t)


def check_prediction(prediction: str) -> None:
    """Raises ValueError unless it is a kind of prediction."""
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction is {prediction!r}; expected one of {', '.join(PREDICTIONS)}")


def _scale_sigma(schedule: Schedule, x: jax.Array, t: ArrayLike) -> tuple[jax.Array, jax.Array]:
    return jnp.sqrt(gather(schedule.alphas_bar, t, x)), jnp.sqrt(gather(schedule.one_minus_alphas_bar, t, x))


# XLA turns a division by a root into a product with its inverse in one program and not in another; the last bits of a
# training would depend on how many devices it was compiled for. So the inverse is asked for.


def _inverse_scale(schedule: Schedule, x: jax.Array, t: ArrayLike) -> jax.Array:
    return lax.rsqrt(gather(schedule.alphas_bar, t, x))


def _inverse_sigma(schedule: Schedule, x: jax.Array, t: ArrayLike) -> jax.Array:
    return lax.rsqrt(gather(schedule.one_minus_alphas_bar, t, x))
