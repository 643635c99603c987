"""How good a model is: its likelihood by importance sampling, and how many latent dimensions it uses.

Source: Burda et al. (2015), section 5.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.arguments import Count, Host, Key, Real, takes
from jaxgen.arguments.values import check_values
from jaxgen.compiler import check_once
from jaxgen.vae.bounds import bits_per_dim
from jaxgen.vae.likelihoods import SCALE, Likelihood
from jaxgen.vae.networks import VAE, apply, checked_noise, draw_noise
from jaxgen.vae.objectives import check_samples, log_weights, posterior_samples


class MarginalLikelihood(NamedTuple):
    """What K samples of z say of each example.

    Attributes:
        log_likelihood: log (1/K) sum_k w_k, [N], nats: in expectation below log p(x), and nearer to it the larger K.
        standard_error: of each by the delta method, [N], nats (infinite for K = 1).
        elbo: (1/K) sum_k log w_k, [N], nats.
    """

    log_likelihood: jax.Array
    standard_error: jax.Array
    elbo: jax.Array

    def summary(self, data_size: int) -> dict[str, float]:
        """Means over the N examples, with their errors.

        Args:
            data_size: D, the dimensions of x.

        Returns:
            numbers: "negative_log_likelihood" in nats; "standard_error" of that mean, from how the examples differ;
            "sampling_error" of that mean from the K samples, far smaller; "bits_per_dim" (nats / (D log 2)).
        """
        num = len(self.log_likelihood)
        nll = -float(jnp.mean(self.log_likelihood))
        return {
            "negative_log_likelihood": nll,
            "standard_error": float(jnp.std(self.log_likelihood)) / num**0.5,
            "sampling_error": float(jnp.sqrt(jnp.sum(jnp.square(self.standard_error)))) / num,
            "bits_per_dim": float(bits_per_dim(-jnp.float32(nll), data_size)),
        }


@takes(key=Key(""), x=Host("N _", dtype=None), num_samples=Count(), chunk=Count(), batch_size=Count())
def log_marginal_likelihood(
    key: jax.Array | None,
    network: VAE,
    params: Any,
    likelihood: Likelihood,
    x: Any,
    num_samples: int = 5000,
    chunk: int = 100,
    batch_size: int = 50,
    *,
    noise: Any = None,
) -> MarginalLikelihood:
    """log p(x) by importance sampling with q(z | x) as the proposal (L_5000 in Burda et al. 2015, section 5).

    The draws of example n depend on (key, n) alone. With num_samples = K this is also one estimate of the bound L_K.

    Args:
        key: scalar key; may be None where `noise` is given.
        network: the network.
        params: its parameters, a tree.
        likelihood: p(x | z).
        x: [N, D], not necessarily on the device.
        num_samples: K.
        chunk: samples of an example at a time; memory is batch_size * chunk * D numbers, whatever K.
        batch_size: examples at a time.
        noise: eps, a tuple of one array [N, K, Z_l] a layer, in place of the draws.

    Returns:
        three arrays [N].

    Raises:
        ValueError: no samples, no examples, x is not [N, D] or outside of the likelihood's support, noise of another
            shape, or neither a key nor noise.
    """
    check_once()
    check_samples(num_samples)
    if x.ndim != 2 or len(x) == 0 or min(chunk, batch_size) < 1:
        raise ValueError(
            f"x has shape {x.shape}, chunk is {chunk} and batch_size {batch_size}; expected [N, D] with N at "
            "least 1, and numbers of at least 1"
        )
    if likelihood.support is not None:
        check_values("x", x, *likelihood.support, finite=True, hint=SCALE)
    size = min(batch_size, len(x))
    chunk = min(chunk, num_samples)
    num_chunks = -(-num_samples // chunk)
    if noise is not None:
        noise = checked_noise(noise, network.latent_sizes, len(x), num_samples)

    @jax.jit
    def one_batch(params, x, numbers, noise):
        keys = None if key is None else jax.vmap(partial(jax.random.fold_in, key))(numbers)

        def step(carry, each):
            first, second, total = carry
            number, given = each
            draws = None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, number)
            z = posterior_samples(network, params, x, draws, chunk, noise=given)
            log_w = log_weights(network, params, likelihood, x[:, None, :], z)
            counts = (number * chunk + jnp.arange(chunk) < num_samples)[None, :]
            kept = jnp.where(counts, log_w, -jnp.inf)
            first = jnp.logaddexp(first, jax.nn.logsumexp(kept, axis=1))
            second = jnp.logaddexp(second, jax.nn.logsumexp(2 * kept, axis=1))
            return (first, second, total + jnp.sum(jnp.where(counts, log_w, 0), axis=1)), None

        nothing = jnp.full(len(x), -jnp.inf, x.dtype)
        start = (nothing, nothing, jnp.zeros(len(x), x.dtype))
        (first, second, total), _ = jax.lax.scan(step, start, (jnp.arange(num_chunks), noise))
        value = first - math.log(num_samples)
        relative_variance = jnp.maximum(jnp.exp(second - math.log(num_samples) - 2 * value) - 1, 0)
        error = jnp.sqrt(relative_variance / (num_samples - 1)) if num_samples > 1 else jnp.full_like(value, jnp.inf)
        return MarginalLikelihood(value, error, total / num_samples)

    def by_chunk(eps):
        """[B, K, Z] -> [chunks, B, chunk, Z]; what is missing from the last chunk is 0, and not counted."""
        padded = jnp.pad(eps, ((0, 0), (0, num_chunks * chunk - num_samples), (0, 0)))
        return jnp.swapaxes(padded.reshape(len(eps), num_chunks, chunk, -1), 0, 1)

    found = []
    for start in range(0, len(x), size):
        # The last batch is moved back to be full, so that one program serves all.
        begin = min(start, len(x) - size)
        given = None if noise is None else tuple(by_chunk(eps[begin : begin + size]) for eps in noise)
        batch = one_batch(params, jnp.asarray(x[begin : begin + size]), jnp.arange(begin, begin + size), given)
        found.append(jax.tree.map(lambda a, skip=start - begin: np.asarray(a)[skip:], batch))
    return jax.tree.map(lambda *parts: jnp.asarray(np.concatenate(parts)), *found)


@takes(key=Key(""), x=Host("N _", dtype=None), num_samples=Count())
def posterior_means(
    key: jax.Array | None, network: VAE, params: Any, x: Any, num_samples: int = 10, *, noise: Any = None
) -> tuple[np.ndarray, ...]:
    """E[z_l | x] under q, for each layer l: [N, D] -> one array [N, Z_l] a layer.

    That of z_1 is exact; higher layers are averaged over `num_samples` draws of the layers below. Chunks of 1,000.

    Args:
        key: scalar key; may be None where `noise` is given.
        network: the network.
        params: its parameters, a tree.
        x: [N, D], not necessarily on the device.
        num_samples: K.
        noise: eps, a tuple of one array [N, K, Z_l] a layer, in place of the draws.

    Raises:
        ValueError: no samples, noise of another shape, or neither a key nor noise.
    """
    check_once()
    check_samples(num_samples)
    if noise is not None:
        noise = checked_noise(noise, network.latent_sizes, len(x), num_samples)
    elif key is None:
        raise ValueError("there is no key and no noise; expected a key, or noise [N, K, Z_l] of each layer")

    @jax.jit
    def one_chunk(key, x, noise):
        if noise is None:
            noise = draw_noise(key, network.latent_sizes, len(x), num_samples, dtype=x.dtype)
        z = apply(network, params, x[:, None, :], noise, method="infer")
        gaussians = apply(network, params, x[:, None, :], z, method="posteriors")
        return tuple(jnp.mean(mean, axis=1) for mean, _ in gaussians)

    chunks = []
    for i in range(0, len(x), 1000):
        chunk_key, chunk = None if key is None else jax.random.fold_in(key, i), jnp.asarray(x[i : i + 1000])
        given = None if noise is None else tuple(eps[i : i + 1000].astype(chunk.dtype) for eps in noise)
        chunks.append(one_chunk(chunk_key, chunk, given))
    return tuple(np.concatenate([np.asarray(c) for c in layer]) for layer in zip(*chunks, strict=True))


@takes(means=Host("N Z"), threshold=Real())
def active_units(means: Any, threshold: float = 0.01) -> int:
    """How many latent dimensions carry information: those with Var_x E[z_j | x] > threshold.

    Burda et al. (2015), section 5 (their threshold is 0.01).

    Args:
        means: E[z | x] over a data set, [N, Z].
        threshold: of the variance.

    Raises:
        ValueError: fewer than two examples.
    """
    means = np.asarray(means)
    if means.ndim != 2 or len(means) < 2:
        raise ValueError(f"means has shape {means.shape}; expected [N, Z] with N at least 2")
    return int(np.sum(np.var(means, axis=0, dtype=np.float64) > threshold))
