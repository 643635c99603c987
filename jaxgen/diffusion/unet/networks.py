"""The U-Net of Ho et al. (2020) and, by its options, of Dhariwal & Nichol (2021); its encoder as a classifier."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.diffusion.unet.attention import AttentionPool
from jaxgen.diffusion.unet.base import BlockFactory, UNetBase, check_inputs, encode, middle

Pool = Literal["attention", "adaptive", "spatial", "spatial_v2"]
POOLS = ("attention", "adaptive", "spatial", "spatial_v2")


class UNet(UNetBase):
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

    num_classes: int | None = None

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
        check_inputs(self, x, t, keys, labels, self.num_classes)
        blocks = BlockFactory(self, x, t, keys, labels, self.num_classes)
        levels = list(enumerate(self.multipliers))
        skips = encode(blocks, x)
        h = middle(blocks, skips[-1])
        for level, multiplier in reversed(levels):
            for i in range(self.num_blocks + 1):
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                h = blocks.block(h, multiplier, f"up_{level}_block_{i}")
                h = blocks.attention(h, f"up_{level}_attention_{i}")
            if level:
                h = blocks.resample(h, "up", f"up_{level}_resample")
        last = blocks.layers.in_dtype(blocks.wide)
        return last.conv(blocks.activated(h), self.out_channels, "conv_out", zero=True)


class EncoderUNet(UNetBase):
    """The U-Net's way down and middle, then a pooling: x [B, H, W, in_channels], t [B] -> logits [B, out_channels].

    The classifier of noisy images of Dhariwal & Nichol (2021), section 4. Its attributes are those of `UNet`, and:

    Attributes:
        pool: how positions are pooled. "attention": one more attention, whose query is the mean over positions, with a
            learned embedding of the position; it fixes the image size, and needs head_channels. "adaptive": the mean of
            the activations. "spatial": the means after every block, through two dense layers with a relu between them;
            "spatial_v2": likewise with a norm and swish. Logits are 0 at first with "adaptive" alone.
    """

    pool: Pool = "attention"

    @nn.compact
    def __call__(self, x: jax.Array, t: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """The logits of p(y | x_t).

        Args:
            x: in [-1, 1] where there is no noise, [B, H, W, in_channels].
            t: 0-based timesteps of the original schedule, integers or not, [B].
            keys: one key of `jax.random.key` for each example, [B], for dropout; None: no dropout.

        Returns:
            [B, out_channels], float32 at least.

        Raises:
            ValueError: as `UNet`; an unknown pooling, or one by attention without head_channels.
        """
        check_inputs(self, x, t, keys)
        if self.pool not in POOLS:
            raise ValueError(f"pool is {self.pool!r}; expected one of {', '.join(POOLS)}")
        blocks = BlockFactory(self, x, t, keys)
        skips = encode(blocks, x)
        h = middle(blocks, skips[-1])
        last = blocks.layers.in_dtype(blocks.wide)
        if self.pool in ("spatial", "spatial_v2"):
            means = [jnp.mean(h.astype(blocks.wide), axis=(1, 2)) for h in [*skips, h]]
            h = last.dense(jnp.concatenate(means, axis=-1), 2048, "pool_0")
            h = nn.relu(h) if self.pool == "spatial" else nn.swish(last.norm(h[:, None], "pool_norm")[:, 0])
            return last.dense(h, self.out_channels, "pool_1")
        h = blocks.activated(h)
        if self.pool == "adaptive":
            return last.dense(jnp.mean(h, axis=(1, 2)), self.out_channels, "logits", zero=True)
        if self.head_channels is None:
            raise ValueError("pooling by attention needs head_channels")
        return AttentionPool(last, self.out_channels, self.head_channels, name="pool")(h)
