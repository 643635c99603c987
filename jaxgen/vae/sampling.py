"""Drawing from the model, and walks through the latent space.

Source: notes 2; Kingma & Welling (2013), appendix A, for `manifold`; the others are the usual walks.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Float, Key, Real, takes
from jaxgen.compiler import check_once
from jaxgen.vae.likelihoods import Likelihood, check_outputs
from jaxgen.vae.networks import VAE, apply, checked_noise, draw_noise


@takes(key=Key(), num=Count())
def sample(
    key: jax.Array | None,
    network: VAE,
    params: Any,
    likelihood: Likelihood,
    num: int,
    *,
    noise: Any = None,
    draws: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    """x from the model: z ~ p(z), then x ~ p(x | z).

    Sample i depends on (key, i) alone, not on how many are drawn.

    Args:
        key: scalar key, or keys [num]; may be None where `noise` and `draws` are given.
        network: the network.
        params: its parameters, a tree.
        likelihood: p(x | z).
        num: how many.
        noise: eps, a tuple of one array [num, Z_l] a layer, in place of the draws of z.
        draws: of the likelihood's `sample`, [num, D], in place of the draws of x given z.

    Returns:
        E[x | z] and a draw of x, [num, D] each. Papers show the former.

    Raises:
        ValueError: another number of keys, draws of another shape, or missing ones without a key.
    """
    check_once()
    if key is None and (noise is None or draws is None):
        raise ValueError("there is no key; expected a key, or both noise and draws")
    if noise is not None:
        noise = checked_noise(noise, network.latent_sizes, num)
    if key is not None and key.shape not in ((), (num,)):
        raise ValueError(f"keys of shape {key.shape} for {num} samples; expected one key, or one for each sample")
    if key is not None and not key.shape:
        key = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(num))

    def noise_and_key(key):
        latent, pixels = jax.random.split(key)
        return draw_noise(latent, network.latent_sizes), pixels

    drawn, keys = (None, None) if key is None else jax.vmap(noise_and_key)(key)
    output = apply(network, params, drawn if noise is None else noise, method="generate")
    check_outputs(likelihood, output, network.data_size)
    sampled = jax.vmap(likelihood.sample)(keys, output) if draws is None else likelihood.sample(None, output, draws)
    return likelihood.mean(output), sampled


@takes(x=Float("N _"))
def reconstruct(network: VAE, params: Any, likelihood: Likelihood, x: ArrayLike) -> jax.Array:
    """E[x | z] at the mean of q(z_1 | x): [N, D] -> [N, D]."""
    mean, _ = apply(network, params, x, method="encode")
    output = apply(network, params, mean, method="decode")
    check_outputs(likelihood, output, network.data_size)
    return likelihood.mean(output)


@takes(start=Float("... Z"), end=Float("... Z"), num=Count())
def interpolate(start: ArrayLike, end: ArrayLike, num: int, spherical: bool = False) -> jax.Array:
    """`num` points from `start` to `end`, both included: [..., Z] -> [num, ..., Z].

    Args:
        start: [..., Z].
        end: [..., Z].
        num: at least 2.
        spherical: along the great circle, with lengths interpolated linearly: for draws from N(0, I), whose straight
            midpoints are nearer to the origin than any draw. Where the two are parallel, it is the straight line.

    Raises:
        ValueError: fewer than two points.
    """
    start, end = jnp.asarray(start), jnp.asarray(end)
    if num < 2:
        raise ValueError(f"num is {num}; an interpolation has at least 2 points")
    share = jnp.linspace(0, 1, num, dtype=start.dtype).reshape(-1, *(1,) * start.ndim)
    straight = (1 - share) * start[None] + share * end[None]
    if not spherical:
        return straight
    # Nothing is differentiated where its slope is infinite: a length at 0, the angle of parallel vectors.
    squares = [jnp.sum(jnp.square(z), axis=-1, keepdims=True) for z in (start, end)]
    lengths = [jnp.where(s > 0, jnp.sqrt(jnp.where(s > 0, s, 1)), 0) for s in squares]
    units = [z / jnp.where(n > 0, n, 1) for z, n in zip((start, end), lengths, strict=True)]
    cosine = jnp.sum(units[0] * units[1], axis=-1, keepdims=True)[None]
    # sin(angle) > 1e-3
    turns = jnp.abs(cosine) < 1 - 5e-7
    safe = jnp.arccos(jnp.where(turns, cosine, 0))
    unit = (jnp.sin((1 - share) * safe) * units[0][None] + jnp.sin(share * safe) * units[1][None]) / jnp.sin(safe)
    length = (1 - share) * lengths[0][None] + share * lengths[1][None]
    return jnp.where(turns, length * unit, straight)


@takes(z=Float("Z"), values=Float("V"))
def traverse(z: ArrayLike, values: ArrayLike) -> jax.Array:
    """Each dimension in turn set to each of `values`, the others kept: z [Z], values [V] -> [Z, V, Z]."""
    z, values = jnp.asarray(z), jnp.asarray(values)
    size = z.shape[0]
    one_hot = jnp.eye(size, dtype=z.dtype)[:, None, :]
    return (1 - one_hot) * z[None, None, :] + one_hot * values[None, :, None]


@takes(side=Count(0), edge=Real())
def manifold(side: int, edge: float = 0.05) -> np.ndarray:
    """A grid over the 2-D latent space, equally spaced in probability under N(0, I): [side * side, 2].

    The grid's coordinates are the inverse normal distribution function of `side` equal steps from `edge` to 1 -
    `edge`. Row by row, z_2 falling from the top and z_1 rising from the left. Source: Kingma & Welling (2013),
    appendix A and figure 4.

    Raises:
        ValueError: side is below 1 or edge not in (0, 1/2).
    """
    from scipy.special import ndtri

    if side < 1 or not 0 < edge < 0.5:
        raise ValueError(f"side is {side} and edge {edge}; need side at least 1 and edge inside (0, 0.5)")
    line = ndtri(np.linspace(edge, 1 - edge, side)) if side > 1 else np.zeros(1)
    across, down = np.meshgrid(line, line[::-1])
    return np.stack([across.ravel(), down.ravel()], axis=-1).astype(np.float32)
