"""Posed images and the training rays through their pixels."""

import jax
import numpy as np
import pytest

from jaxgen import nerf
from tests.nerf import numpy_cameras, scenes
from tests.nerf.scenes import H, N, W
from tests.programs import in_float32, values


def test_alpha_is_put_over_the_background():
    image = np.array([[200, 100, 0, 51]], np.uint8)
    levels = [nerf.BACKGROUNDS[name] for name in ("white", "black", "none")]
    assert levels == [1.0, 0.0, None]
    white, black, none = in_float32(lambda image: [nerf.over_background(image, b) for b in levels], image)
    colors = np.array([[200, 100, 0]]) / 255
    np.testing.assert_allclose(white, colors * 0.2 + 0.8, rtol=1e-6)
    np.testing.assert_allclose(black, colors * 0.2, rtol=1e-6)
    np.testing.assert_allclose(none, colors, rtol=1e-6)
    opaque = in_float32(lambda image: nerf.over_background(image, 1.0), image[:, :3])
    np.testing.assert_allclose(opaque, colors, rtol=1e-6)


def test_a_view_has_its_own_camera_lens_and_colors():
    views = scenes.views()
    assert views.camera(1, 0.0) == nerf.Camera(W, H, 11.0, 12.0, 4.5, 2.5, 0.0)
    np.testing.assert_array_equal(views.lens(1), np.zeros(4))
    np.testing.assert_allclose(views.rgb(2, None)[4, 5], np.array([160, 160, 150]) / 255, rtol=1e-6)
    np.testing.assert_allclose(views.rgb(2, 1.0)[4, 4], 0.2 * np.array([160, 160, 120]) / 255 + 0.8, rtol=1e-6)
    lenses = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(scenes.views(lenses).lens(1), lenses[1])


def test_the_arrays_of_a_batch():
    views = scenes.views()
    assert views.arrays().keys() == {"image", "pose", "intrinsics"}
    np.testing.assert_array_equal(views.arrays()["image"], views.image.reshape(N * H * W, 4))
    assert scenes.views(np.ones((3, 4), np.float32)).arrays().keys() == {"image", "pose", "intrinsics", "distortion"}


IMAGE, ROW, COLUMN = (np.array(numbers, np.int32) for numbers in ([2, 0, 1, 1], [0, 5, 3, 2], [7, 0, 4, 3]))


def rays_of_pixels(scene):
    return values(scene.rays_of_pixels, scene.train.arrays(), IMAGE, ROW, COLUMN)


def test_a_ray_is_that_of_its_pixel():
    scene = scenes.scene()
    batch = rays_of_pixels(scene)
    np.testing.assert_array_equal(scenes.pixels_of(batch["rgb"]), [IMAGE, ROW, COLUMN])
    for i in range(4):
        camera, pose = scene.train.camera(IMAGE[i], 0.5), scene.train.pose[IMAGE[i]]
        expected = numpy_cameras.rays(camera, pose, np.array([[COLUMN[i], ROW[i]]]))
        for found, part in zip(batch["rays"], expected, strict=True):
            np.testing.assert_allclose(found[i], part[0], rtol=1e-5, atol=1e-6)


def test_colors_of_rays_are_over_the_background():
    batch = rays_of_pixels(scenes.scene(1.0))
    alpha = np.where(COLUMN % 2, 1.0, 0.2)[:, None]
    colors = np.stack([80 * IMAGE, 40 * ROW, 30 * COLUMN], axis=1) / 255
    np.testing.assert_allclose(batch["rgb"], colors * alpha + 1 - alpha, rtol=1e-5)


def test_rays_go_through_the_lens():
    """A photograph's pixel belongs to the ray that the lens bent to it."""
    lens = np.array([[0.1, 0, 0, 0.01], [0.2, -0.1, 0, 0], [0, 0, 0.02, 0]], np.float32)
    bent, plain = rays_of_pixels(scenes.scene(distortion=lens)), rays_of_pixels(scenes.scene())
    poses = scenes.views().pose
    undistort = jax.jit(nerf.undistort_rays)
    for i in range(4):
        ray = jax.tree.map(lambda x, i=i: x[i], plain["rays"])
        expected = undistort(ray, poses[IMAGE[i]], lens[IMAGE[i]])
        np.testing.assert_allclose(bent["rays"].direction[i], expected.direction, rtol=1e-5, atol=1e-6)
    assert np.abs(bent["rays"].direction - plain["rays"].direction).max() > 1e-3


def test_rays_are_in_ndc_where_the_scene_is():
    poses = np.tile(np.eye(4, dtype=np.float32), (3, 1, 1))
    poses[:, 0, 3] = [0.0, 0.1, 0.2]
    views = nerf.Views(scenes.views().image, poses, scenes.views().intrinsics, np.array(["a", "b", "c"]))
    scene = nerf.Scene(views, views, 0.0, 1.0, None, 0.5, "", (2.0, 6.0), ndc=True)
    rays = rays_of_pixels(scene)["rays"]
    np.testing.assert_allclose(rays.origin[:, 2], -1, rtol=1e-6)
    np.testing.assert_allclose(rays.direction[:, 2], 2, rtol=1e-5)


def ring(num):
    """Cameras 4 away from the origin that look at it."""
    angle = 2 * np.pi * np.arange(num) / num
    height = np.linspace(0.5, 3, num)
    side = np.sqrt(16 - height**2)
    return np.stack(
        [numpy_cameras.look_at((s * np.cos(a), s * np.sin(a), h)) for s, a, h in zip(side, angle, height, strict=True)]
    )


def test_cameras_around_a_point_are_placed_4_from_the_origin():
    """Moved and scaled as COLMAP likes."""
    poses = ring(6)
    moved = poses.copy()
    moved[:, :3, 3] = 10 * moved[:, :3, 3] + np.array([5, -7, 3])
    before = moved.copy()
    placed, scale = nerf.place_cameras(moved, 30.0)
    np.testing.assert_allclose(placed, poses, rtol=1e-4, atol=1e-4)
    assert scale == pytest.approx(0.1, rel=1e-5)
    np.testing.assert_array_equal(moved, before)


def test_cameras_that_face_one_way_are_placed_at_the_origin_with_the_nearest_bound_at_4_thirds():
    poses = np.tile(np.eye(4), (9, 1, 1))
    poses[:, 0, 3], poses[:, 1, 3] = 0.1 * (np.arange(9) % 3), 0.1 * (np.arange(9) // 3)
    poses[:, :3, 3] += [3.0, 5.0, 7.0]
    placed, scale = nerf.place_cameras(poses, 2.0)
    assert scale == pytest.approx(1 / 1.5) and scale * 2.0 == pytest.approx(4 / 3)
    np.testing.assert_allclose(placed[:, :3, 3].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.ptp(placed[:, 0, 3]), 0.2 * scale, rtol=1e-4)
    np.testing.assert_allclose(placed[:, :3, :3], np.broadcast_to(np.eye(3), (9, 3, 3)), atol=1e-5)
