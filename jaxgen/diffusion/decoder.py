"""p_theta(x_0 | x_1) for images of whole levels: the mass of a Gaussian on each level's bin."""

import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Float, takes
from jaxgen.diffusion.arguments import SCALE

Cdf = Literal["tanh", "exact"]
CDFS = ("tanh", "exact")


@takes(
    x=Float("...1", low=-1, high=1, hint=SCALE), mean=Float("...1"), log_variance=Float("...1|"), num_levels=Count(2)
)
def discretized_gaussian_log_likelihood(
    x: ArrayLike, mean: ArrayLike, log_variance: ArrayLike, *, cdf: Cdf = "tanh", num_levels: int = 256
) -> jax.Array:
    """log of the mass that N(mean, sigma^2) puts on the bin of x; the outer bins reach to infinity.

    Source: Ho et al. (2020), equation 13. The authors' code, and so every published number, uses an approximation of
    the normal distribution function that errs by up to 1.8e-4, and no mass below 1e-12. The exact mass has neither.
    Both are computed without the difference of two distribution functions, which in float32 has no digits where they
    are near 1 or near each other.

    Args:
        x: images of `num_levels` equal steps from -1 to 1, [...].
        mean: of the same shape.
        log_variance: log sigma^2; broadcasts with x, with equal ranks, or a scalar.
        cdf: "tanh", the authors' approximation, or "exact".
        num_levels: levels of an image.

    Returns:
        [...], nats for each dimension, with finite gradients.

    Raises:
        ValueError: an unknown cdf, or (outside of jit) x outside [-1, 1].
    """
    x, mean, log_variance = jnp.asarray(x), jnp.asarray(mean), jnp.asarray(log_variance)
    return log_level_mass(x, mean, log_variance, cdf, num_levels)


def log_level_mass(
    x: jax.Array, mean: jax.Array, log_variance: jax.Array, cdf: Cdf = "tanh", num_levels: int = 256
) -> jax.Array:
    """`discretized_gaussian_log_likelihood` [...] of any x [...], for terms that are left out where x is no image."""
    if cdf not in CDFS:
        raise ValueError(f"cdf is {cdf!r}; expected one of {', '.join(CDFS)}")
    half_bin = 1 / (num_levels - 1)
    # A smaller sigma is far below the rounding of x, and powers of x / sigma would overflow.
    log_sigma = log_variance / 2
    log_sigma = jnp.maximum(log_sigma, 1.5 * math.log(float(jnp.finfo(log_sigma.dtype).eps)))
    centred, inverse_sigma = x - mean, jnp.exp(-log_sigma)
    upper, lower = (centred + half_bin) * inverse_sigma, (centred - half_bin) * inverse_sigma
    is_first, is_last = x < -1 + half_bin / 4, x > 1 - half_bin / 4
    log_cdf, log_mass = (_log_approximate_cdf, _log_approximate_mass) if cdf == "tanh" else (_log_cdf, _log_mass)
    inner = log_mass(upper, lower, math.log(2 * half_bin) - log_sigma)
    found = jnp.where(is_first, log_cdf(upper), jnp.where(is_last, log_cdf(-lower), inner))
    return jnp.maximum(found, math.log(1e-12)) if cdf == "tanh" else found


_SLOPE, _CUBIC = 2 * math.sqrt(2 / math.pi), 0.044715


def approximate_normal_cdf(z: jax.Array) -> jax.Array:
    """(1 + tanh(sqrt(2 / pi) (z + 0.044715 z^3))) / 2, within 1.8e-4 of the normal distribution function: any shape.

    The authors' code uses it; it is the same expression as in the approximate GELU (Hendrycks & Gimpel 2016).
    """
    return jnp.exp(_log_approximate_cdf(z))


def _log_approximate_cdf(z):
    """log sigmoid(a(z)), a(z) = 2 sqrt(2 / pi) (z + 0.044715 z^3)."""
    return jax.nn.log_sigmoid(_SLOPE * (z + _CUBIC * z**3))


def _log_approximate_mass(upper, lower, log_width):
    """log(sigmoid(a(upper)) - sigmoid(a(lower))); upper - lower = exp(log_width).

    sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), and upper - lower is a factor of a - b.
    """
    gap = _SLOPE * (1 + _CUBIC * (jnp.square(upper) + upper * lower + jnp.square(lower))) * jnp.exp(log_width)
    # The mass is at most gap / 4: with this least gap it is below 1e-12, where the caller replaces it.
    gap = jnp.maximum(gap, 1e-12)
    return _log_approximate_cdf(upper) + _log_approximate_cdf(-lower) + jax.nn.log1mexp(gap)


@jax.custom_jvp
def _log_cdf(z):
    """log of the normal distribution function."""
    return _log_cdf_and_slope(z)[0]


@_log_cdf.defjvp
def _log_cdf_jvp(primals, tangents):
    value, slope = _log_cdf_and_slope(*primals)
    return value, slope * tangents[0]


def _log_cdf_and_slope(z):
    """log of the normal distribution function, and its derivative: the density divided by the distribution function.

    Below -5 both use Laplace's continued fraction for the derivative, x + 1 / (x + 2 / (x + 3 / ...)) with x = -z. The
    gradient of `log_ndtr` loses all digits in the far tail.
    """
    is_far = z < -5
    x, near = jnp.where(is_far, -z, 5), jnp.where(is_far, -5, z)
    # Enough terms for the last digit at x = 5, where the fraction converges slowest.
    slope_far = x
    for k in range(20 if jnp.finfo(z.dtype).bits > 32 else 8, 0, -1):
        slope_far = x + k / slope_far
    log_density = lambda z: -jnp.square(z) / 2 - math.log(2 * math.pi) / 2
    log_near = log_ndtr(near)
    value = jnp.where(is_far, log_density(x) - jnp.log(slope_far), log_near)
    return value, jnp.where(is_far, slope_far, jnp.exp(log_density(near) - log_near))


def _log_mass(upper, lower, log_width):
    """log of the mass of N(0, 1) between lower and upper; upper - lower = exp(log_width)."""
    # On the side of the mean where both tails are small: there their difference keeps its digits.
    flip = upper + lower > 0
    near, far = jnp.where(flip, -lower, upper), jnp.where(flip, -upper, lower)
    middle, half_width = (near + far) / 2, jnp.exp(log_width) / 2
    # The log density falls by 2 drop from near to far, and the log distribution function by more.
    drop = -middle * half_width
    is_narrow = (half_width < 0.25) & (drop < 1)
    log_near = _log_cdf(near)
    gap = jnp.maximum(log_near - _log_cdf(far), 2 * drop)
    wide = log_near + jax.nn.log1mexp(jnp.where(is_narrow, 1, gap))
    # The density in the middle times the width times the mean over |s| < half_width of exp(-middle s - s^2 / 2), by
    # Gauss-Legendre quadrature, whose nodes are symmetric.
    drop, half_width = jnp.where(is_narrow, drop, 0), jnp.where(is_narrow, half_width, 0)
    nodes, weights = np.polynomial.legendre.leggauss(8)
    terms = (
        weight * jnp.cosh(node * drop) * jnp.exp(-jnp.square(node * half_width) / 2)
        for node, weight in zip(nodes[4:].tolist(), weights[4:].tolist(), strict=True)
    )
    narrow = log_width - jnp.square(middle) / 2 - math.log(2 * math.pi) / 2 + jnp.log(sum(terms))
    return jnp.where(is_narrow, narrow, wide)
