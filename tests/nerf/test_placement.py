"""Where cameras are brought, and the way back."""

import numpy as np
import pytest

from jaxgen import nerf
from tests.nerf import numpy_cameras


def ring(num, outward=False):
    """Cameras 4 away from the origin that look at it, or away from it."""
    angle = 2 * np.pi * np.arange(num) / num
    height = np.linspace(0.5, 3, num)
    side = np.sqrt(16 - height**2)
    places = np.stack([side * np.cos(angle), side * np.sin(angle), height], axis=1)
    return np.stack([numpy_cameras.look_at(place, 2 * place if outward else (0.0, 0.0, 0.0)) for place in places])


def plane():
    """Nine cameras that look along -z."""
    poses = np.tile(np.eye(4), (9, 1, 1))
    poses[:, 0, 3], poses[:, 1, 3] = 0.1 * (np.arange(9) % 3), 0.1 * (np.arange(9) // 3)
    poses[:, :3, 3] += [3.0, 5.0, 7.0]
    return poses


def similarity(seed):
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    matrix = np.eye(4)
    matrix[:3, :3] = 7 * rotation * np.sign(np.linalg.det(rotation))
    matrix[:3, 3] = [5, -7, 3]
    return matrix


def moved(poses, matrix):
    poses = matrix @ poses
    poses[:, :3, :3] /= np.cbrt(np.linalg.det(matrix[:3, :3]))
    return poses


def test_cameras_around_a_point_are_placed_4_from_the_origin():
    """Moved and scaled as COLMAP likes."""
    poses = ring(6)
    away = poses.copy()
    away[:, :3, 3] = 10 * away[:, :3, 3] + np.array([5, -7, 3])
    before = away.copy()
    placed, scale = nerf.place_cameras(away, 30.0)
    np.testing.assert_allclose(placed, poses, rtol=1e-4, atol=1e-4)
    assert scale == pytest.approx(0.1, rel=1e-5)
    np.testing.assert_array_equal(away, before)


def test_cameras_that_face_one_way_are_placed_at_the_origin_with_the_nearest_bound_at_4_thirds():
    placed, scale = nerf.place_cameras(plane(), 2.0)
    assert scale == pytest.approx(1 / 1.5) and scale * 2.0 == pytest.approx(4 / 3)
    np.testing.assert_allclose(placed[:, :3, 3].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.ptp(placed[:, 0, 3]), 0.2 * scale, rtol=1e-4)
    np.testing.assert_allclose(placed[:, :3, :3], np.broadcast_to(np.eye(3), (9, 3, 3)), atol=1e-5)


@pytest.mark.parametrize(
    "poses, settings",
    [
        (ring(6), {}),
        (ring(6), {"up": "cameras", "scale": 0.3}),
        (ring(8, outward=True), {"up": "-y"}),
        (plane(), {}),
        (plane(), {"around_origin": False, "up": "+x", "scale": 2.0}),
    ],
)
def test_the_transform_leads_back_to_the_world_of_the_files(poses, settings):
    poses = moved(poses, similarity(1))
    placed = nerf.place_scene(poses, (14.0, 35.0), **settings)
    np.testing.assert_allclose(moved(placed.poses, placed.world_from_scene), poses, atol=1e-4)
    world = placed.world_from_scene[:3, :3]
    np.testing.assert_allclose(world @ world.T * placed.scale**2, np.eye(3), atol=1e-6)
    nerf.check_poses(placed.poses)
    # The poses of place_cameras, where nothing else is asked.
    if not settings:
        np.testing.assert_array_equal(placed.poses, nerf.place_cameras(poses, 14.0)[0])


def test_a_room_keeps_its_walls_within_reach():
    """Cameras that look outward: their middle at the origin, and the farthest wall 3 away."""
    poses = moved(ring(8, outward=True), similarity(2))
    placed = nerf.place_scene(poses, (3.0, 40.0))
    np.testing.assert_allclose(placed.poses[:, :3, 3].mean(axis=0), 0, atol=1e-6)
    farthest = np.linalg.norm(placed.poses[:, :3, 3], axis=1).max() + 40 * placed.scale
    assert farthest == pytest.approx(3) and "look outward" in placed.text
    assert nerf.describe_poses(poses).inside and not nerf.describe_poses(ring(8)).inside


@pytest.mark.parametrize("up, axis", [("+x", [1, 0, 0]), ("-y", [0, -1, 0]), ("-z", [0, 0, -1]), ("+z", [0, 0, 1])])
def test_a_direction_becomes_plus_z(up, axis):
    poses = ring(5)
    placed = nerf.place_scene(poses, around_origin=False, up=up)
    turn = placed.poses[0, :3, :3] @ poses[0, :3, :3].T
    np.testing.assert_allclose(turn @ axis, [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(placed.poses[:, :3, 3], poses[:, :3, 3] @ turn.T, atol=1e-12)


def test_the_cameras_up_becomes_plus_z_and_may_not_exist():
    poses = moved(ring(5), similarity(3))
    placed = nerf.place_scene(poses, up="cameras")
    mean = placed.poses[:, :3, 1].mean(axis=0)
    np.testing.assert_allclose(mean / np.linalg.norm(mean), [0, 0, 1], atol=1e-6)
    with pytest.raises(ValueError, match="no common up"):
        nerf.place_scene(np.stack([np.eye(4), np.diag([-1.0, -1, 1, 1])]), up="cameras")
    with pytest.raises(ValueError, match="up cannot be chosen"):
        nerf.place_scene(plane(), up="+y")
    # "x" would be read as -x.
    with pytest.raises(ValueError, match="up is 'x'; expected one of cameras, .x"):
        nerf.place_scene(poses, up="x")
    for bad in (poses[:0], (1.0, 4.0)), (poses, (4.0, 1.0)), (poses, (-1.0, 4.0)):
        with pytest.raises(ValueError, match="need at least 1, and 0 <= near < far"):
            nerf.place_scene(*bad)


def test_a_world_far_from_its_origin_keeps_its_precision():
    """Coordinates of a map: 4,000,000 units from the origin, a tenth of one between cameras."""
    far = plane()
    far[:, :3, 3] += [5e5, 4.1e6, 120.0]
    np.testing.assert_allclose(nerf.place_cameras(far, 2.0)[0], nerf.place_cameras(plane(), 2.0)[0], atol=1e-6)
    placed = nerf.place_scene(far, (2.0, 6.0))
    np.testing.assert_allclose(nerf.move_poses(placed.poses, placed.world_from_scene), far, atol=1e-5)


def test_strips_flown_to_and_fro_are_placed_and_filmed_as_if_all_were_upright():
    poses = plane()[:8]
    turned = poses.copy()
    turned[1::2, :3, :2] *= -1
    placed = nerf.place_cameras(turned, 2.0)[0]
    placed[1::2, :3, :2] *= -1
    np.testing.assert_allclose(placed, nerf.place_cameras(poses, 2.0)[0], atol=1e-6)
    (kind, film), (_, upright) = (nerf.film_path(views, 2.0, 6.0, 3) for views in (turned, poses))
    assert kind == "spiral"
    np.testing.assert_allclose(film, upright, atol=1e-5)


def test_cameras_at_one_point_are_placed_in_their_middle_and_filmed_outward():
    poses = ring(6, outward=True)
    poses[:, :3, 3] = [1.0, 2.0, 3.0]
    placed = nerf.place_scene(poses)
    assert placed.scale == 1
    np.testing.assert_allclose(placed.poses[:, :3, 3], 0, atol=1e-9)
    np.testing.assert_array_equal(placed.poses[:, :3, :3], poses[:, :3, :3])
    report = nerf.describe_poses(poses, 2.0, 6.0)
    assert "without parallax" in report.problems[0] and "opencv_to_opengl" not in report.text
    for seed in range(8):
        rotations = numpy_cameras.unit(np.random.default_rng(seed).normal(size=(6, 3)))
        some = np.stack([numpy_cameras.look_at((1, 2, 3), (1, 2, 3) + r) for r in rotations])
        assert nerf.camera_frame(some).kind == "inside" and nerf.place_scene(some).scale == 1
