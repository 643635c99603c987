"""What a set of cameras looks at and which way is up, and films of the scene along paths that fit the cameras.

Source: `spherify_poses` is the LLFF code's (Mildenhall et al., "Local Light Field Fusion", 2019); the rest is ours.
"""

from typing import Any, Literal, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np

from jaxgen.arguments import Count, Host, Real, takes
from jaxgen.nerf.paths import panorama, spiral, turntable
from jaxgen.nerf.poses import check_poses, look_at, upright_signs

PathKind = Literal["auto", "turntable", "spiral", "sphere", "panorama"]


class CameraFrame(NamedTuple):
    """A middle and an up of N cameras, which single stray cameras do not move.

    Attributes:
        kind: "around" a point, "inside" a room and looking outward, or "facing" one way.
        focus: the point nearest to the optical axes where the cameras stand around it, the middle of the cameras where
            they look outward, and a point ahead of the mean camera where they face one way, [3].
        up: unit vector, [3].
        radius: median distance of the cameras from the focus.
        elevation: degrees by which each camera stands above the level of the focus ("inside", "facing": by which it
            looks above the level), [N].
    """

    kind: Literal["around", "inside", "facing"]
    focus: np.ndarray
    up: np.ndarray
    radius: float
    elevation: np.ndarray


@takes(poses=Host("_ 4 4|_ 3 4"), near=Real(), far=Real())
def camera_frame(poses: Any, near: float | None = None, far: float | None = None) -> CameraFrame:
    """What cameras look at, and which way is up.

    The focus minimises the sum of distances to the optical axes, by reweighted least squares. Up is perpendicular to
    the cameras' x axes, in the same sense, where these differ in direction, since cameras are mostly held level; it is
    the mean of the cameras' y axes otherwise.

    Args:
        poses: [N, 4, 4] or [N, 3, 4], camera to world, OpenGL axes.
        near: nearest depth of the scene, for the focus of cameras that face one way; None: the focus is 1 ahead.
        far: farthest depth.

    Raises:
        ValueError: wrong shape, no poses, or one that is not a rotation.
    """
    _check(poses)
    centres, views = poses[:, :3, 3], -poses[:, :3, 2]
    across = np.eye(3) - views[:, :, None] * views[:, None, :]
    middle = np.median(centres, axis=0)
    up = _up(poses)
    if len(poses) < 2 or np.linalg.eigvalsh(across.mean(axis=0))[0] <= 0.05:
        depth = 1.0 if near is None or far is None else focus_depth(near, far)
        focus, kind = centres.mean(axis=0) + depth * _unit(views.mean(axis=0)), "facing"
    else:
        focus, kind = _focus(centres, across), "around"
        along, extent = np.sum((focus - centres) * views, axis=1), np.ptp(centres, axis=0).max()
        if extent < 1e-6 or np.mean(along > 0) < 0.75:
            focus, kind = middle, "inside"
    away = centres - focus
    sight = away if kind == "around" else views
    sine = (sight @ up) / np.maximum(np.linalg.norm(sight, axis=1), 1e-12)
    radius = float(np.median(np.linalg.norm(away, axis=1)))
    return CameraFrame(kind, focus, up, radius, np.degrees(np.arcsin(np.clip(sine, -1, 1))))


def focus_depth(near: float, far: float) -> float:
    """The LLFF code's depth of the point in focus, 1 / (0.25 / (0.9 near) + 0.75 / (5 far)).

    Args:
        near: nearest bound; below far / 10, as where it is 0, far / 10 takes its place.
        far: farthest bound, positive.
    """
    return 1 / (0.25 / (0.9 * max(near, far / 10)) + 0.75 / (5 * far))


@takes(
    poses=Host("_ 4 4"), near=Real(), far=Real(), num_frames=Count(0), up=Host("3"), elevation=Real(),
    distance=Real(),
)  # fmt: skip
def film_path(
    poses: Any,
    near: float,
    far: float,
    num_frames: int = 40,
    kind: PathKind = "auto",
    *,
    up: Any = None,
    elevation: float | None = None,
    distance: float = 1.0,
) -> tuple[str, np.ndarray]:
    """A path that fits the cameras of a scene, wherever they stand and whichever way is up.

    Args:
        poses: the scene's poses [N, 4, 4], OpenGL axes.
        near: nearest bound of the scene along the axes of view; may be 0.
        far: farthest bound.
        num_frames: F.
        kind: "turntable", a circle around the point that the cameras look at; "spiral", in front of a scene
            (`spiral`); "sphere", the LLFF code's circle on the sphere of the cameras (`spherify_poses`); "panorama",
            outward from the middle of the cameras; "auto": a turntable, a spiral or a panorama, as the cameras stand
            around a point, face one way, or look outward.
        up: the world's up, [3]; None: the cameras' own (`camera_frame`).
        elevation: degrees above the level of a turntable, or by which a panorama looks up; None: the one nearest to 30
            (a panorama: to 0) of those that most cameras have, between their 10th and 90th percentile.
        distance: radius of the circle of a turntable or panorama, relative to the cameras' median distance from its
            centre.

    Returns:
        (the kind, poses float32 [F, 4, 4]).

    Raises:
        ValueError: an unknown kind, no frames or poses, bounds that are not 0 <= near < far, a spiral or a sphere that
            the cameras do not have, an elevation or distance that `turntable` or `panorama` refuses, or an option that
            the path does not have.
    """
    if kind not in get_args(PathKind):
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(get_args(PathKind))}")
    if num_frames < 1 or not 0 <= near < far:
        raise ValueError(f"{num_frames} frames between near {near} and far {far}; need at least 1, and 0 <= near < far")
    frame = camera_frame(poses, near, far)
    if kind == "auto":
        kind = {"around": "turntable", "facing": "spiral", "inside": "panorama"}[frame.kind]  # type: ignore[assignment]
    upward = frame.up if up is None else up
    low, high = np.percentile(frame.elevation, [10, 90])
    nearest = lambda wanted: float(np.clip(wanted, max(low, -80), min(high, 80)))
    if kind in ("spiral", "sphere") and (elevation is not None or distance != 1):
        raise ValueError(f"a {kind} has no elevation ({elevation}) and distance ({distance}); a turntable has")
    if kind == "sphere" and up is not None:
        raise ValueError(f"up is {tuple(map(float, up))}; the cameras decide which side of their sphere is up")
    radius = distance * frame.radius
    if kind == "turntable":
        angle = nearest(30.0) if elevation is None else elevation
        path = turntable(num_frames, radius, angle, tuple(frame.focus), tuple(upward))
    elif kind == "panorama":
        angle = nearest(0.0) if elevation is None else elevation
        path = panorama(num_frames, tuple(frame.focus), radius, angle, tuple(upward))
    elif kind == "spiral":
        if np.linalg.norm(poses[:, :3, 2].mean(axis=0)) < 0.5:
            raise ValueError(
                f"a spiral needs cameras that face one way, and these {len(poses)} look in many directions; choose "
                f"{'a turntable' if frame.kind == 'around' else 'a panorama'}"
            )
        poses = poses.copy()
        poses[:, :3, :2] *= upright_signs(poses)[:, None, None]
        path = spiral(
            jnp.asarray(poses), max(near, far / 10), far, num_frames, up=None if up is None else tuple(upward)
        )
    else:
        path = _circle_on_sphere(poses, num_frames)
    return kind, np.asarray(path, np.float32)


@takes(poses=Host("_ 4 4"))
def spherify_poses(poses: Any) -> tuple[np.ndarray, np.ndarray]:
    """Poses moved and scaled so that the cameras lie on the unit sphere, on average: the LLFF code's `spherify_poses`.

    The point nearest to the optical axes, by least squares, becomes the origin, the direction from it to the mean
    camera +z, and the root mean square distance of the cameras 1.

    Args:
        poses: [N, 4, 4], OpenGL axes.

    Returns:
        (poses float64 [N, 4, 4]; the similarity [4, 4] that takes points there. Bounds of depth are to be multiplied by
        its scale, the cube root of its determinant).

    Raises:
        ValueError: wrong shape, no poses, one that is not a rotation, cameras whose axes are parallel, or whose mean is
            the point that they look at.
    """
    _check(poses)
    views = poses[:, :3, 2]
    across = np.eye(3) - views[:, :, None] * views[:, None, :]
    if np.linalg.eigvalsh(across.mean(axis=0))[0] < 1e-6:
        raise ValueError(f"the axes of the {len(poses)} cameras are parallel: there is no sphere around what they see")
    focus = _nearest_point(poses[:, :3, 3], across, np.ones(len(poses)))
    up, distance = (poses[:, :3, 3] - focus).mean(axis=0), np.linalg.norm(poses[:, :3, 3] - focus, axis=1)
    if np.linalg.norm(up) < 1e-6 * distance.mean():
        raise ValueError("the mean of the cameras is the point that they look at: no side of the sphere is up")
    z = _unit(up)
    x = _unit(np.cross([0.1, 0.2, 0.3], z))
    rotation = np.stack([x, np.cross(z, x), z])
    scale = 1 / np.sqrt(np.mean(distance**2))
    similarity = np.eye(4)
    similarity[:3, :3], similarity[:3, 3] = scale * rotation, -scale * rotation @ focus
    return move_poses(poses, similarity), similarity


@takes(poses=Host("_ 4 4"), similarity=Host("4 4"))
def move_poses(poses: Any, similarity: Any) -> np.ndarray:
    """The same cameras in a world that a similarity takes points to: [N, 4, 4] -> float64 [N, 4, 4].

    Args:
        poses: camera to world, any axes.
        similarity: [4, 4], a rotation times a positive scale, and a translation.

    Raises:
        ValueError: wrong shapes, or `similarity` is not one.
    """
    rotation, scale, shift = similarity_parts(similarity)
    moved = np.array(poses)
    moved[:, :3, :3] = rotation @ moved[:, :3, :3]
    moved[:, :3, 3] = scale * moved[:, :3, 3] @ rotation.T + shift
    return moved


@takes(similarity=Host("4 4"))
def similarity_parts(similarity: Any) -> tuple[np.ndarray, float, np.ndarray]:
    """Rotation [3, 3], scale and translation [3] of a similarity [4, 4].

    Raises:
        ValueError: another shape, or not a rotation times a positive scale.
    """
    determinant = np.linalg.det(similarity[:3, :3])
    if not determinant > 0:
        raise ValueError(f"similarity has the determinant {determinant:g}; expected a positive one")
    scale = float(np.cbrt(determinant))
    rotation = similarity[:3, :3] / scale
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-4 or np.abs(similarity[3] - [0, 0, 0, 1]).max() > 1e-9:
        raise ValueError("the matrix is not a similarity: expected a rotation times one scale, and a last row 0 0 0 1")
    return rotation, scale, similarity[:3, 3]


def _check(poses: np.ndarray) -> None:
    if not len(poses):
        raise ValueError("there are no poses; expected at least one camera")
    check_poses(poses)


def _circle_on_sphere(poses: np.ndarray, num_frames: int) -> np.ndarray:
    """The LLFF code's film: a circle on the unit sphere at the cameras' mean height, in the world of the poses."""
    spherical, similarity = spherify_poses(poses)
    height = spherical[:, 2, 3].mean()
    angle = 2 * np.pi * np.arange(num_frames) / num_frames
    flat = np.sqrt(max(1 - height**2, 0))
    position = np.stack([flat * np.cos(angle), flat * np.sin(angle), np.full(num_frames, height)], axis=-1)
    if flat < 1e-3:
        raise ValueError("all cameras look from one direction: the circle on their sphere is a point")
    path = look_at(jnp.asarray(position), jnp.zeros((1, 3)), jnp.array([[0.0, 0.0, 1.0]]))
    return move_poses(path, np.linalg.inv(similarity))


def _nearest_point(centres: np.ndarray, across: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The point with the least weighted sum of squared distances to the lines of the projections `across`."""
    matrix = np.einsum("n,nij->ij", weights, across)
    return np.linalg.solve(matrix, np.einsum("n,nij,nj->i", weights, across, centres))


def _focus(centres: np.ndarray, across: np.ndarray) -> np.ndarray:
    """The point with the least sum of distances to the axes."""
    weights = np.ones(len(centres))
    for _ in range(30):
        point = _nearest_point(centres, across, weights)
        distance = np.linalg.norm(np.einsum("nij,nj->ni", across, point - centres), axis=1)
        weights = 1 / np.maximum(distance, 0.01 * np.median(np.linalg.norm(centres - point, axis=1)) + 1e-12)
    return point


def _up(poses: np.ndarray) -> np.ndarray:
    """The direction that is up for most cameras."""
    right, up = poses[:, :3, 0], poses[:, :3, 1].mean(axis=0)
    weights = np.ones(len(poses))
    for _ in range(20):
        values, vectors = np.linalg.eigh(np.einsum("n,ni,nj->ij", weights / weights.sum(), right, right))
        weights = 1 / np.maximum(np.abs(right @ vectors[:, 0]), 0.01)
    if values[1] > max(0.02, 4 * values[0]):
        level = vectors[:, 0]
        # Cameras that look straight down have no mean up; they stand above what they see.
        sense = up @ level if abs(up @ level) > 0.3 else poses[:, :3, 2].mean(axis=0) @ level
        return level * (1 if sense >= 0 else -1)
    return _unit(up) if np.linalg.norm(up) > 1e-3 else _unit(poses[0, :3, 1])


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)
