"""p(x | z) as small pure functions of what the decoder puts out.

All return log-likelihoods in nats, summed over the dimensions of x: [..., D] -> [...]. Gaussian likelihoods are
densities on the data's scale [0, 1], so they can exceed 1 and are not comparable with those of discrete data.

Source: Kingma & Welling (2013), appendix C, for the first two.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Float, Host, Key, Real, takes
from jaxgen.nn.random import given_or_drawn
from jaxgen.vae.gaussian import check_bounds, clipped

SCALE = ": scale the data (uint8 images: divide by 255)"


@takes(x=Float("...1 D", low=0, high=1, hint=SCALE, most_axes=3), logits=Float("...1 D"))
def bernoulli_log_likelihood(x: ArrayLike, logits: ArrayLike) -> jax.Array:
    """sum_i x_i log p_i + (1 - x_i) log(1 - p_i), p = sigmoid(logits).

    Computed as x l - softplus(l), which is finite, as is its gradient, at any logit.

    Args:
        x: [..., D], 0 or 1. Values between are accepted, but then this is a cross-entropy and no likelihood.
        logits: [..., D].
    """
    return jnp.sum(x * logits - jax.nn.softplus(logits), axis=-1)


@takes(x=Float("...1 D", most_axes=3), mean=Float("...1 D"), log_variance=Float("...1 D"))
def gaussian_log_likelihood(x: ArrayLike, mean: ArrayLike, log_variance: ArrayLike) -> jax.Array:
    """sum_i log N(x_i; mean_i, variance_i): [..., D] each -> [...]."""
    x, mean, log_variance = jnp.asarray(x), jnp.asarray(mean), jnp.asarray(log_variance)
    squares = jnp.square(x - mean) * jnp.exp(-log_variance)
    return -jnp.sum(squares + log_variance + math.log(2 * math.pi), axis=-1) / 2


@takes(
    x=Float("...1 D", low=0, high=1, hint=SCALE, most_axes=3),
    mean=Float("...1 D"),
    log_scale=Float("...1 D"),
    num_levels=Count(2),
)
def discretized_logistic_log_likelihood(
    x: ArrayLike, mean: ArrayLike, log_scale: ArrayLike, num_levels: int = 256
) -> jax.Array:
    """sum_i log of the mass that a logistic distribution puts on the bin of x_i; the outer bins reach to infinity.

    With a and b the bin's upper and lower edge in units of the scale, the mass sigma(a) - sigma(b) is computed as
    sigma(a) sigma(-b) (1 - exp(b - a)), which loses no digits in the tails. Source: Kingma et al., "Improving
    Variational Inference with Inverse Autoregressive Flow" (2016).

    Args:
        x: [..., D], multiples of 1 / (num_levels - 1) in [0, 1].
        mean: [..., D], on the scale of x.
        log_scale: [..., D].
        num_levels: levels of x.
    """
    x, mean, log_scale = jnp.asarray(x), jnp.asarray(mean), jnp.asarray(log_scale)
    half_bin = 0.5 / (num_levels - 1)
    inverse_scale = jnp.exp(-log_scale)
    upper = (x - mean + half_bin) * inverse_scale
    lower = (x - mean - half_bin) * inverse_scale
    inner = jax.nn.log_sigmoid(upper) + jax.nn.log_sigmoid(-lower) + jnp.log(-jnp.expm1(-2 * half_bin * inverse_scale))
    is_first, is_last = x < half_bin, x > 1 - half_bin
    mass = jnp.where(is_first, jax.nn.log_sigmoid(upper), jnp.where(is_last, jax.nn.log_sigmoid(-lower), inner))
    return jnp.sum(mass, axis=-1)


def check_outputs(likelihood: "Likelihood", output: jax.Array, data_size: int) -> None:
    """Raises ValueError unless a decoder's output [..., outputs * D] has the numbers that the likelihood takes.

    Args:
        likelihood: p(x | z).
        output: of the decoder.
        data_size: D.
    """
    found, wanted = output.shape[-1], likelihood.outputs * data_size
    if found != wanted:
        raise ValueError(
            f"the decoder puts out {found} numbers for an x of {data_size} dimensions, and a {likelihood.name} "
            f"likelihood takes {wanted}: build the network with outputs={likelihood.outputs}"
        )


class Likelihood(NamedTuple):
    """A choice of p(x | z). Made by `bernoulli`, `gaussian` or `discretized_logistic`.

    Attributes:
        name: for messages.
        outputs: numbers that the decoder puts out for each dimension of x.
        log_prob: `log_prob(x, output)`: x [..., D], output [..., outputs * D] -> [...], nats.
        mean: `mean(output)`: [..., outputs * D] -> [..., D], the expectation of x given z.
        sample: `sample(key, output, draws=None)`: [..., outputs * D] -> [..., D], a draw of x given z. Given `draws`
            [..., D] replace those from the key, which may then be None: standard normal noise for `gaussian`, uniforms
            in [0, 1) otherwise. Other likelihoods may leave this argument out.
        levels: the values that x may take: 2 (0 and 1), another number of equal steps from 0 to 1, or
            0 for all of [0, 1].
        support: (least, largest) value of x, or None for all numbers.
    """

    name: str
    outputs: int
    log_prob: Callable[[Any, jax.Array], jax.Array]
    mean: Callable[[jax.Array], jax.Array]
    sample: Callable[..., jax.Array]
    levels: int
    support: tuple[float, float] | None = None


def _likelihood(
    name: str, outputs: int, log_prob: Any, mean: Any, sample: Any, levels: int, support: Any = (0.0, 1.0)
) -> Likelihood:
    """A likelihood whose functions take natural inputs."""
    output = Float("... _")
    return Likelihood(
        name,
        outputs,
        takes(x=Float(), output=output)(log_prob),
        takes(output=output)(mean),
        takes(key=Key(), output=output)(sample),
        levels,
        support,
    )


def bernoulli(grey: bool = False) -> Likelihood:
    """x_i is 0 or 1; the output is the logit.

    Args:
        grey: also takes grey levels in [0, 1] as if they were probabilities. The "likelihood" is then a cross-entropy:
            comparable with others made the same way, and with nothing else.
    """

    def sample(key, output, draws=None):
        u = given_or_drawn("draws", draws, key, jax.random.uniform, output.shape, output.dtype)
        return (u < jax.nn.sigmoid(output)).astype(output.dtype)

    log_prob = lambda x, output: bernoulli_log_likelihood(x, output)
    mean = lambda output: jax.nn.sigmoid(output)
    return _likelihood("bernoulli of grey levels" if grey else "bernoulli", 1, log_prob, mean, sample, 0 if grey else 2)


@takes(variance=Real())
def gaussian(
    variance: float | None = None,
    sigmoid_mean: bool = False,
    log_variance_bounds: tuple[float, float] | None = None,
) -> Likelihood:
    """x_i ~ N(mean_i, variance).

    Args:
        variance: fixed for all dimensions; None: the decoder puts out mean and log variance of each dimension.
        sigmoid_mean: the mean is the sigmoid of the output, as for the Frey faces in Kingma & Welling (2013).
        log_variance_bounds: (low, high), between which a learned log variance is clipped: the density of a pixel that
            is always the same grows without bound. None: no bounds.

    Raises:
        ValueError: `variance` is not positive, or the bounds are not rising.
    """
    check_bounds("log_variance_bounds", log_variance_bounds)
    if variance is not None and not variance > 0:
        raise ValueError(f"variance is {variance}; it must be positive, or None to learn it")
    squash = jax.nn.sigmoid if sigmoid_mean else lambda output: output

    def moments(output):
        if variance is not None:
            return squash(output), jnp.full_like(output, math.log(variance))
        mean, log_variance = jnp.split(output, 2, axis=-1)
        return squash(mean), clipped(log_variance, log_variance_bounds)

    def sample(key, output, draws=None):
        mean, log_variance = moments(output)
        deviation = jnp.exp(log_variance / 2)
        return mean + deviation * given_or_drawn("draws", draws, key, jax.random.normal, mean.shape, mean.dtype)

    return _likelihood(
        "gaussian",
        1 if variance is not None else 2,
        lambda x, output: gaussian_log_likelihood(x, *moments(output)),
        lambda output: moments(output)[0],
        sample,
        0,
        None,
    )


@takes(num_levels=Count())
def discretized_logistic(num_levels: int = 256, log_scale_bounds: tuple[float, float] | None = None) -> Likelihood:
    """x_i is one of `num_levels` equal steps from 0 to 1; the decoder puts out mean and log scale of each dimension.

    Args:
        num_levels: levels of x.
        log_scale_bounds: (low, high), between which the log scale is clipped; None: no bounds.

    Raises:
        ValueError: fewer than two levels, or the bounds are not rising.
    """
    check_bounds("log_scale_bounds", log_scale_bounds)
    if num_levels < 2:
        raise ValueError(f"num_levels is {num_levels}; it must be at least 2")

    def log_prob(x, output):
        mean, log_scale = jnp.split(output, 2, axis=-1)
        return discretized_logistic_log_likelihood(x, mean, clipped(log_scale, log_scale_bounds), num_levels)

    def mean(output):
        return jnp.clip(jnp.split(output, 2, axis=-1)[0], 0, 1)

    def sample(key, output, draws=None):
        centre, log_scale = jnp.split(output, 2, axis=-1)
        positive = lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, jnp.finfo(dtype).tiny)
        u = given_or_drawn("draws", draws, key, positive, centre.shape, centre.dtype)
        drawn = centre + jnp.exp(clipped(log_scale, log_scale_bounds)) * (jnp.log(u) - jnp.log1p(-u))
        steps = num_levels - 1
        return jnp.round(jnp.clip(drawn, 0, 1) * steps) / steps

    return _likelihood("discretized logistic", 2, log_prob, mean, sample, num_levels)


@takes(x=Host(dtype=None))
def check_data(likelihood: Likelihood, x: np.ndarray) -> None:
    """Refuses data that the likelihood does not describe.

    Args:
        likelihood: the choice.
        x: data of any shape.

    Raises:
        ValueError: values that are not finite or outside [0, 1], or not among the likelihood's levels.
    """
    low, high = float(np.min(x)), float(np.max(x))
    if not (low >= 0 and high <= 1):
        raise ValueError(f"the data runs from {low:g} to {high:g}; scale it to [0, 1] (uint8 images: divide by 255)")
    if likelihood.levels == 2 and not np.all((x == 0) | (x == 1)):
        raise ValueError(
            "a Bernoulli likelihood needs data of zeros and ones, and this has values between: binarize it (stochastic "
            "or fixed), or say that the cross-entropy of grey levels is meant: bernoulli(grey=True)"
        )
    if likelihood.levels > 2:
        steps = np.asarray(x, np.float64) * (likelihood.levels - 1)
        if np.abs(steps - np.rint(steps)).max() > 1e-3:
            raise ValueError(f"the data is not on the {likelihood.levels} levels of the {likelihood.name} likelihood")
