"""Self-attention over the positions of an image."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.diffusion.unet.layers import Layers
from jaxgen.nn import at_least_float32
from jaxgen.nn.conv import uses_forward_form

QKVOrder = Literal["qkv_first", "heads_first"]


def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """softmax(q k^T / sqrt(D)) v for each example and head; the softmax is float32 at least.

    q and k are scaled by D^(-1/4) each, before the product, which keeps half precision in range (the code of
    Dhariwal & Nichol 2021; the same value as Ho et al.'s scaling after it).

    Args:
        q: [B, N, H, D].
        k: [B, M, H, D].
        v: [B, M, H, D].

    Returns:
        [B, N, H, D].
    """
    batch, _, heads, width = q.shape

    def flat(x):  # One batch axis: with two, XLA's products on CPU are up to 3 times slower.
        return x.swapaxes(1, 2).reshape(batch * heads, -1, width)

    q, k, v = flat(q), flat(k), flat(v)
    on_cpu = q.dtype == at_least_float32(q.dtype) and uses_forward_form("auto")
    y = _attend_on_cpu(q, k, v) if on_cpu else _plain_attend(q, k, v)
    return y.reshape(batch, heads, -1, width).swapaxes(1, 2)


def _plain_attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """`attend` of [B, N, D]."""
    scale = q.shape[-1] ** -0.25
    logits = (q * scale) @ (k * scale).swapaxes(1, 2)
    return jax.nn.softmax(logits.astype(at_least_float32(logits.dtype)), axis=-1).astype(v.dtype) @ v


@jax.custom_vjp
def _attend_on_cpu(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """The same. Derivatives in reverse mode only: 0.5 to 0.6 of the time of autodiff's, with the projections around it.

    The softmax's own term needs only the sum of g y, and products over positions get their factor laid out for them,
    as in `jaxgen.nn.matmul`.
    """
    return _plain_attend(q, k, v)


def _attend_forward(q, k, v):
    scale = q.shape[-1] ** -0.25
    weights = jax.nn.softmax((q * scale) @ (k * scale).swapaxes(1, 2), axis=-1)
    y = weights @ v
    return y, (q, k, v, weights, y)


def _attend_backward(residuals, g):
    q, k, v, weights, y = residuals
    scale = q.shape[-1] ** -0.5
    g_logits = weights * (g @ v.swapaxes(1, 2) - jnp.sum(g * y, axis=-1, keepdims=True))
    by_key, by_key_weights = jax.lax.optimization_barrier((g_logits.swapaxes(1, 2), weights.swapaxes(1, 2)))
    return (g_logits @ k) * scale, by_key @ (q * scale), by_key_weights @ g


_attend_on_cpu.defvjp(_attend_forward, _attend_backward)


def split_qkv(qkv: jax.Array, heads: int, order: QKVOrder) -> tuple[jax.Array, jax.Array, jax.Array]:
    """q, k and v [B, N, H, D] from the channels of [B, N, 3 H D].

    "qkv_first": channels are (q k v, head, D), Dhariwal & Nichol's "new attention order". "heads_first": (head, q k v,
    D), their legacy order. With one head they are the same.

    Raises:
        ValueError: an unknown order.
    """
    if order not in ("qkv_first", "heads_first"):
        raise ValueError(f"the order is {order!r}; expected 'qkv_first' or 'heads_first'")
    batch, positions, _ = qkv.shape
    # Split, so that the gradient is a concatenation.
    if order == "qkv_first":
        q, k, v = jnp.split(qkv.reshape(batch, positions, 3, heads, -1), 3, axis=2)
    else:
        q, k, v = jnp.split(qkv.reshape(batch, positions, heads, 3, -1), 3, axis=3)
    shape = (batch, positions, heads, -1)
    return q.reshape(shape), k.reshape(shape), v.reshape(shape)


def num_heads(channels: int, heads: int, head_channels: int | None) -> int:
    """How many heads a layer of this width has.

    Raises:
        ValueError: the channels do not divide.
    """
    size = head_channels or max(heads, 1)
    if heads < 1 or channels % size:
        raise ValueError(
            f"{channels} channels do not divide into "
            + (f"heads of {head_channels}" if head_channels else f"{heads} heads")
        )
    return channels // head_channels if head_channels else heads


class SelfAttention(nn.Module):
    """x + project(attend(q, k, v of norm(x))) over all positions: [B, H, W, C] -> [B, H, W, C].

    Parameters: `norm`, `qkv` [C, 3 C], `project` [C, C], at first 0.

    Attributes:
        layers: how layers are made.
        heads: number of heads, unless head_channels is given.
        head_channels: channels of a head.
        order: of qkv's channels, see `split_qkv`.
    """

    layers: Layers
    heads: int = 1
    head_channels: int | None = None
    order: QKVOrder = "heads_first"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H, W, C]."""
        batch, height, width, channels = x.shape
        h = self.layers.norm(x, "norm").reshape(batch, height * width, channels)
        qkv = self.layers.dense(h, 3 * channels, "qkv", parts=3)
        h = attend(*split_qkv(qkv, num_heads(channels, self.heads, self.head_channels), self.order))
        h = self.layers.dense(h.reshape(batch, height * width, channels), channels, "project", zero=True)
        return x + h.reshape(x.shape)


class AttentionPool(nn.Module):
    """One attention whose query is the mean over positions: [B, H, W, C] -> [B, features].

    The sequence is the mean, then every position, each with its learned embedding. Source: CLIP, in the code of
    Dhariwal & Nichol (2021).

    Parameters: `positions` [1 + H W, C], `qkv` [C, 3 C], `project` [C, features].

    Attributes:
        layers: how layers are made.
        features: width of the result.
        head_channels: channels of a head.
    """

    layers: Layers
    features: int
    head_channels: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, features]."""
        batch, height, width, channels = x.shape
        shape = (1 + height * width, channels)
        positions = self.param("positions", nn.initializers.normal(channels**-0.5), shape)
        x = x.reshape(batch, -1, channels)
        x = jnp.concatenate([jnp.mean(x, axis=1, keepdims=True), x], axis=1) + positions.astype(x.dtype)[None]
        qkv = self.layers.dense(x, 3 * channels, "qkv", parts=3)
        q, k, v = split_qkv(qkv, num_heads(channels, 1, self.head_channels), "qkv_first")
        # Of all the answers only that to the mean is used.
        h = attend(q[:, :1], k, v).reshape(batch, channels)
        return self.layers.dense(h, self.features, "project")
