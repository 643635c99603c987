"""A scene that needs no download, with exact ground truth: marbles on a checkered plate.

Each body k is an ellipsoid with the density s_k max(0, 1 - |q_k|^2), q_k = (x - m_k) / r_k: continuous, zero outside,
with a soft limb. Along a ray it is a parabola, so optical depth and opacity have closed forms, however the bodies
overlap. Colors depend on position and on direction of view (highlights, Fresnel reflection, shadows); their integral
is taken by Gauss-Legendre quadrature between all entries and exits, to any accuracy.

Everything is inside [-1, 1]^3 with z up. Distances are in world units, colors in [0, 1].
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.nerf.bodies import MARBLES, Body, Vector, chords_of, densities, depth_along, shade
from jaxgen.nerf.cameras import Camera, Rays, camera_rays
from jaxgen.nerf.checks import check_vectors
from jaxgen.nerf.poses import check_poses, normalize

Radiance = Callable[[jax.Array, jax.Array], jax.Array]
"""Point [3], unit direction of view [3] -> rgb [3]."""

NEAR, FAR = 2.6, 5.4
"""Bounds for cameras at distance 4 from the scene's middle."""

CAMERA_ANGLE_X = 0.6911112
"""Horizontal field of view in radians, that of the Blender scenes."""

TARGET: Vector = (0.0, 0.0, -0.25)
"""Where cameras should look to fill the image."""


class View(NamedTuple):
    """Exact images of the scene: JAX arrays of `render`, NumPy arrays of `render_view`.

    Attributes:
        color: [..., 3], over the background.
        opacity: alpha, [...], in closed form.
        depth: the integral of T sigma t dt, [...], in units of the ray's direction: what `composite` calls depth.
        normal: the normal averaged over what is seen, a unit vector [..., 3] in world coordinates; 0 where nothing is.
    """

    color: Any
    opacity: Any
    depth: Any
    normal: Any


def density(points: jax.Array, bodies: Sequence[Body] = MARBLES) -> jax.Array:
    """sigma(x) per unit of length: [..., 3] -> [...].

    The level set of one body alone is the ellipsoid of radii r sqrt(1 - level / s).
    """
    check_vectors("points", points)
    found = jax.vmap(lambda point: jnp.sum(densities(point, bodies)))(points.reshape(-1, 3))
    return found.reshape(points.shape[:-1])


def field(points: jax.Array, view: jax.Array, bodies: Sequence[Body] = MARBLES) -> tuple[jax.Array, jax.Array]:
    """The radiance field itself, as `render_rays` takes it.

    Args:
        points: [..., S, 3].
        view: unit directions, [..., 3], one a ray.
        bodies: the scene.

    Returns:
        rgb [..., S, 3] in [0, 1] and density [..., S].
    """
    check_vectors("points", points)
    directions = jnp.broadcast_to(view[..., None, :], points.shape).reshape(-1, 3)
    rgb, _ = jax.vmap(lambda point, d: shade(point, d, bodies))(points.reshape(-1, 3), directions)
    return rgb.reshape(points.shape), density(points, bodies)


def optical_depth(rays: Rays, t: Any = np.inf, bodies: Sequence[Body] = MARBLES) -> jax.Array:
    """The integral of sigma |d| dt from the origin to t, exact: rays [..., 3], t a number or [...] -> [...]."""
    lead = rays.origin.shape[:-1]
    until = jnp.broadcast_to(jnp.asarray(t, rays.origin.dtype), lead).reshape(-1)
    one = lambda o, d, t: depth_along(chords_of(o, d, bodies), t)
    return jax.vmap(one)(rays.origin.reshape(-1, 3), rays.direction.reshape(-1, 3), until).reshape(lead)


def opacity(rays: Rays, bodies: Sequence[Body] = MARBLES) -> jax.Array:
    """alpha = 1 - exp(-optical depth) of whole rays, exact: [..., 3] -> [...]."""
    return -jnp.expm1(-optical_depth(rays, bodies=bodies))


def render(
    rays: Rays,
    background: Any = 1.0,
    bodies: Sequence[Body] = MARBLES,
    *,
    radiance: Radiance | None = None,
    num_nodes: int = 48,
    num_segments: int | None = None,
) -> View:
    """The scene along rays that start outside of all bodies, or anywhere.

    A ray is cut where it enters or leaves a body. In each piece the weights of `num_nodes` Gauss-Legendre nodes are
    scaled so that they sum to the exact fall of the transmittance: a constant color is exact with any number.

    Args:
        rays: [..., 3].
        background: a number, [3] or [..., 3].
        bodies: the scene.
        radiance: a color to use instead of the scene's.
        num_nodes: of each piece. Measured against 96 on rays that hit something: 16 nodes 66 dB, 24 nodes 78 dB, 48
            nodes 92 dB. The depth is within 1e-5 from 24 nodes on.
        num_segments: keeps only so many pieces of each ray, those where most light ends; None: all 2 K - 1.

    Returns:
        [..., 3], [...], [...], [..., 3].

    Raises:
        ValueError: wrong shapes.
    """
    for name, array in zip(Rays._fields, rays, strict=True):
        check_vectors(name, array)
    lead, dtype = rays.origin.shape[:-1], rays.origin.dtype
    positions, shares = (jnp.asarray(a, dtype) for a in np.polynomial.legendre.leggauss(num_nodes))
    kept = min(num_segments or 2 * len(bodies) - 1, 2 * len(bodies) - 1)

    def one(origin, direction, view, behind):
        chords = chords_of(origin, direction, bodies)
        edges = jnp.maximum(jnp.sort(jnp.concatenate([chords.enter, chords.enter + 2 * chords.half])), 0)
        depths = jax.vmap(lambda t: depth_along(chords, t))(edges)
        # exp(-a) - exp(-b), with its digits where a and b are close.
        fall = jnp.exp(-depths[:-1]) * -jnp.expm1(depths[:-1] - depths[1:])
        fall, index = jax.lax.top_k(fall, kept)
        left, right = edges[index], edges[index + 1]
        t = (left + right)[:, None] / 2 + (right - left)[:, None] / 2 * positions[None, :]
        points = origin[None, None, :] + t[..., None] * direction[None, None, :]
        through = jax.vmap(jax.vmap(lambda t: depth_along(chords, t)))(t)
        # Relative to the piece's start, where the light is strongest: nothing underflows behind an opaque body.
        here = jnp.exp(depths[index][:, None] - through) * density(points, bodies) * shares[None, :]
        whole = jnp.sum(here, axis=-1, keepdims=True)
        weights = fall[:, None] * here / jnp.where(whole > 0, whole, 1)
        rgb, normal = jax.vmap(lambda point: shade(point, view, bodies))(points.reshape(-1, 3))
        if radiance is not None:
            rgb = jax.vmap(radiance, (0, None))(points.reshape(-1, 3), view)
        flat = weights.reshape(-1, 1)
        alpha = -jnp.expm1(-depth_along(chords, jnp.asarray(jnp.inf, dtype)))
        color = jnp.sum(flat * rgb, axis=0) + (1 - alpha) * behind
        return View(color, alpha, jnp.sum(weights * t), normalize(jnp.sum(flat * normal, axis=0)))

    behind = jnp.broadcast_to(jnp.asarray(background, dtype), (*lead, 3))
    flat = [a.reshape(-1, 3) for a in (*rays, behind)]
    return jax.tree.map(lambda a: a.reshape(*lead, *a.shape[1:]), jax.vmap(one)(*flat))


def render_view(
    camera: Camera,
    pose: Any,
    background: Any = 1.0,
    bodies: Sequence[Body] = MARBLES,
    *,
    num_nodes: int = 24,
    num_segments: int | None = 6,
    chunk: int = 1024,
) -> View:
    """A whole image; only rays that meet a body are rendered, about a third of the pixels.

    Args:
        camera: the camera.
        pose: [4, 4] or [3, 4], OpenGL axes.
        background: a number or [3].
        bodies: the scene, the same tuple each time: it is compiled for.
        num_nodes: as in `render`.
        num_segments: as in `render`.
        chunk: rays at a time.

    Returns:
        NumPy arrays [height, width, 3], [height, width], [height, width], [height, width, 3].

    Raises:
        ValueError: chunk is below 1, wrong shapes, or a pose that is not a rotation.
    """
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}; expected at least 1 ray")
    check_poses(pose)
    rays, alpha = jax.device_get(_see(tuple(bodies), camera, jnp.asarray(pose), jnp.asarray(camera.pixels())))
    dtype = alpha.dtype
    behind = np.broadcast_to(np.asarray(background, dtype), (camera.height, camera.width, 3))
    seen = View(behind.copy(), alpha.copy(), np.zeros_like(alpha), np.zeros_like(behind))
    hits = np.argwhere(alpha > 0)
    for start in range(0, len(hits), chunk):
        # The last chunk is filled up with copies of the last ray, so that one program serves all.
        rows, columns = hits[np.minimum(np.arange(start, start + chunk), len(hits) - 1)].T
        some = Rays(*(a[rows, columns] for a in rays))
        part = _render_some(tuple(bodies), num_nodes, num_segments, some, behind[rows, columns])
        for whole, values in zip(seen, jax.device_get(part), strict=True):
            whole[rows, columns] = values
    return seen


def render_rgba(camera: Camera, poses: Any, bodies: Sequence[Body] = MARBLES, **settings: Any) -> np.ndarray:
    """Images as files hold them: color not multiplied by alpha, rounded to 8 bits.

    Args:
        camera: the camera.
        poses: [N, 4, 4] or [N, 3, 4], OpenGL axes.
        bodies: as in `render_view`.
        **settings: of `render_view`.

    Returns:
        uint8 [N, height, width, 4].
    """
    images = []
    for pose in poses:
        seen = render_view(camera, pose, 0.0, bodies, **settings)
        alpha = seen.opacity[..., None]
        images.append(np.concatenate([seen.color / np.maximum(alpha, 1e-6), alpha], axis=-1))
    return np.rint(255 * np.clip(np.stack(images), 0, 1)).astype(np.uint8)


@functools.partial(jax.jit, static_argnums=0)
def _see(bodies: tuple[Body, ...], camera: Camera, pose: jax.Array, pixels: jax.Array) -> tuple[Rays, jax.Array]:
    rays = camera_rays(camera, pose, pixels)
    return rays, opacity(rays, bodies)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _render_some(
    bodies: tuple[Body, ...], num_nodes: int, num_segments: int | None, rays: Rays, behind: jax.Array
) -> View:
    return render(rays, behind, bodies, num_nodes=num_nodes, num_segments=num_segments)
