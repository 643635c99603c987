"""Generative adversarial networks: a game of two players, and its variants (chapter 3 of the notes)."""

from jaxgen.gan.dcgan import DCGANDiscriminator, DCGANGenerator, check_labels, halvings
from jaxgen.gan.game import (
    VALUE_AT_EQUILIBRIUM,
    jensen_shannon,
    optimal_discriminator,
    optimal_logits,
    value,
)
from jaxgen.gan.networks import (
    MaxoutDiscriminator,
    MLPDiscriminator,
    MLPGenerator,
    constant_bias,
    dropout,
    marginal_logits,
    maxout,
    uniform_init,
)
from jaxgen.gan.objectives import (
    HINGE,
    LEAST_SQUARES,
    NON_SATURATING,
    SATURATING,
    WASSERSTEIN,
    Losses,
    discriminator_loss,
    generator_loss,
    hinge_discriminator_loss,
    least_squares_discriminator_loss,
    least_squares_generator_loss,
    wasserstein_discriminator_loss,
    wasserstein_generator_loss,
)
from jaxgen.gan.penalties import gradient_penalty, r1_penalty, squared_gradient
from jaxgen.gan.players import Players, normal_noise, uniform_noise
from jaxgen.gan.sampling import sample
from jaxgen.gan.spectral import (
    advance_spectral,
    init_spectral,
    power_iteration,
    spectral_norm,
    spectrally_normalized,
)
from jaxgen.gan.update import separate_optimizers, two_player_update

__all__ = [
    "HINGE",
    "LEAST_SQUARES",
    "NON_SATURATING",
    "SATURATING",
    "VALUE_AT_EQUILIBRIUM",
    "WASSERSTEIN",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "Losses",
    "MLPDiscriminator",
    "MLPGenerator",
    "MaxoutDiscriminator",
    "Players",
    "advance_spectral",
    "check_labels",
    "constant_bias",
    "discriminator_loss",
    "dropout",
    "generator_loss",
    "gradient_penalty",
    "halvings",
    "hinge_discriminator_loss",
    "init_spectral",
    "jensen_shannon",
    "least_squares_discriminator_loss",
    "least_squares_generator_loss",
    "marginal_logits",
    "maxout",
    "normal_noise",
    "optimal_discriminator",
    "optimal_logits",
    "power_iteration",
    "r1_penalty",
    "sample",
    "separate_optimizers",
    "spectral_norm",
    "spectrally_normalized",
    "squared_gradient",
    "two_player_update",
    "uniform_init",
    "uniform_noise",
    "value",
    "wasserstein_discriminator_loss",
    "wasserstein_generator_loss",
]
