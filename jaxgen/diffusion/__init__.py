"""Diffusion models (chapter 4 of the notes): the noise, the way back, the bound, and how to draw.

`t` is 0-based: t = 0 is the notes' t = 1; see `jaxgen.diffusion.schedule`.
"""

from jaxgen.diffusion.betas import constant_betas, cosine_betas, linear_betas, quadratic_betas, warmup_betas
from jaxgen.diffusion.respacing import respace
from jaxgen.diffusion.schedule import Schedule, make_schedule

__all__ = [
    "Schedule",
    "constant_betas",
    "cosine_betas",
    "linear_betas",
    "make_schedule",
    "quadratic_betas",
    "respace",
    "warmup_betas",
]
