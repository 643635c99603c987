"""Paths of cameras: around an object, and in front of a scene. All return OpenGL poses [N, 4, 4].

Source: the films of Mildenhall et al. (2020), by the authors' code; `hemisphere` is ours, for scenes made here.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.arguments import Count, Float, Real, takes
from jaxgen.nerf.poses import average_pose, look_at, normalize

UP = (0.0, 0.0, 1.0)
"""Blender's, whose scenes stand on the plane of x and y."""


@takes(num_frames=Count(0), radius=Real(), elevation=Real())
def turntable(
    num_frames: int = 40,
    radius: float = 4.0,
    elevation: float = 30.0,
    target: Sequence[float] = (0.0, 0.0, 0.0),
) -> jax.Array:
    """A circle around a scene whose up is +z; the defaults are the paper's film of a Blender scene.

    Frame i stands at azimuth a = -180 + 360 i / N degrees: target + r (cos e sin a, cos e cos a, sin e).

    Args:
        num_frames: N; the circle is closed, the last frame is one step before the first.
        radius: r, the distance to the target in world units.
        elevation: e in degrees above the plane of x and y.
        target: (x, y, z) that stays in the middle of the image.

    Returns:
        [N, 4, 4].

    Raises:
        ValueError: no frames, radius not positive, or elevation not inside (-90, 90).
    """
    _check_circle(num_frames, radius)
    if not -90 < elevation < 90:
        raise ValueError(f"elevation is {elevation}; it is in degrees, inside (-90, 90)")
    azimuth = np.radians(-180 + 360 * np.arange(num_frames) / num_frames)
    return _around(azimuth, np.full(num_frames, np.radians(elevation)), radius, target)


@takes(num_views=Count(0), radius=Real(), turn=Real())
def hemisphere(
    num_views: int,
    radius: float = 4.0,
    elevations: tuple[float, float] = (0.0, 90.0),
    target: Sequence[float] = (0.0, 0.0, 0.0),
    turn: float = 0.0,
) -> jax.Array:
    """Views from all around and above, evenly spread over the sphere: a golden spiral, equal in area.

    Args:
        num_views: N.
        radius: distance to the target in world units.
        elevations: lowest and highest elevation in degrees; no view is exactly at either.
        target: (x, y, z) that stays in the middle of the image.
        turn: degrees by which all azimuths are turned, so that a second set has other views.

    Returns:
        [N, 4, 4].

    Raises:
        ValueError: no views, radius not positive, or elevations not rising inside [-90, 90].
    """
    _check_circle(num_views, radius)
    low, high = elevations
    if not -90 <= low < high <= 90:
        raise ValueError(f"elevations are {elevations}; they are in degrees, rising, inside [-90, 90]")
    share = (np.arange(num_views) + 0.5) / num_views
    height = np.sin(np.radians(low)) + share * (np.sin(np.radians(high)) - np.sin(np.radians(low)))
    azimuth = np.radians(turn) + np.pi * (3 - np.sqrt(5)) * np.arange(num_views)
    return _around(azimuth, np.arcsin(height), radius, target)


@takes(poses=Float("_ _ 4"), near=Real(), far=Real(), num_frames=Count(0))
def spiral(
    poses: jax.Array, near: float, far: float, num_frames: int = 120, turns: float = 2.0, depth_rate: float = 0.5
) -> jax.Array:
    """The film of a forward-facing scene: a spiral around the average pose, looking at one point in focus.

    As in the LLFF code that the paper's films use: the radii are the 90th percentiles of |x|, |y|, |z| of the camera
    centres, and the point in focus is 1 / (0.25 / (0.9 near) + 0.75 / (5 far)) in front of the average camera.

    Args:
        poses: the scene's poses [N, 4, 4], recentred (`recenter_poses`).
        near: nearest bound of the scene over all views, world units.
        far: farthest bound.
        num_frames: F.
        turns: how often it goes round.
        depth_rate: how often it goes back and forth in one turn.

    Returns:
        [F, 4, 4].

    Raises:
        ValueError: no frames, or not 0 < near < far.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames is {num_frames}; expected at least 1")
    if not 0 < near < far:
        raise ValueError(f"near is {near} and far is {far}; need 0 < near < far")
    average = average_pose(poses)
    focus = 1 / (0.25 / (0.9 * near) + 0.75 / (5 * far))
    radii = jnp.percentile(jnp.abs(poses[:, :3, 3]), 90, axis=0)
    angle = 2 * np.pi * turns * np.arange(num_frames) / num_frames
    circle = np.stack([np.cos(angle), -np.sin(angle), -np.sin(depth_rate * angle)], axis=-1)
    offset = jnp.asarray(circle, poses.dtype) * radii[None, :]
    rotation, centre = average[:3, :3], average[:3, 3]
    position = centre[None, :] + jnp.sum(rotation[None] * offset[:, None, :], axis=-1)
    up = normalize(jnp.sum(poses[:, :3, 1], axis=0))
    return look_at(position, (centre - focus * rotation[:, 2])[None, :], up[None, :])


def _check_circle(num: int, radius: float) -> None:
    if num < 1 or not radius > 0:
        raise ValueError(f"{num} poses at radius {radius}; need at least 1, and a positive radius")


def _around(azimuth: np.ndarray, elevation: np.ndarray, radius: float, target: Sequence[float]) -> jax.Array:
    """Poses at angles [N] in radians, looking at the target."""
    flat = np.cos(elevation)
    unit = np.stack([flat * np.sin(azimuth), flat * np.cos(azimuth), np.sin(elevation)], axis=-1)
    centre = np.asarray(target, np.float64)[None, :]
    return look_at(jnp.asarray(centre + radius * unit), jnp.asarray(centre), jnp.array([UP]))
