"""What the U-Net and its encoder share: the way down, the middle, and how blocks are made."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.diffusion.unet.attention import QKVOrder, SelfAttention
from jaxgen.diffusion.unet.blocks import Downsample, Resample, ResidualBlock, StridePadding, Upsample
from jaxgen.diffusion.unet.embedding import Embedding, timestep_embedding
from jaxgen.diffusion.unet.layers import Initialization, Layers
from jaxgen.nn import at_least_float32


class UNetBase(nn.Module):
    """What the U-Net and its encoder share. The attributes are described in `UNet`."""

    in_channels: int = 3
    out_channels: int = 3
    channels: int = 128
    multipliers: Sequence[float] = (1, 2, 2, 2)
    num_blocks: int = 2
    attention_resolutions: Sequence[int] = (16,)
    num_heads: int = 1
    head_channels: int | None = None
    qkv_order: QKVOrder = "heads_first"
    dropout: float = 0.1
    scale_shift: bool = False
    resample: Literal["conv", "plain", "residual"] = "conv"
    embedding: Embedding = "sin_cos"
    stride_padding: StridePadding = "same"
    num_groups: int = 32
    norm_epsilon: float = 1e-6
    initialization: Initialization = "fan_avg"
    dtype: Any = None
    remat: bool = False


class BlockFactory:
    """Makes the blocks of one call of a network, and counts them: each has dropout keys of its own."""

    def __init__(
        self,
        net: UNetBase,
        x: jax.Array,
        t: jax.Array,
        keys: jax.Array | None,
        labels: jax.Array | None = None,
        num_classes: int | None = None,
    ):
        self.net = net
        self.wide = at_least_float32(x.dtype)
        self.narrow = x.dtype if net.dtype is None else net.dtype
        self.layers = Layers(net.initialization, net.num_groups, net.norm_epsilon, self.narrow)
        self.keys = keys
        self.num_made = 0
        self.block_class = nn.remat(ResidualBlock) if net.remat else ResidualBlock
        self.attention_class = nn.remat(SelfAttention) if net.remat else SelfAttention

        layers = self.layers.in_dtype(self.wide)
        embedding = timestep_embedding(t, net.channels, net.embedding).astype(self.wide)
        embedding = nn.swish(layers.dense(embedding, 4 * net.channels, "time_0"))
        embedding = layers.dense(embedding, 4 * net.channels, "time_1")
        if num_classes is not None:
            init = nn.initializers.normal(1.0)
            table = nn.Embed(num_classes, 4 * net.channels, embedding_init=init, name="labels")
            embedding = embedding + table(labels).astype(self.wide)
        self.embedding = nn.swish(embedding)

    def width(self, multiplier: float) -> int:
        return round(self.net.channels * multiplier)

    def first(self, x: jax.Array) -> jax.Array:
        return self.layers.conv(x.astype(self.narrow), self.width(self.net.multipliers[0]), "conv_in")

    def block(self, h: jax.Array, multiplier: float | None, name: str, resample: Resample = "same") -> jax.Array:
        """A residual block; without multiplier its width is that of h."""
        net = self.net
        features = h.shape[-1] if multiplier is None else self.width(multiplier)
        block = self.block_class(self.layers, features, net.dropout, net.scale_shift, resample, name=name)
        keys = None if self.keys is None else jax.vmap(jax.random.fold_in, (0, None))(self.keys, self.num_made)
        self.num_made += 1
        return block(h, self.embedding, keys)

    def attention(self, h: jax.Array, name: str, always: bool = False) -> jax.Array:
        """Attention, if there is any at this resolution."""
        net = self.net
        if not always and h.shape[1] not in net.attention_resolutions:
            return h
        return self.attention_class(self.layers, net.num_heads, net.head_channels, net.qkv_order, name=name)(h)

    def resample(self, h: jax.Array, direction: Literal["down", "up"], name: str) -> jax.Array:
        net = self.net
        if net.resample == "residual":
            return self.block(h, None, name, direction)
        if net.resample not in ("conv", "plain"):
            raise ValueError(f"resample is {net.resample!r}; expected 'conv', 'plain' or 'residual'")
        learned = net.resample == "conv"
        if direction == "up":
            return Upsample(self.layers, learned, name=name)(h)
        return Downsample(self.layers, learned, net.stride_padding, name=name)(h)

    def activated(self, h: jax.Array) -> jax.Array:
        """swish(norm(h)) in the precision of the output."""
        return nn.swish(self.layers.in_dtype(self.wide).norm(h.astype(self.wide), "norm_out"))


def encode(blocks: BlockFactory, x: jax.Array) -> list[jax.Array]:
    """The way down: what the first convolution, each block (with its attention) and each halving put out."""
    net = blocks.net
    skips = [blocks.first(x)]
    for level, multiplier in enumerate(net.multipliers):
        for i in range(net.num_blocks):
            h = blocks.block(skips[-1], multiplier, f"down_{level}_block_{i}")
            skips.append(blocks.attention(h, f"down_{level}_attention_{i}"))
        if level + 1 < len(net.multipliers):
            skips.append(blocks.resample(skips[-1], "down", f"down_{level}_resample"))
    return skips


def middle(blocks: BlockFactory, h: jax.Array) -> jax.Array:
    """Block, attention, block at the lowest resolution: [B, H, W, C] -> [B, H, W, C]."""
    h = blocks.block(h, None, "middle_block_0")
    h = blocks.attention(h, "middle_attention", always=True)
    return blocks.block(h, None, "middle_block_1")


def check_inputs(
    net: UNetBase,
    x: jax.Array,
    t: jax.Array,
    keys: jax.Array | None,
    labels: jax.Array | None = None,
    num_classes: int | None = None,
) -> None:
    """Raises ValueError where x [B, H, W, C], t [B], keys [B] or labels [B] do not fit the network."""
    if x.ndim != 4 or x.shape[-1] != net.in_channels:
        raise ValueError(f"x has shape {x.shape}; expected [B, H, W, {net.in_channels}]")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x has dtype {x.dtype}; expected floating point, images scaled to [-1, 1]")
    factor = 2 ** (len(net.multipliers) - 1)
    if x.shape[1] % factor or x.shape[2] % factor:
        fits = " x ".join(str(max(factor, round(n / factor) * factor)) for n in x.shape[1:3])
        raise ValueError(
            f"images of {x.shape[1]} x {x.shape[2]} cannot be halved {len(net.multipliers) - 1} times; "
            f"the nearest size that can is {fits}"
        )
    if t.shape != x.shape[:1]:
        raise ValueError(f"t has shape {t.shape}; expected one timestep for each example, {x.shape[:1]}")
    if (labels is None) != (num_classes is None):
        raise ValueError(
            f"the network has {num_classes} classes and needs labels"
            if labels is None
            else "labels were given to a network without classes; num_classes would give it some"
        )
    if labels is not None and (labels.shape != x.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer)):
        raise ValueError(f"labels are {labels.dtype} {labels.shape}; expected integers {x.shape[:1]}")
    if keys is not None and keys.shape != x.shape[:1]:
        raise ValueError(f"keys have shape {keys.shape}; expected one for each example, {x.shape[:1]}")
