"""Lower bounds of log p(x), and surrogates for their gradients.

A bound is a value. A surrogate is a number whose *gradient* is an estimate of the bound's gradient, and whose value
means nothing; the two are different functions here, so that neither can be reported for the other.

log w = log p(x, z) - log q(z | x) for z ~ q(z | x); K samples lie along one axis.

Sources: notes 2; Kingma & Welling (2013), equation 3; Burda et al. (2015), equation 8, for K > 1.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Float, Real, takes


@takes(log_likelihood=Float("..."), kl=Float("..."), beta=Real())
def elbo(log_likelihood: ArrayLike, kl: ArrayLike, beta: ArrayLike = 1.0) -> jax.Array:
    """L_b = E_q log p(x | z) - beta KL(q(z | x) || p(z)), for each example.

    log p(x) = L_b + KL(q(z | x) || p(z | x)) at beta = 1. Source: Kingma & Welling (2013), equation 3; beta: Higgins et
    al. (2017), and then no bound of log p(x) unless beta is at least 1.

    Args:
        log_likelihood: E_q log p(x | z), [...], nats: summed over the dimensions of x, averaged over samples of z.
        kl: [...], nats, summed over the dimensions of z.
        beta: weight of the KL term.

    Returns:
        [...], nats.
    """
    log_likelihood, kl = jnp.asarray(log_likelihood), jnp.asarray(kl)
    return log_likelihood - jnp.asarray(beta, kl.dtype) * kl


@takes(kl_per_dimension=Float("B Z"), mean_kl=Float("Z"), nats=Real(low=0))
def free_bits(kl_per_dimension: ArrayLike, mean_kl: ArrayLike, nats: float) -> jax.Array:
    """sum_j max(lambda, mean over the batch of KL_j), as one value an example whose batch mean it is.

    Dimension j costs its own KL where its batch mean is above lambda, and the constant lambda where it is below. The
    batch mean of the result has exactly the value and the gradient of the left side, for any split of the batch.
    Source: Kingma et al., "Improving Variational Inference with Inverse Autoregressive Flow" (2016), appendix C.

    Args:
        kl_per_dimension: KL_ij, [B, Z].
        mean_kl: mean of KL_ij over the global batch, [Z], held constant.
        nats: lambda, for each dimension.

    Returns:
        [B], nats.
    """
    kl_per_dimension, mean_kl = jnp.asarray(kl_per_dimension), jnp.asarray(mean_kl)
    is_free = (jax.lax.stop_gradient(mean_kl) <= nats)[None, :]
    return jnp.sum(jnp.where(is_free, jnp.asarray(nats, kl_per_dimension.dtype), kl_per_dimension), axis=-1)


@takes(log_weights=Float("... _"))
def importance_weighted_bound(log_weights: ArrayLike, axis: int = -1) -> jax.Array:
    """L_K = log (1/K) sum_k w_k, which rises with K in expectation from the ELBO to log p(x).

    Its gradient through reparameterized samples is the IWAE gradient. Source: Burda, Grosse & Salakhutdinov,
    "Importance Weighted Autoencoders" (2015), section 3.

    Args:
        log_weights: log w, any shape with K entries along `axis`.
        axis: the axis of the samples.

    Returns:
        the shape without `axis`, nats.

    Raises:
        ValueError: there is no entry along `axis`.
    """
    log_weights = jnp.asarray(log_weights)
    if not log_weights.shape[axis]:
        raise ValueError(f"log_weights has shape {log_weights.shape}; expected a sample or more along axis {axis}")
    return jax.nn.logsumexp(log_weights, axis=axis) - math.log(log_weights.shape[axis])


@takes(log_weights=Float("... _"))
def normalized_weights(log_weights: ArrayLike, axis: int = -1) -> jax.Array:
    """w_k / sum_j w_j, held constant: the same shape as log_weights [..., K]."""
    return jax.lax.stop_gradient(jax.nn.softmax(log_weights, axis=axis))


@takes(generative=Float("..."), inference=Float("..."))
def dreg_surrogate(generative: ArrayLike, inference: ArrayLike, axis: int = -1) -> jax.Array:
    """A number whose gradient is the doubly reparameterized estimate of the gradient of L_K.

    Generative parameters get sum_k v_k d log w_k, inference parameters sum_k v_k^2 (d log w_k / d z_k)(d z_k / d phi),
    with v the normalised weights. The value means nothing. Source: Tucker, Lawson, Gu & Maddison, "Doubly
    Reparameterized Gradient Estimators for Monte Carlo Objectives" (2019).

    Args:
        generative: log w with only the generative parameters attached: z is held constant.
        inference: log w with only the path through z attached: generative parameters, and those in log q, are held
            constant.
        axis: the axis of the samples.

    Returns:
        the shape without `axis`.
    """
    v = normalized_weights(generative, axis)
    return jnp.sum(v * generative + jnp.square(v) * inference, axis=axis)


@takes(log_weights=Float("... _ _"))
def miwae_bound(log_weights: ArrayLike) -> jax.Array:
    """The mean of M importance-weighted bounds of K samples each: log w [..., M, K] -> [...], nats.

    Its gradient for the inference network has more signal than that of one bound of M K samples. Source: Rainforth et
    al., "Tighter Variational Bounds Are Not Necessarily Better" (2018), equation 19.
    """
    return jnp.mean(importance_weighted_bound(log_weights), axis=-1)


@takes(log_weights=Float("... _"), beta=Real(low=0, high=1))
def ciwae_bound(log_weights: ArrayLike, beta: float) -> jax.Array:
    """beta ELBO + (1 - beta) L_K of the same K samples: log w [..., K] -> [...], nats (Rainforth et al. 2018, CIWAE).

    Args:
        log_weights: [..., K].
        beta: in [0, 1].
    """
    return beta * jnp.mean(log_weights, axis=-1) + (1 - beta) * importance_weighted_bound(log_weights)


@takes(generative=Float("... M K"), inference=Float("... M K"))
def piwae_surrogate(generative: ArrayLike, inference: ArrayLike) -> jax.Array:
    """A number whose gradient is that of L_MK for the generative, and of `miwae_bound` for the inference network.

    The value means nothing. Source: Rainforth et al. (2018), PIWAE, section 5.

    Args:
        generative: log w [..., M, K] with only the generative parameters attached.
        inference: log w of the same samples with only the inference parameters attached, also through z.

    Returns:
        [...].
    """
    generative, inference = jnp.asarray(generative), jnp.asarray(inference)
    together = generative.reshape(*generative.shape[:-2], -1)
    return importance_weighted_bound(together) + miwae_bound(inference)


@takes(nats=Float(), num_dims=Count())
def bits_per_dim(nats: ArrayLike, num_dims: int) -> jax.Array:
    """-nats / (D log 2), any shape: a log-likelihood of discrete data with D dimensions as bits per dimension."""
    nats = jnp.asarray(nats)
    return -nats / (num_dims * math.log(2))
