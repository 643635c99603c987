"""Samples along a ray: stratified, and by the weights of a coarse rendering (Mildenhall et al. 2020)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Float, Key, Real, takes
from jaxgen.arguments.values import array
from jaxgen.nerf.checks import check_interval
from jaxgen.nn.random import given_or_drawn


@takes(key=Key(""), num_samples=Count(), uniforms=Float())
def stratified_samples(
    key: jax.Array | None,
    near: Any,
    far: Any,
    num_samples: int,
    *,
    in_disparity: bool = False,
    half_end_bins: bool = False,
    uniforms: ArrayLike | None = None,
) -> jax.Array:
    """t_i ~ U[t_n + (i - 1) / N (t_f - t_n), t_n + i / N (t_f - t_n)]: one in each of N equal bins, rising.

    Mildenhall et al. (2020), equation 2.

    Args:
        key: scalar key; None without `uniforms` gives the deterministic samples of the authors' evaluation: N points
            from near to far, both included, at equal distances (of t, or of 1 / t).
        near: t_n, scalar or [...].
        far: t_f, likewise; the two broadcast.
        num_samples: N, at least 2.
        in_disparity: bins equal in 1 / t rather than in t: as many up to 2 near as beyond, for scenes that reach far.
            Inside its bin a sample is uniform in t.
        half_end_bins: the authors' code instead of equation 2: edges halfway between the deterministic samples, so
            that the first and the last bin are half as wide as the others.
        uniforms: u in [0, 1), [..., N], in place of the draw: sample i lies at the share u_i of bin i.

    Returns:
        [..., N].

    Raises:
        ValueError: fewer than 2 samples, uniforms of another shape, or (outside of jit) near >= far, or near <= 0 in
            disparity.
    """
    if num_samples < 2:
        raise ValueError(f"num_samples is {num_samples}; a ray needs at least 2 samples")
    near, far = _bound("near", near), _bound("far", far)
    check_interval(near, far, in_disparity)
    dtype = jnp.result_type(near, far, float)
    near, far = jnp.broadcast_arrays(jnp.asarray(near, dtype), jnp.asarray(far, dtype))

    def spaced(num):
        share = jnp.linspace(0, 1, num, dtype=dtype).reshape(*(1,) * near.ndim, num)
        low, high = near[..., None], far[..., None]
        if in_disparity:
            return low * high / ((1 - share) * high + share * low)
        return (1 - share) * low + share * high

    if key is None and uniforms is None:
        return spaced(num_samples)
    if half_end_bins:
        points = spaced(num_samples)
        edges = jnp.concatenate([points[..., :1], midpoints(points), points[..., -1:]], axis=-1)
    else:
        edges = spaced(num_samples + 1)
    share = given_or_drawn("uniforms", uniforms, key, jax.random.uniform, (*near.shape, num_samples), dtype)
    return edges[..., :-1] + share * (edges[..., 1:] - edges[..., :-1])


def _bound(name: str, x: Any) -> Any:
    """A number as it is, and a list as an array."""
    return x if isinstance(x, (int, float, np.number)) else array(name, x)


@takes(t=Float("... _"))
def midpoints(t: ArrayLike) -> jax.Array:
    """(t_i + t_{i+1}) / 2: [..., S] -> [..., S - 1]."""
    t = jnp.asarray(t)
    return (t[..., :-1] + t[..., 1:]) / 2


@takes(
    key=Key(""),
    bins=Float("... _"),
    weights=Float("... _"),
    num_samples=Count(0),
    padding=Real(),
    uniforms=Float(),
)
def importance_samples(
    key: jax.Array | None,
    bins: ArrayLike,
    weights: ArrayLike,
    num_samples: int,
    *,
    padding: float = 1e-5,
    uniforms: ArrayLike | None = None,
) -> jax.Array:
    """Draws from the piecewise-constant density of w-hat_i = w_i / sum_j w_j, by the inverse of its distribution.

    Mildenhall et al. (2020), section 5.2. No gradient flows back: samples are where the field is evaluated, not part of
    the equation that is differentiated.

    Args:
        key: scalar key; None without `uniforms` gives the deterministic samples of the authors' evaluation: quantiles
            0, 1 / (N - 1), ..., 1, so the first and the last are the ends of the bins.
        bins: edges, [..., M + 1], rising.
        weights: [..., M], at least 0, of any sum: shares of probability, whatever the bin's width.
        num_samples: N, at least 1.
        padding: added to each weight, as in the authors' code; keeps samples coming from where the coarse network
            has no density yet. Where all padded weights are 0 all bins are equally likely.
        uniforms: u in [0, 1], [..., N], in place of the draw: the quantiles of the samples.

    Returns:
        [..., N]; random ones are independent and not sorted.

    Raises:
        ValueError: wrong shapes, no samples, or negative padding.
    """
    bins, weights = jnp.asarray(bins), jnp.asarray(weights)
    if bins.ndim < 1 or weights.shape != (*bins.shape[:-1], bins.shape[-1] - 1) or weights.shape[-1] < 1:
        raise ValueError(
            f"bins have shape {bins.shape} and weights {weights.shape}; expected edges [..., M + 1] and [..., M]"
        )
    if num_samples < 1 or not padding >= 0:
        raise ValueError(f"num_samples is {num_samples} and padding {padding}; need at least 1 and at least 0")
    bins, weights = jax.lax.stop_gradient((bins, weights))
    weights = weights + padding
    total = jnp.sum(weights, axis=-1, keepdims=True)
    weights = jnp.where(total > 0, weights, 1)
    share = weights / jnp.sum(weights, axis=-1, keepdims=True)
    # Rounding must not leave a gap below 1.
    inner = jnp.minimum(jnp.cumsum(share[..., :-1], axis=-1), 1)
    below, above = jnp.zeros_like(total), jnp.ones_like(total)
    distribution = jnp.concatenate([below, inner, above], axis=-1)

    shape = (*bins.shape[:-1], num_samples)
    if key is None and uniforms is None:
        u = jnp.broadcast_to(jnp.linspace(0, 1, num_samples, dtype=bins.dtype), shape)
    else:
        u = given_or_drawn("uniforms", uniforms, key, jax.random.uniform, shape, bins.dtype)
    index = jnp.sum(u[..., :, None] >= distribution[..., None, 1:-1], axis=-1)
    at = lambda values, i: jnp.take_along_axis(values, i, axis=-1)
    start, end = at(distribution, index), at(distribution, index + 1)
    mass = end - start
    inside = jnp.clip((u - start) / jnp.where(mass > 0, mass, 1), 0, 1)
    return at(bins, index) + inside * (at(bins, index + 1) - at(bins, index))
