"""What the KL term consists of, and the penalties that use it.

Sources: Chen, Li, Grosse & Duvenaud, "Isolating Sources of Disentanglement in Variational Autoencoders" (2018), for the
decomposition; Burgess et al., "Understanding Disentangling in beta-VAE" (2018), for the capacity.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Float, Int, Real, takes
from jaxgen.vae.gaussian import normal_log_density, standard_normal_log_density


class KLTerms(NamedTuple):
    """The KL term of each example in three parts, [B] each, nats; their sum is log q(z | x) - log p(z).

    Attributes:
        mutual_information: log q(z | x) - log q(z): what z tells of which example it came from.
        total_correlation: log q(z) - sum_j log q(z_j): how far the dimensions are from independent.
        dimension_wise_kl: sum_j log q(z_j) - log p(z).
    """

    mutual_information: jax.Array
    total_correlation: jax.Array
    dimension_wise_kl: jax.Array


@takes(z=Float("B Z"), mean=Float("B Z"), log_variance=Float("B Z"), num_examples=Count())
def kl_terms(z: ArrayLike, mean: ArrayLike, log_variance: ArrayLike, num_examples: int) -> KLTerms:
    """The decomposition of beta-TC-VAE, with q(z) estimated from a batch by minibatch-weighted sampling.

    log q(z_i) is estimated by log sum_k q(z_i | x_k) - log(N B) over the B examples of the batch (Chen et al. 2018,
    equation S6); the estimate depends on the batch. beta-TC-VAE weighs the total correlation by beta, and the others
    by 1: the loss -log p(x | z) + mutual_information + beta total_correlation + dimension_wise_kl.

    Args:
        z: z_i ~ q(z | x_i), [B, Z].
        mean: of q(z | x_i), [B, Z].
        log_variance: of q(z | x_i), [B, Z].
        num_examples: N, size of the training set.

    Returns:
        [B] each.
    """
    z, mean, log_variance = jnp.asarray(z), jnp.asarray(mean), jnp.asarray(log_variance)
    log_posterior = normal_log_density(z, mean, log_variance)
    # [B, B, Z]: dimension j of z_i under the posterior of x_k.
    each = normal_log_density(z[:, None, :, None], mean[None, :, :, None], log_variance[None, :, :, None])
    offset = math.log(num_examples * z.shape[0])
    log_aggregate = jax.nn.logsumexp(jnp.sum(each, axis=-1), axis=1) - offset
    log_marginals = jnp.sum(jax.nn.logsumexp(each, axis=1) - offset, axis=-1)
    return KLTerms(
        log_posterior - log_aggregate, log_aggregate - log_marginals, log_marginals - standard_normal_log_density(z)
    )


@takes(step=Int(""), last=Real(low=0), num_steps=Count())
def annealed_capacity(step: ArrayLike, last: float, num_steps: int) -> jax.Array:
    """C, nats: rises linearly from 0 to `last` over `num_steps` steps, and stays there (Burgess et al. 2018).

    Args:
        step: integer scalar, 0-based.
        last: the capacity at the end, nats; the paper has 25 for its sprites.
        num_steps: steps of the rise.

    Returns:
        scalar.
    """
    share = jnp.minimum(jnp.asarray(step).astype(jnp.float32) / num_steps, 1)
    return jnp.asarray(last, jnp.float32) * share


@takes(kl=Float("..."), capacity=Real(low=0), weight=Real(low=0))
def capacity_penalty(kl: ArrayLike, capacity: ArrayLike, weight: float) -> jax.Array:
    """gamma |KL - C|, in place of the KL term (Burgess et al. 2018, equation 8): [...] -> [...], nats.

    Args:
        kl: the KL term of each example, [...].
        capacity: C, nats, a scalar, e.g. `annealed_capacity`.
        weight: gamma; the paper has 1000.
    """
    kl = jnp.asarray(kl)
    return jnp.asarray(weight, kl.dtype) * jnp.abs(kl - jnp.asarray(capacity, kl.dtype))
