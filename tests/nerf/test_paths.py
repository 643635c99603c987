"""Camera paths against the released code's formulas."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import nerf
from tests.programs import in_float64


def pose_spherical(theta, phi, radius):
    """The released code's, in degrees."""
    theta, phi = np.radians(theta), np.radians(phi)
    shift = np.eye(4)
    shift[2, 3] = radius
    c, s = np.cos(phi), np.sin(phi)
    about_x = np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1]])
    c, s = np.cos(theta), np.sin(theta)
    about_y = np.array([[c, 0, -s, 0], [0, 1, 0, 0], [s, 0, c, 0], [0, 0, 0, 1]])
    return np.array([[-1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]) @ about_y @ about_x @ shift


def test_the_turntable_is_the_papers_film():
    expected = np.stack([pose_spherical(theta, -30, 4) for theta in np.linspace(-180, 180, 41)[:-1]])
    found, moved = in_float64(lambda: (nerf.turntable(), nerf.turntable(5, 2.0, 10.0, target=(1.0, 2.0, 3.0))))
    np.testing.assert_allclose(found, expected, atol=1e-12)
    origin = [pose_spherical(theta, -10, 2)[:3, 3] + [1, 2, 3] for theta in np.linspace(-180, 180, 6)[:-1]]
    np.testing.assert_allclose(moved[:, :3, 3], origin, atol=1e-12)


def test_poses_at_azimuths_and_elevations_are_the_released_codes():
    """In a world whose up is not +z they are turned with it."""
    azimuth, elevation, up = [-170.0, 20.0, 95.0], [10.0, -40.0, 80.0], np.array([0.3, -0.8, -0.2])
    found, fixed, turned, below = in_float64(
        lambda: (
            nerf.orbit_poses(azimuth, elevation, 3.0),
            nerf.orbit_poses(azimuth, 25.0, 3.0, (1.0, 2.0, 3.0)),
            nerf.orbit_poses(azimuth, elevation, 3.0, (1.0, 2.0, 3.0), up),
            nerf.orbit_poses([90.0], [30.0], 3.0, up=(0.0, 0.0, -2.0)),
        )
    )
    expected = [pose_spherical(a, -e, 3) for a, e in zip(azimuth, elevation, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(fixed[1, :3, 3], pose_spherical(20, -25, 3)[:3, 3] + [1, 2, 3], atol=1e-12)
    unit = up / np.linalg.norm(up)
    away = turned[:, :3, 3] - [1, 2, 3]
    np.testing.assert_allclose(away @ unit, 3 * np.sin(np.radians(elevation)), atol=1e-12)
    np.testing.assert_allclose(turned[:, :3, 1] @ unit, np.cos(np.radians(elevation)), atol=1e-12)
    # The same distances between the cameras as about +z: one rotation of all.
    apart = lambda poses: poses[:, None, :3, 3] - poses[None, :, :3, 3]
    np.testing.assert_allclose(
        np.linalg.norm(apart(turned), axis=-1), np.linalg.norm(apart(found), axis=-1), atol=1e-12
    )
    np.testing.assert_allclose(below[0, :3, 3], [3 * np.cos(np.radians(30)), 0, -1.5], atol=1e-12)


def test_a_panorama_looks_outward_from_a_level_circle():
    up = np.array([0.0, -1.0, 0.0])
    found = in_float64(lambda: nerf.panorama(8, (1.0, 2.0, 3.0), 0.5, 20.0, up))
    away = found[:, :3, 3] - [1, 2, 3]
    np.testing.assert_allclose(away @ up, 0, atol=1e-12)
    np.testing.assert_allclose(-found[:, :3, 2] @ up, np.sin(np.radians(20)), atol=1e-12)
    np.testing.assert_allclose(np.sum(-found[:, :3, 2] * away, axis=1), 0.5 * np.cos(np.radians(20)), atol=1e-12)
    np.testing.assert_allclose(away.sum(axis=0), 0, atol=1e-12)


def test_the_hemisphere_is_even_and_looks_at_its_middle():
    target = np.array([0.1, 0.2, -0.3])
    poses, turned = in_float64(
        lambda: [nerf.hemisphere(400, 3.0, (0.0, 90.0), target, turn=turn) for turn in (0.0, 90.0)]
    )
    away = poses[:, :3, 3] - target
    np.testing.assert_allclose(np.linalg.norm(away, axis=-1), 3, rtol=1e-12)
    np.testing.assert_allclose(poses[:, :3, 2], away / 3, atol=1e-12)
    # Equal areas: z is uniform on the sphere, and x, y have mean 0 and variance r^2 / 3.
    heights = np.sort(away[:, 2]) / 3
    np.testing.assert_allclose(heights, (np.arange(400) + 0.5) / 400, atol=1e-12)
    assert np.abs(away[:, :2].mean(0)).max() < 0.03
    np.testing.assert_allclose(away[:, :2].var(0), 3, rtol=0.01)
    np.testing.assert_allclose(turned[:, :2, 3] - target[:2], np.stack([away[:, 1], -away[:, 0]], -1), atol=1e-12)


def test_the_spiral_is_the_llff_codes():
    generator = np.random.default_rng(0)
    positions = generator.normal(size=(9, 3)) * [0.5, 0.3, 0.1]
    ahead = positions + [0, 0, -1.0] + 0.1 * generator.normal(size=(9, 3))

    def program(positions, ahead):
        poses = nerf.recenter_poses(nerf.look_at(positions, ahead, jnp.array([[0.0, 1, 0]])))
        return poses, nerf.spiral(poses, 1.2, 7.0, num_frames=30)

    poses, found = in_float64(program, positions, ahead)

    unit = lambda v: v / np.linalg.norm(v)

    def viewmatrix(z, up, pos):
        z = unit(z)
        x = unit(np.cross(up, z))
        return np.stack([x, unit(np.cross(z, x)), z, pos], 1)

    c2w = viewmatrix(poses[:, :3, 2].sum(0), poses[:, :3, 1].sum(0), poses[:, :3, 3].mean(0))
    up = unit(poses[:, :3, 1].sum(0))
    close, infinite = 1.2 * 0.9, 7.0 * 5
    focal = 1 / ((1 - 0.75) / close + 0.75 / infinite)
    rads = np.array([*np.percentile(np.abs(poses[:, :3, 3]), 90, 0), 1.0])
    expected = []
    for theta in np.linspace(0.0, 2 * np.pi * 2, 30 + 1)[:-1]:
        c = c2w @ (np.array([np.cos(theta), -np.sin(theta), -np.sin(theta * 0.5), 1.0]) * rads)
        z = unit(c - c2w @ np.array([0, 0, -focal, 1.0]))
        expected.append(viewmatrix(z, up, c))
    np.testing.assert_allclose(found[:, :3], expected, atol=1e-12)


def test_wrong_inputs():
    with pytest.raises(ValueError, match="0 poses at radius 4"):
        nerf.turntable(0)
    with pytest.raises(ValueError, match="elevation is 90"):
        nerf.turntable(elevation=90)
    with pytest.raises(ValueError, match="elevation is -95"):
        nerf.orbit_poses([0.0, 1.0], [3.0, -95.0])
    with pytest.raises(ValueError, match="up is .0, 0, 0."):
        nerf.hemisphere(4, up=(0, 0, 0))
    with pytest.raises(ValueError, match="a radius of 0 or more"):
        nerf.panorama(4, radius=-1.0)
    with pytest.raises(ValueError, match="elevations are"):
        nerf.hemisphere(4, elevations=(50, 10))
    with pytest.raises(ValueError, match="near is 3.*far is 2"):
        nerf.spiral(np.eye(4)[None], 3.0, 2.0)
    with pytest.raises(ValueError, match="num_frames is 0"):
        nerf.spiral(np.eye(4)[None], 1.0, 2.0, num_frames=0)
