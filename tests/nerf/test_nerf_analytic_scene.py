"""The analytic scene: closed forms against SciPy, limits with geometric answers, and the quadrature's rate on it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from jaxgen import nerf
from jaxgen.nerf import analytic_scene as scene

CAMERA = nerf.Camera.from_angle(16, 16, scene.CAMERA_ANGLE_X)


def scene_rays(num, dtype=np.float64, only_hits=True):
    """Random rays of random views from distance 4, directions not normalised, as NumPy arrays."""
    generator = np.random.default_rng(0)
    total = 6 * num
    away = generator.normal(size=(total, 3)) * [1, 1, 0.5] + [0, 0, 0.6]
    origin = 4 * away / np.linalg.norm(away, axis=-1, keepdims=True)
    aim = np.array(scene.TARGET) + generator.normal(size=(total, 3)) * [0.5, 0.5, 0.25]
    view = aim - origin
    view /= np.linalg.norm(view, axis=-1, keepdims=True)
    rays = nerf.Rays(origin, generator.uniform(0.5, 2, size=(total, 1)) * view, view)
    if only_hits:
        with jax.enable_x64(True):
            hits = np.asarray(jax.jit(scene.opacity)(jax.tree.map(jnp.asarray, rays))) > 1e-3
        rays = jax.tree.map(lambda a: a[hits], rays)
    return jax.tree.map(lambda a: a[:num].astype(dtype), rays)


@functools.cache
def compiled(**options):
    return jax.jit(functools.partial(scene.render, **options))


def render(rays, background=1.0, **options):
    with jax.enable_x64(True):
        return jax.device_get(compiled(**options)(jax.tree.map(jnp.asarray, rays), background))


def numpy_density(point):
    """Sum over bodies of s max(0, 1 - |A (x - m)|^2)."""
    total = 0.0
    for body in scene.MARBLES:
        q = (point - np.array(body.center)) / np.array(body.radii)
        total += body.strength * max(0.0, 1 - q @ q)
    return total


def test_density_and_its_level_sets():
    points = np.random.default_rng(0).uniform([-0.9, -0.9, -0.7], [0.9, 0.9, 0], size=(4, 50, 3))
    with jax.enable_x64(True):
        found = np.asarray(jax.jit(scene.density)(jnp.asarray(points)))
        body = scene.MARBLES[2]
        shell = np.random.default_rng(1).normal(size=(20, 3))
        shell = shell / np.linalg.norm(shell, axis=-1, keepdims=True) * body.radii * np.sqrt(1 - 10 / body.strength)
        level = scene.density(jnp.asarray(shell + np.array(body.center)), (body,))
    expected = [[numpy_density(p) for p in row] for row in points]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert 20 < np.count_nonzero(found) < 180
    np.testing.assert_allclose(level, 10, rtol=1e-12)


def test_the_optical_depth_is_the_integral_of_the_density():
    rays = scene_rays(8)
    until = np.array([1.0, 2.0, 2.5, 3.0, 3.5, 4.0, 6.0, 10.0])
    with jax.enable_x64(True):
        arrays = jax.tree.map(jnp.asarray, rays)
        found = np.asarray(scene.optical_depth(arrays, jnp.asarray(until)))
        whole = np.asarray(scene.opacity(arrays))
    for i in range(8):
        length = np.linalg.norm(rays.direction[i])
        sigma = lambda t, i=i, length=length: length * numpy_density(rays.origin[i] + t * rays.direction[i])
        # In steps, so that no small body is overlooked.
        integral = lambda end, sigma=sigma: sum(
            integrate.quad(sigma, a, min(a + 0.25, end), epsabs=1e-10, limit=200)[0] for a in np.arange(0, end, 0.25)
        )
        np.testing.assert_allclose(found[i], integral(until[i]), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(whole[i], 1 - np.exp(-integral(14.0)), rtol=1e-6)


def test_a_ray_that_starts_inside_sees_the_rest():
    """Half of a sphere's chord through its middle: half of 4/3 s r."""
    body = scene.MARBLES[1]
    center = jnp.array([body.center])
    ray = nerf.Rays(center, jnp.array([[0.0, 0, 2]]), jnp.array([[0.0, 0, 1]]))
    half = 2 / 3 * body.strength * 0.42
    both = jax.jit(lambda r: (scene.optical_depth(r, bodies=(body,)), scene.render(r, bodies=(body,), num_nodes=8)))
    depth, seen = both(ray)
    np.testing.assert_allclose(depth, half, rtol=1e-6)
    np.testing.assert_allclose(seen.opacity, 1 - np.exp(-half), rtol=1e-6)
    # The distance travelled, in units of the direction: the integral of exp(-tau) of a density that falls outward.
    assert 0 < seen.depth < 0.42 / 2


@pytest.mark.parametrize("num_nodes", [2, 48])
def test_a_constant_color_is_seen_through_the_opacity(num_nodes):
    """C = c alpha + (1 - alpha) background, exactly, overlaps and all."""
    rays = scene_rays(200)
    color, behind = np.array([0.2, 0.5, 0.9]), np.array([0.9, 0.1, 0.3])
    found = render(rays, behind, num_nodes=num_nodes, radiance=lambda point, view: jnp.asarray(color, point.dtype))
    alpha = found.opacity[:, None]
    assert 0.05 < np.mean(alpha < 0.9) < 0.5
    np.testing.assert_allclose(found.color, alpha * color + (1 - alpha) * behind, rtol=1e-12)


def test_color_and_depth_are_the_volume_integral():
    """Against the plain quadrature with 40,000 samples, whose error is well below the tolerance."""
    rays = scene_rays(12)
    found = render(rays)
    fine = np.linspace(0, 12, 40_001)
    with jax.enable_x64(True):
        field = jax.jit(lambda points, view: scene.field(points, view))
        for i in range(12):
            t = fine[:-1] / np.linalg.norm(rays.direction[i])
            middle = t + (t[1] - t[0]) / 2
            points = rays.origin[i] + middle[:, None] * rays.direction[i]
            rgb, density = field(jnp.asarray(points), jnp.asarray(rays.view[i]))
            seen = nerf.composite(rgb, density, jnp.asarray(middle), jnp.asarray(rays.direction[i]), 1.0, far=np.inf)
            np.testing.assert_allclose(found.color[i], seen.color, atol=2e-4)
            np.testing.assert_allclose(found.depth[i], seen.depth, atol=2e-3)
            np.testing.assert_allclose(found.opacity[i], seen.opacity, atol=1e-6)


def test_a_hard_sphere_is_seen_at_its_surface_with_its_normal():
    """At enormous density depth and normal are those of the first intersection, in units of the direction."""
    body = scene.MARBLES[1]._replace(strength=1e9)
    generator = np.random.default_rng(0)
    outward = generator.normal(size=(20, 3))
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    surface = np.array(body.center) + 0.42 * outward
    direction = -2 * (outward + 0.3 * generator.normal(size=(20, 3)))
    rays = nerf.Rays(surface - 1.5 * direction, direction, direction / np.linalg.norm(direction, axis=-1)[:, None])
    found = render(rays, bodies=(body,))
    np.testing.assert_allclose(found.depth, 1.5, atol=1e-3)
    np.testing.assert_allclose(found.normal, outward, atol=2e-3)
    np.testing.assert_allclose(found.opacity, 1, rtol=1e-12)


def test_the_plate_faces_up_and_marbles_face_the_camera():
    above = nerf.look_at(jnp.array([0.01, 0.0, 4.0]), jnp.zeros(3), jnp.array([0.0, 1, 0]))
    seen = scene.render_view(CAMERA, above, chunk=50)
    plate = seen.normal[np.linalg.norm(seen.normal - [0, 0, 1], axis=-1) < 0.25]
    assert len(plate) > 8
    side = jax.device_get(nerf.camera_rays(CAMERA, nerf.turntable(1, 4.0, 20.0)[0], CAMERA.pixels()))
    seen = scene.render_view(CAMERA, nerf.turntable(1, 4.0, 20.0)[0], chunk=50)
    facing = np.sum(seen.normal * side.view, -1)[seen.opacity > 0.99]
    assert len(facing) > 20 and (facing < 0.05).all()


def test_colors_are_colors_and_depend_on_the_view():
    generator = np.random.default_rng(0)
    points = jnp.asarray(generator.uniform(-0.9, 0.9, size=(4000, 1, 3)), jnp.float32)
    view = generator.normal(size=(2, 4000, 3))
    view = jnp.asarray(view / np.linalg.norm(view, axis=-1, keepdims=True), jnp.float32)
    field = jax.jit(scene.field)
    (rgb, density), (other, _) = field(points, view[0]), field(points, view[1])
    assert rgb.min() >= 0 and rgb.max() <= 1
    inside = np.asarray(density[:, 0] > 0)
    change = np.abs(np.asarray(rgb - other))[inside, 0].max(-1)
    assert inside.sum() > 100 and change.max() > 0.2 and np.median(change) < 0.05


def test_a_marble_alone_is_shaded_by_its_formula():
    """Ambient, diffuse, highlight and reflection of the sky, by hand for one body without shadow or pattern."""
    body = scene.MARBLES[2]._replace(pattern=lambda q, u: 0 * u[0])
    generator = np.random.default_rng(0)
    normal, view = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in generator.normal(size=(2, 60, 3)))
    points = np.array(body.center) + 0.8 * np.array(body.radii) * normal
    with jax.enable_x64(True):
        field = jax.jit(lambda p, v: scene.field(p, v, (body,)))
        found = np.asarray(field(jnp.asarray(points[:, None]), jnp.asarray(view))[0])[:, 0]
    light = np.array([0.45, -0.35, 0.82]) / np.linalg.norm([0.45, -0.35, 0.82])
    albedo = np.mean(body.colors, axis=0)
    diffuse = albedo * (0.3 + 0.16 * (0.5 + 0.5 * normal[:, 2:]) + 0.62 * np.maximum(normal @ light, 0)[:, None])
    halfway = light - view
    halfway /= np.linalg.norm(halfway, axis=-1, keepdims=True)
    highlight = np.maximum(np.sum(normal * halfway, -1), 0)[:, None] ** 24
    fresnel = np.minimum(1 + np.sum(normal * view, -1), 1)[:, None] ** 3
    specular = body.gloss * (highlight + 0.27 * fresnel * np.array([0.75, 0.88, 1.0])) / 1.27
    np.testing.assert_allclose(found, diffuse + specular - diffuse * specular, rtol=1e-10)


def test_everything_is_inside_the_cube():
    for body in scene.MARBLES:
        reach = np.abs(body.center) + np.array(body.radii)
        assert (reach <= 1).all()
        thickness = 4 / 3 * body.strength * min(body.radii)
        assert 10 < thickness < 25


def test_the_quadrature_converges_to_the_exact_color():
    """The median error of 500 rays falls at least like 1 / S from 64 to 1,024 samples."""
    rays = scene_rays(500)
    exact = render(rays).color
    sizes = np.array([64, 128, 256, 512, 1024])

    @functools.partial(jax.jit, static_argnums=1)
    def quadrature(rays, num):
        length = jnp.linalg.norm(rays.direction, axis=-1)
        see = lambda ray, unit: nerf.render_rays(
            None, ray, 2.5 / unit, 5.5 / unit, scene.field, num_coarse=num, background=1.0).coarse.color  # fmt: skip
        return jax.lax.map(lambda a: see(*a), (rays, length), batch_size=50)

    with jax.enable_x64(True):
        arrays = jax.tree.map(jnp.asarray, rays)
        errors = [np.median(np.abs(np.asarray(quadrature(arrays, int(n))) - exact).max(-1)) for n in sizes]
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert slope <= -0.9
    # The level of 64 samples, that no step from 64 on may hide: a percent.
    assert errors[0] < 0.01 and errors[-1] < 1e-4


def test_fewer_nodes_and_segments_change_little():
    rays = scene_rays(300)
    exact, cheap = render(rays), render(rays, num_nodes=24, num_segments=6)
    assert -10 * np.log10(np.mean((exact.color - cheap.color) ** 2)) > 70
    np.testing.assert_allclose(cheap.depth, exact.depth, atol=1e-5)


def test_float32_is_enough():
    rays = scene_rays(300)
    exact = render(rays)
    found = jax.device_get(compiled()(jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), rays), 1.0))
    assert found.color.dtype == np.float32
    np.testing.assert_allclose(found.color, exact.color, atol=1e-4)
    np.testing.assert_allclose(found.opacity, exact.opacity, atol=1e-4)
    np.testing.assert_allclose(found.depth, exact.depth, atol=1e-3)


def test_an_image_is_its_rays_with_the_background_where_nothing_is():
    pose = nerf.turntable(1, 4.0, 25.0, scene.TARGET)[0]
    rays = nerf.camera_rays(CAMERA, pose, CAMERA.pixels())
    behind = np.array([0.1, 0.6, 0.3], np.float32)
    whole = jax.jit(functools.partial(scene.render, num_nodes=24, num_segments=6))(rays, behind)
    image = scene.render_view(CAMERA, pose, behind, chunk=50)
    for a, b in zip(image, whole, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    empty = image.opacity == 0
    assert 0.3 < empty.mean() < 0.9 and (~empty).sum() > 50 and (~empty).sum() % 50
    assert (image.color[empty] == behind).all() and not image.depth[empty].any() and not image.normal[empty].any()


def test_gradients_are_finite_where_rays_hit_and_where_they_miss():
    rays = jax.tree.map(lambda a: jnp.asarray(a[:40]), scene_rays(40, np.float32, only_hits=False))
    total = lambda origin: jnp.sum(scene.opacity(rays._replace(origin=origin)))
    gradient = np.asarray(jax.jit(jax.grad(total))(rays.origin))
    assert np.isfinite(gradient).all() and gradient.any(-1).sum() > 1 and not gradient.any(-1).all()


def test_wrong_inputs():
    with pytest.raises(ValueError, match="chunk is 0"):
        scene.render_view(CAMERA, jnp.eye(4), chunk=0)
    with pytest.raises(ValueError, match="not a rotation"):
        scene.render_view(CAMERA, 2 * jnp.eye(4))
    with pytest.raises(ValueError, match=r"points has shape \(4,\)"):
        scene.density(jnp.zeros(4))
