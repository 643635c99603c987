"""Lens distortion: OpenCV's formula, its inverse, and the rays of a photograph through a lens."""

import jax
import numpy as np
import pytest

from jaxgen.nerf import Camera, camera_rays, check_lens, distort, undistort, undistort_rays
from tests.nerf import numpy_cameras, numpy_lenses
from tests.programs import in_float32, in_float64

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


# Strong but one-to-one over 640 x 480 pixels; the fisheyes see up to 98 degrees from their axis.
STRONG = {
    "SIMPLE_PINHOLE": [300, 322, 238],
    "SIMPLE_RADIAL": [300, 322, 238, 0.3],
    "RADIAL": [320, 320, 240, -0.45, 0.25],
    "OPENCV": [300, 310, 322, 238, -0.3, 0.12, 0.01, -0.008],
    "FULL_OPENCV": [300, 310, 322, 238, -0.3, 0.12, 0.01, -0.008, 0.02, 0.1, 0.05, 0.01],
    "SIMPLE_RADIAL_FISHEYE": [250, 322, 238, -0.02],
    "RADIAL_FISHEYE": [250, 322, 238, -0.05, 0.01],
    "OPENCV_FISHEYE": [220, 225, 322, 238, 0.05, -0.02, 0.01, -0.002],
}


def camera_and_lens(model, values):
    """The camera, 640 x 480, and the nine coefficients of a COLMAP model."""
    one_focal = model.startswith(("SIMPLE", "RADIAL"))
    focal_x, focal_y, *rest = [values[0], *values] if one_focal else values
    lens = np.zeros(9)
    slots = [0, 1, 4, 5] if model.endswith("FISHEYE") else range(8)
    for slot, value in zip(slots, rest[2:], strict=False):
        lens[slot] = value
    lens[8] = model.endswith("FISHEYE")
    return Camera(640, 480, focal_x, focal_y, *rest[:2]), lens


def test_the_rays_of_every_model_go_back_to_their_pixels():
    """256 random pixels and the corners of each model, by COLMAP's formulas, to a thousandth of a pixel in float32."""
    pixels = np.random.default_rng(0).uniform(0, 1, (260, 2)) * [640, 480]
    pixels[:4] = [[0, 0], [639, 0], [0, 479], [639, 479]]
    pixels = pixels.astype(np.float32)
    pose = np.eye(4, dtype=np.float32)

    def directions(camera, lens):
        return undistort_rays(camera_rays(camera, pose, pixels), pose, lens).direction

    cameras, lenses = zip(*(camera_and_lens(*item) for item in STRONG.items()), strict=True)
    stacked = jax.tree.map(lambda *leaves: np.array(leaves, np.float32), *cameras)
    found = in_float32(jax.vmap(directions), stacked, np.array(lenses, np.float32))
    for (model, values), camera, lens, rays in zip(STRONG.items(), cameras, lenses, found, strict=True):
        again = numpy_lenses.project(model, values, rays * [1, -1, -1]) - 0.5
        assert np.abs(again - pixels).max() < 0.001, model
        length = np.linalg.norm(rays, axis=1) if lens[8] else -rays[:, 2]
        np.testing.assert_allclose(length, 1, rtol=1e-5, err_msg=model)
        check_lens(camera, lens)


def test_distort_is_the_formula_of_every_model_and_undistort_its_inverse():
    points = np.random.default_rng(1).uniform(-0.6, 0.6, (40, 2))
    cameras, lenses = zip(*(camera_and_lens(*item) for item in STRONG.items()), strict=True)
    program = jax.vmap(lambda lens, points: (b := distort(points, lens), undistort(b, lens)), (0, None))
    bent, again = in_float64(program, np.array(lenses), points)
    for (model, values), camera, one in zip(STRONG.items(), cameras, bent, strict=True):
        pixels = numpy_lenses.project(model, values, np.concatenate([points, np.ones((40, 1))], axis=1))
        middle, focal = [camera.center_x, camera.center_y], [camera.focal_x, camera.focal_y]
        np.testing.assert_allclose(one, (pixels - middle) / focal, atol=1e-12, err_msg=model)
    np.testing.assert_allclose(again, np.broadcast_to(points, again.shape), atol=1e-10)


def test_a_strong_barrel_by_hand():
    """k1 -0.45, k2 0.25, f 32, 64 x 48 pixels: the corner, by a solver of polynomials."""
    corner = in_float64(undistort, np.array([0.5 - 32, 0.5 - 24]) / 32, np.array([-0.45, 0.25, 0, 0]))
    radius = np.hypot(31.5, 23.5) / 32
    roots = np.roots([0.25, 0, -0.45, 0, 1, -radius])
    expected = min(root.real for root in roots if abs(root.imag) < 1e-12 and root.real > 0)
    np.testing.assert_allclose(corner, -expected * np.array([31.5, 23.5]) / 32 / radius, rtol=1e-12)


def test_coefficients_that_are_zero_change_nothing():
    points = np.random.default_rng(0).uniform(-0.7, 0.7, (50, 2)).astype(np.float32)
    zeros = [np.zeros(number, np.float32) for number in (4, 5, 8, 9)]
    for found in in_float32(lambda points: [undistort(points, lens) for lens in zeros], points):
        np.testing.assert_allclose(found, points, atol=1e-7)


@pytest.mark.parametrize("k1, k2", [(-0.3, 0.0), (-0.6, 0.1), (0.1, -0.3)])
def test_a_lens_is_refused_just_where_it_folds(k1, k2):
    """Where r (1 + k1 r^2 + k2 r^4) turns back."""
    squared = np.roots([5 * k2, 3 * k1, 1]) if k2 else np.array([-1 / (3 * k1)])
    radius = np.sqrt(min(root.real for root in squared if abs(root.imag) < 1e-12 and root.real > 0))
    fold = radius * (1 + k1 * radius**2 + k2 * radius**4)
    camera = lambda share: Camera(400, 2, 199.5 / fold * share, 199.5 / fold * share, 200, 1)
    lens = [k1, k2, 0, 0]
    check_lens(camera(1 / 0.999), lens)
    with pytest.raises(ValueError, match=r"view 3: the lens with .* folds 195.\d pixels .* the image reaches 199.5"):
        check_lens(camera(0.98), lens, "view 3")
    with pytest.raises(ValueError, match="folds"):
        check_lens(camera(0.999), lens)
    middle = np.zeros((2, 400), bool)
    middle[:, 4:-4] = True
    check_lens(camera(0.99), lens, mask=middle)
    check_lens(camera(0.99), lens, mask=middle.astype(np.uint8))
    with pytest.raises(ValueError, match=r"mask has shape \(400, 2\); expected \(2, 400\)"):
        check_lens(camera(0.99), lens, mask=middle.T)


def test_a_fisheye_beyond_a_full_turn_and_numbers_that_are_none():
    camera = Camera(640, 480, 100, 100, 320, 240)
    with pytest.raises(ValueError, match="fisheye lens .* folds 314.2 pixels .* image reaches 399"):
        check_lens(camera, [0] * 8 + [1])
    with pytest.raises(ValueError, match="not finite"):
        check_lens(camera, [np.nan, 0, 0, 0])
    with pytest.raises(ValueError, match=r"distortion has shape \(3,\)"):
        check_lens(camera, [0, 0, 0])
    with pytest.raises(ValueError, match=r"distortion has shape \(2, 6\)"):
        distort(np.zeros((2, 2), np.float32), np.zeros((2, 6)))
