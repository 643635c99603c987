"""The U-Net of Ho et al. (2020) and, by its options, that of Dhariwal & Nichol (2021)."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.diffusion.attention import QKVOrder, SelfAttention
from jaxgen.diffusion.embedding import Embedding, timestep_embedding
from jaxgen.diffusion.unet_blocks import Downsample, Resample, ResidualBlock, StridePadding, Upsample
from jaxgen.diffusion.unet_layers import Initialization, Layers
from jaxgen.nn import at_least_float32


class _Body(nn.Module):
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
    num_classes: int | None = None
    dtype: Any = None
    remat: bool = False


class UNet(_Body):
    """x [B, H, W, in_channels], t [B] -> [B, H, W, out_channels], 0 at first. Defaults: Ho et al.'s for CIFAR-10.

    A pure function of its arrays: the keys of dropout are an argument, one for each example. The image size is that of
    x; its two sides must divide by 2^(levels - 1), and it may differ from one call to the next.

    Attributes:
        in_channels: channels of x.
        out_channels: channels of the result; twice those of the image where the variance is learned.
        channels: C.
        multipliers: level l, with the image halved l times, has round(C multipliers[l]) channels.
        num_blocks: residual blocks of each level on the way down; on the way up there is one more.
        attention_resolutions: heights of the feature map at which each residual block is followed by attention. There
            is attention in the middle in any case.
        num_heads: heads of the attention, unless head_channels is given.
        head_channels: channels of a head, whose number then grows with the width.
        qkv_order: of the attention's channels, see `attention.split_qkv`.
        dropout: probability of dropping an entry, where keys are given.
        scale_shift: whether the embedding scales and shifts the second norm of a block instead of being added.
        resample: how resolution changes: "conv" (3x3, stride 2 and after repetition), "plain" (averages and
            repetition), or "residual" (inside of a residual block, as in BigGAN).
        embedding: of the timestep, see `timestep_embedding`.
        stride_padding: of "conv", see `unet_blocks.Downsample`.
        num_groups: of the group normalisation.
        norm_epsilon: of the group normalisation: 1e-6 (Ho et al.), 1e-5 (Dhariwal & Nichol).
        initialization: "fan_avg" (Ho et al.) or "fan_in" (PyTorch's), see `unet_layers.Layers`. The last layer of each
            residual branch, and of the network, is exactly 0; Ho et al.'s code has a variance of 1e-10.
        num_classes: of the labels, or None for a network without.
        dtype: of the computation, e.g. jnp.bfloat16; None: that of x. Parameters, statistics, softmax, embedding, the
            last layer and the result are float32 (float64 for such an x).
        remat: whether blocks are computed again in the backward pass, which saves the memory of what is inside them.

    Source: Ho et al. (2020), appendix B, and their code; Dhariwal & Nichol (2021), section 3.
    """

    @nn.compact
    def __call__(
        self, x: jax.Array, t: jax.Array, labels: jax.Array | None = None, keys: jax.Array | None = None
    ) -> jax.Array:
        """The network's output.

        Args:
            x: in [-1, 1] where there is no noise, [B, H, W, in_channels].
            t: 0-based timesteps of the original schedule, integers or not, [B].
            labels: integers below num_classes, [B], if and only if there are classes.
            keys: one key of `jax.random.key` for each example, [B], for dropout; None: no dropout.

        Returns:
            [B, H, W, out_channels].

        Raises:
            ValueError: x, t, labels or keys have another shape, or an image that cannot be halved often enough.
        """
        check_inputs(self, x, t, labels, keys)
        parts = _Parts(self, x, t, labels, keys)
        levels = list(enumerate(self.multipliers))
        passed = encode(parts, x)
        h = middle(parts, passed[-1])
        for level, multiplier in reversed(levels):
            for i in range(self.num_blocks + 1):
                h = jnp.concatenate([h, passed.pop()], axis=-1)
                h = parts.block(h, multiplier, f"up_{level}_block_{i}")
                h = parts.attention(h, f"up_{level}_attention_{i}")
            if level:
                h = parts.resample(h, "up", f"up_{level}_resample")
        return parts.last(h, self.out_channels)


class _Parts:
    """Makes the blocks of one call of a network, and counts them: each has dropout keys of its own."""

    def __init__(self, net: _Body, x: jax.Array, t: jax.Array, labels: jax.Array | None, keys: jax.Array | None):
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
        if net.num_classes is not None:
            init = nn.initializers.normal(1.0)
            table = nn.Embed(net.num_classes, 4 * net.channels, embedding_init=init, name="labels")
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

    def last(self, h: jax.Array, features: int) -> jax.Array:
        layers = self.layers.in_dtype(self.wide)
        h = nn.swish(layers.norm(h.astype(self.wide), "norm_out"))
        return layers.conv(h, features, "conv_out", zero=True)


def encode(parts: _Parts, x: jax.Array) -> list[jax.Array]:
    """The way down: what the first convolution, each block (with its attention) and each halving put out."""
    net = parts.net
    passed = [parts.first(x)]
    for level, multiplier in enumerate(net.multipliers):
        for i in range(net.num_blocks):
            h = parts.block(passed[-1], multiplier, f"down_{level}_block_{i}")
            passed.append(parts.attention(h, f"down_{level}_attention_{i}"))
        if level + 1 < len(net.multipliers):
            passed.append(parts.resample(passed[-1], "down", f"down_{level}_resample"))
    return passed


def middle(parts: _Parts, h: jax.Array) -> jax.Array:
    """Block, attention, block at the lowest resolution: [B, H, W, C] -> [B, H, W, C]."""
    h = parts.block(h, None, "middle_block_0")
    h = parts.attention(h, "middle_attention", always=True)
    return parts.block(h, None, "middle_block_1")


def check_inputs(net: _Body, x: jax.Array, t: jax.Array, labels: jax.Array | None, keys: jax.Array | None) -> None:
    """Raises ValueError where x [B, H, W, C], t [B], labels [B] or keys [B] do not fit the network."""
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
    if (labels is None) != (net.num_classes is None):
        raise ValueError(
            f"the network has {net.num_classes} classes and needs labels"
            if labels is None
            else "labels were given to a network without classes; num_classes would give it some"
        )
    if labels is not None and (labels.shape != x.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer)):
        raise ValueError(f"labels are {labels.dtype} {labels.shape}; expected integers {x.shape[:1]}")
    if keys is not None and keys.shape != x.shape[:1]:
        raise ValueError(f"keys have shape {keys.shape}; expected one for each example, {x.shape[:1]}")


def ddpm_unet(image_size: int, **changes: Any) -> UNet:
    """Ho et al.'s network, 35,746,307 parameters at 32 (CIFAR-10), 113,673,219 at 256 (CelebA-HQ, LSUN).

    Args:
        image_size: 32 or 256.
        **changes: of `UNet`'s attributes.

    Raises:
        ValueError: another size.
    """
    if image_size == 32:
        settings: dict[str, Any] = {"multipliers": (1, 2, 2, 2), "dropout": 0.1}
    elif image_size == 256:
        settings = {"multipliers": (1, 1, 2, 2, 4, 4), "dropout": 0.0}
    else:
        raise ValueError(f"Ho et al. have networks for 32 and 256, not {image_size}; UNet(...) makes others")
    return UNet(**(settings | changes))
