"""Lenses that bend: OpenCV's radial and tangential distortion, k1, k2, p1, p2."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.arguments import Count, Float, takes
from jaxgen.nerf.cameras import Rays
from jaxgen.nerf.checks import check_vectors
from jaxgen.nerf.poses import normalize


@takes(points=Float("... 2"))
def distort(points: jax.Array, distortion: Any) -> jax.Array:
    """Where a lens puts a point of the ideal image, both (x / z, y / z) with y down: [..., 2] -> [..., 2].

    x' = x (1 + k1 r^2 + k2 r^4) + 2 p1 x y + p2 (r^2 + 2 x^2), y' likewise with p1 and p2 exchanged. Source: OpenCV's
    documentation, "Camera Calibration and 3D Reconstruction"; COLMAP's model OPENCV.

    Args:
        points: [..., 2].
        distortion: (k1, k2, p1, p2), [..., 4].
    """
    check_vectors("points", points, 2)
    k1, k2, p1, p2 = jnp.moveaxis(jnp.asarray(distortion, points.dtype), -1, 0)
    x, y = points[..., 0], points[..., 1]
    squared = x * x + y * y
    radial = 1 + squared * (k1 + k2 * squared)
    return jnp.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (squared + 2 * x * x),
            y * radial + p1 * (squared + 2 * y * y) + 2 * p2 * x * y,
        ],
        axis=-1,
    )


@takes(points=Float("... 2"), steps=Count(0))
def undistort(points: jax.Array, distortion: Any, steps: int = 12) -> jax.Array:
    """The inverse of `distort`, by the fixed point x <- x + (x' - distort(x)): [..., 2] -> [..., 2].

    It converges for lenses that bend by less than about half: in 12 steps to rounding for usual ones.

    Args:
        points: distorted, [..., 2].
        distortion: (k1, k2, p1, p2), [..., 4].
        steps: of the iteration.
    """
    return jax.lax.fori_loop(0, steps, lambda _, found: found + points - distort(found, distortion), points)


def undistort_rays(rays: Rays, pose: jax.Array, distortion: Any) -> Rays:
    """The rays that a lens let through, from those that a pinhole would have: [..., 3] -> [..., 3].

    Args:
        rays: of `camera_rays`, whose pixels are those of a photograph through the lens.
        pose: of the camera, [..., 4, 4], OpenGL axes; leading axes as those of the rays, or none.
        distortion: (k1, k2, p1, p2), [..., 4], likewise.
    """
    rotation = jnp.broadcast_to(pose[..., :3, :3], (*rays.direction.shape[:-1], 3, 3))
    # In the camera: (x, -y, -1) of OpenCV's (x, y, 1).
    seen = jnp.sum(rotation * rays.direction[..., :, None], axis=-2)
    distortion = jnp.broadcast_to(jnp.asarray(distortion, seen.dtype), (*seen.shape[:-1], 4))
    ideal = undistort(seen[..., :2] * jnp.array([1, -1], seen.dtype).reshape(*(1,) * (seen.ndim - 1), 2), distortion)
    straight = jnp.stack([ideal[..., 0], -ideal[..., 1], -jnp.ones_like(ideal[..., 0])], axis=-1)
    direction = jnp.sum(rotation * straight[..., None, :], axis=-1)
    return Rays(rays.origin, direction, normalize(direction))
