"""Where the cameras of a capture are brought before training, and the way back to the world that they came from.

The encoding of positions repeats beyond pi, and its frequencies suit scenes a few units large. Source: ours, after the
Blender scenes and LLFF's code.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxgen.arguments import Float, Host, Real, takes
from jaxgen.nerf.pose_report import describe_poses
from jaxgen.nerf.poses import recenter_poses, upright_signs

REACH = 3.0
"""Farthest coordinate of a room that is seen from inside."""
UPS = ("", "cameras", "+x", "-x", "+y", "-y", "+z", "-z")
"""Directions that may become +z."""


class Placement(NamedTuple):
    """Cameras in the scene's world.

    Attributes:
        poses: float64 [N, 4, 4], OpenGL axes.
        scale: factor by which lengths are multiplied.
        world_from_scene: [4, 4], the similarity from the scene's world to the one before.
        text: what was done.
    """

    poses: np.ndarray
    scale: float
    world_from_scene: np.ndarray
    text: str


@takes(poses=Float(numpy=True), nearest=Real(positive=True))
def place_cameras(poses: np.ndarray, nearest: float) -> tuple[np.ndarray, float]:
    """A reconstructed world, such as COLMAP's, moved and scaled to where networks and bounds expect it.

    Cameras that surround a point: that point at the origin, and the cameras 4 away from it on average, as in the
    Blender scenes. Cameras that face one way, as in LLFF's scenes: the average camera at the origin with the axes of
    the world, and the nearest bound at 4 / 3.

    Args:
        poses: [N, 4, 4], OpenGL axes.
        nearest: the nearest bound of all views, in units of `poses`.

    Returns:
        (new poses float64 [N, 4, 4], the scale by which bounds are to be multiplied).
    """
    report, poses = describe_poses(poses), np.array(poses)
    if report.surrounding:
        poses[:, :3, 3] -= report.focus
        scale = 4 / report.distance
    else:
        poses = _recentred(poses)
        scale = 1 / (0.75 * nearest)
    poses[:, :3, 3] *= scale
    return poses, scale


def _recentred(poses: np.ndarray) -> np.ndarray:
    """`recenter_poses`, also of a world far from its origin, and of cameras without a common up."""
    middle, extent = poses[:, :3, 3].mean(axis=0), np.ptp(poses[:, :3, 3], axis=0).max()
    if np.abs(middle).max() > 1e3 * extent:
        # Single precision would lose the cameras' differences.
        poses = poses.copy()
        poses[:, :3, 3] -= middle
    turned = poses.copy()
    turned[:, :3, :2] *= upright_signs(poses)[:, None, None]
    placed = np.array(recenter_poses(jnp.asarray(turned)), np.float64)
    placed[:, :3, :2] *= upright_signs(poses)[:, None, None]
    return placed


@takes(poses=Host("_ 4 4"), bounds=Host("2"), scale=Real(low=0))
def place_scene(
    poses: np.ndarray,
    bounds: tuple[float, float] | None = None,
    *,
    around_origin: bool = True,
    up: str = "",
    scale: float = 0.0,
) -> Placement:
    """A world turned, moved and scaled for training, with the transform that undoes it.

    Args:
        poses: [N, 4, 4], OpenGL axes.
        bounds: nearest and farthest depth, in units of `poses`; None: unknown.
        around_origin: brings the cameras around the origin as `place_cameras`; those that look outward, in a room, have
            their middle at the origin and see 3 far.
        up: direction that becomes +z: an axis such as "-y", or "cameras" for the mean of theirs; "": nothing is turned.
        scale: factor of lengths; 0: by `around_origin`, and 1 without.

    Raises:
        ValueError: no poses, bounds that are not 0 <= near < far, an unknown `up`, an `up` that has no direction, or an
            `up` for cameras that face one way and are brought to the origin, which look along -z there.
    """
    if not len(poses) or (bounds is not None and not 0 <= bounds[0] < bounds[1]):
        raise ValueError(f"{len(poses)} poses with bounds {bounds}; need at least 1, and 0 <= near < far")
    if up not in UPS:
        raise ValueError(f"up is {up!r}; expected one of {', '.join(filter(None, UPS))}, or ''")
    before = np.array(poses)
    placed, text = before.copy(), []
    if up:
        placed = _upright(placed, up)
        text.append(f"turned so that {'the mean up of the cameras' if up == 'cameras' else up} is +z")
    factor = 1.0
    if around_origin:
        report = describe_poses(placed)
        if up and not report.surrounding:
            raise ValueError(
                "the cameras face one way and are turned to look along -z: up cannot be chosen as well (--data.up; "
                '"--data.place none" leaves them where they are)'
            )
        if report.inside:
            middle = placed[:, :3, 3].mean(axis=0)
            placed[:, :3, 3] -= middle
            farthest = np.linalg.norm(placed[:, :3, 3], axis=1).max() + (0 if bounds is None else bounds[1])
            factor = 1.0 if bounds is None else REACH / farthest
            placed[:, :3, 3] *= factor
            text.append("the middle of the cameras, which look outward, moved to the origin")
        else:
            known = report.surrounding or bounds is not None
            placed, factor = place_cameras(placed, 4 / 3 if bounds is None else bounds[0])
            factor = factor if known else 1.0
            text.append(
                "the point that the cameras look at moved to the origin"
                if report.surrounding
                else "the average camera moved to the origin, looking along -z"
            )
    if scale:
        placed[:, :3, 3] *= scale / factor
        factor = scale
    text.append(f"scaled by {factor:.6g}")
    return Placement(placed, float(factor), _similarity(before, placed, 1 / factor), ", ".join(text))


def _upright(poses: np.ndarray, up: str) -> np.ndarray:
    """The world turned by the smallest angle that makes a direction +z."""
    if up == "cameras":
        direction = poses[:, :3, 1].mean(axis=0)
    else:
        direction = np.eye(3)["xyz".index(up[1:])] * (1 if up[0] == "+" else -1)
    length = np.linalg.norm(direction)
    if length < 0.1:
        raise ValueError("the cameras have no common up: name an axis of the world (--data.up)")
    direction = direction / length
    # Rodrigues' formula; opposite directions are turned about x.
    axis, cosine = np.cross(direction, [0, 0, 1]), direction[2]
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn = np.eye(4)
    turn[:3, :3] = (
        np.eye(3) + cross + cross @ cross / (1 + cosine) if cosine > -1 + 1e-9 else np.diag([1.0, -1.0, -1.0])
    )
    return turn @ poses


def _similarity(before: np.ndarray, after: np.ndarray, scale: float) -> np.ndarray:
    """The similarity of a given scale that takes the cameras back, [4, 4]."""
    left, _, right = np.linalg.svd(np.einsum("nij,nkj->ik", before[:, :3, :3], after[:, :3, :3]))
    rotation = left @ right
    matrix = np.eye(4)
    matrix[:3, :3] = scale * rotation
    matrix[:3, 3] = (before[:, :3, 3] - scale * after[:, :3, 3] @ rotation.T).mean(axis=0)
    return matrix
