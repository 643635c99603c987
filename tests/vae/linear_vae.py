"""The linear VAE, whose every quantity has a closed form: it is probabilistic PCA (Tipping & Bishop 1999).

p(z) = N(0, I), p(x | z) = N(W z + b, s^2 I): log p(x) and p(z | x) are Gaussian. With orthogonal columns of W the
posterior covariance is diagonal, so the encoder can be exact.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import stats

from jaxgen import vae

DATA, LATENT, VARIANCE = 6, 2, 0.3


class LinearVAE(NamedTuple):
    network: vae.VAE
    params: dict
    likelihood: vae.Likelihood
    x: np.ndarray
    log_likelihood: np.ndarray
    posterior_mean: np.ndarray
    posterior_variance: np.ndarray


def compiled(f, *arguments):
    """The values of f as NumPy arrays, from one program; float64 stays float64."""
    with jax.enable_x64(True):
        return jax.device_get(jax.jit(f)(*arguments))


def linear_vae(num: int = 8) -> LinearVAE:
    """The model with the exact posterior as its encoder, and `num` examples, in float64."""
    generator = np.random.default_rng(1)
    directions = np.linalg.qr(generator.normal(size=(DATA, LATENT)))[0]
    weights = directions * np.array([1.5, 0.8])
    bias = generator.normal(size=DATA)
    x = generator.normal(size=(num, LATENT)) @ weights.T + bias + np.sqrt(VARIANCE) * generator.normal(size=(num, DATA))
    covariance: Any = weights @ weights.T + VARIANCE * np.eye(DATA)
    log_likelihood = stats.multivariate_normal.logpdf(x, bias, covariance)
    precision = weights.T @ weights / VARIANCE + np.eye(LATENT)
    to_mean = np.linalg.solve(precision, weights.T / VARIANCE)
    variance = np.diag(np.linalg.inv(precision))
    params = {
        "recognition_0": {
            "mean": {"kernel": to_mean.T, "bias": -to_mean @ bias},
            "log_variance": {"kernel": np.zeros((DATA, LATENT)), "bias": np.log(variance)},
        },
        "generator": {"output": {"kernel": weights.T, "bias": bias}},
    }
    network = vae.mlp_vae(DATA, (LATENT,), ((),))
    return LinearVAE(
        network, params, vae.gaussian(VARIANCE), x, log_likelihood, (x - bias) @ to_mean.T, variance
    )  # fmt: skip


def with_wrong_posterior(model: LinearVAE) -> LinearVAE:
    """The same model with an encoder whose mean is off by 0.5 and whose variance is doubled."""
    layer = model.params["recognition_0"]
    shift = lambda part, by: {**layer[part], "bias": layer[part]["bias"] + by}
    wrong = {"mean": shift("mean", 0.5), "log_variance": shift("log_variance", float(np.log(2)))}
    return model._replace(params={**model.params, "recognition_0": wrong})
