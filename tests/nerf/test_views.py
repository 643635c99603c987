"""Whole views and single pixels of a field."""

import dataclasses
from typing import Any, cast

import jax
import numpy as np
import pytest

from jaxgen import nerf
from jaxgen.nerf import rendering
from tests.nerf import scenes
from tests.nerf.scenes import H, W
from tests.parameters import random_parameters

NETWORK = nerf.NeRF(depth=2, width=8, skips=(), view_width=8, position_frequencies=2)
SETTINGS = {"num_coarse": 6, "num_fine": 4, "background": None}


@pytest.fixture(scope="module")
def params():
    points, view = np.zeros((1, 1, 3), np.float32), np.zeros((1, 3), np.float32)
    return {name: random_parameters(NETWORK, points, view, seed=seed) for seed, name in enumerate(("coarse", "fine"))}


@pytest.fixture(scope="module")
def view(params):
    """The first held-out view, in chunks of seven rays."""
    scene = scenes.scene()
    render = nerf.view_renderer(NETWORK, scene, SETTINGS, chunk=7)
    return render(params, scene.test.camera(0, 0.5), scene.test.pose[0])


def test_a_view_is_that_of_render_rays(params, view):
    scene = scenes.scene()
    camera, pose = scene.test.camera(0, 0.5), scene.test.pose[0]

    @jax.jit
    def expected(params):
        rays = nerf.camera_rays(camera, pose, camera.pixels().reshape(-1, 2))
        fields = (nerf.network_field(NETWORK, params[name]) for name in ("coarse", "fine"))
        return nerf.render_rays(None, rays, 2.0, 6.0, *fields, **SETTINGS)

    found = expected(params)
    parts = found.fine.color, found.coarse.color, found.fine.depth, found.fine.opacity
    for name, value, part in zip(view._fields, view, parts, strict=True):
        assert isinstance(value, np.ndarray) and value.shape[:2] == (H, W)
        np.testing.assert_allclose(value, part.reshape(value.shape), atol=2e-5, err_msg=name)
    assert np.ptp(view.depth) > 0.1 and np.abs(view.color - view.coarse_color).max() > 1e-3


def test_views_of_several_sizes_are_rendered_by_one_program(params, view):
    """Landscape and portrait, larger and smaller than a chunk."""
    size = np.array([[W, H], [W - 2, H], [4, 4]], np.int32)
    both = dataclasses.replace(scenes.views(), size=size)
    scene = dataclasses.replace(scenes.scene(), train=both, test=both)
    count = lambda: cast(Any, rendering._render_pixels)._cache_size()
    render, before = nerf.view_renderer(NETWORK, scene, SETTINGS, chunk=20), count()
    for i in range(3):
        found = render(params, scene.test.camera(i, 0.5), scene.test.pose[i], scene.test.lens(i))
        assert found.color.shape == (size[i, 1], size[i, 0], 3)
        if i == 0:
            np.testing.assert_allclose(found.color, view.color, atol=2e-5)
    assert count() == before + 1


def test_the_coarse_network_alone(params):
    scene = scenes.scene()
    render = nerf.view_renderer(NETWORK, scene, {"num_coarse": 6, "background": None}, chunk=48)
    view = render({"coarse": params["coarse"]}, scene.test.camera(0, 0.5), scene.test.pose[0])
    np.testing.assert_array_equal(view.color, view.coarse_color)


def test_a_view_through_its_lens_is_another(params, view):
    lens = np.tile(np.array([0.2, 0, 0, 0.01], np.float32), (3, 1))
    scene = scenes.scene(distortion=lens)
    render = nerf.view_renderer(NETWORK, scene, SETTINGS, chunk=48)
    at = params, scene.test.camera(0, 0.5), scene.test.pose[0]
    np.testing.assert_allclose(render(*at).color, view.color, atol=2e-5)
    assert np.abs(render(*at, scene.test.lens(0)).color - view.color).max() > 1e-4


def test_pixels_are_counted_from_the_left_end_of_the_middle_row(params, view):
    scene = scenes.scene()
    draw = jax.jit(nerf.pixel_sampler(nerf.ray_renderer(NETWORK, scene, SETTINGS), scene, 0))
    numbers = np.array([0, H // 2 * W - 1, H // 2 * W, H * W - 1, H * W], np.uint32)
    found = draw(params, jax.random.split(jax.random.key(0), 5), numbers)
    for name, whole in view._asdict().items():
        flat = whole.reshape(H * W, *whole.shape[2:])
        expected = flat[[H // 2 * W, H * W - 1, 0, H // 2 * W - 1, H // 2 * W]]
        np.testing.assert_allclose(getattr(found, name), expected, atol=2e-5, err_msg=name)
