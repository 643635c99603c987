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
from jaxgen.diffusion.convert import from_guided_diffusion, to_guided_diffusion
from jaxgen.diffusion.convert_ddpm import from_ddpm, to_ddpm
from jaxgen.diffusion.convert_entries import WeightsMismatchError, parameter_shapes
from jaxgen.diffusion.decoder import discretized_gaussian_log_likelihood
from jaxgen.diffusion.draws import example_keys, example_normal
from jaxgen.diffusion.embedding import rescaled_timesteps, timestep_embedding
from jaxgen.diffusion.guidance import Guidance, classifier_free_guidance, classifier_guidance, drop_labels
from jaxgen.diffusion.interpolation import ddim_interpolate, interpolate
from jaxgen.diffusion.networks import EncoderUNet, UNet
from jaxgen.diffusion.objectives import LossKind, TrainingLoss, prediction_target, simple_loss, training_loss
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
from jaxgen.diffusion.published import (
    Released,
    adm_classifier,
    adm_unet,
    adm_upsampler,
    ddpm_unet,
    iddpm_unet,
    released,
)
from jaxgen.diffusion.resampling import (
    LossHistory,
    init_history,
    sample_timesteps,
    timestep_probabilities,
    update_history,
)
from jaxgen.diffusion.respacing import respace
from jaxgen.diffusion.reverse import PMeanVariance, Variance, p_mean_variance, split_output
from jaxgen.diffusion.sampling import Method, Trajectory, ddim_encode, denoise_from, sample, sample_trajectory
from jaxgen.diffusion.schedule import Schedule, make_schedule
from jaxgen.diffusion.steps import Step, ancestral_step, ddim_inversion_step, ddim_step, dpm_solver_step
from jaxgen.diffusion.upsampling import with_low_resolution

__all__ = [
    "Bound",
    "Denoise",
    "EncoderUNet",
    "Guidance",
    "LossHistory",
    "LossKind",
    "Method",
    "Noised",
    "PMeanVariance",
    "Posterior",
    "Prediction",
    "Released",
    "Schedule",
    "Step",
    "TrainingLoss",
    "Trajectory",
    "UNet",
    "Variance",
    "WeightsMismatchError",
    "add_noise",
    "adm_classifier",
    "adm_unet",
    "adm_upsampler",
    "ancestral_step",
    "bits_per_dim",
    "check_images",
    "classifier_free_guidance",
    "classifier_guidance",
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
    "drop_labels",
    "example_keys",
    "example_normal",
    "from_ddpm",
    "from_guided_diffusion",
    "gaussian_kl",
    "iddpm_unet",
    "init_history",
    "interpolate",
    "linear_betas",
    "make_schedule",
    "mean_from_noise",
    "mean_from_x0",
    "noise_from_v",
    "noise_from_x0",
    "noise_loss_weight",
    "p_mean_variance",
    "parameter_shapes",
    "prediction_target",
    "prior_kl",
    "q_posterior",
    "q_sample",
    "q_step",
    "quadratic_betas",
    "released",
    "rescaled_timesteps",
    "respace",
    "sample",
    "sample_timesteps",
    "sample_trajectory",
    "simple_loss",
    "split_output",
    "timestep_embedding",
    "timestep_probabilities",
    "to_ddpm",
    "to_guided_diffusion",
    "training_loss",
    "update_history",
    "v_from_noise_and_x0",
    "vlb_term",
    "vlb_terms",
    "warmup_betas",
    "with_low_resolution",
    "x0_from_mean",
    "x0_from_noise",
    "x0_from_v",
]
