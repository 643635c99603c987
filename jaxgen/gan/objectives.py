"""The value of the game and the losses of the two players, from logits: one value an example.

Each player minimizes its own loss. The original game is that of Goodfellow et al. (2014),

    min_G max_D V(D, G) = E_{x ~ p_r} log D(x) + E_{z ~ p_z} log(1 - D(G(z))),   D = sigmoid(logit)

Argument order is (real, fake) everywhere; a critic's unbounded score counts as a logit.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxgen.arguments import Float, Real, takes

VALUE_AT_EQUILIBRIUM = -2 * math.log(2)
"""V when D = 1/2 everywhere: -2 log 2, nats."""


class Losses(NamedTuple):
    """A pair of losses that belong together.

    Attributes:
        discriminator: (real_logits [B], fake_logits [B]) -> [B].
        generator: fake_logits [B] -> [B].
    """

    discriminator: Callable[[jax.Array, jax.Array], jax.Array]
    generator: Callable[[jax.Array], jax.Array]


@takes(real_logits=Float("..."), fake_logits=Float("..."))
def value(real_logits: ArrayLike, fake_logits: ArrayLike) -> jax.Array:
    """log D(x) + log(1 - D(G(z))) for each pair of a real and a generated example; its average is V(D, G).

    Args:
        real_logits: of D(x), [...].
        fake_logits: of D(G(z)), of the same shape.

    Returns:
        [...], at most 0, nats. Finite with finite gradients for every finite logit.

    Raises:
        ValueError: the shapes differ.
    """
    real_logits, fake_logits = jnp.asarray(real_logits), jnp.asarray(fake_logits)
    check_pairs(real_logits, fake_logits)
    return -jax.nn.softplus(-real_logits) - jax.nn.softplus(fake_logits)


@takes(real_logits=Float("..."), fake_logits=Float("..."))
def discriminator_loss(real_logits: ArrayLike, fake_logits: ArrayLike) -> jax.Array:
    """-log D(x) - log(1 - D(G(z))), minus the game's `value`: logits of one shape -> [...], nats.

    The cross-entropies of the two halves are added. The authors' code averages them, which halves the loss.

    Raises:
        ValueError: the shapes differ.
    """
    return -value(real_logits, fake_logits)


@takes(fake_logits=Float())
def generator_loss(fake_logits: ArrayLike, saturating: bool = False) -> jax.Array:
    """What the generator minimizes: [...] -> [...], nats.

    Saturating, log(1 - D(G(z))): its side of the min-max game; its gradient vanishes where D rejects the samples.
    Otherwise -log D(G(z)), the heuristic of section 3 of Goodfellow et al. (2014), which their experiments use.
    Derivatives by the logit are -D and -(1 - D): the same fixed point, in the ratio D / (1 - D).
    """
    fake_logits = jnp.asarray(fake_logits)
    return -jax.nn.softplus(fake_logits) if saturating else jax.nn.softplus(-fake_logits)


@takes(real_logits=Float("..."), fake_logits=Float("..."), real_target=Real(), fake_target=Real())
def least_squares_discriminator_loss(
    real_logits: ArrayLike, fake_logits: ArrayLike, real_target: float = 1.0, fake_target: float = 0.0
) -> jax.Array:
    """(D(x) - b)^2 / 2 + (D(G(z)) - a)^2 / 2 (Mao et al. 2017, least squares GAN): logits of one shape -> [...].

    Raises:
        ValueError: the shapes differ.
    """
    real_logits, fake_logits = jnp.asarray(real_logits), jnp.asarray(fake_logits)
    check_pairs(real_logits, fake_logits)
    return (jnp.square(real_logits - real_target) + jnp.square(fake_logits - fake_target)) / 2


@takes(fake_logits=Float(), target=Real())
def least_squares_generator_loss(fake_logits: ArrayLike, target: float = 1.0) -> jax.Array:
    """(D(G(z)) - c)^2 / 2 (Mao et al. 2017): [...] -> [...]. With b - c = 1, b - a = 2 a Pearson chi^2 divergence."""
    return jnp.square(fake_logits - target) / 2


@takes(real_logits=Float("..."), fake_logits=Float("..."))
def wasserstein_discriminator_loss(real_logits: ArrayLike, fake_logits: ArrayLike) -> jax.Array:
    """f(G(z)) - f(x) (Arjovsky et al. 2017): scores of one shape -> [...]; at best minus the Wasserstein-1 distance.

    The critic must be kept 1-Lipschitz, by `gradient_penalty` or spectral normalisation.

    Raises:
        ValueError: the shapes differ.
    """
    real_logits, fake_logits = jnp.asarray(real_logits), jnp.asarray(fake_logits)
    check_pairs(real_logits, fake_logits)
    return fake_logits - real_logits


@takes(fake_logits=Float())
def wasserstein_generator_loss(fake_logits: ArrayLike) -> jax.Array:
    """-f(G(z)) (Arjovsky et al. 2017): [...] -> [...]; also the generator's side of the hinge loss."""
    fake_logits = jnp.asarray(fake_logits)
    return -fake_logits


@takes(real_logits=Float("..."), fake_logits=Float("..."))
def hinge_discriminator_loss(real_logits: ArrayLike, fake_logits: ArrayLike) -> jax.Array:
    """max(0, 1 - f(x)) + max(0, 1 + f(G(z))) (Lim & Ye 2017; Miyato et al. 2018): scores of one shape -> [...].

    Raises:
        ValueError: the shapes differ.
    """
    real_logits, fake_logits = jnp.asarray(real_logits), jnp.asarray(fake_logits)
    check_pairs(real_logits, fake_logits)
    return jax.nn.relu(1 - real_logits) + jax.nn.relu(1 + fake_logits)


def check_pairs(real: jax.Array, fake: jax.Array) -> None:
    """Raises ValueError unless two arrays have one shape, so that nothing is broadcast by accident."""
    if real.shape != fake.shape:
        raise ValueError(f"shapes are {real.shape} and {fake.shape}; both must be the same")


NON_SATURATING = Losses(discriminator_loss, generator_loss)
"""What the paper's experiments train with."""
SATURATING = Losses(discriminator_loss, partial(generator_loss, saturating=True))
"""The min-max game itself."""
LEAST_SQUARES = Losses(least_squares_discriminator_loss, least_squares_generator_loss)
WASSERSTEIN = Losses(wasserstein_discriminator_loss, wasserstein_generator_loss)
HINGE = Losses(hinge_discriminator_loss, wasserstein_generator_loss)
