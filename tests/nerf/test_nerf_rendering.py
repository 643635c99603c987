"""Coarse and fine together against NumPy, and images in chunks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import nerf

CAMERA = nerf.Camera(6, 4, 5.0, 5.0, 3.0, 2.0)


def blob(center, width):
    """A field of Gaussian density whose color is a function of place and view."""

    def field(points, view):
        density = 3 * jnp.exp(-jnp.sum(jnp.square((points - center) / width), axis=-1))
        color = 0.5 + 0.25 * (jnp.sin(3 * points) + view[..., None, :])
        return color, density

    return field


COARSE, FINE = blob(0.1, 0.8), blob(-0.1, 0.5)


def pose():
    return nerf.look_at(jnp.array([0.5, 0.4, 3.0]), jnp.zeros(3), jnp.array([0.0, 1, 0]))


def some_rays():
    return nerf.camera_rays(CAMERA, pose(), CAMERA.pixels().reshape(-1, 2))


def numpy_see(field, origin, direction, view, t):
    """One ray by the definition, white behind, last interval 1e10 long."""
    points = origin + t[:, None] * direction
    rgb, density = (np.asarray(a, np.float64) for a in field(jnp.asarray(points), jnp.asarray(view)))
    delta = np.append(np.diff(t), 1e10) * np.linalg.norm(direction)
    alpha = 1 - np.exp(-density * delta)
    weights = alpha * np.cumprod(np.append(1, 1 - alpha))[:-1]
    return weights @ rgb + 1 - weights.sum(), weights


def test_deterministic_rendering_equals_numpy():
    fields = [jax.jit(COARSE), jax.jit(FINE)]
    with jax.enable_x64(True):
        rays = jax.tree.map(jnp.asarray, jax.device_get(some_rays()))
        see = jax.jit(lambda r: nerf.render_rays(
            None, r, 2.0, 4.5, COARSE, FINE, num_coarse=16, num_fine=20, background=1.0))  # fmt: skip
        found = jax.device_get(see(rays))
        for i in (0, 9, 14):
            origin, direction, view = (np.asarray(a[i]) for a in rays)
            t = np.linspace(2, 4.5, 16)
            color, weights = numpy_see(fields[0], origin, direction, view, t)
            np.testing.assert_allclose(found.coarse.color[i], color, rtol=1e-10)
            np.testing.assert_allclose(found.coarse.weights[i], weights, rtol=1e-8, atol=1e-12)
            padded = weights[1:-1] + 1e-5
            cumulative = np.append(0, np.cumsum(padded / padded.sum()))
            more = np.interp(np.linspace(0, 1, 20), cumulative, (t[1:] + t[:-1]) / 2)
            t = np.sort(np.append(t, more))
            np.testing.assert_allclose(found.fine_t[i], t, rtol=1e-10)
            color, _ = numpy_see(fields[1], origin, direction, view, t)
            np.testing.assert_allclose(found.fine.color[i], color, rtol=1e-10)
    assert np.abs(found.fine.color - found.coarse.color).max() > 0.05
    assert found.best is found.fine


def test_random_samples_join_the_coarse_ones_where_the_weights_are():
    rays = some_rays()
    see = jax.jit(lambda k: nerf.render_rays(k, rays, 2.0, 4.5, COARSE, FINE, num_coarse=16, num_fine=200))
    one, other = jax.device_get((see(jax.random.key(0)), see(jax.random.key(1))))
    assert (np.diff(one.fine_t) >= 0).all() and one.fine_t.shape == (24, 216)
    for ray in range(24):
        assert np.isin(one.coarse_t[ray], one.fine_t[ray]).all()
    assert not np.any(one.coarse_t == other.coarse_t)
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
    rays = jax.tree.map(lambda a: a[:3], some_rays())
    keys = lambda: jax.random.split(jax.random.key(0))
    uniforms = tuple(jax.random.uniform(key, (3, num)) for key, num in zip(keys(), (5, 6), strict=True))
    render = lambda key, **given: nerf.render_rays(
        key, rays, 2.0, 4.5, COARSE, FINE, num_coarse=5, num_fine=6, **given
    )
    given, by_key, half = jax.jit(
        lambda uniforms: (
            render(None, uniforms=uniforms),
            render(jax.random.key(0)),
            render(jax.random.key(0), uniforms=(None, uniforms[1])),
        )
    )(uniforms)
    for found in (given, half):
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), found, by_key)
    # Without a key, the part that is not given is deterministic.
    t = jax.jit(lambda u: render(None, uniforms=(None, u)).coarse_t)(uniforms[1])
    np.testing.assert_allclose(t, np.tile(np.linspace(2, 4.5, 5), (3, 1)), rtol=1e-6)
    with pytest.raises(ValueError, match=r"uniforms has shape \(3, 5\); expected \(3, 6\)"):
        render(None, uniforms=(uniforms[0], uniforms[0]))


def test_the_options_reach_their_functions():
    rays = some_rays()
    see = lambda **options: nerf.render_rays(None, rays, 1.0, 4.5, COARSE, num_coarse=5, **options)
    closed, inverse = see(endless=False), see(in_disparity=True)
    assert closed.fine is None and closed.best is closed.coarse
    np.testing.assert_allclose(1 / inverse.coarse_t[3], np.linspace(1, 1 / 4.5, 5), rtol=1e-6)
    expected = nerf.composite(
        *COARSE(rays.origin[:, None] + closed.coarse_t[..., None] * rays.direction[:, None], rays.view),
        closed.coarse_t, rays.direction, far=4.5,
    )  # fmt: skip
    np.testing.assert_allclose(closed.coarse.color, expected.color, rtol=1e-6)
    # Half bins at the ends: the first sample is in the first eighth.
    random = lambda half: nerf.render_rays(
        jax.random.key(0), jax.tree.map(lambda a: jnp.tile(a, (20, 1)), rays), 1.0, 5.0, COARSE, num_coarse=5,
        half_end_bins=half).coarse_t[:, 0].max()  # fmt: skip
    assert random(True) < 1.5 < random(False) < 1.8


def test_bounds_may_be_each_rays_own():
    rays = some_rays()
    near = jnp.linspace(1, 2, 24)
    found = nerf.render_rays(None, rays, near, 4.0, COARSE, num_coarse=4)
    np.testing.assert_allclose(found.coarse_t[:, 0], near)
    np.testing.assert_allclose(found.coarse_t[:, -1], 4)


@pytest.mark.parametrize("chunk", [1, 7, 24, 1000])
def test_an_image_is_its_rays_whatever_the_chunk(chunk):
    traced = []

    def render(scale, rays):
        traced.append(rays.origin.shape)
        seen = nerf.render_rays(None, rays, 2.0, 4.5, COARSE, FINE, num_coarse=6, num_fine=6, background=1.0).best
        return {"color": scale * seen.color, "depth": seen.depth}

    image = nerf.render_image(render, jnp.float32(2), CAMERA, pose(), chunk)
    again = nerf.render_image(render, jnp.float32(3), CAMERA, np.asarray(pose()) + 0, chunk)
    assert traced == [(min(chunk, 24), 3)]
    expected = jax.jit(render)(jnp.float32(2), some_rays())
    assert isinstance(image["depth"], np.ndarray) and image["color"].shape == (4, 6, 3)
    for row in range(4):
        for column in range(6):
            i = row * 6 + column
            np.testing.assert_allclose(image["color"][row, column], expected["color"][i], rtol=1e-5)
            np.testing.assert_allclose(image["depth"][row, column], expected["depth"][i], rtol=1e-5)
    np.testing.assert_allclose(again["color"], 1.5 * image["color"], rtol=1e-5)


def test_a_networks_field_adds_its_noise():
    network = nerf.NeRF(depth=2, width=4, skips=(), view_width=4, position_frequencies=2, direction_frequencies=1)
    points, view = jnp.zeros((500, 4, 3)), jnp.ones((500, 3))
    params = network.init(jax.random.key(0), points[:1], view[:1])["params"]
    params["density"]["bias"] = params["density"]["bias"] + 20.0
    plain = nerf.network_field(network, params)(points, view)
    noisy = nerf.network_field(network, params, jax.random.key(1), 2.0)(points, view)
    np.testing.assert_array_equal(plain[0], noisy[0])
    difference = np.asarray(noisy[1] - plain[1])
    assert abs(difference.std() - 2) < 0.15 and abs(difference.mean()) < 0.2
    silent = nerf.network_field(network, params, jax.random.key(1), 0.0)(points, view)
    np.testing.assert_array_equal(plain[1], silent[1])
    # The same noise, given.
    noise = jax.random.normal(jax.random.key(1), (500, 4))
    given = nerf.network_field(network, params, noise_std=2.0, noise=noise)(points, view)
    np.testing.assert_array_equal(given[1], noisy[1])
    np.testing.assert_allclose(difference, 2 * noise, atol=1e-5)
    silent = nerf.network_field(network, params, noise=noise)(points, view)
    np.testing.assert_array_equal(plain[1], silent[1])
    with pytest.raises(ValueError, match=r"noise has shape \(500, 3\); expected \(500, 4\)"):
        nerf.network_field(network, params, noise_std=1.0, noise=noise[:, :3])(points, view)


def test_wrong_inputs():
    rays = some_rays()
    with pytest.raises(ValueError, match="near is 4.*far is 2"):
        nerf.render_rays(None, rays, 4.0, 2.0, COARSE)
    with pytest.raises(ValueError, match="num_coarse is 2"):
        nerf.render_rays(None, rays, 1.0, 2.0, COARSE, FINE, num_coarse=2)
    with pytest.raises(ValueError, match="view has shape"):
        nerf.render_rays(None, rays._replace(view=jnp.ones((24, 2))), 1.0, 2.0, COARSE)
    with pytest.raises(ValueError, match="chunk is 0"):
        nerf.render_image(lambda p, r: r, None, CAMERA, pose(), 0)
    with pytest.raises(ValueError, match="one pose"):
        nerf.render_image(lambda p, r: r, None, CAMERA, pose()[None])
    with pytest.raises(ValueError, match="not a rotation"):
        nerf.render_image(lambda p, r: r, None, CAMERA, 2 * pose())
