"""Coarse and fine together against NumPy, and images in chunks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import nerf
from tests.nerf import numpy_cameras
from tests.parameters import random_parameters
from tests.programs import in_float32, in_float64

CAMERA = nerf.Camera(6, 4, 5.0, 5.0, 3.0, 2.0)
POSE = numpy_cameras.look_at([0.5, 0.4, 3.0], up=[0.0, 1, 0])
RAYS = numpy_cameras.rays(CAMERA, POSE)
FLOAT32_RAYS = jax.tree.map(np.float32, RAYS)


def blob(center, width, xp=jnp):
    """A field of Gaussian density whose color is a function of place and view."""

    def field(points, view):
        density = 3 * xp.exp(-xp.sum(xp.square((points - center) / width), axis=-1))
        color = 0.5 + 0.25 * (xp.sin(3 * points) + view[..., None, :])
        return color, density

    return field


COARSE, FINE = blob(0.1, 0.8), blob(-0.1, 0.5)
NUMPY_COARSE, NUMPY_FINE = blob(0.1, 0.8, np), blob(-0.1, 0.5, np)


def numpy_see(field, origin, direction, view, t, far=None):
    """One ray by the definition, white behind: its color, weights and depth. The last interval ends at far or never."""
    rgb, density = field(origin + t[:, None] * direction, view)
    delta = np.append(np.diff(t), 1e10 if far is None else far - t[-1]) * np.linalg.norm(direction)
    alpha = 1 - np.exp(-density * delta)
    weights = alpha * np.cumprod(np.append(1, 1 - alpha))[:-1]
    return weights @ rgb + 1 - weights.sum(), weights, weights @ t


def test_deterministic_rendering_equals_numpy():
    found = in_float64(
        lambda r: nerf.render_rays(None, r, 2.0, 4.5, COARSE, FINE, num_coarse=16, num_fine=20, background=1.0), RAYS
    )
    for i in (0, 9, 14):
        origin, direction, view = (a[i] for a in RAYS)
        t = np.linspace(2, 4.5, 16)
        color, weights, _ = numpy_see(NUMPY_COARSE, origin, direction, view, t)
        np.testing.assert_allclose(found.coarse.color[i], color, rtol=1e-10)
        np.testing.assert_allclose(found.coarse.weights[i], weights, rtol=1e-8, atol=1e-12)
        padded = weights[1:-1] + 1e-5
        cumulative = np.append(0, np.cumsum(padded / padded.sum()))
        more = np.interp(np.linspace(0, 1, 20), cumulative, (t[1:] + t[:-1]) / 2)
        t = np.sort(np.append(t, more))
        np.testing.assert_allclose(found.fine_t[i], t, rtol=1e-10)
        color, *_ = numpy_see(NUMPY_FINE, origin, direction, view, t)
        np.testing.assert_allclose(found.fine.color[i], color, rtol=1e-10)
    assert np.abs(found.fine.color - found.coarse.color).max() > 0.05
    assert found.best is found.fine


def test_random_samples_join_the_coarse_ones_where_the_weights_are():
    see = lambda k: nerf.render_rays(k, FLOAT32_RAYS, 2.0, 4.5, COARSE, FINE, num_coarse=16, num_fine=200)
    one, other = in_float32(lambda: (see(jax.random.key(0)), see(jax.random.key(1)).coarse_t))
    assert (np.diff(one.fine_t) >= 0).all() and one.fine_t.shape == (24, 216)
    for ray in range(24):
        assert np.isin(one.coarse_t[ray], one.fine_t[ray]).all()
    assert not np.any(one.coarse_t == other)
    edges = np.linspace(2, 4.5, 17)
    assert (one.coarse_t >= edges[:-1] - 1e-6).all() and (one.coarse_t <= edges[1:] + 1e-6).all()
    # The fine samples' mean is that of the density that the coarse weights describe.
    t, weights = one.coarse_t, one.coarse.weights[:, 1:-1] + 1e-5
    middle = (t[:, 2:] + 2 * t[:, 1:-1] + t[:, :-2]) / 4
    expected = (weights * middle).sum(-1) / weights.sum(-1)
    fine_mean = (one.fine_t.sum(-1) - t.sum(-1)) / 200
    assert np.abs(fine_mean - expected).max() < 5 * 0.7 / np.sqrt(200)
    assert np.abs(fine_mean - expected).mean() < 0.05


def test_rendering_at_given_uniforms():
    rays = jax.tree.map(lambda a: a[:3], FLOAT32_RAYS)
    render = lambda key, **given: nerf.render_rays(key, rays, 2.0, 4.5, COARSE, FINE, num_coarse=5, num_fine=6, **given)

    def program():
        keys = jax.random.split(jax.random.key(0))
        coarse, fine = (jax.random.uniform(key, (3, num)) for key, num in zip(keys, (5, 6), strict=True))
        return (
            render(jax.random.key(0)),
            [render(None, uniforms=(coarse, fine)), render(jax.random.key(0), uniforms=(None, fine))],
            # Without a key, the part that is not given is deterministic.
            render(None, uniforms=(None, fine)).coarse_t,
        )

    by_key, given, t = in_float32(program)
    for found in given:
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found, by_key)
    np.testing.assert_allclose(t, np.tile(np.linspace(2, 4.5, 5), (3, 1)), rtol=1e-6)
    with pytest.raises(ValueError, match=r"uniforms has shape \(3, 5\); expected \(3, 6\)"):
        jax.eval_shape(lambda: render(None, uniforms=(np.zeros((3, 5)), np.zeros((3, 5)))))


def test_the_options_reach_their_functions():
    see = lambda **options: nerf.render_rays(None, FLOAT32_RAYS, 1.0, 4.5, COARSE, num_coarse=5, **options)
    tiled = jax.tree.map(lambda a: np.tile(a, (20, 1)), FLOAT32_RAYS)
    random = lambda half: nerf.render_rays(
        jax.random.key(0), tiled, 1.0, 5.0, COARSE, num_coarse=5, half_end_bins=half
    ).coarse_t[:, 0]
    closed, inverse, half, whole = in_float32(
        lambda: (
            see(infinite_last_interval=False, background=1.0),
            see(in_disparity=True).coarse_t,
            random(True),
            random(False),
        )
    )
    assert closed.fine is None and closed.best is closed.coarse
    np.testing.assert_allclose(1 / inverse[3], np.linspace(1, 1 / 4.5, 5), rtol=1e-6)
    for i in range(24):
        color, _, depth = numpy_see(NUMPY_COARSE, *(a[i] for a in RAYS), t=np.linspace(1, 4.5, 5), far=4.5)
        np.testing.assert_allclose(closed.coarse.color[i], color, rtol=1e-6)
        np.testing.assert_allclose(closed.coarse.depth[i], depth, rtol=2e-6)
    # Half bins at the ends: the first sample is in the first eighth.
    assert half.max() < 1.5 < whole.max() < 1.8


def test_bounds_may_be_each_rays_own():
    near = np.linspace(1, 2, 24, dtype=np.float32)
    t = in_float32(lambda: nerf.render_rays(None, FLOAT32_RAYS, near, 4.0, COARSE, num_coarse=4).coarse_t)
    np.testing.assert_allclose(t[:, 0], near)
    np.testing.assert_allclose(t[:, -1], 4)


def test_an_image_is_its_rays_whatever_the_chunk():
    traced = []

    def render(scale, rays):
        traced.append(rays.origin.shape)
        seen = nerf.render_rays(None, rays, 2.0, 4.5, COARSE, num_coarse=6, background=1.0).best
        return {"color": scale * seen.color, "depth": seen.depth}

    pose = POSE.astype(np.float32)
    for chunk, shapes in ((24, [(24, 3)]), (1000, []), (7, [(7, 3)]), (1, [(1, 3)])):
        image = nerf.render_image(render, jnp.float32(2), CAMERA, pose, chunk)
        again = nerf.render_image(render, jnp.float32(3), CAMERA, np.asarray(pose) + 0, chunk)
        assert traced == shapes, chunk
        traced.clear()
        assert isinstance(image["depth"], np.ndarray) and image["color"].shape == (4, 6, 3)
        for row in range(4):
            for column in range(6):
                rays = (a[row * 6 + column] for a in RAYS)
                color, _, depth = numpy_see(NUMPY_COARSE, *rays, t=np.linspace(2, 4.5, 6))
                case = f"chunk {chunk}, pixel {column, row}"
                np.testing.assert_allclose(image["color"][row, column], 2 * color, rtol=1e-5, err_msg=case)
                np.testing.assert_allclose(image["depth"][row, column], depth, rtol=1e-5, err_msg=case)
        np.testing.assert_allclose(again["color"], 1.5 * image["color"], rtol=1e-5)


def test_a_networks_field_adds_its_noise():
    network = nerf.NeRF(depth=2, width=4, skips=(), view_width=4, position_frequencies=2, direction_frequencies=1)
    points, view = jnp.zeros((500, 4, 3)), jnp.ones((500, 3))
    params = random_parameters(network, points[:1], view[:1])
    params["density"]["bias"] = params["density"]["bias"] + np.float32(20)
    field = functools.partial(nerf.network_field, network)

    def program(params):
        key = lambda: jax.random.key(1)
        noise = jax.random.normal(key(), (500, 4))
        fields = {
            "plain": field(params),
            "noisy": field(params, key(), 2.0),
            "given": field(params, noise_std=2.0, noise=noise),
            "silent": field(params, key(), 0.0),
            "given, silent": field(params, noise=noise),
        }
        return {name: field(points, view) for name, field in fields.items()} | {"noise": noise}

    found = in_float32(program, params)
    plain, noisy = found["plain"], found["noisy"]
    np.testing.assert_array_equal(plain[0], noisy[0])
    difference = noisy[1] - plain[1]
    assert abs(difference.std() - 2) < 0.15 and abs(difference.mean()) < 0.2
    for name in ("silent", "given, silent"):
        np.testing.assert_array_equal(plain[1], found[name][1], err_msg=name)
    np.testing.assert_array_equal(found["given"][1], noisy[1])
    np.testing.assert_allclose(difference, 2 * found["noise"], atol=1e-5)
    with pytest.raises(ValueError, match=r"noise has shape \(500, 3\); expected \(500, 4\)"):
        jax.eval_shape(field(params, noise_std=1.0, noise=found["noise"][:, :3]), points, view)


def test_wrong_inputs():
    with pytest.raises(ValueError, match="near is 4.*far is 2"):
        nerf.render_rays(None, RAYS, 4.0, 2.0, COARSE)
    with pytest.raises(ValueError, match="num_coarse is 2"):
        nerf.render_rays(None, RAYS, 1.0, 2.0, COARSE, FINE, num_coarse=2)
    with pytest.raises(ValueError, match="view has shape"):
        nerf.render_rays(None, RAYS._replace(view=np.ones((24, 2))), 1.0, 2.0, COARSE)
    with pytest.raises(ValueError, match="chunk is 0"):
        nerf.render_image(lambda p, r: r, None, CAMERA, POSE, 0)
    with pytest.raises(ValueError, match="one pose"):
        nerf.render_image(lambda p, r: r, None, CAMERA, POSE[None])
    with pytest.raises(ValueError, match="not a rotation"):
        nerf.render_image(lambda p, r: r, None, CAMERA, 2 * POSE)
