"""The networks of a guided model as configs, and what they are told: Dhariwal & Nichol (2021), section 3."""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen import diffusion
from jaxgen.diffusion.attention import QKVOrder
from jaxgen.diffusion.networks import Pool


@dataclasses.dataclass(frozen=True)
class Network:
    """A U-Net, or its encoder."""

    channels: int = 256
    """the unit of the channels"""
    multipliers: tuple[float, ...] = (1, 1, 2, 2, 4, 4)
    """of the channels, one for each level; each level halves the image"""
    blocks: int = 2
    """residual blocks of each level on the way down; one more on the way up"""
    attention: tuple[int, ...] = (32, 16, 8)
    """heights of the feature map at which blocks are followed by attention"""
    heads: int = 4
    """of the attention, where head_channels is 0"""
    head_channels: int = 64
    """channels of a head, whose number then grows with the width; 0: a fixed number of heads"""
    qkv_order: QKVOrder = "heads_first"
    """of the channels of the attention"""
    scale_shift: bool = True
    """step and class scale and shift the norm of a block instead of being added"""
    resample: Literal["conv", "plain", "residual"] = "residual"
    """how resolution changes; "residual" is BigGAN's"""
    groups: int = 32
    """of the group normalisation"""
    dropout: float = 0.0
    """in the residual blocks, while training"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """of the computation; parameters, statistics and results are float32"""
    remat: bool = False
    """blocks are computed again in the backward pass, which saves memory"""

    def attributes(self) -> dict[str, Any]:
        """Those of `diffusion.UNet` and `EncoderUNet`; what is no field is as in the authors' code."""
        return {
            "channels": self.channels,
            "multipliers": self.multipliers,
            "num_blocks": self.blocks,
            "attention_resolutions": self.attention,
            "num_heads": self.heads,
            "head_channels": self.head_channels or None,
            "qkv_order": self.qkv_order,
            "scale_shift": self.scale_shift,
            "resample": self.resample,
            "num_groups": self.groups,
            "dropout": self.dropout,
            "dtype": jnp.bfloat16 if self.dtype == "bfloat16" else None,
            "remat": self.remat,
            "embedding": "cos_sin",
            "stride_padding": "symmetric",
            "norm_epsilon": 1e-5,
            "initialization": "fan_in",
        }


@dataclasses.dataclass(frozen=True)
class ClassifierNetwork(Network):
    """The classifier of noisy images."""

    channels: int = 128
    pool: Pool = "attention"
    """how positions are pooled; "attention" needs head_channels"""


class Conditions(NamedTuple):
    """What a network is told besides x and t.

    Attributes:
        classes: K, of the labels; 0: none are told.
        dropout: share of the labels that are left out while training.
        low_resolution: side of the small image; 0: none is told.
    """

    classes: int = 0
    dropout: float = 0.0
    low_resolution: int = 0

    @property
    def null(self) -> int | None:
        """The label that stands for none: the one after the classes, if there is one."""
        return self.classes if self.classes and self.dropout else None

    @property
    def num_embedded(self) -> int | None:
        """Rows of the table of classes."""
        return self.classes + (self.null is not None) if self.classes else None

    def given(self, x: jax.Array, labels: jax.Array | None) -> dict[str, Any]:
        """What is told of images x [B, H, W, C] with labels [B], by the names of `Denoiser.apply`'s arguments."""
        told: dict[str, Any] = {"labels": labels} if self.classes else {}
        if self.low_resolution:
            told["low_resolution"] = area_mean(x, self.low_resolution)
        return told


class Denoiser(NamedTuple):
    """A U-Net as the chain calls it.

    Attributes:
        network: the U-Net.
        rescale: T, where the network sees steps in the units of a chain of 1000; 0: it sees the steps.
    """

    network: diffusion.UNet
    rescale: int = 0

    def apply(self, variables, x, t, labels=None, low_resolution=None, keys=None) -> jax.Array:
        """The output for x [B, H, W, C] at the original steps t [B]."""
        if low_resolution is not None:
            x = diffusion.with_low_resolution(x, low_resolution)
        return self.network.apply(variables, x, seen(t, self.rescale), labels, keys)  # type: ignore[return-value]

    def init(self, key: jax.Array, shape: tuple[int, int, int]) -> Any:
        """Fresh parameters for images [H, W, C]."""
        x = jax.ShapeDtypeStruct((1, *shape[:2], self.network.in_channels), jnp.float32)
        t = jax.ShapeDtypeStruct((1,), jnp.int32)
        return self.network.lazy_init(key, x, t, None if self.network.num_classes is None else t)["params"]


class NoisyClassifier(NamedTuple):
    """An encoder as the chain calls it.

    Attributes:
        network: the encoder.
        rescale: as of `Denoiser`.
    """

    network: diffusion.EncoderUNet
    rescale: int = 0

    def logits(self, params, x, t, keys=None) -> jax.Array:
        """[B, K] for x [B, H, W, C] at the original steps t [B]."""
        return self.network.apply({"params": params}, x, seen(t, self.rescale), keys)  # type: ignore[return-value]

    def init(self, key: jax.Array, shape: tuple[int, int, int]) -> Any:
        """Fresh parameters for images [H, W, C]."""
        x, t = jax.ShapeDtypeStruct((1, *shape), jnp.float32), jax.ShapeDtypeStruct((1,), jnp.int32)
        return self.network.lazy_init(key, x, t)["params"]


def build(
    model: Network, conditions: Conditions, shape: tuple[int, int, int], *, learned: bool, rescale: int = 0
) -> Denoiser:
    """The U-Net of a config for images [H, W, C]; with a learned variance it has twice the channels to put out."""
    network = diffusion.UNet(
        in_channels=shape[2] * (2 if conditions.low_resolution else 1),
        out_channels=shape[2] * (2 if learned else 1),
        num_classes=conditions.num_embedded,
        **model.attributes(),
    )
    return Denoiser(network, rescale)


def build_classifier(
    model: ClassifierNetwork, classes: int, shape: tuple[int, int, int], rescale: int = 0
) -> NoisyClassifier:
    """The classifier of a config for images [H, W, C] of so many classes."""
    network = diffusion.EncoderUNet(in_channels=shape[2], out_channels=classes, pool=model.pool, **model.attributes())
    return NoisyClassifier(network, rescale)


def seen(t: jax.Array, rescale: int) -> jax.Array:
    """The steps as a network sees them."""
    return diffusion.rescaled_timesteps(t, rescale) if rescale else t


def area_mean(x: jax.Array, size: int) -> jax.Array:
    """Means over squares: [B, H, W, C] -> [B, size, size, C], H = W a multiple of size."""
    batch, height, width, channels = x.shape
    squares = x.reshape(batch, size, height // size, size, width // size, channels)
    return squares.mean(axis=(2, 4))
