"""Gaussian data, for which the best network is known: E[x_0 | x_t] is affine in x_t, and so is every sampler.

All in float64 NumPy, written from the definitions (cumulative products, Bayes), not from the library's tables.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import special


class Chain(NamedTuple):
    """The chain's numbers, [T] each."""

    beta: np.ndarray
    alpha_bar: np.ndarray
    before: np.ndarray
    small: np.ndarray
    from_x0: np.ndarray
    from_xt: np.ndarray


def chain(betas, kept=None):
    """By Bayes: q(x_{t-1} | x_t, x_0) from q(x_t | x_{t-1}) and q(x_{t-1} | x_0), over the steps `kept`."""
    alpha_bar = np.cumprod(1 - betas)
    if kept is not None:
        alpha_bar = alpha_bar[kept]
    before = np.append(1.0, alpha_bar[:-1])
    alpha = alpha_bar / before
    beta = 1 - alpha
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = alpha / beta + 1 / (1 - before)
        small = 1 / precision
        from_xt = np.sqrt(alpha) / beta / precision
        from_x0 = np.where(before < 1, np.sqrt(before) / (1 - before) / precision, 1.0)
    return Chain(beta, alpha_bar, before, small, from_x0, from_xt)


def sampling_variance(c, kind):
    """sigma_t^2 of the two fixed kinds, [T]."""
    return np.append(c.small[1], (c.small if kind == "fixed_small" else c.beta)[1:])


def best_x0(c, mean, variance):
    """(gain, offset) [T] of E[x_0 | x_t] = gain x_t + offset for data N(mean, variance)."""
    gain = np.sqrt(c.alpha_bar) * variance / (c.alpha_bar * variance + 1 - c.alpha_bar)
    return gain, mean - gain * np.sqrt(c.alpha_bar) * mean


def best_network(betas, mean, variance, prediction="noise"):
    """denoise(x, original t) of the best network."""
    c = chain(betas)
    gain, offset = best_x0(c, mean, variance)
    slope, constant = gain, offset
    if prediction == "noise":
        sigma = np.sqrt(1 - c.alpha_bar)
        slope, constant = (1 - np.sqrt(c.alpha_bar) * gain) / sigma, -np.sqrt(c.alpha_bar) * offset / sigma

    def denoise(x, t):
        read = lambda table: jnp.asarray(table, x.dtype)[t].reshape(-1, *(1,) * (x.ndim - 1))
        return read(slope) * x + read(constant)

    return denoise


def affine_chain(c, mean, variance, sigma2, eta=None):
    """Mean and variance of x_0 after all steps from x_T ~ N(0, 1), and the factor of x_T in it.

    Ancestral with variances sigma2 [T], or DDIM with eta.
    """
    gain, offset = best_x0(c, mean, variance)
    m, v, factor = 0.0, 1.0, 1.0
    for t in reversed(range(len(c.beta))):
        if eta is None:
            a, b, noise = c.from_x0[t] * gain[t] + c.from_xt[t], c.from_x0[t] * offset[t], sigma2[t] * (t > 0)
        else:
            noise = eta**2 * c.small[t]
            scale, left = np.sqrt(c.alpha_bar[t]), np.sqrt((1 - c.before[t] - noise) / (1 - c.alpha_bar[t]))
            a = np.sqrt(c.before[t]) * gain[t] + left * (1 - scale * gain[t])
            b = (np.sqrt(c.before[t]) - left * scale) * offset[t]
        m, v, factor = a * m + b, a**2 * v + noise, a * factor
    return m, v, factor


def log_mass(x, mean, sd):
    """log of the mass on the bin of x, [...], on the side of the mean where tails keep their digits."""
    low, high = np.where(x > -0.999, x - 1 / 255, -np.inf), np.where(x < 0.999, x + 1 / 255, np.inf)
    flip = x > mean
    near, far = np.where(flip, mean - low, high - mean) / sd, np.where(flip, mean - high, low - mean) / sd
    return special.log_ndtr(near) + np.log(-np.expm1(special.log_ndtr(far) - special.log_ndtr(near)))
