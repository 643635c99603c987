"""Calls of `jaxgen.vae`."""

import numpy as np

from jaxgen import vae
from tests.inputs import call, key, keys, unit
from tests.parameters import random_parameters

_SETTINGS = "makes a network, a likelihood or a loss from settings"
EXEMPT = {
    "bernoulli": "makes a likelihood; tests/inputs/test_losses.py",
    "build_likelihood": _SETTINGS,
    "build_loss": _SETTINGS,
    "build_network": _SETTINGS,
    "conv_vae": _SETTINGS,
    "discretized_logistic": "makes a likelihood; tests/inputs/test_losses.py",
    "free_bits_statistics": "makes statistics; tests/inputs/test_losses.py",
    "gaussian": "makes a likelihood; tests/inputs/test_losses.py",
    "iwae_loss": "makes a loss; tests/inputs/test_losses.py",
    "manifold": "takes two numbers",
    "mlp_vae": _SETTINGS,
    "vae_loss": "makes a loss; tests/inputs/test_losses.py",
}


def calls():
    network, likelihood = vae.mlp_vae(3, (2,), ((4,),)), vae.bernoulli(grey=True)
    params = random_parameters(network, np.zeros((1, 3), np.float32), (np.zeros((1, 2), np.float32),))
    model = {"network": network, "params": params}
    x, z, mean, log_variance = unit(5, 3), unit(5, 2), unit(5, 2), unit(5, 2)
    gaussian = {"mean": mean, "log_variance": log_variance}
    # One x for several samples of z, or one sample for several x.
    broadcast = ("x:1", "logits:1", "mean:1", "log_variance:1", "log_scale:1")
    three = {"z": (unit(5, 6, 2),)}
    return {
        "active_units": call(means=x),
        "annealed_capacity": call(step=np.int32(3), last=25.0, num_steps=10),
        "bernoulli_log_likelihood": call(*broadcast, x=x, logits=unit(5, 3)),
        "bits_per_dim": call("nats", nats=unit(5), num_dims=3),
        "capacity_penalty": call("kl", kl=unit(5), capacity=0.3, weight=10.0),
        "check_data": call("x", likelihood=likelihood, x=x),
        "ciwae_bound": call("log_weights", log_weights=x, beta=0.5),
        "discretized_logistic_log_likelihood": call(*broadcast, x=x, mean=unit(5, 3), log_scale=unit(5, 3)),
        "draw_noise": call(key=key(), latent_sizes=(2, 3)),
        "dreg_surrogate": call(generative=x, inference=unit(5, 3)),
        "elbo": call(log_likelihood=unit(5), kl=unit(5)),
        "free_bits": call("kl_per_dimension:1", kl_per_dimension=z, mean_kl=unit(2), nats=0.5),
        "from_noise": call("noise", "mean", "log_variance", noise=z, **gaussian),
        "gaussian_log_likelihood": call(*broadcast, x=x, mean=unit(5, 3), log_variance=unit(5, 3)),
        "importance_weighted_bound": call("log_weights", log_weights=x),
        "init_params": call("output_bias", key=key(), network=network, output_bias=unit(3)),
        "interpolate": call(start=z, end=unit(5, 2), num=3, spherical=True),
        "kl_per_dimension": call(**gaussian),
        "kl_terms": call(z=z, **gaussian, num_examples=100),
        "kl_to_standard_normal": call(**gaussian),
        "log_marginal_likelihood": call("x:1", key=key(), **model, likelihood=likelihood, x=x, num_samples=4, chunk=2),
        "log_posterior": call(**model, x=x[:, None], **three),
        "log_prior": call(**model, **three),
        "log_weights": call(**model, likelihood=likelihood, x=x[:, None], **three),
        "mean_logits": call(x=x),
        "miwae_bound": call("log_weights", log_weights=unit(5, 2, 3)),
        "monte_carlo_kl": call("z", "mean", "log_variance", z=z, **gaussian),
        "normal_log_density": call("z", "mean", "log_variance", z=z, **gaussian),
        "normalized_weights": call("log_weights", log_weights=x),
        "piwae_surrogate": call(generative=unit(5, 2, 3), inference=unit(5, 2, 3)),
        "posterior_means": call("x:1", key=key(), **model, x=x, num_samples=2),
        "posterior_samples": call(**model, x=x, keys=keys(5), num_samples=2),
        "reconstruct": call(**model, likelihood=likelihood, x=x),
        "reparameterize": call(key=key(), **gaussian),
        "sample": call(key=key(), **model, likelihood=likelihood, num=3),
        "standard_normal_log_density": call("z", z=z),
        "traverse": call("z:1", "values:1", z=unit(2), values=unit(4)),
    }
