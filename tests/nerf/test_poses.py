"""Poses: conversions against SciPy and the conventions' own projections, round trips, averages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxgen import nerf
from tests.programs import in_float64

ROTATIONS = Rotation.random(20, rng=np.random.default_rng(0))
TRANSLATIONS = np.random.default_rng(1).normal(size=(20, 3))


def scipy_poses():
    poses = np.tile(np.eye(4), (20, 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = ROTATIONS.as_matrix(), TRANSLATIONS
    return poses


def wxyz(rotations):
    """SciPy puts the scalar last."""
    return np.roll(rotations.as_quat(canonical=True), 1, axis=-1)


def test_quaternions_equal_scipy():
    # Half turns, where w is 0, and the identity.
    corners = Rotation.from_rotvec(np.pi * np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0, 0.8], [0, 0, 0]]))
    rotations = Rotation.concatenate([ROTATIONS, corners])
    matrices, quaternions = in_float64(
        # Of known values, so that they are checked.
        lambda r: (nerf.quaternion_to_rotation(3.0 * wxyz(rotations)), nerf.rotation_to_quaternion(r)),
        rotations.as_matrix(),
    )
    np.testing.assert_allclose(matrices, rotations.as_matrix(), atol=1e-14)
    assert (quaternions[:, 0] >= 0).all()
    # A quaternion and its negative are the same rotation; with w = 0 either may be returned.
    agreement = np.abs(np.sum(quaternions * wxyz(rotations), axis=-1))
    np.testing.assert_allclose(agreement, 1, atol=1e-14)
    np.testing.assert_allclose(quaternions[:20], wxyz(ROTATIONS), atol=1e-14)


def test_float32_quaternions_keep_their_digits_near_half_turns():
    rotations = Rotation.from_rotvec((np.pi - 1e-3) * np.eye(3))
    found = jax.jit(nerf.rotation_to_quaternion)(np.float32(rotations.as_matrix()))
    np.testing.assert_allclose(found, wxyz(rotations), atol=2e-7)


def test_a_colmap_pose_sees_what_colmap_sees():
    """A point at R x + t = (x, y, z) in COLMAP's camera is at pixel (f x / z + c, f y / z + c) from the top left."""
    camera = nerf.Camera(100, 80, 50.0, 60.0, 45.0, 42.0)
    seen = np.array([0.3, 0.5, 2.0])
    points = np.einsum("nji,nj->ni", ROTATIONS.as_matrix(), seen - TRANSLATIONS)
    pixel = np.array([50 * 0.3 / 2 + 45, 60 * 0.5 / 2 + 42]) - 0.5
    rays = in_float64(
        lambda *pose: nerf.camera_rays(camera, nerf.colmap_to_opengl(*pose), jnp.broadcast_to(pixel, (20, 2))),
        *(wxyz(ROTATIONS), TRANSLATIONS),
    )
    np.testing.assert_allclose(rays.origin + 2 * rays.direction, points, atol=1e-12)


def test_an_opencv_pose_looks_along_its_z_with_y_down():
    poses = scipy_poses()
    camera = nerf.Camera(4, 4, 2.0, 2.0, 2.0, 2.0)
    pixels = np.broadcast_to([1.5, 3.5], (20, 2))
    turned, bottom = in_float64(
        lambda poses: (turned := nerf.opencv_to_opengl(poses), nerf.camera_rays(camera, turned, pixels)), poses
    )
    np.testing.assert_allclose(bottom.direction, poses[:, :3, 2] + poses[:, :3, 1], atol=1e-12)
    np.testing.assert_array_equal(turned[:, :3, 3], TRANSLATIONS)


def test_conversions_lead_back():
    poses = scipy_poses()
    colmap, opencv, inverse, short = in_float64(
        lambda poses: (
            nerf.colmap_to_opengl(*nerf.opengl_to_colmap(poses)),
            nerf.opengl_to_opencv(nerf.opencv_to_opengl(poses)),
            nerf.invert_pose(poses),
            nerf.invert_pose(poses[:, :3]),
        ),
        poses,
    )
    np.testing.assert_allclose(colmap, poses, atol=1e-14)
    np.testing.assert_array_equal(opencv, poses)
    np.testing.assert_allclose(inverse @ poses, np.tile(np.eye(4), (20, 1, 1)), atol=1e-14)
    np.testing.assert_allclose(short, np.linalg.inv(scipy_poses()), atol=1e-14)


def test_look_at_puts_the_target_in_the_middle_and_up_upwards():
    position, target, up = TRANSLATIONS[:3]
    pose = in_float64(nerf.look_at, position, target, up)
    to_target = (target - position) / np.linalg.norm(target - position)
    np.testing.assert_allclose(-pose[:3, 2], to_target, atol=1e-14)
    np.testing.assert_allclose(pose[:3, 3], position)
    assert up @ pose[:3, 1] > 0 and abs(up @ pose[:3, 0]) < 1e-14
    nerf.check_poses(pose, tolerance=1e-12)


def test_recentred_poses_have_the_identity_as_their_average_and_keep_their_distances():
    tilt = Rotation.from_euler("xyz", np.random.default_rng(2).normal(size=(8, 3)) * 0.2)
    poses = np.tile(np.eye(4), (8, 1, 1))
    poses[:, :3, :3] = (ROTATIONS[0] * tilt).as_matrix()
    poses[:, :3, 3] = TRANSLATIONS[:8]
    average, moved, again = in_float64(
        lambda poses: (
            nerf.average_pose(poses),
            moved := nerf.recenter_poses(poses),
            nerf.average_pose(moved),
        ),
        poses,
    )
    np.testing.assert_allclose(again, np.eye(4), atol=1e-12)
    relative = lambda p: np.linalg.inv(p[0]) @ p[1:]
    np.testing.assert_allclose(relative(moved), relative(poses), atol=1e-12)
    # The LLFF code: poses_avg and viewmatrix.
    unit = lambda v: v / np.linalg.norm(v)
    z, up = unit(poses[:, :3, 2].sum(0)), poses[:, :3, 1].sum(0)
    x = unit(np.cross(up, z))
    y = unit(np.cross(z, x))
    np.testing.assert_allclose(average[:3], np.stack([x, y, z, poses[:, :3, 3].mean(0)], 1), atol=1e-12)


def test_the_worst_pose_is_named():
    poses = scipy_poses()
    poses[7, :3, :3] *= 1.1
    with pytest.raises(ValueError, match="pose 7 is not a rotation.*0.21"):
        nerf.check_poses(poses)
    poses = scipy_poses()
    poses[3, :3, [0, 1]] = poses[3, :3, [1, 0]]
    with pytest.raises(ValueError, match="pose 3 is a reflection"):
        nerf.check_poses(poses)


def test_wrong_inputs():
    with pytest.raises(ValueError, match="quaternion is zero"):
        nerf.quaternion_to_rotation(np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"quaternion has shape \(3,\)"):
        nerf.quaternion_to_rotation(np.ones(3))
    with pytest.raises(ValueError, match=r"expected \[\.\.\., 3, 3\]"):
        nerf.rotation_to_quaternion(np.eye(4))
    with pytest.raises(ValueError, match="along the line of sight"):
        nerf.look_at(np.array([0.0, 0, 2]), np.zeros(3), np.array([0.0, 0, 1]))
    with pytest.raises(ValueError, match="other than the target"):
        nerf.look_at(np.ones(3), np.ones(3), np.array([0.0, 0, 1]))
