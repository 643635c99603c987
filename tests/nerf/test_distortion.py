"""Lens distortion: OpenCV's formula, its inverse, and the rays of a photograph through a lens."""

import numpy as np

from jaxgen.nerf import Camera, camera_rays, distort, undistort, undistort_rays
from tests.nerf import numpy_cameras
from tests.programs import in_float32

LENS = np.array([0.12, -0.05, 0.004, -0.003], np.float32)


def numpy_distort(points, k1, k2, p1, p2):
    """OpenCV's documentation."""
    x, y = points[..., 0], points[..., 1]
    r2 = x**2 + y**2
    radial = 1 + k1 * r2 + k2 * r2**2
    return np.stack([
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2), y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y
    ], -1)  # fmt: skip


def test_the_formula_by_hand():
    # r^2 = 0.25: radial 1.06 ; x 0.3, y 0.4, k1 = 0.24
    points, lens = np.array([0.3, 0.4], np.float32), np.array([0.24, 0.0, 0.1, 0.01], np.float32)
    expected = [0.3 * 1.06 + 0.024 + 0.0043, 0.4 * 1.06 + 0.057 + 0.0024]
    np.testing.assert_allclose(in_float32(distort, points, lens), expected, rtol=1e-6)
    np.testing.assert_allclose(numpy_distort(points, *lens), expected, rtol=1e-6)


def test_undistort_is_the_inverse():
    points = np.random.default_rng(0).uniform(-0.7, 0.7, (50, 2)).astype(np.float32)
    lens = np.broadcast_to(LENS, (50, 4))
    bent, again = in_float32(lambda points, lens: (b := distort(points, lens), undistort(b, lens)), points, lens)
    np.testing.assert_allclose(bent, numpy_distort(points, *LENS), atol=1e-6)
    np.testing.assert_allclose(again, points, atol=2e-6)


def test_a_ray_hits_the_point_whose_distorted_image_is_its_pixel():
    """World points projected through the lens to pixels; the rays of these pixels pass through the points."""
    camera = Camera(40, 30, 35.0, 36.0, 20.5, 14.5)
    pose = numpy_cameras.look_at([2.0, -1.5, 3.1]).astype(np.float32)
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.5, 0.5, (20, 3)).astype(np.float32)
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    ideal = np.stack([local[:, 0] / -local[:, 2], -local[:, 1] / -local[:, 2]], axis=-1)
    pixels = numpy_distort(ideal, *LENS) * [35, 36] + [20.5, 14.5] - 0.5
    rays = in_float32(
        lambda pixels: undistort_rays(camera_rays(camera, pose, pixels), pose, LENS), pixels.astype(np.float32)
    )
    depth = -local[:, 2:]
    np.testing.assert_allclose(rays.origin + depth * rays.direction, points, atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(rays.view, axis=-1), 1, rtol=1e-6)
