"""The options that all samplers share."""

import dataclasses
from typing import Literal

from jaxgen.diffusion.guidance import Guidance
from jaxgen.diffusion.predictions import Prediction
from jaxgen.diffusion.reverse import EditX0, Variance

Method = Literal["ancestral", "ddim", "dpm_solver"]
METHODS = ("ancestral", "ddim", "dpm_solver")


@dataclasses.dataclass(frozen=True)
class SamplerOptions:
    """How samplers take their steps, and how they read the network's output.

    Attributes:
        method: "ancestral", "ddim", or "dpm_solver", which needs the fewest steps, respaced by "logsnr20" or so.
        eta: of DDIM, in [0, 1]: the share of the ancestral step's noise.
        prediction: the kind of prediction, as in `p_mean_variance`.
        variance: the kind of variance, as in `p_mean_variance`.
        clip: whether the predicted x_0 is held in [-1, 1] at every step.
        edit_x0: changes the predicted x_0 at every step, before clipping: (x0 [B, ...], t) -> x0 [B, ...], with the
            schedule's own 0-based t.
        guidance: (x [B, ...], original timesteps [B]) -> the gradient of a log probability [B, ...], such as
            `classifier_guidance`.

    Raises:
        ValueError: an unknown method, or eta with another method than "ddim".
    """

    method: Method = "ancestral"
    eta: float = 0.0
    prediction: Prediction = "noise"
    variance: Variance = "fixed_large"
    clip: bool = True
    edit_x0: EditX0 | None = None
    guidance: Guidance | None = None

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}; expected one of {', '.join(METHODS)}")
        if self.eta and self.method != "ddim":
            raise ValueError(f"eta is {self.eta} with method {self.method!r}; it belongs to 'ddim'")


ANCESTRAL = SamplerOptions()
"""Ancestral sampling of a network that predicts the noise, with the variance "fixed_large" (Ho et al. 2020)."""
