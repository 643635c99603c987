"""Volume rendering by quadrature: T_i, w_i and C-hat(r) (notes 5)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxgen.arguments import Float, takes

_ENDLESS = 1e10
"""The length of an interval without end, that of the authors' code: more than any density leaves transparent, and a
product with a density of zero is zero, not NaN."""


class Composite(NamedTuple):
    """The rendering of a ray.

    Attributes:
        color: C-hat, [..., C].
        weights: w_i = T_i alpha_i, [..., S], at least 0.
        transmittance: T_i, the share of light that passes all samples before i, [..., S], in [0, 1].
        depth: sum_i w_i t_i, [...], in the units of t. Not divided by the opacity: 0 on an empty ray.
        opacity: sum_i w_i, [...], in [0, 1].
    """

    color: jax.Array
    weights: jax.Array
    transmittance: jax.Array
    depth: jax.Array
    opacity: jax.Array


@takes(
    rgb=Float("... S _"),
    density=Float("... S"),
    t=Float("... S"),
    direction=Float("... 3"),
    background=Float(),
    far=Float(),
)
def composite(
    rgb: ArrayLike,
    density: ArrayLike,
    t: ArrayLike,
    direction: ArrayLike,
    background: Any = None,
    *,
    far: Any = None,
) -> Composite:
    """C-hat = sum_i T_i (1 - exp(-sigma_i delta_i)) c_i, T_i = exp(-sum_{j<i} sigma_j delta_j).

    delta_i = (t_{i+1} - t_i) |d| (the notes call it sigma_i). Mildenhall et al. (2020), equation 3. The field is taken
    as constant from each sample to the next, and then the sum is exact: the weights telescope to
    1 - exp(-sum_i sigma_i delta_i). Values and gradients are finite on an empty ray too.

    Args:
        rgb: c_i, [..., S, C].
        density: sigma_i, [..., S], at least 0, per unit of length in world units.
        t: [..., S], rising, in units of the direction.
        direction: d, [..., 3], not normalised.
        background: color behind the last interval: a number, [C], or [..., C]; None adds nothing (black).
        far: where the last interval ends: a number or [...], in the units of t. None or infinity: nowhere, as in the
            paper's code; then any density in the last sample makes the ray opaque.

    Raises:
        ValueError: shapes do not fit.
    """
    rgb, density, t, direction = jnp.asarray(rgb), jnp.asarray(density), jnp.asarray(t), jnp.asarray(direction)
    if density.ndim < 1 or rgb.shape[:-1] != density.shape or t.shape != density.shape:
        raise ValueError(
            f"rgb has shape {rgb.shape}, density {density.shape} and t {t.shape}; expected [..., S, C], [..., S], "
            "[..., S]"
        )
    if direction.shape != (*density.shape[:-1], 3):
        raise ValueError(f"direction has shape {direction.shape}; expected {(*density.shape[:-1], 3)}, one a ray")
    steps = t[..., 1:] - t[..., :-1]
    if far is None:
        last = jnp.full_like(t[..., -1], _ENDLESS)
    else:
        last = jnp.minimum(jnp.asarray(far, t.dtype) - t[..., -1], _ENDLESS)
    length = jnp.linalg.norm(direction, axis=-1)
    deltas = jnp.concatenate([steps, last[..., None]], axis=-1) * length[..., None]
    optical = density * deltas
    # Without the last term from the start: subtracting an infinite interval again would leave no digits.
    before = jnp.concatenate([jnp.zeros_like(optical[..., :1]), jnp.cumsum(optical[..., :-1], axis=-1)], axis=-1)
    transmittance = jnp.exp(-before)
    weights = transmittance * -jnp.expm1(-optical)
    opacity = jnp.sum(weights, axis=-1)
    color = jnp.sum(weights[..., None] * rgb, axis=-2)
    if background is not None:
        behind = jnp.broadcast_to(jnp.asarray(background, rgb.dtype), color.shape)
        color = color + (1 - opacity)[..., None] * behind
    return Composite(color, weights, transmittance, jnp.sum(weights * t, axis=-1), opacity)


@takes(depth=Float("..."), opacity=Float("..."))
def disparity(depth: ArrayLike, opacity: ArrayLike) -> jax.Array:
    """1 / (mean depth) = opacity / depth: [...] each -> [...]. 0 on an empty ray: infinitely far.

    The authors' code divides 0 by 0 there.
    """
    depth, opacity = jnp.asarray(depth), jnp.asarray(opacity)
    seen = depth > 0
    return jnp.where(seen, opacity / jnp.where(seen, depth, 1), 0)
