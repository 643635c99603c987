"""Poses of cameras: camera-to-world matrices [..., 4, 4] with OpenGL axes, and the way there from other conventions.

| convention | x | y | looks along | matrix |
|---|---|---|---|---|
| OpenGL, Blender, this library | right | up | -z | camera to world |
| OpenCV | right | down | +z | camera to world |
| COLMAP | right | down | +z | world to camera, as a quaternion (w, x, y, z) and a translation |

The axes of the world are never changed here.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxgen.arguments import Float, takes
from jaxgen.nerf.checks import check_vectors, known


@takes(poses=Float(numpy=True))
def check_poses(poses: Any, tolerance: float = 1e-3) -> None:
    """Raises ValueError unless poses have a pose's shape and their 3x3 parts are rotations.

    Args:
        poses: [..., 4, 4] or [..., 3, 4]. Values that are not known yet (under jit) are not looked at.
        tolerance: largest entry of |R^T R - I|.
    """
    shape = np.shape(poses)
    if len(shape) < 2 or shape[-2:] not in ((4, 4), (3, 4)):
        raise ValueError(f"a pose has shape {shape}; expected camera-to-world matrices [..., 4, 4] or [..., 3, 4]")
    if not known(poses):
        return
    matrices = np.asarray(poses, np.float64).reshape(-1, *shape[-2:])
    if not np.isfinite(matrices).all():
        number = int(np.argwhere(~np.isfinite(matrices).all(axis=(1, 2)))[0, 0])
        raise ValueError(f"pose {number} holds values that are not finite")
    rotations = matrices[:, :3, :3]
    error = np.abs(np.swapaxes(rotations, 1, 2) @ rotations - np.eye(3)).max(axis=(1, 2), initial=0)
    if (error > tolerance).any():
        number = int(np.argmax(error))
        raise ValueError(
            f"pose {number} is not a rotation: |R^T R - I| reaches {error[number]:.3g}. Its columns must be unit "
            "vectors at right angles: is it scaled, transposed with its translation, or not a pose?"
        )
    mirrored = np.linalg.det(rotations) < 0
    if mirrored.any():
        raise ValueError(
            f"pose {int(np.argmax(mirrored))} is a reflection (determinant -1): one axis, or two columns swapped, "
            "is in another convention; see opencv_to_opengl"
        )


def normalize(vectors: jax.Array) -> jax.Array:
    """v / |v|: [..., 3] -> [..., 3]. A zero vector stays zero, with a finite gradient."""
    squared = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    return vectors / jnp.sqrt(jnp.where(squared > 0, squared, 1))


def pose_matrix(rotation: jax.Array, translation: jax.Array) -> jax.Array:
    """[R t; 0 1]: [..., 3, 3] and [..., 3] -> [..., 4, 4]."""
    top = jnp.concatenate([rotation, translation[..., None]], axis=-1)
    bottom = jnp.broadcast_to(jnp.array([0, 0, 0, 1], top.dtype), (*top.shape[:-2], 1, 4))
    return jnp.concatenate([top, bottom], axis=-2)


@takes(pose=Float(numpy=True))
def invert_pose(pose: ArrayLike) -> jax.Array:
    """The inverse of a rigid motion, [R^T, -R^T t; 0 1]: [..., 4, 4] or [..., 3, 4] -> [..., 4, 4]."""
    check_poses(pose)
    pose = jnp.asarray(pose)
    rotation = jnp.swapaxes(pose[..., :3, :3], -1, -2)
    return pose_matrix(rotation, -jnp.sum(rotation * pose[..., None, :3, 3], axis=-1))


@takes(pose=Float())
def opencv_to_opengl(pose: ArrayLike) -> jax.Array:
    """Camera-to-world with OpenCV axes -> with OpenGL axes: [..., 4, 4] or [..., 3, 4] -> the same shape.

    The camera's y and z axes change sign; its centre and the world stay. The same step leads back.
    """
    check_poses(pose)
    pose = jnp.asarray(pose)
    return pose * jnp.broadcast_to(jnp.array([1, -1, -1, 1], pose.dtype), pose.shape)


@takes(pose=Float())
def opengl_to_opencv(pose: ArrayLike) -> jax.Array:
    """Camera-to-world with OpenGL axes -> with OpenCV axes: [..., 4, 4] or [..., 3, 4] -> the same shape."""
    return opencv_to_opengl(pose)


@takes(quaternion=Float("... 4"), translation=Float("... 3"))
def colmap_to_opengl(quaternion: ArrayLike, translation: ArrayLike) -> jax.Array:
    """COLMAP's image pose (x_camera = R(q) x_world + t, OpenCV axes) -> camera-to-world with OpenGL axes.

    Args:
        quaternion: (w, x, y, z), [..., 4], of any length but 0.
        translation: t, [..., 3]; not the camera's centre, which is -R^T t.

    Returns:
        [..., 4, 4].
    """
    check_vectors("translation", translation)
    world_to_camera = pose_matrix(quaternion_to_rotation(quaternion), jnp.asarray(translation))
    return opencv_to_opengl(invert_pose(world_to_camera))


@takes(pose=Float())
def opengl_to_colmap(pose: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """The inverse of `colmap_to_opengl`: [..., 4, 4] -> quaternion [..., 4] with w >= 0, translation [..., 3]."""
    world_to_camera = invert_pose(opengl_to_opencv(pose))
    return rotation_to_quaternion(world_to_camera[..., :3, :3]), world_to_camera[..., :3, 3]


@takes(quaternion=Float("... 4"))
def quaternion_to_rotation(quaternion: ArrayLike) -> jax.Array:
    """(w, x, y, z) [..., 4], normalised here -> rotation matrix [..., 3, 3] that turns column vectors.

    Raises:
        ValueError: wrong shape, or (outside of jit) a quaternion is zero.
    """
    check_vectors("quaternion", quaternion, 4)
    if known(quaternion) and not np.any(np.asarray(quaternion) != 0, axis=-1).all():
        raise ValueError("a quaternion is zero; it has no rotation")
    w, x, y, z = jnp.moveaxis(normalize(jnp.asarray(quaternion)), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


@takes(rotation=Float("... 3 3"))
def rotation_to_quaternion(rotation: ArrayLike) -> jax.Array:
    """Rotation matrix [..., 3, 3] -> unit quaternion (w, x, y, z) [..., 4] with w >= 0.

    4 q q^T is linear in R; its row with the largest diagonal entry, normalised, loses no digits at any angle.
    """
    rotation = jnp.asarray(rotation)
    if rotation.shape[-2:] != (3, 3):
        raise ValueError(f"rotation has shape {rotation.shape}; expected [..., 3, 3]")
    r = lambda i, j: rotation[..., i, j]
    wx, wy, wz = r(2, 1) - r(1, 2), r(0, 2) - r(2, 0), r(1, 0) - r(0, 1)
    xy, xz, yz = r(0, 1) + r(1, 0), r(0, 2) + r(2, 0), r(1, 2) + r(2, 1)
    rows = [
        [1 + r(0, 0) + r(1, 1) + r(2, 2), wx, wy, wz],
        [wx, 1 + r(0, 0) - r(1, 1) - r(2, 2), xy, xz],
        [wy, xy, 1 - r(0, 0) + r(1, 1) - r(2, 2), yz],
        [wz, xz, yz, 1 - r(0, 0) - r(1, 1) + r(2, 2)],
    ]
    products = jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
    largest = jnp.argmax(jnp.diagonal(products, axis1=-2, axis2=-1), axis=-1)
    row = jnp.take_along_axis(products, largest[..., None, None], axis=-2)[..., 0, :]
    return normalize(jnp.where(row[..., :1] < 0, -row, row))


@takes(position=Float("... 3", numpy=True), target=Float(numpy=True), up=Float(numpy=True))
def look_at(position: ArrayLike, target: ArrayLike, up: ArrayLike) -> jax.Array:
    """The pose of a camera at `position` that looks at `target`: [..., 3] each -> [..., 4, 4].

    `up` appears upright in the image. The three broadcast.

    Raises:
        ValueError: wrong shapes, or (outside of jit) position equals target, or up is parallel to the line of sight.
    """
    for name, vector in (("position", position), ("target", target), ("up", up)):
        check_vectors(name, vector)
    position, target, up = jnp.broadcast_arrays(position, target, up)
    back = normalize(position - target)
    right = jnp.cross(normalize(up), back)
    if known(right) and not (np.linalg.norm(np.asarray(right), axis=-1) > 1e-6).all():
        raise ValueError("look_at needs a position other than the target, and an up not along the line of sight")
    right = normalize(right)
    return pose_matrix(jnp.stack([right, jnp.cross(back, right), back], axis=-1), position)


def upright_signs(poses: np.ndarray) -> np.ndarray:
    """Signs of the x and y axes that give cameras a common up: [N, 4, 4] -> [N] of 1 and -1.

    Cameras with a mean up keep it: all are 1. In strips flown to and fro every other camera is upside down, and the
    mean of the y axes vanishes or runs along the view; then those over 90 degrees off the first camera's up are -1.
    """
    back, up = (poses[:, :3, i].mean(axis=0) for i in (2, 1))
    if np.linalg.norm(np.cross(up, back)) > 1e-3 * np.linalg.norm(back):
        return np.ones(len(poses))
    return np.where(poses[:, :3, 1] @ poses[0, :3, 1] < 0, -1.0, 1.0)


@takes(poses=Float("_ _ 4", numpy=True))
def average_pose(poses: ArrayLike) -> jax.Array:
    """The pose at the mean centre that looks along the mean axis: [N, 4, 4] -> [4, 4].

    The LLFF code's average (Mildenhall et al., "Local Light Field Fusion", 2019): means of the centres, of the z axes
    and of the y axes, made a rotation by two cross products.
    """
    check_poses(poses)
    poses = jnp.asarray(poses)
    centre = jnp.mean(poses[:, :3, 3], axis=0)
    back, up = (jnp.mean(poses[:, :3, i], axis=0) for i in (2, 1))
    return look_at(centre, centre - back, up)


@takes(poses=Float("_ _ 4", numpy=True))
def recenter_poses(poses: ArrayLike) -> jax.Array:
    """Moves the world so that `average_pose` becomes the identity: [N, 4, 4] -> [N, 4, 4].

    What `ndc_rays` expects of forward-facing scenes: the cameras look along the world's -z.
    """
    to_average = invert_pose(average_pose(poses))
    return jnp.sum(to_average[None, :, :, None] * jnp.asarray(poses)[:, None, :, :], axis=-2)
