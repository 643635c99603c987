"""The forward process q, which turns data into noise, and its posterior.

Source: Ho, Jain & Abbeel, "Denoising Diffusion Probabilistic Models" (2020), equations 2, 4, 6 and 7. t is 0-based, see
`schedule`. Images are floating point in [-1, 1]; every function returns the dtype of the images it is given.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxgen.arguments import Key, takes
from jaxgen.diffusion.arguments import IMAGES
from jaxgen.diffusion.random import normal_or_given
from jaxgen.diffusion.schedule import Schedule, gather


class Noised(NamedTuple):
    """A draw from q(x_t | x_0).

    Attributes:
        x_t: [B, ...].
        noise: the eps ~ N(0, I) that it was made with, [B, ...].
    """

    x_t: jax.Array
    noise: jax.Array


class Posterior(NamedTuple):
    """q(x_{t-1} | x_t, x_0).

    Attributes:
        mean: mu-tilde_t, [B, ...].
        variance: beta-tilde_t, shaped to broadcast with the mean; 0 at t = 0, where x_{t-1} is x_0.
        log_variance: of the same shape; at t = 0 the logarithm of beta-tilde_1, see `Schedule`.
    """

    mean: jax.Array
    variance: jax.Array
    log_variance: jax.Array


def check_images(x: np.ndarray) -> np.ndarray:
    """x of any shape, or ValueError unless it is floating point, finite and in [-1, 1]. Reads values: not under jit."""
    x = np.asarray(x)
    if not np.issubdtype(x.dtype, np.floating):
        raise ValueError(f"images have dtype {x.dtype}; expected floating point in [-1, 1] (bytes / 127.5 - 1)")
    if x.size and not (np.min(x) >= -1 and np.max(x) <= 1):
        raise ValueError(f"images lie in [{np.min(x):g}, {np.max(x):g}]; expected [-1, 1] (bytes / 127.5 - 1)")
    return x


@takes(key=Key("|B"), schedule=Schedule, x_prev=IMAGES, noise=IMAGES)
def q_step(
    key: jax.Array | None,
    schedule: Schedule,
    x_prev: ArrayLike,
    t: ArrayLike,
    *,
    noise: ArrayLike | None = None,
) -> jax.Array:
    """One step of noise: x_t ~ N(sqrt(1 - beta_t) x_{t-1}, beta_t I) (equation 2).

    Args:
        key: scalar key, or keys [B]; may be None where `noise` is given.
        schedule: the schedule.
        x_prev: x_{t-1}, [B, ...].
        t: integers [B], or a scalar.
        noise: standard normal, [B, ...], in place of the draw.

    Returns:
        x_t, [B, ...].

    Raises:
        ValueError: noise of another shape, or neither a key nor noise.
    """
    x_prev = jnp.asarray(x_prev)
    noise = normal_or_given(key, x_prev, noise)
    return jnp.sqrt(gather(schedule.alphas, t, x_prev)) * x_prev + jnp.sqrt(gather(schedule.betas, t, x_prev)) * noise


@takes(schedule=Schedule, x0=IMAGES, noise=IMAGES)
def add_noise(schedule: Schedule, x0: ArrayLike, t: ArrayLike, noise: ArrayLike) -> jax.Array:
    """x_t = sqrt(alpha-bar_t) x_0 + sqrt(1 - alpha-bar_t) eps (equation 4, reparameterized).

    Args:
        schedule: the schedule.
        x0: [B, ...].
        t: integers [B], or a scalar.
        noise: eps, [B, ...].

    Returns:
        x_t, [B, ...].
    """
    x0, noise = jnp.asarray(x0), jnp.asarray(noise)
    sigma = jnp.sqrt(gather(schedule.one_minus_alphas_bar, t, x0))
    return jnp.sqrt(gather(schedule.alphas_bar, t, x0)) * x0 + sigma * noise


@takes(key=Key("|B"), schedule=Schedule, x0=IMAGES, noise=IMAGES)
def q_sample(
    key: jax.Array | None,
    schedule: Schedule,
    x0: ArrayLike,
    t: ArrayLike,
    *,
    noise: ArrayLike | None = None,
) -> Noised:
    """t + 1 steps of noise at once: x_t ~ q(x_t | x_0) (equation 4).

    Args:
        key: scalar key, or keys [B]; may be None where `noise` is given.
        schedule: the schedule.
        x0: [B, ...].
        t: integers [B], or a scalar.
        noise: eps, [B, ...], in place of the draw.

    Returns:
        x_t and the noise in it, [B, ...] each.

    Raises:
        ValueError: noise of another shape, or neither a key nor noise.
    """
    x0 = jnp.asarray(x0)
    noise = normal_or_given(key, x0, noise)
    return Noised(add_noise(schedule, x0, t, noise), noise)


@takes(schedule=Schedule, x0=IMAGES, x_t=IMAGES)
def q_posterior(schedule: Schedule, x0: ArrayLike, x_t: ArrayLike, t: ArrayLike) -> Posterior:
    """q(x_{t-1} | x_t, x_0), where the chain came from if it began at x_0 (equations 6 and 7).

    Args:
        schedule: the schedule.
        x0: [B, ...].
        x_t: [B, ...].
        t: integers [B], or a scalar.

    Returns:
        mean [B, ...]; variance and log-variance, [B, 1, ...].
    """
    x0, x_t = jnp.asarray(x0), jnp.asarray(x_t)
    x0_weight = gather(schedule.posterior_x0_coefficient, t, x_t)
    mean = x0_weight * x0 + gather(schedule.posterior_xt_coefficient, t, x_t) * x_t
    variance = gather(schedule.posterior_variance, t, x_t)
    return Posterior(mean, variance, gather(schedule.posterior_log_variance, t, x_t))
