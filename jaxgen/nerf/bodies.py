"""Soft ellipsoids whose density, chords and colors have closed forms: the bodies of `analytic_scene`.

Each body k has the density s_k max(0, 1 - |q_k|^2), q_k = (x - m_k) / r_k: continuous, zero outside, with a soft limb.
Along a ray it is a parabola, so the optical depth has a closed form. Source: ours.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.nerf.poses import normalize

Vector = tuple[float, float, float]
Pattern = Callable[[jax.Array, jax.Array], jax.Array]
"""q [3], and q / |q| -> a number in [-1, 1] that mixes a body's two colors."""

_LIGHT = np.array([0.45, -0.35, 0.82]) / np.linalg.norm([0.45, -0.35, 0.82])
_SKY = np.array([0.75, 0.88, 1.0])
# Shadows see a body's optical depth thinned: soft, and never quite black.
_SHADOW = 0.15


class Body(NamedTuple):
    """An ellipsoid.

    Attributes:
        center: m.
        radii: r along x, y and z.
        strength: s, the density at its centre. 15 / radius makes a sphere's optical depth 20 through the middle.
        colors: two colors, mixed by the pattern.
        gloss: strength of highlight and reflection, in [0, 1].
        pattern: the mixture. On marbles it is a function of the direction q / |q|, so that it does not change with
            depth; soft enough for the quadrature that makes the ground truth.
    """

    center: Vector
    radii: Vector
    strength: float
    colors: tuple[Vector, Vector]
    gloss: float
    pattern: Pattern


def _step(x: jax.Array) -> jax.Array:
    """A soft square wave of a sine."""
    return jnp.tanh(3 * x)


MARBLES: tuple[Body, ...] = (
    Body(
        center=(0.0, 0.0, -0.62),
        radii=(0.95, 0.95, 0.12),
        strength=80.0,
        colors=((0.13, 0.16, 0.28), (0.9, 0.88, 0.82)),
        gloss=0.1,
        pattern=lambda q, u: _step(jnp.sin(6 * q[0])) * _step(jnp.sin(6 * q[1])),
    ),
    Body(
        center=(0.0, 0.05, -0.1),
        radii=(0.42, 0.42, 0.42),
        strength=36.0,
        colors=((0.9, 0.33, 0.1), (0.92, 0.85, 0.68)),
        gloss=0.4,
        pattern=lambda q, u: _step(jnp.sin(4.5 * u[2] + 0.8 * jnp.sin(3 * u[0]))),
    ),
    Body(
        center=(0.58, -0.28, -0.32),
        radii=(0.2, 0.2, 0.2),
        strength=75.0,
        colors=((0.05, 0.35, 0.65), (0.55, 0.8, 0.9)),
        gloss=0.6,
        pattern=lambda q, u: _step(jnp.sin(6 * u[0] + 2 * u[2])),
    ),
    Body(
        center=(-0.6, -0.22, -0.35),
        radii=(0.17, 0.17, 0.17),
        strength=88.0,
        colors=((0.55, 0.1, 0.45), (0.9, 0.62, 0.8)),
        gloss=0.6,
        pattern=lambda q, u: _step(jnp.sin(7 * u[2] + 2 * jnp.cos(2 * u[0]))),
    ),
    Body(
        center=(-0.15, -0.66, -0.42),
        radii=(0.12, 0.12, 0.12),
        strength=125.0,
        colors=((0.85, 0.65, 0.1), (0.92, 0.9, 0.75)),
        gloss=0.5,
        pattern=lambda q, u: _step(jnp.sin(6 * u[0] - 3 * u[1])),
    ),
    Body(
        center=(0.12, 0.64, -0.3),
        radii=(0.23, 0.23, 0.23),
        strength=65.0,
        colors=((0.08, 0.42, 0.25), (0.75, 0.82, 0.5)),
        gloss=0.5,
        pattern=lambda q, u: _step(jnp.sin(6 * u[0]) * jnp.sin(6 * u[1]) + jnp.sin(6 * u[2]) / 2),
    ),
)
"""The scene: a plate, a large marble on it and four small ones."""


class Chords(NamedTuple):
    """Where a ray is inside of the bodies: enter [K], half the length of the stay [K], and s |A d|^2 |d| [K]."""

    enter: jax.Array
    half: jax.Array
    curvature: jax.Array


def _column(bodies: Sequence[Body], name: str, dtype: Any) -> jax.Array:
    return jnp.asarray(np.array([getattr(body, name) for body in bodies]), dtype)


def _unit_coordinates(point: jax.Array, bodies: Sequence[Body]) -> jax.Array:
    """q of a point [3] in each body, [K, 3]."""
    return (point[None, :] - _column(bodies, "center", point.dtype)) / _column(bodies, "radii", point.dtype)


def densities(point: jax.Array, bodies: Sequence[Body]) -> jax.Array:
    """Density of each body at a point: [3] -> [K]."""
    inside = 1 - jnp.sum(jnp.square(_unit_coordinates(point, bodies)), axis=-1)
    return _column(bodies, "strength", point.dtype) * jnp.maximum(inside, 0)


def chords_of(origin: jax.Array, direction: jax.Array, bodies: Sequence[Body]) -> Chords:
    """Where one ray, origin [3] and direction [3], is inside of the bodies.

    From the point of closest approach: the textbook b^2 - a c would lose most digits in float32.
    """
    o = _unit_coordinates(origin, bodies)
    d = direction[None, :] / _column(bodies, "radii", origin.dtype)
    a = jnp.sum(jnp.square(d), axis=-1)
    closest = -jnp.sum(o * d, axis=-1) / a
    miss = jnp.sum(jnp.square(o + closest[:, None] * d), axis=-1)
    hit = miss < 1
    half = jnp.where(hit, jnp.sqrt(jnp.where(hit, 1 - miss, 1) / a), 0)
    length = jnp.linalg.norm(direction)
    return Chords(closest - half, half, _column(bodies, "strength", origin.dtype) * a * length)


def _depth_until(chords: Chords, t: jax.Array) -> jax.Array:
    """Optical depth from -infinity to t (scalar) of each body, [K]: the integral of s a (h^2 - v^2) dv.

    With w = v + h the way inside it is s a w^2 (h - w / 3), without cancellation.
    """
    inside = jnp.clip(t - chords.enter, 0, 2 * chords.half)
    return chords.curvature * jnp.square(inside) * (chords.half - inside / 3)


def depth_along(chords: Chords, t: jax.Array) -> jax.Array:
    """Optical depth from the ray's origin to t >= 0 (scalar), over all bodies: scalar."""
    return jnp.sum(_depth_until(chords, t) - _depth_until(chords, jnp.zeros_like(t)))


def _normals(q: jax.Array, bodies: Sequence[Body]) -> jax.Array:
    """Outward unit normals of the level sets through q, [K, 3]."""
    return normalize(q / _column(bodies, "radii", q.dtype))


def shade(point: jax.Array, view: jax.Array, bodies: Sequence[Body]) -> tuple[jax.Array, jax.Array]:
    """Color and normal at a point: the bodies', weighted by their densities. [3], [3] -> [3], [3]."""
    dtype = point.dtype
    light, sky = jnp.asarray(_LIGHT, dtype), jnp.asarray(_SKY, dtype)
    density = densities(point, bodies)
    total = jnp.sum(density)
    share = jnp.where(total > 0, density / jnp.where(total > 0, total, 1), 1 / len(bodies))
    q = _unit_coordinates(point, bodies)
    normals, outward = _normals(q, bodies), normalize(q)

    # What stands between the point and the light, each body's own substance left out.
    toward_light = chords_of(point, light, bodies)
    blocked = _depth_until(toward_light, jnp.asarray(jnp.inf, dtype)) - _depth_until(toward_light, jnp.zeros((), dtype))
    lit = jnp.exp(-_SHADOW * (jnp.sum(blocked) - blocked))

    pattern = jnp.stack([body.pattern(*at) for body, *at in zip(bodies, q, outward, strict=True)])[:, None]
    colors = _column(bodies, "colors", dtype)
    albedo = ((1 - pattern) * colors[:, 0] + (1 + pattern) * colors[:, 1]) / 2
    facing = jnp.maximum(jnp.sum(normals * light[None, :], axis=-1), 0)
    diffuse = albedo * (0.3 + 0.08 * (1 + normals[:, 2]) + 0.62 * facing * lit)[:, None]
    halfway = normalize(light - view)
    highlight = jnp.maximum(jnp.sum(normals * halfway[None, :], axis=-1), 0) ** 24 * lit
    grazing = jnp.maximum(1 + jnp.minimum(jnp.sum(normals * view[None, :], axis=-1), 0), 0) ** 3
    gloss = _column(bodies, "gloss", dtype)[:, None]
    specular = gloss * (highlight[:, None] + 0.27 * grazing[:, None] * sky[None, :]) / 1.27
    # The "screen" of two images: never above 1, and smooth, unlike clipping.
    rgb = 1 - (1 - diffuse) * (1 - specular)
    return jnp.sum(share[:, None] * rgb, axis=0), normalize(jnp.sum(share[:, None] * normals, axis=0))
