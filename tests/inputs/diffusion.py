"""Calls of `jaxgen.diffusion`."""

import numpy as np

from jaxgen import diffusion
from tests.inputs import call, key, keys, unit

_SETTINGS = "makes a network, a loss, a schedule or a sampler from settings"
_WEIGHTS = "reads, writes or converts weights; tests/diffusion/pretrained"
EXEMPT = {
    **dict.fromkeys(("adm_classifier", "adm_unet", "adm_upsampler", "ddpm_unet", "iddpm_unet", "released"), _SETTINGS),
    **dict.fromkeys(
        ("classifier_objective", "denoising_objective"), "makes a loss; tests/diffusion/test_objectives.py"
    ),
    **dict.fromkeys(("constant_betas", "cosine_betas", "linear_betas", "quadratic_betas", "warmup_betas"), _SETTINGS),
    **dict.fromkeys(("from_ddpm", "from_guided_diffusion", "to_ddpm", "to_guided_diffusion"), _WEIGHTS),
    **dict.fromkeys(("load_pretrained", "save_parameters", "parameter_shapes", "check_finite"), _WEIGHTS),
    **dict.fromkeys(
        ("from_diffusers", "to_diffusers", "save_diffusers", "diffusers_config", "diffusers_model"), _WEIGHTS
    ),
    **dict.fromkeys(("from_pytorch_diffusion", "to_pytorch_diffusion"), _WEIGHTS),
    "init_history": "takes two numbers",
    "make_sampler": _SETTINGS,
    "observe_losses": "reads a dictionary of metrics; its mathematics is update_history",
    "respace": _SETTINGS,
}


def calls():
    schedule = diffusion.make_schedule(np.linspace(0.05, 0.3, 4))
    denoise = lambda x, t: 0.1 * x
    classifier = lambda x, t: x
    x0, x_t, noise, output = unit(5, 3), unit(5, 3), unit(5, 3), unit(5, 3)
    # Levels of 8 bits.
    x0 = (np.round(x0 * 255) / 127.5 - 1).astype(np.float32)
    at = {"schedule": schedule, "x_t": x_t, "t": np.array([0, 1, 2, 3, 1])}
    step = {"key": key(), "model_output": output, **at}
    data = {"schedule": schedule, "x0": x0, "t": at["t"]}
    history = diffusion.init_history(4, 2)
    two = {"denoise": denoise, "schedule": schedule, "first": x0, "second": x_t, "num": 2}
    images = {"x": unit(2, 8, 8, 1)}
    labels = np.array([0, 2, 1, 1, 0])
    return {
        "add_noise": call(**data, noise=noise),
        "ancestral_step": call(**step, gradient=noise),
        "area_mean": call(**images, size=4),
        "bits_per_dim": call("x0", key=key(), denoise=denoise, schedule=schedule, x0=x0),
        "check_images": call("x", x=x0),
        "classifier_free_guidance": call(
            "labels", network=lambda x, t, labels: x, labels=labels, null_label=3, scale=2.0
        ),
        "classifier_guidance": call("labels", classifier=classifier, labels=labels, scale=2.0),
        "convert": call(value=output, **at, source="noise", target="x0"),
        "ddim_encode": call("x0", denoise=denoise, x0=x0, schedule=schedule),
        "ddim_interpolate": call(**two),
        "ddim_inversion_step": call(schedule=schedule, model_output=output, x_prev=x_t, t=at["t"], seen=x0),
        "ddim_step": call(**step, eta=0.5),
        "denoise_from": call("x_t", key=key(), denoise=denoise, x_t=x_t, schedule=schedule),
        "discretized_gaussian_log_likelihood": call("x", "mean", "log_variance", x=x0, mean=x_t, log_variance=noise),
        "dpm_solver_step": call(model_output=output, **at, x0_before=x0),
        "drop_labels": call(keys=keys(5), labels=labels, rate=0.5, null_label=3),
        "gaussian_kl": call(
            "mean",
            "log_variance",
            "other_mean",
            "other_log_variance",
            mean=x0,
            log_variance=noise,
            other_mean=x_t,
            other_log_variance=output,
        ),
        "interpolate": call(key=key(), **two, t=2),
        "keys_per_example": call(key=key(), num=3),
        "make_schedule": call(betas=np.linspace(0.05, 0.3, 4).astype(np.float32)),
        "mean_from_noise": call(noise=noise, **at),
        "mean_from_x0": call(x0=x0, **at),
        "noise_from_v": call(v=noise, **at),
        "noise_from_x0": call(x0=x0, **at),
        "noise_loss_weight": call("x_t", **at),
        "normal_per_example": call("x", key=key(), x=x0),
        "p_mean_variance": call(model_output=output, **at),
        "prediction_target": call(**data, noise=noise, prediction="v"),
        "prior_kl": call("x0", schedule=schedule, x0=x0),
        "q_posterior": call(x0=x0, **at),
        "q_sample": call("x0", key=key(), **data),
        "q_step": call("x_prev", key=key(), schedule=schedule, x_prev=x_t, t=at["t"]),
        "random_crop": call("image:1", key=key(), image=unit(8, 8, 1), smallest=0.5),
        "rescaled_timesteps": call("t", t=labels, num_original_steps=10),
        "inpaint": call("mask", key=key(), denoise=denoise, image=x0, mask=np.arange(3) > 0 * x0, schedule=schedule),
        "sample": call(key=key(), denoise=denoise, shape=(2, 3), schedule=schedule),
        "sample_timesteps": call("probabilities", keys=keys(5), probabilities=np.full(4, 0.25, np.float32)),
        "sample_trajectory": call(key=key(), denoise=denoise, shape=(2, 3), schedule=schedule, num_frames=2),
        "simple_loss": call(model_output=output, **data, noise=noise, prediction="v"),
        "split_output": call("model_output", model_output=output, variance="fixed_small"),
        "timestep_embedding": call("t", t=labels, width=4),
        "timestep_probabilities": call(history=history),
        "training_loss": call(model_output=output, **data, noise=noise, variance="fixed_small"),
        "update_history": call(history=history, t=np.array([0, 3, 1]), losses=unit(3)),
        "v_from_noise_and_x0": call(noise=noise, **data),
        "vlb_term": call(model_output=output, x0=x0, **at),
        "vlb_terms": call("x0", key=key(), denoise=denoise, schedule=schedule, x0=x0),
        "with_low_resolution": call(**images, low_resolution=unit(2, 4, 4, 1)),
        "x0_from_mean": call(mean=noise, **at),
        "x0_from_noise": call(noise=noise, **at),
        "x0_from_v": call(v=noise, **at),
    }
