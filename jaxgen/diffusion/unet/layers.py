"""The layers of the U-Nets: how they are initialised, and in which precision they compute."""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.nn import Conv, GroupNorm, dense_dot

Initialization = Literal["fan_avg", "fan_in"]
Initializer = nn.initializers.Initializer


@dataclasses.dataclass(frozen=True)
class Layers:
    """What the layers of a network have in common. The methods are called inside of a module's compact method.

    Attributes:
        initialization: "fan_avg": uniform, variance 2 / (fan in + fan out), biases 0 (Ho et al. 2020). "fan_in":
            uniform in +-1 / sqrt(fan in), biases too, PyTorch's default (Dhariwal & Nichol 2021).
        num_groups: of the group normalisation.
        epsilon: of the group normalisation.
        dtype: of the computation. Parameters are float32, statistics at least that.
    """

    initialization: Initialization
    num_groups: int
    epsilon: float
    dtype: Any

    def dense(self, x: jax.Array, width: int, name: str, *, zero: bool = False, parts: int = 1) -> jax.Array:
        """x W + b on the last axis: [..., C] -> [..., width]; each of `parts` outputs is initialised on its own."""
        kernel_init, bias_init = self._initializers(x.shape[-1], zero, parts)
        return nn.Dense(
            width,
            dtype=self.dtype,
            kernel_init=kernel_init,
            bias_init=bias_init,
            dot_general=dense_dot,
            name=name,
        )(x)

    def conv(
        self,
        x: jax.Array,
        features: int,
        name: str,
        *,
        zero: bool = False,
        stride: int = 1,
        padding: Any = "SAME",
        upsample: bool = False,
    ) -> jax.Array:
        """A 3x3 convolution, after doubling the image where asked: [B, H, W, C] -> [B, H', W', features]."""
        kernel_init, bias_init = self._initializers(9 * x.shape[-1], zero)
        return Conv(
            features,
            3,
            stride,
            padding,
            kernel_init=kernel_init,
            bias_init=bias_init,
            upsample=upsample,
            dtype=self.dtype,
            name=name,
        )(x)

    def norm(self, x: jax.Array, name: str) -> jax.Array:
        """Group normalisation: [B, ..., C] -> [B, ..., C]."""
        return GroupNorm(self.num_groups, self.epsilon, name=name)(x)

    def in_dtype(self, dtype: Any) -> "Layers":
        """The same layers computing in another dtype."""
        return dataclasses.replace(self, dtype=dtype)

    def _initializers(self, fan_in: int, zero: bool, parts: int = 1) -> tuple[Initializer, Initializer]:
        zeros = nn.initializers.zeros_init()
        if zero:
            return zeros, zeros
        if self.initialization == "fan_avg":
            return _by_parts(nn.initializers.variance_scaling(1.0, "fan_avg", "uniform"), parts), zeros
        if self.initialization == "fan_in":
            uniform = _uniform(1 / math.sqrt(fan_in))
            return uniform, uniform
        raise ValueError(f"initialization is {self.initialization!r}; expected 'fan_avg' or 'fan_in'")


def _uniform(edge: float) -> Initializer:
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -edge, edge)


def _by_parts(initializer: Initializer, parts: int) -> Initializer:
    if parts == 1:
        return initializer

    def init(key, shape, dtype=jnp.float32):
        keys = jax.random.split(key, parts)
        shape = (*shape[:-1], shape[-1] // parts)
        return jnp.concatenate([initializer(key, shape, dtype) for key in keys], axis=-1)

    return init


def dropout(keys: jax.Array, x: jax.Array, rate: float) -> jax.Array:
    """Each entry 0 with probability `rate`, otherwise scaled so that its expectation stays: keys [B], x [B, ..., C].

    The probability of keeping an entry is rounded to 1/65536 (C even), and the scale is exact for that: unbiased.

    Raises:
        ValueError: the rate is not in [0, 1).
    """
    if not 0 <= rate < 1:
        raise ValueError(f"the dropout rate is {rate}; expected a number in [0, 1)")
    if rate == 0:
        return x
    shape = x.shape[1:]
    if shape[-1] % 2:
        kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, shape))(keys)
        return jnp.where(kept, x / (1 - rate), 0)
    # Two entries from each 32-bit word: the random bits are most of dropout's cost on CPU.
    words = jax.vmap(lambda key: jax.random.bits(key, (*shape[:-1], shape[-1] // 2), jnp.uint32))(keys)
    threshold = round((1 - rate) * 65536)
    kept = jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(x.shape) < jnp.uint32(threshold).astype(jnp.uint16)
    return jnp.where(kept, x * (65536 / threshold), 0)
