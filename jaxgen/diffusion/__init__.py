"""Diffusion models: the forward process, the reverse process, the bound, training losses, samplers and networks.

`t` is 0-based: t = 0 is the papers' t = 1; see `jaxgen.diffusion.schedule`.
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
from jaxgen.diffusion.guidance import Guidance, classifier_free_guidance, classifier_guidance, drop_labels
from jaxgen.diffusion.inpainting import Resampling, inpaint
from jaxgen.diffusion.interpolation import ddim_interpolate, interpolate
from jaxgen.diffusion.model import DiffusionModel
from jaxgen.diffusion.model_sampler import Cond, GuidanceKind, Sampler, SamplingVariant, make_sampler
from jaxgen.diffusion.noisy_classifier import classifier_objective, random_crop
from jaxgen.diffusion.objectives import (
    LossKind,
    TrainingLoss,
    denoising_objective,
    prediction_target,
    simple_loss,
    training_loss,
)
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
from jaxgen.diffusion.pretrained.ddpm import from_ddpm, to_ddpm
from jaxgen.diffusion.pretrained.diffusers import from_diffusers, to_diffusers
from jaxgen.diffusion.pretrained.diffusers_settings import diffusers_config, diffusers_model
from jaxgen.diffusion.pretrained.entries import WeightsMismatchError, parameter_shapes
from jaxgen.diffusion.pretrained.files import (
    Pretrained,
    check_finite,
    load_pretrained,
    save_diffusers,
    save_parameters,
)
from jaxgen.diffusion.pretrained.flags import ModelFlags
from jaxgen.diffusion.pretrained.guided_diffusion import from_guided_diffusion, to_guided_diffusion
from jaxgen.diffusion.pretrained.pytorch_diffusion import from_pytorch_diffusion, to_pytorch_diffusion
from jaxgen.diffusion.pretrained.released import (
    Released,
    adm_classifier,
    adm_unet,
    adm_upsampler,
    ddpm_unet,
    iddpm_unet,
    released,
)
from jaxgen.diffusion.process import Noised, Posterior, add_noise, check_images, q_posterior, q_sample, q_step
from jaxgen.diffusion.random import keys_per_example, normal_per_example
from jaxgen.diffusion.resampling import (
    LossHistory,
    init_history,
    observe_losses,
    sample_timesteps,
    timestep_probabilities,
    update_history,
)
from jaxgen.diffusion.respacing import respace
from jaxgen.diffusion.reverse import PMeanVariance, Variance, p_mean_variance, split_output
from jaxgen.diffusion.sampler_options import Method, SamplerOptions
from jaxgen.diffusion.sampling import (
    Trajectory,
    ddim_encode,
    denoise_from,
    sample,
    sample_trajectory,
)
from jaxgen.diffusion.schedule import Schedule, make_schedule
from jaxgen.diffusion.steps import Step, ancestral_step, ddim_inversion_step, ddim_step, dpm_solver_step
from jaxgen.diffusion.unet.embedding import rescaled_timesteps, timestep_embedding
from jaxgen.diffusion.unet.low_resolution import area_mean, with_low_resolution
from jaxgen.diffusion.unet.networks import EncoderUNet, UNet

__all__ = [
    "Bound",
    "Cond",
    "Denoise",
    "DiffusionModel",
    "EncoderUNet",
    "Guidance",
    "GuidanceKind",
    "LossHistory",
    "LossKind",
    "Method",
    "ModelFlags",
    "Noised",
    "PMeanVariance",
    "Posterior",
    "Prediction",
    "Pretrained",
    "Released",
    "Resampling",
    "Sampler",
    "SamplerOptions",
    "SamplingVariant",
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
    "area_mean",
    "bits_per_dim",
    "check_finite",
    "check_images",
    "classifier_free_guidance",
    "classifier_guidance",
    "classifier_objective",
    "constant_betas",
    "convert",
    "cosine_betas",
    "ddim_encode",
    "ddim_interpolate",
    "ddim_inversion_step",
    "ddim_step",
    "ddpm_unet",
    "denoise_from",
    "denoising_objective",
    "diffusers_config",
    "diffusers_model",
    "discretized_gaussian_log_likelihood",
    "dpm_solver_step",
    "drop_labels",
    "from_ddpm",
    "from_diffusers",
    "from_guided_diffusion",
    "from_pytorch_diffusion",
    "gaussian_kl",
    "iddpm_unet",
    "init_history",
    "inpaint",
    "interpolate",
    "keys_per_example",
    "linear_betas",
    "load_pretrained",
    "make_sampler",
    "make_schedule",
    "mean_from_noise",
    "mean_from_x0",
    "noise_from_v",
    "noise_from_x0",
    "noise_loss_weight",
    "normal_per_example",
    "observe_losses",
    "p_mean_variance",
    "parameter_shapes",
    "prediction_target",
    "prior_kl",
    "q_posterior",
    "q_sample",
    "q_step",
    "quadratic_betas",
    "random_crop",
    "released",
    "rescaled_timesteps",
    "respace",
    "sample",
    "sample_timesteps",
    "sample_trajectory",
    "save_diffusers",
    "save_parameters",
    "simple_loss",
    "split_output",
    "timestep_embedding",
    "timestep_probabilities",
    "to_ddpm",
    "to_diffusers",
    "to_guided_diffusion",
    "to_pytorch_diffusion",
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
