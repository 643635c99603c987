"""Settings of DDPMScheduler of diffusers: the schedule, and what a network's output means.

Source: DDPMScheduler in the code of diffusers (von Platen et al. 2022).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxgen.diffusion.betas import cosine_betas, linear_betas, quadratic_betas
from jaxgen.diffusion.unet.networks import UNet

SCHEDULER = "scheduler_config.json"
PREDICTIONS = {"epsilon": "noise", "sample": "x0", "v_prediction": "v"}
_VARIANCES = {
    "fixed_small": "fixed_small",
    "fixed_small_log": "fixed_small",
    "fixed_large": "fixed_large",
    "fixed_large_log": "fixed_large",
    "learned": "learned",
    "learned_range": "learned_range",
}


def read_output(scheduler: Mapping[str, Any], network: UNet) -> tuple[Any, Any]:
    """What the output of a network means: (kind of prediction, kind of variance); ValueError for others."""
    kind = scheduler.get("variance_type", "fixed_small")
    variance = _VARIANCES.get(kind)
    prediction = PREDICTIONS.get(scheduler.get("prediction_type", "epsilon"))
    clips_at_1 = scheduler.get("clip_sample_range", 1.0) == 1 or not scheduler.get("clip_sample", True)
    wrong = [
        f"{name} is {scheduler[name]!r}"
        for name, is_known in (
            ("variance_type", variance),
            ("prediction_type", prediction),
            ("thresholding", not scheduler.get("thresholding")),
            ("rescale_betas_zero_snr", not scheduler.get("rescale_betas_zero_snr")),
            ("clip_sample_range", clips_at_1),
        )
        if not is_known
    ]
    if wrong:
        raise ValueError(f"{SCHEDULER} is of sampling that is not in this library: {', '.join(wrong)}")
    copies = 2 if variance in ("learned", "learned_range") else 1
    if network.out_channels != network.in_channels * copies:
        raise ValueError(
            f"the network has {network.in_channels} channels in and {network.out_channels} out, which does not fit the "
            f"scheduler's variance_type {kind!r}"
        )
    return prediction, variance


def read_betas(scheduler: Mapping[str, Any]) -> np.ndarray:
    """The betas of the training, [T] float64; ValueError for schedules that are not in this library."""
    steps, kind = scheduler.get("num_train_timesteps", 1000), scheduler.get("beta_schedule", "linear")
    start, end = scheduler.get("beta_start", 1e-4), scheduler.get("beta_end", 0.02)
    if type(steps) is not int or not 1 <= steps <= 1_000_000:
        raise ValueError(f"num_train_timesteps is {steps!r}; expected an integer from 1 to 1,000,000")
    if scheduler.get("trained_betas") is not None:
        return np.asarray(scheduler["trained_betas"], np.float64)
    if kind == "linear":
        return linear_betas(steps, start, end)
    if kind == "scaled_linear":
        return quadratic_betas(steps, start, end)
    if kind == "squaredcos_cap_v2":
        return cosine_betas(steps)
    if kind == "sigmoid":
        return (end - start) / (1 + np.exp(-np.linspace(-6, 6, steps))) + start
    raise ValueError(f"beta_schedule is {kind!r}; expected 'linear', 'scaled_linear', 'squaredcos_cap_v2' or 'sigmoid'")
