"""Paths of cameras: around an object, in front of a scene, and inside of a room. All return OpenGL poses [N, 4, 4].

Source: the films of Mildenhall et al. (2020), by the authors' code; `hemisphere` and `panorama` are ours.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Float, Host, Real, takes
from jaxgen.nerf.poses import average_pose, look_at, normalize

UP = (0.0, 0.0, 1.0)
"""Blender's, whose scenes stand on the plane of x and y."""


@takes(num_frames=Count(0), radius=Real(), elevation=Real(), target=Host("3"), up=Host("3"))
def turntable(
    num_frames: int = 40,
    radius: float = 4.0,
    elevation: float = 30.0,
    target: Sequence[float] = (0.0, 0.0, 0.0),
    up: Sequence[float] | np.ndarray = UP,
) -> jax.Array:
    """A circle around a scene; the defaults are the paper's film of a Blender scene, whose up is +z.

    Frame i stands at azimuth -180 + 360 i / N degrees of `orbit_poses`.

    Args:
        num_frames: N; the circle is closed, the last frame is one step before the first.
        radius: r, the distance to the target in world units.
        elevation: degrees above the plane through the target that is perpendicular to `up`.
        target: (x, y, z) that stays in the middle of the image.
        up: the world's up, of any length.

    Returns:
        [N, 4, 4].

    Raises:
        ValueError: no frames, radius not positive, elevation not inside (-90, 90), or up is zero.
    """
    _check_circle(num_frames, radius)
    return orbit_poses(-180 + 360 * np.arange(num_frames) / num_frames, elevation, radius, target, up)


@takes(azimuth=Host("|N"), elevation=Host("|N"), radius=Real(), target=Host("3"), up=Host("3"))
def orbit_poses(
    azimuth: Any,
    elevation: Any,
    radius: float = 4.0,
    target: Sequence[float] = (0.0, 0.0, 0.0),
    up: Sequence[float] | np.ndarray = UP,
) -> jax.Array:
    """Poses that look at a target from azimuths a and elevations e: `pose_spherical(a, -e, r)` of the paper's code.

    With up = +z they stand at target + r (cos e sin a, cos e cos a, sin e): azimuth 0 is +y, and 90 is +x. Another up
    is reached by the smallest turn from +z, and -z by half a turn about x.

    Args:
        azimuth: degrees, a number or [N].
        elevation: degrees inside (-90, 90), a number or [N].
        radius: r, the distance to the target in world units.
        target: (x, y, z) in the middle of the image.
        up: the world's up, of any length.

    Returns:
        [N, 4, 4].

    Raises:
        ValueError: no poses, radius not positive, an elevation not inside (-90, 90), or up is zero.
    """
    azimuth, elevation = (np.radians(np.atleast_1d(np.asarray(angle, np.float64))) for angle in (azimuth, elevation))
    azimuth, elevation = np.broadcast_arrays(azimuth, elevation)
    _check_circle(len(azimuth), radius)
    wrong = ~(np.abs(elevation) < np.pi / 2)
    if wrong.any():
        raise ValueError(f"elevation is {np.degrees(elevation[wrong][0]):g}; it is in degrees, inside (-90, 90)")
    return _around(azimuth, elevation, radius, target, up)


@takes(num_frames=Count(0), center=Host("3"), radius=Real(), elevation=Real(), up=Host("3"))
def panorama(
    num_frames: int,
    center: Sequence[float] = (0.0, 0.0, 0.0),
    radius: float = 0.0,
    elevation: float = 0.0,
    up: Sequence[float] | np.ndarray = UP,
) -> jax.Array:
    """One turn inside of a room: poses on a level circle around its middle, looking outward.

    Args:
        num_frames: N; the circle is closed.
        center: of the circle, (x, y, z).
        radius: of the circle; 0: all poses stand at the center.
        elevation: degrees inside (-90, 90) by which they look above the level.
        up: the world's up, of any length.

    Returns:
        [N, 4, 4].

    Raises:
        ValueError: no frames, a negative radius, elevation not inside (-90, 90), or up is zero.
    """
    if num_frames < 1 or radius < 0 or not -90 < elevation < 90:
        raise ValueError(
            f"{num_frames} poses at radius {radius} and elevation {elevation}; need at least 1, a radius of 0 or more, "
            "and an elevation inside (-90, 90) degrees"
        )
    azimuth, level = np.radians(-180 + 360 * np.arange(num_frames) / num_frames), np.zeros(num_frames)
    turn = _turn_from_z(up)
    position = np.asarray(center, np.float64)[None, :] + radius * (_unit_vectors(azimuth, level) @ turn.T)
    ahead = _unit_vectors(azimuth, level + np.radians(elevation)) @ turn.T
    return look_at(jnp.asarray(position), jnp.asarray(position + ahead), jnp.asarray(turn[None, :, 2]))


@takes(num_views=Count(0), radius=Real(), elevations=Host("2"), target=Host("3"), turn=Real(), up=Host("3"))
def hemisphere(
    num_views: int,
    radius: float = 4.0,
    elevations: tuple[float, float] = (0.0, 90.0),
    target: Sequence[float] | np.ndarray = (0.0, 0.0, 0.0),
    turn: float = 0.0,
    up: Sequence[float] | np.ndarray = UP,
) -> jax.Array:
    """Views from all around and above, evenly spread over the sphere: a golden spiral, equal in area.

    Args:
        num_views: N.
        radius: distance to the target in world units.
        elevations: lowest and highest elevation in degrees; no view is exactly at either.
        target: (x, y, z) that stays in the middle of the image.
        turn: degrees by which all azimuths are turned, so that a second set has other views.
        up: the world's up, of any length.

    Returns:
        [N, 4, 4].

    Raises:
        ValueError: no views, radius not positive, or elevations not rising inside [-90, 90].
    """
    _check_circle(num_views, radius)
    low, high = elevations
    if not -90 <= low < high <= 90:
        raise ValueError(f"elevations are ({low:g}, {high:g}); they are in degrees, rising, inside [-90, 90]")
    share = (np.arange(num_views) + 0.5) / num_views
    height = np.sin(np.radians(low)) + share * (np.sin(np.radians(high)) - np.sin(np.radians(low)))
    azimuth = np.radians(turn) + np.pi * (3 - np.sqrt(5)) * np.arange(num_views)
    return _around(azimuth, np.arcsin(height), radius, target, up)


@takes(
    poses=Float("_ _ 4"), near=Real(), far=Real(), num_frames=Count(0), turns=Real(), depth_rate=Real(),
    up=Float("3", finite=True),
)  # fmt: skip
def spiral(
    poses: ArrayLike,
    near: float,
    far: float,
    num_frames: int = 120,
    turns: float = 2.0,
    depth_rate: float = 0.5,
    up: Sequence[float] | np.ndarray | None = None,
) -> jax.Array:
    """The film of a forward-facing scene: a spiral around the average pose, looking at one point in focus.

    As in the LLFF code that the paper's films use: the point in focus is 1 / (0.25 / (0.9 near) + 0.75 / (5 far)) in
    front of the average camera, and the radii are the 90th percentiles of |x|, |y|, |z| of the camera centres, seen
    from the average camera. The LLFF code takes them about the origin, which is the same for recentred poses.

    Args:
        poses: the scene's poses [N, 4, 4], wherever they stand.
        near: nearest bound of the scene over all views, world units.
        far: farthest bound.
        num_frames: F.
        turns: how often it goes round.
        depth_rate: how often it goes back and forth in one turn.
        up: the world's up; None: the mean of the poses'.

    Returns:
        [F, 4, 4].

    Raises:
        ValueError: no frames, not 0 < near < far, or (outside of jit) poses without a mean axis of view.
    """
    poses = jnp.asarray(poses)
    if num_frames < 1:
        raise ValueError(f"num_frames is {num_frames}; expected at least 1")
    if not 0 < near < far:
        raise ValueError(f"near is {near} and far is {far}; need 0 < near < far")
    average = average_pose(poses)
    focus = 1 / (0.25 / (0.9 * near) + 0.75 / (5 * far))
    rotation, centre = average[:3, :3], average[:3, 3]
    seen = jnp.sum(rotation[None, :, :] * (poses[:, :3, 3] - centre[None, :])[:, :, None], axis=1)
    radii = jnp.percentile(jnp.abs(seen), 90, axis=0)
    angle = 2 * np.pi * turns * np.arange(num_frames) / num_frames
    circle = np.stack([np.cos(angle), -np.sin(angle), -np.sin(depth_rate * angle)], axis=-1)
    offset = jnp.asarray(circle, poses.dtype) * radii[None, :]
    position = centre[None, :] + jnp.sum(rotation[None] * offset[:, None, :], axis=-1)
    upward = normalize(jnp.sum(poses[:, :3, 1], axis=0) if up is None else jnp.asarray(up, poses.dtype))
    return look_at(position, (centre - focus * rotation[:, 2])[None, :], upward[None, :])


def _check_circle(num: int, radius: float) -> None:
    if num < 1 or not radius > 0:
        raise ValueError(f"{num} poses at radius {radius}; need at least 1, and a positive radius")


def _around(
    azimuth: np.ndarray,
    elevation: np.ndarray,
    radius: float,
    target: Sequence[float] | np.ndarray,
    up: Sequence[float] | np.ndarray,
) -> jax.Array:
    """Poses at angles [N] in radians, looking at the target."""
    turn = _turn_from_z(up)
    centre = np.asarray(target, np.float64)[None, :]
    position = centre + radius * (_unit_vectors(azimuth, elevation) @ turn.T)
    return look_at(jnp.asarray(position), jnp.asarray(centre), jnp.asarray(turn[None, :, 2]))


def _unit_vectors(azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    flat = np.cos(elevation)
    return np.stack([flat * np.sin(azimuth), flat * np.cos(azimuth), np.sin(elevation)], axis=-1)


def _turn_from_z(up: Sequence[float] | np.ndarray) -> np.ndarray:
    """The rotation [3, 3] by the smallest angle that takes +z to `up`."""
    length = float(np.linalg.norm(np.asarray(up, np.float64)))
    if not 0 < length < np.inf:
        shown = ", ".join(f"{x:g}" for x in up)
        raise ValueError(f"up is ({shown}); it is a direction, three numbers that are not all zero")
    x, y, z = np.asarray(up, np.float64) / length
    if z < -1 + 1e-12:
        return np.diag([1.0, -1.0, -1.0])
    return np.array(
        [[1 - x * x / (1 + z), -x * y / (1 + z), x], [-x * y / (1 + z), 1 - y * y / (1 + z), y], [-x, -y, z]]
    )
