"""Diffusion models (chapter 4 of the notes): the noise, the way back, the bound, and how to draw.

`t` is 0-based: t = 0 is the notes' t = 1; see `jaxgen.diffusion.schedule`.
"""

from jaxgen.diffusion.betas import constant_betas, cosine_betas, linear_betas, quadratic_betas, warmup_betas
from jaxgen.diffusion.bound import (
    Bound,
    Denoise,
    bits_per_dim,
    gaussian_kl,
    noise_loss_weight,
    prior_kl,
    vlb_term,
    vlb_terms,
)
from jaxgen.diffusion.decoder import discretized_gaussian_log_likelihood
from jaxgen.diffusion.draws import example_keys, example_normal
from jaxgen.diffusion.embedding import timestep_embedding
from jaxgen.diffusion.interpolation import ddim_interpolate, interpolate
from jaxgen.diffusion.networks import UNet, ddpm_unet
from jaxgen.diffusion.objectives import prediction_target, simple_loss
from jaxgen.diffusion.predictions import (
    Prediction,
    convert,
    mean_from_noise,
    mean_from_x0,
    noise_from_v,
    noise_from_x0,
    v_from_noise_and_x0,
    x0_from_mean,
    x0_from_noise,
    x0_from_v,
)
from jaxgen.diffusion.process import Noised, Posterior, add_noise, check_images, q_posterior, q_sample, q_step
from jaxgen.diffusion.respacing import respace
from jaxgen.diffusion.reverse import PMeanVariance, Variance, p_mean_variance, split_output
from jaxgen.diffusion.sampling import Method, Trajectory, ddim_encode, denoise_from, sample, sample_trajectory
from jaxgen.diffusion.schedule import Schedule, make_schedule
from jaxgen.diffusion.steps import Step, ancestral_step, ddim_inversion_step, ddim_step, dpm_solver_step

__all__ = [
    "Bound",
    "Denoise",
    "Method",
    "Noised",
    "PMeanVariance",
    "Posterior",
    "Prediction",
    "Schedule",
    "Step",
    "Trajectory",
    "UNet",
    "Variance",
    "add_noise",
    "ancestral_step",
    "bits_per_dim",
    "check_images",
    "constant_betas",
    "convert",
    "cosine_betas",
    "ddim_encode",
    "ddim_interpolate",
    "ddim_inversion_step",
    "ddim_step",
    "ddpm_unet",
    "denoise_from",
    "discretized_gaussian_log_likelihood",
    "dpm_solver_step",
    "example_keys",
    "example_normal",
    "gaussian_kl",
    "interpolate",
    "linear_betas",
    "make_schedule",
    "mean_from_noise",
    "mean_from_x0",
    "noise_from_v",
    "noise_from_x0",
    "noise_loss_weight",
    "p_mean_variance",
    "prediction_target",
    "prior_kl",
    "q_posterior",
    "q_sample",
    "q_step",
    "quadratic_betas",
    "respace",
    "sample",
    "sample_trajectory",
    "simple_loss",
    "split_output",
    "timestep_embedding",
    "v_from_noise_and_x0",
    "vlb_term",
    "vlb_terms",
    "warmup_betas",
    "x0_from_mean",
    "x0_from_noise",
    "x0_from_v",
]
