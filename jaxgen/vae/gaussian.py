"""Diagonal Gaussians: drawing z, densities, and the Kullback-Leibler term in closed form and by sampling.

Everywhere a Gaussian is given by its mean and the logarithm of its variance, [..., Z], and what is returned is summed
over the Z dimensions. Source: Kingma & Welling, "Auto-Encoding Variational Bayes" (2013), section 2.4, appendix B.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxgen.arguments import Float, Key, takes
from jaxgen.nn.random import given_or_drawn

_LOG_2_PI = math.log(2 * math.pi)


def check_bounds(name: str, bounds: tuple[float, float] | None) -> None:
    """Raises ValueError unless bounds are None or (low, high) with low < high."""
    if bounds is not None and not (len(bounds) == 2 and bounds[0] < bounds[1]):
        raise ValueError(f"{name} is {bounds}; expected (low, high) with low < high, or None")


def clipped(x: jax.Array, bounds: tuple[float, float] | None) -> jax.Array:
    """x, any shape, between bounds; x itself without bounds."""
    return x if bounds is None else jnp.clip(x, *bounds)


@takes(key=Key(""), mean=Float("..."), log_variance=Float("..."), noise=Float())
def reparameterize(
    key: jax.Array | None, mean: ArrayLike, log_variance: ArrayLike, *, noise: ArrayLike | None = None
) -> jax.Array:
    """z = mu + sigma * eps, eps ~ N(0, I): a draw whose gradient reaches mu and sigma.

    Args:
        key: scalar key, used up; may be None where `noise` is given.
        mean: mu, [..., Z].
        log_variance: log sigma^2, [..., Z].
        noise: eps, [..., Z], in place of the draw.

    Returns:
        [..., Z].

    Raises:
        ValueError: noise of another shape, or neither a key nor noise.
    """
    mean, log_variance = jnp.asarray(mean), jnp.asarray(log_variance)
    eps = given_or_drawn("noise", noise, key, jax.random.normal, mean.shape, mean.dtype)
    return from_noise(eps, mean, log_variance)


@takes(noise=Float("...1"), mean=Float("...1"), log_variance=Float("...1"))
def from_noise(noise: ArrayLike, mean: ArrayLike, log_variance: ArrayLike) -> jax.Array:
    """z = mu + sigma * eps for given eps [..., Z]; the three broadcast, with equal ranks."""
    noise, mean, log_variance = jnp.asarray(noise), jnp.asarray(mean), jnp.asarray(log_variance)
    return mean + jnp.exp(log_variance / 2) * noise


@takes(z=Float("...1 Z"), mean=Float("...1 Z"), log_variance=Float("...1 Z"))
def normal_log_density(z: ArrayLike, mean: ArrayLike, log_variance: ArrayLike) -> jax.Array:
    """log N(z; mu, sigma^2), summed over dimensions: [..., Z] each -> [...], nats."""
    z, mean, log_variance = jnp.asarray(z), jnp.asarray(mean), jnp.asarray(log_variance)
    squares = jnp.square(z - mean) * jnp.exp(-log_variance)
    return -jnp.sum(squares + log_variance + _LOG_2_PI, axis=-1) / 2


@takes(z=Float("... _"))
def standard_normal_log_density(z: ArrayLike) -> jax.Array:
    """log N(z; 0, I): [..., Z] -> [...], nats."""
    return -jnp.sum(jnp.square(z) + _LOG_2_PI, axis=-1) / 2


@takes(mean=Float("..."), log_variance=Float("..."))
def kl_per_dimension(mean: ArrayLike, log_variance: ArrayLike) -> jax.Array:
    """KL(N(mu_j, sigma_j^2) || N(0, 1)) = (mu_j^2 + sigma_j^2 - log sigma_j^2 - 1) / 2 of each dimension, nats.

    Args:
        mean: [..., Z].
        log_variance: [..., Z].

    Returns:
        [..., Z], at least 0.
    """
    # expm1 keeps the digits where sigma is near 1, the value that every unused dimension has.
    return (jnp.square(mean) + jnp.expm1(log_variance) - log_variance) / 2


@takes(mean=Float("... Z"), log_variance=Float("... Z"))
def kl_to_standard_normal(mean: ArrayLike, log_variance: ArrayLike) -> jax.Array:
    """KL(N(mu, sigma^2) || N(0, I)), summed over dimensions: [..., Z] -> [...], nats.

    Kingma & Welling (2013), appendix B.
    """
    return jnp.sum(kl_per_dimension(mean, log_variance), axis=-1)


@takes(z=Float("...1 Z"), mean=Float("...1 Z"), log_variance=Float("...1 Z"))
def monte_carlo_kl(z: ArrayLike, mean: ArrayLike, log_variance: ArrayLike) -> jax.Array:
    """log q(z) - log p(z) for q = N(mu, sigma^2), p = N(0, I): an unbiased estimate of the KL when z ~ q.

    Args:
        z: [..., Z], drawn from q.
        mean: [..., Z].
        log_variance: [..., Z].

    Returns:
        [...], nats; single values may be negative.
    """
    return normal_log_density(z, mean, log_variance) - standard_normal_log_density(z)
