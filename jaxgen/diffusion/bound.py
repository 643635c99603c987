"""The variational bound of -log p(x_0): L_T, L_{t-1}, L_0.

The sum of these terms bounds -log p_theta(x_0) from above. Source: Ho et al. (2020), equation 5.
Everything is summed over the dimensions of an example and in nats, except `bits_per_dim`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxgen.arguments import Float, Key, takes
from jaxgen.compiler import check_once
from jaxgen.diffusion.arguments import IMAGES, LEVELS, OUTPUT
from jaxgen.diffusion.decoder import Cdf, log_level_mass
from jaxgen.diffusion.predictions import Prediction, noise_from_x0
from jaxgen.diffusion.process import add_noise, q_posterior
from jaxgen.diffusion.random import keys_per_example, normal_or_given
from jaxgen.diffusion.reverse import Variance, log_variance, p_mean_variance
from jaxgen.diffusion.schedule import Schedule, exact_log_alphas_bar, expand_dims_like, gather
from jaxgen.nn.random import checked_draws

Denoise = Callable[[jax.Array, jax.Array], jax.Array]
"""denoise(x_t [B, ...], original timesteps [B] int32) -> the network's output [B, ...]."""


class Bound(NamedTuple):
    """The bound of -log p(x_0), term by term. Made by `vlb_terms` (nats) and `bits_per_dim`.

    Attributes:
        prior: L_T = KL(q(x_T | x_0) || N(0, I)), [B].
        terms: entry t is the term of index t, [B, T]: L_0 = -log p(x_0 | x_1) at t = 0, a KL divergence above.
        x0_mse: mean squared error of the predicted x_0, clipped if the terms are, [B, T]; no unit.
        noise_mse: mean squared error of the noise that belongs to it, [B, T]; no unit.
    """

    prior: jax.Array
    terms: jax.Array
    x0_mse: jax.Array
    noise_mse: jax.Array

    @property
    def total(self) -> jax.Array:
        """The bound: rate + distortion, [B]."""
        return self.prior + jnp.sum(self.terms, axis=1)

    @property
    def rate(self) -> jax.Array:
        """L_T + ... + L_1 (Ho et al. 2020, section 4.3), [B]."""
        return self.prior + jnp.sum(self.terms[:, 1:], axis=1)

    @property
    def distortion(self) -> jax.Array:
        """L_0, [B]."""
        return self.terms[:, 0]


@takes(schedule=Schedule, x0=IMAGES)
def prior_kl(schedule: Schedule, x0: ArrayLike) -> jax.Array:
    """L_T = KL(q(x_T | x_0) || N(0, I)): [B, ...] -> [B], nats.

    Each dimension has (alpha-bar x_0^2 - log(1 - alpha-bar) - alpha-bar) / 2. The last two terms nearly cancel, so
    their sum is made in float64.
    """
    alpha_bar = math.exp(exact_log_alphas_bar(schedule)[-1])
    constant = -math.log1p(-alpha_bar) - alpha_bar
    return _sum(alpha_bar * jnp.square(x0) + constant) / 2


@takes(mean=Float("...1"), log_variance=Float("...1|"), other_mean=Float("...1"), other_log_variance=Float("...1|"))
def gaussian_kl(
    mean: ArrayLike, log_variance: ArrayLike, other_mean: ArrayLike, other_log_variance: ArrayLike
) -> jax.Array:
    """KL(N(mean, exp(log_variance)) || N(other_mean, exp(other_log_variance))) of each dimension, [...], nats."""
    mean, log_variance = jnp.asarray(mean), jnp.asarray(log_variance)
    other_mean, other_log_variance = jnp.asarray(other_mean), jnp.asarray(other_log_variance)
    gap = log_variance - other_log_variance
    # expm1 keeps the digits where the two variances are nearly equal, the usual case.
    return (jnp.expm1(gap) - gap + jnp.square(mean - other_mean) * jnp.exp(-other_log_variance)) / 2


@takes(schedule=Schedule, model_output=OUTPUT, x0=IMAGES, x_t=IMAGES)
def vlb_term(
    schedule: Schedule,
    model_output: ArrayLike,
    x0: ArrayLike,
    x_t: ArrayLike,
    t: ArrayLike,
    *,
    prediction: Prediction = "noise",
    variance: Variance = "fixed_large",
    clip: bool = True,
    cdf: Cdf = "tanh",
) -> jax.Array:
    """One term of the bound for each example: L_0 = -log p(x_0 | x_1) at t = 0, else KL(q(x_{t-1}|x_t,x_0) || p).

    Args:
        schedule: the schedule.
        model_output: the network's output for (x_t, t), [B, ..., C], or [B, ..., 2 C] where the variance is learned.
        x0: images of 256 levels from -1 to 1, [B, ..., C].
        x_t: a draw from q(x_t | x_0), [B, ..., C].
        t: integers [B], or a scalar.
        prediction: as in `p_mean_variance`.
        variance: as in `p_mean_variance`.
        clip: as in `p_mean_variance`: evaluation clips, training does not.
        cdf: of the decoder, "tanh" (the authors' approximation) or "exact".

    Returns:
        [B], nats, summed over dimensions.

    Raises:
        ValueError: as in `p_mean_variance`; an unknown cdf.
    """
    x0 = jnp.asarray(x0)
    p = p_mean_variance(schedule, model_output, x_t, t, prediction=prediction, variance=variance, clip=clip)
    q = q_posterior(schedule, x0, x_t, t)
    divergence = gaussian_kl(q.mean, q.log_variance, p.mean, p.log_variance)
    decoder = -log_level_mass(x0, p.mean, p.log_variance, cdf)
    is_first = jnp.broadcast_to(expand_dims_like(jnp.asarray(t) == 0, x0), x0.shape)
    return _sum(jnp.where(is_first, decoder, divergence))


@takes(key=Key("|B"), schedule=Schedule, x0=LEVELS)
def vlb_terms(
    key: jax.Array | None,
    denoise: Denoise,
    schedule: Schedule,
    x0: ArrayLike,
    *,
    prediction: Prediction = "noise",
    variance: Variance = "fixed_large",
    clip: bool = True,
    cdf: Cdf = "tanh",
    noise: ArrayLike | None = None,
) -> Bound:
    """All terms of the bound, each with noise of its own, in one scan over t.

    Example i's noise depends on (key, i, t) alone. Unbiased for the bound; T evaluations of the network.

    Args:
        key: scalar key, or keys [B]; may be None where `noise` is given.
        denoise: (x_t [B, ...], original timesteps [B]) -> the network's output.
        schedule: the schedule.
        x0: images of 256 levels from -1 to 1, [B, ..., C].
        prediction: as in `p_mean_variance`.
        variance: as in `p_mean_variance`.
        clip: as in `p_mean_variance`.
        cdf: of the decoder, "tanh" or "exact".
        noise: eps, [T, B, ..., C], in place of the draws; entry t is that of x_t.

    Returns:
        the terms in nats, summed over dimensions.

    Raises:
        ValueError: noise of another shape, or neither a key nor noise.
    """
    x0 = jnp.asarray(x0)
    check_once()
    batch = x0.shape[0]
    keys = None if key is None else keys_per_example(key, batch)
    if noise is not None:
        noise = checked_draws("noise", noise, (schedule.num_steps, *x0.shape), x0.dtype)

    def one(_, each):
        t, given = each
        step_keys = None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, t)
        noise = normal_or_given(step_keys, x0, given)
        x_t = add_noise(schedule, x0, t, noise)
        output = denoise(x_t, jnp.broadcast_to(schedule.timesteps[t], (batch,)))
        term = vlb_term(schedule, output, x0, x_t, t, prediction=prediction, variance=variance, clip=clip, cdf=cdf)
        predicted = p_mean_variance(schedule, output, x_t, t, prediction=prediction, variance=variance, clip=clip).x0
        error = noise_from_x0(schedule, predicted, x_t, t) - noise
        return None, (term, _mean(jnp.square(predicted - x0)), _mean(jnp.square(error)))

    _, (terms, x0_mse, noise_mse) = jax.lax.scan(one, None, (jnp.arange(schedule.num_steps), noise))
    return Bound(prior_kl(schedule, x0), terms.T, x0_mse.T, noise_mse.T)


@takes(key=Key("|B"), schedule=Schedule, x0=LEVELS)
def bits_per_dim(key: jax.Array | None, denoise: Denoise, schedule: Schedule, x0: ArrayLike, **options: Any) -> Bound:
    """`vlb_terms` divided by D log 2: `total`, `rate` and `distortion` [B] are bits for each dimension of x0 [B, ...].

    The mean squared errors stay as they are. The published protocol: all T steps, clipped, the tanh decoder.

    Args:
        key: scalar key, or keys [B]; may be None where `noise` is given.
        denoise: (x_t [B, ...], original timesteps [B]) -> the network's output.
        schedule: the schedule.
        x0: images of 256 levels from -1 to 1, [B, ..., C].
        **options: `prediction`, `variance`, `clip`, `cdf` and `noise` of `vlb_terms`.
    """
    x0 = jnp.asarray(x0)
    bound = vlb_terms(key, denoise, schedule, x0, **options)
    unit = math.prod(x0.shape[1:]) * math.log(2)
    return bound._replace(prior=bound.prior / unit, terms=bound.terms / unit)


@takes(schedule=Schedule, x_t=IMAGES)
def noise_loss_weight(
    schedule: Schedule, x_t: ArrayLike, t: ArrayLike, variance: Variance = "fixed_large"
) -> jax.Array:
    """beta_t^2 / (2 sigma_t^2 alpha_t (1 - alpha-bar_t)): what |eps - eps_theta|^2 costs in L_{t-1}.

    Ho et al. (2020), equation 12; L_simple sets it to 1.

    Args:
        schedule: the schedule.
        x_t: [B, ...], for its rank and dtype alone.
        t: integers [B], or a scalar.
        variance: "fixed_small" or "fixed_large".

    Returns:
        [B, 1, ...].
    """
    x_t = jnp.asarray(x_t)
    sigma2 = jnp.exp(log_variance(schedule, None, x_t, t, variance))
    noise = gather(schedule.alphas, t, x_t) * gather(schedule.one_minus_alphas_bar, t, x_t)
    return jnp.square(gather(schedule.betas, t, x_t)) / (2 * sigma2 * noise)


def _sum(x: jax.Array) -> jax.Array:
    return jnp.sum(x, axis=tuple(range(1, x.ndim)))


def _mean(x: jax.Array) -> jax.Array:
    return jnp.mean(x, axis=tuple(range(1, x.ndim)))
