"""Corruptions of the input for denoising autoencoders (Vincent et al., ICML 2008)."""

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxgen.arguments import Float, Key, Real, takes
from jaxgen.nn.random import given_or_drawn


@takes(key=Key(""), x=Float(), sigma=Real(low=0), noise=Float())
def gaussian_noise(key: jax.Array | None, x: ArrayLike, sigma: float, *, noise: ArrayLike | None = None) -> jax.Array:
    """x~ = x + sigma e, e ~ N(0, I): [...] -> [...], not clipped to the data's range.

    Args:
        key: scalar key; may be None where `noise` is given.
        x: [...].
        sigma: standard deviation, in the units of x.
        noise: e, the shape of x, in place of the draw.

    Raises:
        ValueError: `noise` has another shape than x, or there is neither a key nor noise.
    """
    x = jnp.asarray(x)
    return x + sigma * given_or_drawn("noise", noise, key, jax.random.normal, x.shape, x.dtype)


@takes(key=Key(""), x=Float(), fraction=Real(), uniforms=Float())
def masking_noise(
    key: jax.Array | None, x: ArrayLike, fraction: float, *, uniforms: ArrayLike | None = None
) -> jax.Array:
    """x~_i = 0 with probability `fraction`, else x_i, independently: [...] -> [...].

    Args:
        key: scalar key; may be None where `uniforms` are given.
        x: [...].
        fraction: in [0, 1].
        uniforms: u in [0, 1), the shape of x, in place of the draw: x~_i = 0 where u_i < fraction.

    Raises:
        ValueError: `fraction` is not in [0, 1], `uniforms` have another shape than x, or there is neither a key nor
            uniforms.
    """
    x = jnp.asarray(x)
    if not isinstance(fraction, Tracer) and not 0 <= fraction <= 1:
        raise ValueError(f"fraction is {fraction}; expected a probability in [0, 1]")
    u = given_or_drawn("uniforms", uniforms, key, jax.random.uniform, x.shape, jnp.result_type(fraction, float))
    return jnp.where(u < fraction, jnp.zeros_like(x), x)
