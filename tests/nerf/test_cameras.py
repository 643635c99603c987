"""Rays of pixels: the convention, the authors' code, and what is refused."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxgen import nerf
from tests.programs import in_float32, in_float64

CAMERA = nerf.Camera(width=6, height=4, focal_x=5.0, focal_y=4.0, center_x=3.0, center_y=2.0)


def random_pose(seed=0):
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    q[:, 0] *= np.linalg.det(q)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = q, np.random.default_rng(seed + 100).normal(size=3)
    return pose


IDENTITY = np.eye(4, dtype=np.float32)


def test_an_unmoved_camera_looks_along_minus_z_with_x_right_and_y_up():
    rays, middle = in_float64(
        lambda: [nerf.camera_rays(CAMERA, np.eye(4), pixels) for pixels in (CAMERA.pixels(), np.array([2.5, 1.5]))]
    )
    np.testing.assert_array_equal(middle.direction, [0, 0, -1])
    # Half a pixel from the middle of the first pixel to the edge: (0.5 - 3) / 5 and (2 - 0.5) / 4.
    np.testing.assert_allclose(rays.direction[0, 0], [-0.5, 0.375, -1], rtol=1e-6)
    np.testing.assert_allclose(rays.direction[3, 5], [0.5, -0.375, -1], rtol=1e-6)
    np.testing.assert_allclose(rays.view, rays.direction / np.linalg.norm(rays.direction, axis=-1, keepdims=True))
    assert rays.origin.shape == (4, 6, 3) and not np.any(rays.origin)


def test_t_is_depth_along_the_axis_of_view():
    pose = random_pose()
    rays = in_float64(nerf.camera_rays, CAMERA, pose, CAMERA.pixels())
    in_camera = (rays.origin + 3.5 * rays.direction - pose[:3, 3]) @ pose[:3, :3]
    np.testing.assert_allclose(in_camera[..., 2], -3.5, rtol=1e-12)


def test_pixel_center_zero_is_the_authors_code():
    """get_rays_np of the released code, for H = 4, W = 6 and one focal length."""
    camera = nerf.Camera(6, 4, 5.0, 5.0, 3.0, 2.0, pixel_center=0.0)
    pose = random_pose(1)
    i, j = np.meshgrid(np.arange(6, dtype=np.float64), np.arange(4, dtype=np.float64), indexing="xy")
    dirs = np.stack([(i - 6 * 0.5) / 5.0, -(j - 4 * 0.5) / 5.0, -np.ones_like(i)], -1)
    expected = np.sum(dirs[..., np.newaxis, :] * pose[:3, :3], -1)
    rays = in_float64(lambda: nerf.camera_rays(camera, pose, camera.pixels()))
    np.testing.assert_allclose(rays.direction, expected, rtol=1e-12)
    np.testing.assert_allclose(rays.origin, np.broadcast_to(pose[:3, 3], (4, 6, 3)), rtol=1e-12)


def test_a_ray_through_the_image_of_a_point_meets_the_point():
    """Projection written the other way round: world to camera, divide by -z, scale, from the top left."""
    pose = random_pose(2)
    point = pose[:3, :3] @ np.array([0.3, -0.2, -2.0]) + pose[:3, 3]
    x, y, z = pose[:3, :3].T @ (point - pose[:3, 3])
    pixel = np.array([5 * x / -z + 3 - 0.5, 2 - 4 * y / -z - 0.5])
    rays = in_float64(nerf.camera_rays, CAMERA, pose, pixel)
    np.testing.assert_allclose(rays.origin + 2.0 * rays.direction, point, rtol=1e-12)


def test_each_ray_may_have_its_own_pose_and_intrinsics():
    poses = np.stack([random_pose(i) for i in range(3)]).astype(np.float32)
    pixels = np.array([[0, 1], [5, 3], [2, 2]])
    focal = np.array([4.0, 5.0, 6.0], np.float32)
    own = {name: np.full(3, getattr(CAMERA, name), np.float32) for name in ("focal_y", "center_x", "center_y")}

    def program(focal, own, poses, pixels):
        replaced = lambda **changes: dataclasses.replace(CAMERA, **changes)
        return (
            nerf.camera_rays(replaced(focal_x=focal), poses, pixels),
            [nerf.camera_rays(replaced(focal_x=focal[i]), poses[i], pixels[i]) for i in range(3)],
            jax.vmap(nerf.camera_rays)(replaced(focal_x=focal, **own), poses, pixels),
        )

    found, ones, mapped = in_float32(program, focal, own, poses, pixels)
    for i, one in enumerate(ones):
        for a, b in zip(found, one, strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-6)
    np.testing.assert_allclose(mapped.direction, found.direction, rtol=1e-6)


def test_the_gradient_with_respect_to_the_intrinsics():
    """d = (x - c) / f: its derivative with respect to f is -(x - c) / f^2, to c -1 / f."""
    across = lambda camera: nerf.camera_rays(camera, IDENTITY, np.array([0, 0])).direction[0]
    gradient = in_float32(lambda camera: jax.tree.leaves(jax.grad(across)(camera)), CAMERA)
    np.testing.assert_allclose(gradient, [2.5 / 25, 0, -1 / 5, 0], rtol=1e-6)


def test_trees_of_cameras_may_hold_any_numbers():
    """Gradients and differences are cameras with negative entries; only a camera that is made is checked."""
    zero = jax.tree.map(lambda x: x - x, CAMERA)
    assert (zero.focal_x, zero.width, zero.pixel_center) == (0, 6, 0.5) and isinstance(zero, nerf.Camera)
    negative = jax.device_get(jax.tree.map(lambda x: np.float32(-x), CAMERA))
    assert negative.focal_y == -4
    assert jax.tree.structure(zero) == jax.tree.structure(CAMERA) != jax.tree.structure(CAMERA.resized(3, 2))
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(CAMERA)]
    assert names == [".focal_x", ".focal_y", ".center_x", ".center_y"]
    with pytest.raises(ValueError, match="focal_x is -1"):
        dataclasses.replace(CAMERA, focal_x=-1.0)


def test_a_resized_camera_sees_the_same_picture():
    small = CAMERA.resized(3, 2)
    assert (small.width, small.height, small.focal_x, small.center_y) == (3, 2, 2.5, 1.0)
    # The pixel (0, 0) of the half image covers four of the whole one, around (0.5, 0.5).
    coarse, fine = in_float32(
        lambda: (
            nerf.camera_rays(small, IDENTITY, np.array([0, 0])).direction,
            nerf.camera_rays(CAMERA, IDENTITY, np.array([0.5, 0.5])).direction,
        )
    )
    np.testing.assert_allclose(coarse, fine, rtol=1e-6)


def test_the_field_of_view_spans_the_image():
    camera = nerf.Camera.from_angle(800, 600, 0.6911112)
    # The focal length that every reader of the Blender scenes prints.
    assert camera.focal_x == pytest.approx(1111.1110, abs=1e-3) and camera.focal_y == camera.focal_x
    edges = in_float64(nerf.camera_rays, camera, np.eye(4), np.array([[-0.5, 299.5], [799.5, 299.5]])).view
    assert np.arccos(edges[0] @ edges[1]) == pytest.approx(0.6911112, rel=1e-5)


def test_pixels_are_columns_and_rows():
    pixels = CAMERA.pixels()
    assert pixels.shape == (4, 6, 2)
    np.testing.assert_array_equal(pixels[3, 5], [5, 3])


@pytest.mark.parametrize("pose, message", [
    (np.eye(3), r"shape \(3, 3\)"),
    (2 * np.eye(4), "not a rotation"),
    (np.diag([1.0, 1.0, -1.0, 1.0]), "reflection"),
    (np.full((4, 4), np.nan), "not finite"),
])  # fmt: skip
def test_what_is_not_a_pose_is_refused(pose, message):
    with pytest.raises(ValueError, match=message):
        nerf.camera_rays(CAMERA, np.float32(pose), CAMERA.pixels())


def test_other_wrong_inputs():
    with pytest.raises(ValueError, match=r"pixels has shape \(4, 3\)"):
        nerf.camera_rays(CAMERA, np.eye(4), np.zeros((4, 3)))
    with pytest.raises(ValueError, match="focal_y is 0"):
        nerf.Camera(4, 4, 1.0, 0.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="0 x 4 pixels"):
        nerf.Camera(0, 4, 1.0, 1.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="angle_x is 4"):
        nerf.Camera.from_angle(4, 4, 4.0)
