"""Group normalisation with float32 statistics."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Float, Real, takes


def at_least_float32(dtype: Any) -> Any:
    """float64 for float64, otherwise float32: in what statistics of an array of this dtype are taken."""
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


@takes(x=Float(), scale=Float("C"), bias=Float("C"), num_groups=Count(0), epsilon=Real(low=0))
def group_norm(
    x: ArrayLike,
    scale: ArrayLike,
    bias: ArrayLike,
    *,
    num_groups: int = 32,
    epsilon: float = 1e-6,
) -> jax.Array:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over a group's channels and all positions of an example.

    Statistics are at least float32, variance as E[x^2] - E[x]^2: both sums in one pass over x, and the rest one product
    and one sum for each entry. Source: Wu & He, "Group Normalization" (2018), equations 1 to 6.

    Args:
        x: [B, ..., C], at least one axis between; group g has the channels g C / G to (g + 1) C / G.
        scale: [C].
        bias: [C].
        num_groups: G.
        epsilon: 1e-6 in TensorFlow's and Flax's layers, 1e-5 in PyTorch's.

    Returns:
        [B, ..., C] in the dtype of x.

    Raises:
        ValueError: C does not divide by G, or x has no axis between.
    """
    x, scale, bias = jnp.asarray(x), jnp.asarray(scale), jnp.asarray(bias)
    channels = scale.shape[0]
    if x.shape[-1:] != (channels,):
        raise ValueError(f"x has shape {x.shape}; expected [B, ..., {channels}], as scale and bias have that length")
    if num_groups < 1 or channels % num_groups:
        raise ValueError(f"{channels} channels do not divide into {num_groups} groups")
    if x.ndim < 3:
        raise ValueError(f"x has shape {x.shape}; expected [B, ..., C] with at least one axis between")
    wide = x.astype(at_least_float32(x.dtype))
    between = tuple(range(1, x.ndim - 1))
    count = x[0].size // num_groups

    def of_group(values):
        values = jnp.sum(values, between).reshape(x.shape[0], num_groups, -1)
        return jnp.sum(values, -1) / count

    def spread(values):
        return jnp.repeat(values, channels // num_groups, axis=1)

    mean, square = of_group(wide), of_group(jnp.square(wide))
    inverse = jax.lax.rsqrt(jnp.maximum(square - jnp.square(mean), 0) + epsilon)
    factor = spread(inverse) * scale.astype(wide.dtype)[None]
    offset = bias.astype(wide.dtype)[None] - spread(mean) * factor
    y = wide * jnp.expand_dims(factor, between) + jnp.expand_dims(offset, between)
    return y.astype(x.dtype)


class GroupNorm(nn.Module):
    """`group_norm` on [B, ..., C] -> [B, ..., C]. Parameters: `scale` [C] and `bias` [C], at first 1 and 0.

    Attributes:
        num_groups: G.
        epsilon: added to the variance.
        param_dtype: of the parameters.
    """

    num_groups: int = 32
    epsilon: float = 1e-6
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, ..., C] -> [B, ..., C], in the dtype of x."""
        scale = self.param("scale", nn.initializers.ones_init(), x.shape[-1:], self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros_init(), x.shape[-1:], self.param_dtype)
        return group_norm(x, scale, bias, num_groups=self.num_groups, epsilon=self.epsilon)
