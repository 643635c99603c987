"""Losses: minus a bound, for the engine, one value an example.

Everything is summed over the dimensions of x and of z, in nats, and averaged over the batch. With beta = 1 and no free
bits, minus the loss is a lower bound of log p(x).

Sources: Kingma & Welling (2013); Burda et al. (2015); of free bits and of gradients, with their functions.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Each, Float, Key, Real, takes
from jaxgen.vae.bounds import dreg_surrogate, elbo, free_bits, importance_weighted_bound
from jaxgen.vae.gaussian import kl_per_dimension, normal_log_density, standard_normal_log_density
from jaxgen.vae.likelihoods import Likelihood, check_outputs
from jaxgen.vae.networks import VAE, apply, checked_noise, draw_noise

Gradient = Literal["iwae", "stl", "dreg"]
Loss = Callable[[Any, dict, jax.Array | None, Any], tuple[jax.Array, dict[str, jax.Array]]]
"""loss(params, batch, keys, context) -> (losses [B], {name: [B]})."""

BATCH = {"x": Float("B _")}
"""The entries of a batch, for `takes`."""

GRADIENTS = ("iwae", "stl", "dreg")


@takes(z=Each(Float("...1 _")))
def log_prior(network: VAE, params: Any, z: tuple[jax.Array, ...]) -> jax.Array:
    """log p(z_1, ..., z_L): z_l [..., Z_l] each -> [...], nats."""
    total = standard_normal_log_density(z[-1])
    for sample, gaussian in zip(z[:-1], apply(network, params, z, method="priors"), strict=True):
        total = total + normal_log_density(sample, *gaussian)
    return total


@takes(x=Float("...1 _"), z=Each(Float("...1 _")))
def log_posterior(network: VAE, params: Any, x: ArrayLike, z: tuple[jax.Array, ...]) -> jax.Array:
    """log q(z_1, ..., z_L | x): x [..., 1, D] or [..., D], z_l [..., Z_l] each -> [...], nats."""
    x = jnp.asarray(x)
    gaussians = apply(network, params, x, z, method="posteriors")
    return sum((normal_log_density(s, *g) for s, g in zip(z, gaussians, strict=True)), jnp.zeros((), x.dtype))


@takes(x=Float("B _ _"), z=Each(Float("B K _")))
def log_weights(
    network: VAE, params: Any, likelihood: Likelihood, x: ArrayLike, z: tuple[jax.Array, ...], stop: bool = False
) -> jax.Array:
    """log w = log p(x | z_1) + log p(z) - log q(z | x).

    Args:
        network: the network.
        params: its parameters, a tree.
        likelihood: p(x | z_1).
        x: [B, 1, D].
        z: [B, K, Z_l] a layer, from `VAE.infer`.
        stop: holds the parameters in log q constant, so that the gradient of the inference network comes by the path
            through z alone.

    Returns:
        [B, K], nats.
    """
    output = apply(network, params, z[0], method="decode")
    check_outputs(likelihood, output, network.data_size)
    log_likelihood = likelihood.log_prob(x, output)
    held = jax.lax.stop_gradient(params) if stop else params
    return log_likelihood + log_prior(network, params, z) - log_posterior(network, held, x, z)


@takes(x=Float("B _"), keys=Key("B"), num_samples=Count())
def posterior_samples(
    network: VAE, params: Any, x: ArrayLike, keys: jax.Array | None, num_samples: int, *, noise: Any = None
) -> tuple:
    """K draws of z ~ q(z | x): x [B, D], keys [B] -> one array [B, K, Z_l] a layer.

    Args:
        network: the network.
        params: its parameters, a tree.
        x: [B, D].
        keys: [B]; may be None where `noise` is given.
        num_samples: K.
        noise: eps, a tuple of one array [B, K, Z_l] a layer, in place of the draws.

    Raises:
        ValueError: noise of another shape, or neither keys nor noise.
    """
    x = jnp.asarray(x)
    seen = x[:, None, :]
    if noise is not None:
        noise = checked_noise(noise, network.latent_sizes, len(x), num_samples, dtype=x.dtype)
    elif keys is not None:
        draw = lambda key: draw_noise(key, network.latent_sizes, num_samples, dtype=x.dtype)
        noise = jax.vmap(draw)(keys)
    else:
        raise ValueError("there are no keys and no noise; expected keys [B], or noise [B, K, Z_l] of each layer")
    return apply(network, params, seen, noise, method="infer")


@takes(num_samples=Count(), free_nats=Real(), weight_decay=Real())
def vae_loss(
    network: VAE,
    likelihood: Likelihood,
    *,
    num_samples: int = 1,
    beta: float | Callable[[jax.Array], jax.Array] = 1.0,
    kl: Literal["analytic", "monte_carlo"] = "analytic",
    free_nats: float = 0.0,
    weight_decay: float = 0.0,
) -> Loss:
    """-L_b (Kingma & Welling 2013, section 2.3).

    Args:
        network: the network.
        likelihood: p(x | z).
        num_samples: K, samples of z whose log-likelihoods are averaged.
        beta: weight of the KL term, a number or a function of the step (annealing).
        kl: "analytic" (one latent layer) or "monte_carlo" (any number).
        free_nats: lambda of `free_bits`, for each latent dimension; needs kl "analytic" and
            statistics=`free_bits_statistics(network)` handed to the engine.
        weight_decay: adds weight_decay |params|^2 / 2. Kingma & Welling's prior N(0, I) on the parameters is 1 / N.

    Returns:
        loss(params, batch, keys, context) on batch["x"] [B, D]; metrics "bound" (beta = 1), "log_likelihood", "kl". If
        the batch holds "noise", a tuple of one array [B, K, Z_l] a layer, that is eps in place of the draws, and keys
        may be None.

    Raises:
        ValueError: no samples, or an analytic KL or free bits where there is none.
    """
    check_samples(num_samples)
    if kl not in ("analytic", "monte_carlo"):
        raise ValueError(f"kl is {kl!r}; expected 'analytic' or 'monte_carlo'")
    if kl == "analytic" and len(network.latent_sizes) > 1:
        raise ValueError(f"{len(network.latent_sizes)} latent layers have no analytic KL; use kl='monte_carlo'")
    if free_nats < 0 or (free_nats and kl != "analytic"):
        raise ValueError(f"free_nats is {free_nats} with kl={kl!r}; it must be 0 or more, and needs kl='analytic'")

    @takes(batch=BATCH, keys=Key("B"))
    def loss(params, batch, keys, context):
        x = batch["x"]
        z = posterior_samples(network, params, x, keys, num_samples, noise=batch.get("noise"))
        seen = x[:, None, :]
        output = apply(network, params, z[0], method="decode")
        check_outputs(likelihood, output, network.data_size)
        likelihoods = likelihood.log_prob(seen, output)
        by_dimension = None
        if kl == "analytic":
            by_dimension = kl_per_dimension(*apply(network, params, seen, method="encode"))[:, 0]
            divergence = jnp.sum(by_dimension, axis=-1)
        else:
            log_ratio = log_posterior(network, params, seen, z) - log_prior(network, params, z)
            divergence = jnp.mean(log_ratio, axis=-1)
        log_likelihood = jnp.mean(likelihoods, axis=-1)
        weight = beta(context.step) if callable(beta) else beta
        paid = divergence
        if free_nats:
            if context.statistics is None:
                raise ValueError("free_nats needs statistics=free_bits_statistics(network) handed to the engine")
            assert by_dimension is not None
            paid = free_bits(by_dimension, context.statistics["kl_per_dimension"], free_nats)
        losses = -elbo(log_likelihood, paid, weight) + _decay(params, weight_decay)
        metrics = {"bound": elbo(log_likelihood, divergence), "log_likelihood": log_likelihood, "kl": divergence}
        return losses, metrics

    return loss


def free_bits_statistics(network: VAE) -> Callable[..., dict[str, jax.Array]]:
    """The companion of `vae_loss(..., free_nats=...)`: statistics(params, batch, keys, context) -> KL_ij [B, Z]."""

    @takes(batch=BATCH)
    def statistics(params, batch, keys, context):
        del keys, context
        return {"kl_per_dimension": kl_per_dimension(*apply(network, params, batch["x"], method="encode"))}

    return statistics


@takes(num_samples=Count())
def iwae_loss(
    network: VAE,
    likelihood: Likelihood,
    *,
    num_samples: int,
    gradient: Gradient = "iwae",
) -> Loss:
    """-L_K (Burda et al. 2015), with a choice of how its gradient is estimated.

    The value is the same for all; the gradients differ in variance, and "stl" for K > 1 also in mean.

    Args:
        network: the network.
        likelihood: p(x | z).
        num_samples: K.
        gradient: "iwae": of L_K itself. "stl", sticking the landing: without the score term of log q, whose expectation
            is zero at K = 1 (Roeder, Wu & Duvenaud 2017); biased for K > 1. "dreg": doubly reparameterized, unbiased
            for every K (Tucker et al. 2019).

    Returns:
        loss(params, batch, keys, context) on batch["x"] [B, D]; metrics "bound" (L_K) and "elbo" (the mean of log w).
        The batch may hold "noise" as in `vae_loss`.

    Raises:
        ValueError: no samples, or an unknown gradient.
    """
    check_samples(num_samples)
    if gradient not in GRADIENTS:
        raise ValueError(f"gradient is {gradient!r}; expected one of {', '.join(GRADIENTS)}")

    @takes(batch=BATCH, keys=Key("B"))
    def loss(params, batch, keys, context):
        del context
        x = batch["x"]
        z = posterior_samples(network, params, x, keys, num_samples, noise=batch.get("noise"))
        weights = lambda params, z, stop: log_weights(network, params, likelihood, x[:, None, :], z, stop)
        if gradient == "dreg":
            log_w = weights(params, jax.lax.stop_gradient(z), True)
            path = weights(jax.lax.stop_gradient(params), z, True)
            surrogate = dreg_surrogate(log_w, path)
        else:
            log_w = weights(params, z, gradient == "stl")
            surrogate = importance_weighted_bound(log_w)
        bound = importance_weighted_bound(jax.lax.stop_gradient(log_w))
        # The value of the bound, with the gradient of the surrogate.
        losses = -(bound + surrogate - jax.lax.stop_gradient(surrogate))
        return losses, {"bound": bound, "elbo": jnp.mean(log_w, axis=-1)}

    return loss


def check_samples(num_samples: int) -> None:
    """Raises ValueError unless there is at least one sample."""
    if num_samples < 1:
        raise ValueError(f"num_samples is {num_samples}; a bound needs at least 1 sample of z")


def _decay(params: Any, weight: float) -> jax.Array | float:
    if not weight:
        return 0.0
    return weight / 2 * sum(jnp.sum(jnp.square(p)) for p in jax.tree.leaves(params))
