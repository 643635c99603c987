"""NDC rays: the identity that defines them, the released code, and what is refused."""

import jax
import numpy as np
import pytest

from jaxgen import nerf
from tests.nerf import numpy_cameras
from tests.programs import in_float32, in_float64

CAMERA = nerf.Camera(20, 10, 12.0, 13.0, 10.0, 5.0)


def world_rays():
    generator = np.random.default_rng(0)
    origin = generator.normal(size=(50, 3)) * 0.3
    direction = np.concatenate([generator.normal(size=(50, 2)), -generator.uniform(0.5, 2, size=(50, 1))], -1)
    return nerf.Rays(origin, direction, direction / np.linalg.norm(direction, axis=-1)[:, None])


@pytest.mark.parametrize("near", [1.0, 0.4])
def test_points_of_the_ray_go_where_projection_sends_them(near):
    rays = world_rays()
    shift = -(near + rays.origin[:, 2]) / rays.direction[:, 2]
    t = np.random.default_rng(1).uniform(0, 30, size=50)
    start = rays.origin + shift[:, None] * rays.direction
    points = start + t[:, None] * rays.direction
    bent, projected = in_float64(
        lambda rays, points: (nerf.ndc_rays(rays, CAMERA, near), nerf.ndc_project(points, CAMERA, near)), rays, points
    )
    x, y, z = points.T
    by_hand = np.stack([-12 / 10 * x / z, -13 / 5 * y / z, 1 + 2 * near / z], -1)
    np.testing.assert_allclose(projected, by_hand, rtol=1e-12)
    bent_t = 1 - start[:, 2] / (start[:, 2] + t * rays.direction[:, 2])
    np.testing.assert_allclose(bent.origin + bent_t[:, None] * bent.direction, by_hand, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(bent.origin[:, 2], -1)
    np.testing.assert_array_equal(bent.origin[:, 2] + bent.direction[:, 2], 1)
    np.testing.assert_array_equal(bent.view, rays.view)


def test_equals_the_released_code():
    """ndc_rays(H, W, focal, near, rays_o, rays_d), for one focal length."""
    camera = nerf.Camera(20, 10, 12.0, 12.0, 10.0, 5.0)
    rays = world_rays()
    found = in_float64(lambda: nerf.ndc_rays(rays, camera, 1.0))
    o, d = rays.origin, rays.direction
    o = o + (-(1.0 + o[..., 2]) / d[..., 2])[..., None] * d
    o0 = -1.0 / (20 / (2.0 * 12)) * o[..., 0] / o[..., 2]
    o1 = -1.0 / (10 / (2.0 * 12)) * o[..., 1] / o[..., 2]
    o2 = 1.0 + 2.0 * 1.0 / o[..., 2]
    d0 = -1.0 / (20 / (2.0 * 12)) * (d[..., 0] / d[..., 2] - o[..., 0] / o[..., 2])
    d1 = -1.0 / (10 / (2.0 * 12)) * (d[..., 1] / d[..., 2] - o[..., 1] / o[..., 2])
    d2 = -2.0 * 1.0 / o[..., 2]
    np.testing.assert_allclose(found.origin, np.stack([o0, o1, o2], -1), rtol=1e-12)
    np.testing.assert_allclose(found.direction, np.stack([d0, d1, d2], -1), rtol=1e-9, atol=1e-12)


def test_the_image_of_the_near_plane_is_the_square():
    """A camera at the origin: its image's corners are at (+-1, +-1, -1), whichever way t is scaled."""
    corners = np.array([[-0.5, -0.5], [19.5, -0.5], [-0.5, 9.5], [19.5, 9.5]])
    rays = jax.tree.map(np.float32, numpy_cameras.rays(CAMERA, np.eye(4), corners))
    bent = in_float32(lambda rays: nerf.ndc_rays(rays, CAMERA), rays._replace(direction=3 * rays.direction))
    np.testing.assert_allclose(bent.origin, [[-1, 1, -1], [1, 1, -1], [-1, -1, -1], [1, -1, -1]], rtol=1e-6)
    np.testing.assert_allclose(bent.direction, [[0, 0, 2]] * 4, atol=1e-6)


def test_wrong_inputs():
    rays = nerf.Rays(np.zeros((2, 3)), np.array([[0.0, 0, -1], [0, 0, 1]]), np.ones((2, 3)))
    with pytest.raises(ValueError, match="does not run along -z"):
        nerf.ndc_rays(rays, CAMERA)
    with pytest.raises(ValueError, match="near is 0"):
        nerf.ndc_rays(rays, CAMERA, 0.0)
    with pytest.raises(ValueError, match="view has shape"):
        nerf.ndc_rays(rays._replace(view=np.ones((2, 2))), CAMERA)


def test_the_reference_camera_is_the_widest_along_each_axis():
    one = np.tile([12.0, 13.0, 10.0, 5.0], (3, 1))
    sizes = np.tile([20, 10], (3, 1))
    assert nerf.reference_camera(one, sizes) == nerf.Camera(20, 10, 12.0, 13.0, 10.0, 5.0)
    # A portrait, and one with a longer lens: 12 / 20 and 10 / 20 are the shortest.
    several = np.array([[12.0, 13.0, 10, 5], [12.0, 10.0, 5, 10], [40.0, 40.0, 10, 5]])
    camera = nerf.reference_camera(several, np.array([[20, 10], [10, 20], [20, 10]]), 0.0)
    assert camera == nerf.Camera(20, 10, 12.0, 5.0, 10.0, 5.0, 0.0)
