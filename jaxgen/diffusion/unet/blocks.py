"""The parts of the U-Nets: the residual block and the changes of resolution."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.diffusion.unet.layers import Layers, dropout
from jaxgen.nn import nearest

Resample = Literal["same", "down", "up"]
StridePadding = Literal["same", "symmetric"]


def average_pool(x: jax.Array) -> jax.Array:
    """Means of 2 x 2 pixels: [B, H, W, C] -> [B, H / 2, W / 2, C]."""
    b, h, w, c = x.shape
    return jnp.mean(x.reshape(b, h // 2, 2, w // 2, 2, c), axis=(2, 4))


RESAMPLE = {"same": lambda x: x, "down": average_pool, "up": nearest}


class ResidualBlock(nn.Module):
    """skip(x) + conv2(dropout(swish(norm2(conv1(swish(norm1(x))) + embedding)))).

    With scale_shift the embedding gives (scale, shift) instead, and norm2(h) (1 + scale) + shift takes the place of
    norm2(h + embedding). With `resample` the image is halved or doubled before conv1 and in the skip (BigGAN's block).
    Sources: Ho et al. (2020), appendix B; Dhariwal & Nichol (2021), section 3.

    Parameters: `norm1`, `conv1`, `embedding`, `norm2`, `conv2` (at first 0), and `skip` where the width changes.

    Attributes:
        layers: how layers are made.
        features: channels of the result.
        dropout: probability of dropping an entry, where keys are given.
        scale_shift: whether the embedding scales and shifts instead of being added.
        resample: "same", "down" or "up".
    """

    layers: Layers
    features: int
    dropout: float = 0.0
    scale_shift: bool = False
    resample: Resample = "same"

    @nn.compact
    def __call__(self, x: jax.Array, embedding: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """x [B, H, W, C], swish(embedding) [B, E], keys [B] or None -> [B, H', W', features]."""
        layers, resample = self.layers, RESAMPLE[self.resample]
        h = resample(nn.swish(layers.norm(x, "norm1")))
        h = layers.conv(h, self.features, "conv1")
        width = (2 if self.scale_shift else 1) * self.features
        conditioned = layers.in_dtype(embedding.dtype).dense(embedding, width, "embedding")[:, None, None]
        conditioned = conditioned.astype(h.dtype)
        if self.scale_shift:
            scale, shift = jnp.split(conditioned, 2, axis=-1)
            h = layers.norm(h, "norm2") * (1 + scale) + shift
        else:
            h = layers.norm(h + conditioned, "norm2")
        h = nn.swish(h)
        if keys is not None:
            h = dropout(keys, h, self.dropout)
        h = layers.conv(h, self.features, "conv2", zero=True)
        x = resample(x)
        return h + (x if x.shape[-1] == self.features else layers.dense(x, self.features, "skip"))


class Downsample(nn.Module):
    """Half the resolution by a 3x3 convolution with stride 2, or by averages: [B, H, W, C] -> [B, H / 2, W / 2, C].

    Attributes:
        layers: how layers are made.
        learned: the convolution `conv`, or averages.
        padding: "same": zeros below and to the right of an even image (TensorFlow); "symmetric": one zero on every
            side (PyTorch). The same weights give different outputs.
    """

    layers: Layers
    learned: bool = True
    padding: StridePadding = "same"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H / 2, W / 2, C]."""
        if not self.learned:
            return average_pool(x)
        if self.padding not in ("same", "symmetric"):
            raise ValueError(f"the stride padding is {self.padding!r}; expected 'same' or 'symmetric'")
        padding = "SAME" if self.padding == "same" else 1
        return self.layers.conv(x, x.shape[-1], "conv", stride=2, padding=padding)


class Upsample(nn.Module):
    """Twice the resolution by repetition, then a 3x3 convolution `conv` if learned: [B, H, W, C] -> [B, 2 H, 2 W, C].

    Attributes:
        layers: how layers are made.
        learned: whether the convolution follows.
    """

    layers: Layers
    learned: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, 2 H, 2 W, C]."""
        return self.layers.conv(x, x.shape[-1], "conv", upsample=True) if self.learned else nearest(x)
