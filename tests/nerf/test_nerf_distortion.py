"""Lens distortion: OpenCV's formula, its inverse, and the rays of a photograph through a lens."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.nerf import Camera, camera_rays, distort, hemisphere, undistort, undistort_rays

LENS = np.array([0.12, -0.05, 0.004, -0.003], np.float32)


def test_the_formula_by_hand():
    # r^2 = 0.25: radial 1.06 ; x 0.3, y 0.4, k1 = 0.24
    found = distort(jnp.array([0.3, 0.4]), np.array([0.24, 0.0, 0.1, 0.01]))
    np.testing.assert_allclose(found, [0.3 * 1.06 + 0.024 + 0.0043, 0.4 * 1.06 + 0.057 + 0.0024], rtol=1e-6)


def test_undistort_is_the_inverse():
    points = jax.random.uniform(jax.random.key(0), (50, 2), minval=-0.7, maxval=0.7)
    lens = jnp.broadcast_to(jnp.asarray(LENS), (50, 4))
    np.testing.assert_allclose(undistort(distort(points, lens), lens), points, atol=2e-6)


def test_a_ray_hits_the_point_whose_distorted_image_is_its_pixel():
    """World points projected through the lens to pixels; the rays of these pixels pass through the points."""
    camera = Camera(40, 30, 35.0, 36.0, 20.5, 14.5)
    pose = np.asarray(hemisphere(3))[1]
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.5, 0.5, (20, 3)).astype(np.float32)
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    ideal = np.stack([local[:, 0] / -local[:, 2], -local[:, 1] / -local[:, 2]], axis=-1)
    bent = np.asarray(distort(jnp.asarray(ideal), np.broadcast_to(LENS, (20, 4))))
    pixels = bent * [35, 36] + [20.5, 14.5] - 0.5
    rays = camera_rays(camera, pose, pixels.astype(np.float32))
    rays = undistort_rays(rays, jnp.asarray(pose), LENS)
    depth = -local[:, 2:]
    np.testing.assert_allclose(rays.origin + depth * rays.direction, points, atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(rays.view, axis=-1), 1, rtol=1e-6)
