"""Posed images and the training rays through their pixels."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxgen import nerf
from tests.nerf import numpy_cameras, scenes
from tests.nerf.scenes import H, N, W
from tests.programs import in_float32, values


def usable(views, *arguments):
    found = views.usable_pixels(*arguments)
    assert found is not None
    return found


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


def test_images_of_several_sizes_and_masks():
    size = np.array([[W, H], [W - 2, H], [W, H - 3]], np.int32)
    mask = np.ones((N, H, W), bool)
    mask[0, :2] = False
    views = dataclasses.replace(scenes.views(), size=size)
    assert (views.camera(1, 0.5).width, views.camera(2, 0.5).height) == (W - 2, H - 3)
    assert views.rgb(1, None).shape == (H, W - 2, 3) and views.mask_of(1) is None
    numbers, starts = usable(views)
    assert starts.tolist() == [0, H * W, H * W + H * (W - 2), H * W + H * (W - 2) + (H - 3) * W]
    image, row, column = np.unravel_index(numbers, (N, H, W))
    assert all((column[image == i].max(), row[image == i].max()) == tuple(size[i] - 1) for i in range(N))
    # The middle half of each image.
    numbers, starts = usable(views, 0.5)
    image, row, column = np.unravel_index(numbers, (N, H, W))
    assert sorted(set(column[image == 1])) == [1, 2, 3] and sorted(set(row[image == 2])) == [1]
    masked = dataclasses.replace(views, mask=mask)
    assert usable(masked)[1][1] == (H - 2) * W and np.asarray(masked.mask_of(0)).sum() == (H - 2) * W
    assert scenes.views().usable_pixels() is None
    mask[1] = False
    assert np.diff(usable(masked)[1]).tolist() == [(H - 2) * W, 0, (H - 3) * W]
    mask[:] = False
    with pytest.raises(ValueError, match="the masks leave no pixel"):
        masked.usable_pixels()


def test_what_does_not_fit_the_images_is_refused():
    views = scenes.views()
    with pytest.raises(ValueError, match="sizes .3, 2. do not fit"):
        dataclasses.replace(views, size=np.full((N, 2), W + 1))
    with pytest.raises(ValueError, match="masks have shape"):
        dataclasses.replace(views, mask=np.ones((N, W, H), bool))
    huge = np.broadcast_to(np.zeros(3, np.uint8), (2, 2**15, 2**15, 3))
    with pytest.raises(ValueError, match="2147483648 pixels; at most 2.31 - 1"):
        dataclasses.replace(views, image=huge)


def test_one_point_of_the_world_has_one_place_in_ndc_whatever_the_focal_length():
    """Rays of cameras of three focal lengths that meet in a point still meet in NDC, where `ndc_project` puts it."""
    point = np.array([0.3, -0.2, -3.0])
    poses = np.tile(np.eye(4, dtype=np.float32), (3, 1, 1))
    poses[:, 0, 3] = [0.0, 0.1, 0.2]
    intrinsics = np.array([[9, 10, 4, 3], [15, 15, 4, 3], [30, 28, 4, 3]], np.float32)
    views = nerf.Views(scenes.views().image, poses, intrinsics, np.array(["a", "b", "c"]))
    scene = nerf.Scene(views, views, 0.0, 1.0, None, 0.5, "", (2.0, 6.0), ndc=True)
    offset = point - poses[:, :3, 3]
    directions = (offset / -offset[:, 2:]).astype(np.float32)
    rays = nerf.Rays(poses[:, :3, 3], directions, directions)
    bent, place = in_float32(
        lambda rays, point: (scene.field_rays(rays, poses), nerf.ndc_project(point, scene.reference)),
        rays, point.astype(np.float32)[None],
    )  # fmt: skip
    t = 1 - 1 / 3.0
    np.testing.assert_allclose(bent.origin + t * bent.direction, np.tile(place, (3, 1)), atol=1e-6)
    assert scene.reference == nerf.Camera(W, H, 9.0, 10.0, W / 2, H / 2)
    nearer = dataclasses.replace(scene, near_plane=0.5)
    found = in_float32(lambda rays: nearer.field_rays(rays, poses), rays)
    np.testing.assert_allclose(found.origin[:, 2] + (1 - 0.5 / 3) * found.direction[:, 2], 1 + 2 * 0.5 / -3, atol=1e-6)


def test_rays_that_do_not_run_along_minus_z():
    poses = np.tile(np.eye(4, dtype=np.float32), (3, 1, 1))
    views = dataclasses.replace(scenes.views(), pose=poses)
    fisheye = np.zeros((3, 9), np.float32)
    fisheye[:, 8] = 1
    assert nerf.run_along_minus_z(views) and not nerf.run_along_minus_z(scenes.views())
    assert nerf.run_along_minus_z(dataclasses.replace(views, distortion=fisheye))
    # At a focal length of 2 the corner of a fisheye is 2.2 radians from the axis.
    wide = dataclasses.replace(views, intrinsics=np.array([[2, 2, 4, 3]] * 3, np.float32))
    assert nerf.run_along_minus_z(wide)
    assert not nerf.run_along_minus_z(dataclasses.replace(wide, distortion=fisheye))
