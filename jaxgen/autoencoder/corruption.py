"""Corruptions of the input for denoising autoencoders (Vincent et al., ICML 2008)."""

import jax
import jax.numpy as jnp
from jax.core import Tracer


def gaussian_noise(key: jax.Array, x: jax.Array, sigma: float) -> jax.Array:
    """x~ = x + sigma e, e ~ N(0, I): [...] -> [...], not clipped to the data's range."""
    return x + sigma * jax.random.normal(key, x.shape, x.dtype)


def masking_noise(key: jax.Array, x: jax.Array, fraction: float) -> jax.Array:
    """x~_i = 0 with probability `fraction`, else x_i, independently: [...] -> [...].

    Raises:
        ValueError: `fraction` is not in [0, 1].
    """
    if not isinstance(fraction, Tracer) and not 0 <= fraction <= 1:
        raise ValueError(f"fraction is {fraction}; expected a probability in [0, 1]")
    return jnp.where(jax.random.bernoulli(key, fraction, x.shape), jnp.zeros_like(x), x)
