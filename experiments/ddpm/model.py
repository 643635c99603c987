"""Settings of networks and of the diffusion, and the model that they describe."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp

from experiments.command import checks
from jaxgen import diffusion

LossName = Literal["mse", "rescaled_mse", "kl", "rescaled_kl", "simple", "bound", "hybrid"]
# Values that fields had in 0.1.0.
_OLD_LOSSES = {"simple": "mse", "bound": "rescaled_kl", "hybrid": "rescaled_mse"}


@dataclasses.dataclass(frozen=True)
class Network:
    """The U-Net."""

    channels: int = 128
    """number of channels at the first level"""
    multipliers: tuple[float, ...] = (1, 2, 2, 2)
    """factors of the number of channels, one for each level; each level halves the image"""
    blocks: int = 2
    """residual blocks of each level of the encoder; the decoder has one more"""
    attention: tuple[int, ...] = (16,)
    """heights of the feature map at which blocks are followed by attention"""
    heads: int = 1
    """number of attention heads"""
    groups: int = 32
    """number of groups of the group normalization"""
    dropout: float = 0.1
    """dropout rate in the residual blocks, in training"""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """precision of the computation; parameters, statistics and results are float32"""
    remat: bool = False
    """recompute blocks in the backward pass, which saves memory"""

    def attributes(self) -> dict[str, Any]:
        """The attributes of `diffusion.UNet`."""
        return {
            "channels": self.channels,
            "multipliers": self.multipliers,
            "num_blocks": self.blocks,
            "attention_resolutions": self.attention,
            "num_heads": self.heads,
            "num_groups": self.groups,
            "dropout": self.dropout,
            "dtype": jnp.bfloat16 if self.dtype == "bfloat16" else None,
            "remat": self.remat,
        }


@dataclasses.dataclass(frozen=True)
class DiffusionConfig:
    """The noise schedule, the meaning of the network's output, and the loss."""

    schedule: Literal["linear", "cosine", "quadratic", "constant", "warmup"] = "linear"
    """schedule of beta"""
    steps: int = 1000
    """number of steps T"""
    start: float = 0.0
    """beta of the first step; 0: 0.1 / T (not for "cosine")"""
    end: float = 0.0
    """beta of the last step; 0: 20 / T (not for "cosine")"""
    prediction: diffusion.Prediction = "noise"
    """the quantity that the network predicts"""
    variance: Literal["by_loss", "fixed_small", "fixed_large", "learned", "learned_range"] = "fixed_large"
    """variance of p(x_{t-1} | x_t); "by_loss": "learned_range" """
    loss: LossName = "mse"
    """"mse": L_simple, plus L_t where the variance is learned; "rescaled_mse": L_hybrid; "rescaled_kl": L_vlb, the
    bound in bits/dim; "kl": L_t unscaled, see `diffusion.training_loss`; "simple", "hybrid", "bound": old names"""
    bound_weight: float = 0.001
    """rescaled_mse: weight of the bound"""
    rescaled_timesteps: bool = False
    """the network takes 1000 t / T in place of t"""

    def __post_init__(self):
        for name, value in self.upgrade(vars(self)).items():
            object.__setattr__(self, name, value)

    @staticmethod
    def upgrade(fields: dict[str, Any]) -> dict[str, Any]:
        """Fields with values of 0.1.0 as they are called now; the loss "simple" left a learned variance untrained."""
        loss, variance = fields.get("loss"), fields.get("variance")
        if loss not in _OLD_LOSSES or (loss == "simple" and variance in ("learned", "learned_range")):
            return dict(fields)
        fixed = {"variance": "fixed_large"} if (loss, variance) == ("simple", "by_loss") else {}
        return {**fields, "loss": _OLD_LOSSES[loss], **fixed}

    @property
    def p_variance(self) -> diffusion.Variance:
        """The variance of p."""
        return "learned_range" if self.variance == "by_loss" else self.variance

    @property
    def learned(self) -> bool:
        """Whether the network returns a variance."""
        return self.p_variance in ("learned", "learned_range")

    def make_schedule(self) -> diffusion.Schedule:
        """The noise schedule."""
        betas: dict[str, Callable[..., Any]] = {
            "linear": diffusion.linear_betas,
            "quadratic": diffusion.quadratic_betas,
            "constant": lambda steps, start, end: diffusion.constant_betas(steps, end),
            "warmup": lambda steps, start, end: diffusion.warmup_betas(steps, start=start, end=end),
            "cosine": lambda steps, start, end: diffusion.cosine_betas(steps),
        }
        return diffusion.make_schedule(betas[self.schedule](self.steps, self.start or None, self.end or None))

    def check(self) -> list[str]:
        """The problems of these settings."""
        problems = checks.errors_of(self.make_schedule)
        if self.loss == "simple":
            problems.append(
                f"process.variance is {self.variance!r}, and process.loss 'simple' does not train it: set "
                "--process.loss rescaled_mse (the hybrid loss), or --process.variance fixed_large"
            )
        return problems


def build_model(
    network: Network,
    process: DiffusionConfig,
    shape: tuple[int, int, int],
    *,
    classes: int = 0,
    label_dropout: float = 0.0,
    low_resolution: int = 0,
) -> diffusion.DiffusionModel:
    """The model of a config.

    Args:
        network: settings of the U-Net.
        process: settings of the diffusion.
        shape: (H, W, C) of the images.
        classes: number of classes of the labels; 0: the network has no labels.
        label_dropout: share of the labels that are dropped in training; above 0 there is a null label.
        low_resolution: height of the small images of an upsampler; 0: none.
    """
    has_null = classes > 0 and label_dropout > 0
    unet = diffusion.UNet(
        in_channels=shape[2] * (2 if low_resolution else 1),
        out_channels=shape[2] * (2 if process.learned else 1),
        num_classes=classes + has_null or None,
        **network.attributes(),
    )
    return diffusion.DiffusionModel(
        unet,
        process.make_schedule(),
        process.prediction,
        process.p_variance,
        shape,
        process.rescaled_timesteps,
        low_resolution or None,
        classes if has_null else None,
    )
