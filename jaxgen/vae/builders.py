"""The networks, likelihoods and losses of the papers from settings that a configuration file can hold.

Sources: Kingma & Welling (2013); Burda et al. (2015).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.vae.convolutional import conv_vae
from jaxgen.vae.likelihoods import Likelihood, bernoulli, discretized_logistic, gaussian
from jaxgen.vae.networks import GLOROT, VAE, mlp_vae
from jaxgen.vae.objectives import Gradient, free_bits_statistics, iwae_loss, vae_loss

# Kingma & Welling draw their weights from N(0, 0.01) and do not say whether that is the variance; read as the standard
# deviation here.
KERNELS = {"glorot": GLOROT, "normal_0.01": nn.initializers.normal(0.01)}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Recognition and generative network, and the likelihood."""

    architecture: Literal["mlp", "conv"] = "mlp"
    """"conv" has one latent layer"""
    latent_sizes: tuple[int, ...] = (50,)
    """dimensions of z_1, z_2, ..., from the data upwards"""
    widths: tuple[int, ...] = (200, 200)
    """mlp: hidden layers between x and z_1"""
    upper_widths: tuple[int, ...] = (100, 100)
    """mlp: hidden layers between z_1 and z_2, z_2 and z_3, ..."""
    activation: Literal["tanh", "relu", "gelu"] = "tanh"
    """mlp: nonlinearity of the hidden layers"""
    kernels: Literal["glorot", "normal_0.01"] = "glorot"
    """mlp: initializer of the kernels"""
    channels: int = 32
    """conv: channels of the first level"""
    likelihood: Literal["bernoulli", "gaussian", "sigmoid_gaussian", "discretized_logistic"] = "bernoulli"
    """p(x | z); "sigmoid_gaussian": the mean is squashed into (0, 1), the variance learned"""
    data_bias: bool = True
    """bernoulli: initialize the decoder's output bias to the logits of the data's mean"""

    def check(self, grey: bool) -> list[str]:
        """What is wrong with these settings for grey or for binary pixels, one sentence each."""
        problems = []
        if self.architecture == "conv" and len(self.latent_sizes) != 1:
            problems.append(f"model.latent_sizes is {self.latent_sizes}; a convolutional VAE has one latent layer")
        if self.likelihood != "bernoulli" and not grey:
            problems.append(
                f"model.likelihood {self.likelihood!r} is for grey levels: set --binarization grey, or "
                "--model.likelihood bernoulli"
            )
        return problems


@dataclasses.dataclass(frozen=True)
class Objective:
    """The bound that is maximized."""

    bound: Literal["vae", "iwae"] = "vae"
    """"vae": the evidence lower bound; "iwae": the importance-weighted bound"""
    num_samples: int = 1
    """samples of z for each image and step"""
    gradient: Gradient = "iwae"
    """iwae: how its gradient is estimated"""
    kl: Literal["analytic", "monte_carlo"] = "analytic"
    """vae: how the KL term is computed; more than one latent layer has no analytic one"""
    beta: float = 1.0
    """vae: weight of the KL term"""
    beta_steps: int = 0
    """vae: steps over which beta rises linearly from 0"""
    free_nats: float = 0.0
    """vae: free bits per latent dimension, in nats"""
    parameter_prior: bool = False
    """vae: the prior N(0, I) on all parameters, as in Kingma & Welling"""


def build_likelihood(config: Architecture, grey: bool) -> Likelihood:
    """p(x | z) for x [..., D] in [0, 1]; `grey`: a Bernoulli likelihood takes pixels that are not binary too."""
    match config.likelihood:
        case "bernoulli":
            return bernoulli(grey=grey)
        case "gaussian":
            return gaussian()
        case "sigmoid_gaussian":
            return gaussian(sigmoid_mean=True)
        case "discretized_logistic":
            return discretized_logistic()


def build_network(config: Architecture, image_shape: tuple[int, int, int]) -> VAE:
    """The network for flat images [..., D] of shape (H, W, C), D = H W C.

    Raises:
        ValueError: what `mlp_vae` and `conv_vae` refuse.
    """
    outputs = build_likelihood(config, True).outputs
    if config.architecture == "conv":
        return conv_vae(image_shape, config.latent_sizes[0], config.channels, outputs=outputs)
    height, width, channels = image_shape
    widths = (config.widths, *[config.upper_widths] * (len(config.latent_sizes) - 1))
    activation, kernels = getattr(nn, config.activation), KERNELS[config.kernels]
    return mlp_vae(height * width * channels, config.latent_sizes, widths, outputs, activation, kernels)


def build_loss(
    config: Objective, network: VAE, likelihood: Likelihood, num_examples: int
) -> tuple[Callable[..., tuple[jax.Array, dict[str, jax.Array]]], Callable[..., Any] | None]:
    """(loss, its companion `statistics` or None) for batches {"x": [B, D]}.

    Args:
        config: the bound.
        network: the network.
        likelihood: p(x | z).
        num_examples: N, the size of the training set, by which the prior on the parameters is divided.

    Raises:
        ValueError: what `vae_loss` and `iwae_loss` refuse.
    """
    if config.bound == "iwae":
        return iwae_loss(network, likelihood, num_samples=config.num_samples, gradient=config.gradient), None
    beta: Any = config.beta
    if config.beta_steps:
        beta = lambda step: config.beta * jnp.minimum(1.0, step.astype(jnp.float32) / config.beta_steps)
    loss = vae_loss(
        network,
        likelihood,
        num_samples=config.num_samples,
        beta=beta,
        kl=config.kl,
        free_nats=config.free_nats,
        weight_decay=1 / num_examples if config.parameter_prior else 0.0,
    )
    return loss, free_bits_statistics(network) if config.free_nats else None
