"""The chain of a diffusion model as a config: what `ddpm` and `guided_diffusion` share."""

import dataclasses
from typing import Literal

from jaxgen import diffusion


@dataclasses.dataclass(frozen=True)
class Chain:
    """The noise of every step, and what the network says."""

    schedule: Literal["linear", "cosine", "quadratic", "constant", "warmup"] = "linear"
    """of beta"""
    steps: int = 1000
    """T"""
    start: float = 0.0
    """beta of the first step; 0: 0.1 / T (not for "cosine")"""
    end: float = 0.0
    """beta of the last step; 0: 20 / T (not for "cosine")"""
    prediction: diffusion.Prediction = "noise"
    """what the network puts out"""


def make_schedule(chain: Chain) -> diffusion.Schedule:
    """The chain of a config."""
    betas = {
        "linear": diffusion.linear_betas,
        "quadratic": diffusion.quadratic_betas,
        "constant": lambda steps, start, end: diffusion.constant_betas(steps, end),
        "warmup": lambda steps, start, end: diffusion.warmup_betas(steps, start=start, end=end),
        "cosine": lambda steps, start, end: diffusion.cosine_betas(steps),
    }[chain.schedule]
    return diffusion.make_schedule(betas(chain.steps, chain.start or None, chain.end or None))
