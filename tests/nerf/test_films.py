"""What cameras look at, which way is up, and films that fit them in any world."""

import numpy as np
import pytest

from jaxgen import nerf
from tests.nerf import captures, numpy_cameras

WORLDS = [np.eye(4), captures.similarity(4), captures.similarity(5, scale=0.02)]
# COLMAP's usual world: up is -y.
UP_IS_MINUS_Y = np.array([[1.0, 0, 0, 3], [0, 0, -1, 1], [0, 1, 0, -2], [0, 0, 0, 1]])


def scale_of(world):
    return np.cbrt(np.linalg.det(world[:3, :3]))


def apply(world, points):
    return points @ world[:3, :3].T + world[:3, 3]


def direction(world, vector):
    return world[:3, :3] @ vector / scale_of(world)


@pytest.mark.parametrize("world", [*WORLDS, UP_IS_MINUS_Y])
def test_the_frame_moves_with_the_world(world):
    target = np.array([0.3, -0.2, 0.1])
    ring = captures.ring(9, radius=3.0, elevation=29.0, target=target)
    frame = nerf.camera_frame(nerf.move_poses(ring, world))
    assert frame.kind == "around" and frame.radius == pytest.approx(3 * scale_of(world))
    np.testing.assert_allclose(frame.focus, apply(world, target), atol=1e-9 * scale_of(world))
    np.testing.assert_allclose(frame.up, direction(world, [0, 0, 1]), atol=1e-9)
    np.testing.assert_allclose(frame.elevation, 29 + 5 * np.cos(2.4 * np.arange(9)), atol=1e-6)


def test_stray_cameras_move_neither_focus_nor_up():
    poses = captures.ring(15, target=(0.0, 0.0, 0.0))
    poses[3] = numpy_cameras.look_at((5.0, 1.0, 2.0), (9.0, 9.0, 9.0))
    poses[8] = numpy_cameras.look_at((-3.0, 2.0, 1.0), (-3.0, -8.0, 1.5))
    # A camera held in portrait, whose photograph was turned, and one upside down.
    poses[5] = numpy_cameras.look_at(poses[5, :3, 3], up=(1.0, 0.1, 0.0))
    poses[6, :3, :2] *= -1
    frame = nerf.camera_frame(poses)
    assert frame.kind == "around" and frame.radius == pytest.approx(4, rel=0.02)
    np.testing.assert_allclose(frame.focus, 0, atol=0.03)
    np.testing.assert_allclose(frame.up, [0, 0, 1], atol=0.02)


def test_cameras_on_one_side_and_cameras_from_above_have_the_right_up():
    """The mean of the y axes leans toward cameras on one side; straight down it is nearly zero."""
    azimuth = np.radians(np.linspace(-50, 50, 9))
    side = np.stack([3 * np.cos(azimuth), 3 * np.sin(azimuth), np.full(9, 3.0)], axis=-1)
    poses = np.stack([numpy_cameras.look_at(place) for place in side])
    np.testing.assert_allclose(nerf.camera_frame(poses).up, [0, 0, 1], atol=1e-9)
    headings = np.stack([np.cos(4 * azimuth), np.sin(4 * azimuth), 0 * azimuth], axis=-1)
    below = np.stack(
        [numpy_cameras.look_at(a * [1, 1, 2], a * [0.95, 0.95, 0], h) for a, h in zip(side, headings, strict=True)]
    )
    np.testing.assert_allclose(nerf.camera_frame(below).up, [0, 0, 1], atol=0.05)


@pytest.mark.parametrize("world", [WORLDS[1], UP_IS_MINUS_Y])
def test_a_turntable_circles_about_the_cameras_own_centre_and_up(world):
    target, up = np.array([0.3, -0.2, 0.1]), direction(world, [0, 0, 1])
    poses = nerf.move_poses(captures.ring(9, radius=3.0, target=target), world)
    kind, film = nerf.film_path(poses, 0.0, 20.0, 6)
    away = (film[:, :3, 3] - apply(world, target)) / scale_of(world)
    np.testing.assert_allclose(np.linalg.norm(away, axis=1), 3, rtol=1e-5)
    np.testing.assert_allclose(film[:, :3, 2], away / 3, atol=1e-5)
    elevation = np.degrees(np.arcsin(away @ up / 3))
    low, high = np.percentile(29 + 5 * np.cos(2.4 * np.arange(9)), [10, 90])
    assert kind == "turntable" and low < 30 < high
    np.testing.assert_allclose(elevation, 30, atol=1e-3)
    np.testing.assert_allclose(film[:, :3, 1] @ up, np.cos(np.radians(30)), atol=1e-5)
    # A closed circle in equal steps.
    turned = film[:, :3, 0] @ np.roll(film[:, :3, 0], 1, axis=0).T
    np.testing.assert_allclose(np.diag(turned), 0.5, atol=1e-5)
    # Nearer, lower, and about another axis.
    _, film = nerf.film_path(poses, 0.0, 20.0, 6, up=-up, elevation=10.0, distance=0.5)
    away = (film[:, :3, 3] - apply(world, target)) / scale_of(world)
    np.testing.assert_allclose(away @ up, -1.5 * np.sin(np.radians(10)), atol=1e-5)


def test_cameras_that_look_outward_get_a_panorama():
    world = captures.similarity(7)
    poses = nerf.move_poses(captures.inside(12, 0.5), world)
    frame = nerf.camera_frame(poses)
    assert frame.kind == "inside" and frame.radius == pytest.approx(0.5 * scale_of(world), rel=0.1)
    kind, film = nerf.film_path(poses, 0.1, 9.0, 6)
    up = direction(world, [0, 0, 1])
    away = film[:, :3, 3] - apply(world, np.zeros(3))
    assert kind == "panorama" and (np.sum(away * -film[:, :3, 2], axis=1) > 0.45 * scale_of(world)).all()
    assert np.abs(film[:, :3, 2] @ up).max() < 0.1 and (film[:, :3, 1] @ up > 0.99).all()
    # Cameras that walk through a room and look everywhere.
    rng = np.random.default_rng(0)
    places, ahead = rng.uniform(-1, 1, (20, 3)) * [1, 1, 0.1], rng.normal(size=(20, 3)) * [1, 1, 0.1]
    walk = np.stack([numpy_cameras.look_at(p, p + a) for p, a in zip(places, ahead, strict=True)])
    frame = nerf.camera_frame(walk)
    assert frame.kind == "inside" and np.abs(frame.focus).max() < 0.6
    np.testing.assert_allclose(frame.up, [0, 0, 1], atol=1e-9)


def test_a_spiral_moves_with_the_world():
    """Off the origin, turned and scaled, the film is the one of the recentred scene, moved."""
    poses = captures.facing(9)
    poses[:, :3, 3] += 0.02 * np.random.default_rng(0).normal(size=(9, 3))
    kind, film = nerf.film_path(poses, 2.0, 9.0, 6)
    assert kind == "spiral"
    world = captures.similarity(8)
    _, moved = nerf.film_path(nerf.move_poses(poses, world), 2 * scale_of(world), 9 * scale_of(world), 6)
    np.testing.assert_allclose(moved, nerf.move_poses(film, world), atol=1e-4)
    # Within the cameras' own places, looking at a point ahead.
    offset = np.abs(film[:, :3, 3] - poses[:, :3, 3].mean(axis=0)).max(axis=0)
    assert (offset <= np.abs(poses[:, :3, 3] - poses[:, :3, 3].mean(axis=0)).max(axis=0) + 1e-6).all()
    # With a near of 0 too: as with far / 10.
    for near in (0.0, 0.9):
        np.testing.assert_array_equal(nerf.film_path(poses, near, 9.0, 6)[1], nerf.film_path(poses, 0.9, 9.0, 6)[1])


def llff_spherify(poses, bounds):
    """The LLFF code's: poses, its 120 poses on a circle, bounds."""
    unit = lambda x: x / np.linalg.norm(x)
    square = lambda p: np.concatenate([p, np.tile(np.eye(4)[-1:][None], (len(p), 1, 1))], 1)
    directions, origins = poses[:, :3, 2:3], poses[:, :3, 3:4]
    a = np.eye(3) - directions * np.transpose(directions, [0, 2, 1])
    b = -a @ origins
    center = np.squeeze(-np.linalg.inv((np.transpose(a, [0, 2, 1]) @ a).mean(0)) @ b.mean(0))
    z = unit((poses[:, :3, 3] - center).mean(0))
    x = unit(np.cross([0.1, 0.2, 0.3], z))
    frame = np.stack([x, unit(np.cross(z, x)), z, center], 1)
    reset = np.linalg.inv(square(frame[None])) @ square(poses[:, :3, :4])
    radius = np.sqrt(np.mean(np.sum(np.square(reset[:, :3, 3]), -1)))
    reset[:, :3, 3] /= radius
    height = np.mean(reset[:, :3, 3], 0)[2]
    circle = np.sqrt(1 - height**2)
    new = []
    for angle in np.linspace(0.0, 2.0 * np.pi, 120):
        origin = np.array([circle * np.cos(angle), circle * np.sin(angle), height])
        back = unit(origin)
        right = unit(np.cross(back, [0, 0, -1.0]))
        new.append(np.stack([right, unit(np.cross(back, right)), back, origin], 1))
    return reset, np.stack(new), bounds / radius


def test_spherified_poses_are_the_llff_codes():
    rng = np.random.default_rng(1)
    poses = nerf.move_poses(captures.ring(9), captures.similarity(9))
    poses[:, :3, 3] += rng.normal(size=(9, 3)) * 0.2
    expected, circle, bounds = llff_spherify(poses, np.array([2.0, 6.0]))
    found, similarity = nerf.spherify_poses(poses)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(scale_of(similarity) * np.array([2.0, 6.0]), bounds, rtol=1e-12)
    np.testing.assert_allclose(apply(similarity, poses[:, :3, 3]), expected[:, :3, 3], atol=1e-12)
    # Their film repeats its first pose at the end.
    kind, film = nerf.film_path(poses, 2.0, 6.0, 119, "sphere")
    assert kind == "sphere"
    np.testing.assert_allclose(nerf.move_poses(film, similarity)[:, :3], circle[:-1], atol=2e-5)


def test_moved_poses_see_moved_points():
    world, poses = captures.similarity(2), captures.ring(3)
    moved, point = nerf.move_poses(poses, world), np.array([0.3, 0.1, -0.4])
    seen = lambda pose, p: pose[:3, :3].T @ (p - pose[:3, 3])
    for before, after in zip(poses, moved, strict=True):
        np.testing.assert_allclose(seen(after, apply(world, point)), scale_of(world) * seen(before, point), atol=1e-12)
    np.testing.assert_allclose(nerf.move_poses(moved, np.linalg.inv(world)), poses, atol=1e-12)
    np.testing.assert_array_equal(poses, captures.ring(3))


@pytest.mark.parametrize(
    "matrix",
    [np.eye(3), np.diag([1.0, 1, -1, 1]), np.diag([1.0, 2, 1, 1]), np.diag([1.0, 1, 1, 2]), np.full((4, 4), np.nan)],
)
def test_what_is_no_similarity_is_refused(matrix):
    with pytest.raises(ValueError, match="similarity"):
        nerf.move_poses(captures.ring(3), matrix)


RING, FACING = captures.ring(6), captures.facing(9)


@pytest.mark.parametrize(
    ("poses", "arguments", "options", "message"),
    [
        (RING, (2.0, 6.0, 0), {}, "0 frames between near 2.0 and far 6.0"),
        (RING, (6.0, 2.0), {}, "near 6.0 and far 2.0"),
        (RING, (2.0, 6.0, 3, "spirall"), {}, "kind is 'spirall'; expected one of auto, turntable, spiral"),
        (RING[:0], (2.0, 6.0), {}, "no poses"),
        (captures.inside(8), (2.0, 6.0, 3, "spiral"), {}, "a spiral needs cameras that face one way, .* a panorama"),
        (FACING, (2.0, 6.0, 3, "sphere"), {}, "the axes of the 9 cameras are parallel"),
        (FACING, (2.0, 6.0, 3), {"elevation": 10.0}, "a spiral has no elevation .10.0."),
        (RING, (2.0, 6.0, 3, "sphere"), {"distance": 2.0}, "a sphere has no elevation .None. and distance .2.0."),
        (RING, (2.0, 6.0, 3, "sphere"), {"up": (0, 0, 1)}, "decide which side of their sphere is up"),
        (RING, (2.0, 6.0, 3), {"elevation": 95.0}, "elevation is 95"),
        (RING, (2.0, 6.0, 3), {"up": (0, 0, 0)}, "up is .* three numbers that are not all zero"),
        (RING, (2.0, 6.0, 3), {"distance": -1.0}, "need at least 1, and a positive radius"),
    ],
)  # fmt: skip
def test_films_that_the_cameras_do_not_have_are_refused(poses, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        nerf.film_path(poses, *arguments, **options)
