"""Scale, axes and bounds of a set of cameras, and suspicious poses among them.

Ours: for a check before training.
"""

from typing import NamedTuple

import numpy as np

from jaxgen.arguments import Float, Real, takes
from jaxgen.nerf.poses import check_poses

_AXES = ("+x", "+y", "+z", "-x", "-y", "-z")


class PoseReport(NamedTuple):
    """Of N cameras, in world units.

    Attributes:
        focus: the point nearest to all axes of view, [3].
        distance: mean distance of the cameras from it.
        surrounding: whether the axes differ enough in direction to have such a point; otherwise the cameras face one
            way, and `focus` lies ahead of their mean.
        problems: what looks wrong, a sentence each.
        text: all of it, for a person.
        inside: whether most cameras look away from `focus`, as in a room that is seen from inside, or stand there.
    """

    focus: np.ndarray
    distance: float
    surrounding: bool
    problems: tuple[str, ...]
    text: str
    inside: bool = False


@takes(poses=Float(numpy=True), near=Real(), far=Real())
def describe_poses(poses: np.ndarray, near: float | None = None, far: float | None = None) -> PoseReport:
    """Scale, axes and bounds of a scene's cameras.

    Args:
        poses: [N, 4, 4] or [N, 3, 4], camera to world, OpenGL axes.
        near: where rays begin, along the axis of view.
        far: where they end.

    Raises:
        ValueError: wrong shape, or a pose that is not a rotation.
    """
    check_poses(poses)
    poses = np.asarray(poses, np.float64).reshape(-1, *np.shape(poses)[-2:])
    centres, views, ups = poses[:, :3, 3], -poses[:, :3, 2], poses[:, :3, 1]
    across = np.eye(3) - views[:, :, None] * views[:, None, :]
    # The smaller the least eigenvalue, the more the axes are parallel.
    least = float(np.linalg.eigvalsh(across.mean(axis=0))[0])
    surrounding = len(poses) > 1 and least > 0.05
    middle = centres.mean(axis=0)
    if surrounding:
        focus = np.linalg.solve(across.mean(axis=0), np.einsum("nij,nj->i", across, centres) / len(poses))
    else:
        ahead = (near + far) / 2 if near is not None and far is not None else 1.0
        focus = middle + ahead * views.mean(axis=0)
    distances = np.linalg.norm(centres - focus, axis=1)
    along = np.sum((focus - centres) * views, axis=1)
    up = ups.mean(axis=0)
    leaning = _AXES[int(np.argmax(np.concatenate([up, -up])))]

    still = len(poses) > 1 and np.ptp(centres, axis=0).max() < 1e-6
    inside = bool(surrounding and (still or np.mean(along < 0) > 0.5))
    problems = []
    if len(poses) == 1:
        problems.append("There is one camera: nothing says how far away anything is.")
    elif still:
        problems.append("All cameras stand at one point: without parallax there is no depth to find.")
    same = _same(poses)
    if same is not None:
        problems.append(f"Cameras {same[0]} and {same[1]} have the same pose.")
    if inside and not still:
        problems.append(
            f"{int(np.sum(along < 0))} of {len(poses)} cameras look away from the point where their axes meet. Unless "
            "the scene was taken from the inside, their y and z axes have the wrong sign: opencv_to_opengl."
        )
    elif surrounding and not inside and near is not None and far is not None and not near < np.median(along) < far:
        problems.append(
            f"The cameras look at a point {np.median(along):.3g} ahead, which is not between near {near:g} and far "
            f"{far:g}: something like near {0.5 * np.median(along):.3g} and far {1.5 * np.median(along):.3g} is meant."
        )
    if far is not None:
        reach = float(np.abs(centres + far * views).max())
        if reach > np.pi:
            problems.append(
                f"Rays reach coordinates of {reach:.3g}; beyond pi the slowest wave of the encoding repeats. Scale the "
                f"poses, near and far by {min(1, 2 / reach):.2g}."
            )
    low, high = centres.min(axis=0), centres.max(axis=0)
    lines = [
        f"{len(poses)} cameras, centres from {_point(low)} to {_point(high)}",
        f"{'around' if surrounding else 'facing'} {_point(focus)}, {distances.min():.3g} to {distances.max():.3g} away",
        f"up in the images is nearest to {leaning} of the world ({np.abs(up).max():.2f} of 1 on average)",
    ]
    if near is not None and far is not None:
        lines.append(f"rays run from {near:g} to {far:g}")
    lines += ["what looks wrong: " + ("nothing" if not problems else "")] + [f"- {problem}" for problem in problems]
    return PoseReport(focus, float(distances.mean()), surrounding, tuple(problems), "\n".join(lines) + "\n", inside)


def _same(poses: np.ndarray) -> tuple[int, int] | None:
    """The first two poses that are equal, or None."""
    _, first, inverse = np.unique(poses[:, :3].round(6), axis=0, return_index=True, return_inverse=True)
    repeated = np.flatnonzero(first[inverse.ravel()] != np.arange(len(poses)))
    return (int(first[inverse.ravel()][repeated[0]]), int(repeated[0])) if len(repeated) else None


def _point(point: np.ndarray) -> str:
    return "(" + ", ".join(f"{x:.3g}" for x in point) + ")"
