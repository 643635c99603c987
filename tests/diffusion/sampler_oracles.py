"""The chain of the samplers' tests, the steps in NumPy, and the noise that the loop draws."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import diffusion
from tests.diffusion.gaussian_data import sampling_variance

MEAN, VARIANCE = 0.3, 0.4
BETAS = diffusion.linear_betas(200)
KEPT = np.arange(0, 200, 5)


def spaced(betas=BETAS, dtype=jnp.float32):
    return diffusion.respace(diffusion.make_schedule(betas, dtype), "ddim40")


def numpy_step(c, x, output, t, noise, method, eta):
    """x_{t-1} of a network that predicts noise, clipped, by the definitions; t [B]."""
    of = lambda table: table[t][:, None]
    x0 = np.clip((x - np.sqrt(1 - of(c.alpha_bar)) * output) / np.sqrt(of(c.alpha_bar)), -1, 1)
    if method == "ancestral":
        sigma = np.sqrt(of(sampling_variance(c, "fixed_large"))) * (t > 0)[:, None]
        return of(c.from_x0) * x0 + of(c.from_xt) * x + sigma * noise
    eps = (x - np.sqrt(of(c.alpha_bar)) * x0) / np.sqrt(1 - of(c.alpha_bar))
    sigma = eta * np.sqrt(of(c.small))
    return np.sqrt(of(c.before)) * x0 + np.sqrt(1 - of(c.before) - sigma**2) * eps + sigma * noise


def noise_of_steps(keys, like, start):
    """What the loop draws from these keys for the steps from index `start` down, in their order."""
    at = lambda t: diffusion.normal_per_example(
        jax.vmap(jax.random.fold_in, (0, None))(jax.random.clone(keys), t), like
    )
    return jax.vmap(at)(jnp.arange(start, -1, -1))
