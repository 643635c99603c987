"""The analytic scene: closed forms against SciPy, limits with geometric answers, and the quadrature's rate on it."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import nerf
from jaxgen.nerf import analytic_scene as scene
from tests.nerf import numpy_cameras
from tests.programs import in_float32, in_float64

CAMERA = nerf.Camera.from_angle(16, 16, scene.CAMERA_ANGLE_X)
CENTERS, RADII, STRENGTHS = (np.array([getattr(b, n) for b in scene.MARBLES]) for n in ("center", "radii", "strength"))


def numpy_density(points):
    """Sum over bodies of s max(0, 1 - |A (x - m)|^2): [..., 3] -> [...]."""
    q = (points[..., None, :] - CENTERS) / RADII
    return np.sum(STRENGTHS * np.maximum(1 - np.sum(q**2, -1), 0), -1)


def numpy_chords(rays):
    """t where each ray enters and leaves each body, nan where it misses: [N, 6] each."""
    o, d = (rays.origin[:, None] - CENTERS) / RADII, rays.direction[:, None] / RADII
    a, b, c = np.sum(d * d, -1), np.sum(o * d, -1), np.sum(o * o, -1) - 1
    with np.errstate(invalid="ignore"):
        root = np.sqrt(b * b - a * c)
    return (-b - root) / a, (-b + root) / a


def numpy_optical_depth(rays, until):
    """Gauss-Legendre quadrature, exact for the parabolas between entries and exits: rays [N, 3], t [N] -> [N]."""
    ends = np.concatenate(numpy_chords(rays), -1)
    edges = np.clip(np.nan_to_num(ends), 0, until[:, None])
    edges = np.sort(np.concatenate([np.zeros((len(edges), 1)), edges, until[:, None]], -1))
    nodes, shares = np.polynomial.legendre.leggauss(3)
    half = np.diff(edges)[..., None] / 2
    t = edges[:, :-1, None] + half * (1 + nodes)
    sigma = numpy_density(rays.origin[:, None, None] + t[..., None] * rays.direction[:, None, None])
    return np.linalg.norm(rays.direction, axis=-1) * np.sum(half * shares * sigma, (1, 2))


def scene_rays(num, only_hits=True):
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
        hits = numpy_optical_depth(rays, np.full(total, 14.0)) > 1e-3
        rays = jax.tree.map(lambda a: a[hits], rays)
    return jax.tree.map(lambda a: a[:num], rays)


# As many as CAMERA has pixels, so that they share a program with its rays.
RAYS = scene_rays(256)


@functools.cache
def program(**options):
    return jax.jit(functools.partial(scene.render, **options))


def render(rays, background: Any = 1.0, **options):
    """In float64, rays [256, 3] if the scene's program is to serve many tests."""
    with jax.enable_x64(True):
        return jax.device_get(program(**options)(rays, background))


@functools.cache
def exact():
    return render(RAYS)


def test_density_and_its_level_sets():
    points = np.random.default_rng(0).uniform([-0.9, -0.9, -0.7], [0.9, 0.9, 0], size=(4, 50, 3))
    body = scene.MARBLES[2]
    shell = np.random.default_rng(1).normal(size=(20, 3))
    shell = shell / np.linalg.norm(shell, axis=-1, keepdims=True) * body.radii * np.sqrt(1 - 10 / body.strength)
    found, level = in_float64(
        lambda points, shell: (scene.density(points), scene.density(shell, (body,))), points, shell + body.center
    )
    np.testing.assert_allclose(found, numpy_density(points), rtol=1e-12, atol=1e-12)
    assert 20 < np.count_nonzero(found) < 180
    np.testing.assert_allclose(level, 10, rtol=1e-12)


def test_the_optical_depth_is_the_integral_of_the_density():
    until = np.random.default_rng(1).uniform(1, 8, size=256)
    found, whole = in_float64(lambda rays, t: (scene.optical_depth(rays, t), scene.opacity(rays)), RAYS, until)
    expected = numpy_optical_depth(RAYS, until)
    assert 50 < np.count_nonzero(expected) < 250
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(whole, 1 - np.exp(-numpy_optical_depth(RAYS, np.full(256, 14.0))), rtol=1e-6)


def test_a_ray_that_starts_inside_sees_the_rest():
    """Half of a sphere's chord through its middle, with nothing else ahead: half of 4/3 s r."""
    body = scene.MARBLES[1]
    ray = nerf.Rays(*(np.array([a], np.float32) for a in (body.center, (0, 0, 2), (0, 0, 1))))
    half = 2 / 3 * body.strength * 0.42
    seen = jax.device_get(program()(jax.tree.map(lambda a: np.tile(a, (256, 1)), ray), 1.0))
    np.testing.assert_allclose(in_float32(scene.optical_depth, ray), half, rtol=1e-6)
    np.testing.assert_allclose(seen.opacity, 1 - np.exp(-half), rtol=1e-6)
    # The distance travelled, in units of the direction: the integral of exp(-tau) of a density that falls outward.
    assert ((seen.depth > 0) & (seen.depth < 0.42 / 2)).all()


def test_a_constant_color_is_seen_through_the_opacity():
    """C = c alpha + (1 - alpha) background, exactly, overlaps and all, with as few as two nodes."""
    color, behind = np.array([0.2, 0.5, 0.9]), np.array([0.9, 0.1, 0.3])
    found = render(RAYS, behind, num_nodes=2, radiance=lambda point, view: jnp.asarray(color, point.dtype))
    alpha = found.opacity[:, None]
    assert 0.05 < np.mean(alpha < 0.9) < 0.5
    np.testing.assert_allclose(found.color, alpha * color + (1 - alpha) * behind, rtol=1e-12)


@functools.cache
def field_program():
    return jax.jit(scene.field)


def numpy_field(points, view):
    """The scene's field as NumPy arrays, some thousand points at a time by one program; zero outside of all bodies."""
    rgb, density = np.zeros(points.shape), np.zeros(points.shape[:-1])
    inside = numpy_density(points) > 0
    some = points[inside][:, None], np.broadcast_to(view[..., None, :], points.shape)[inside]
    parts = []
    for start in range(0, len(some[0]), 8192):
        these = np.minimum(np.arange(start, start + 8192), len(some[0]) - 1)
        with jax.enable_x64(True):
            parts.append(jax.device_get(field_program()(some[0][these], some[1][these])))
    rgb[inside], density[inside] = (np.concatenate(a)[: len(some[0]), 0] for a in zip(*parts, strict=True))
    return rgb, density


def test_color_and_depth_are_the_volume_integral():
    """Against the plain quadrature with 40,000 samples, whose error is well below the tolerance."""
    fine = np.linspace(0, 12, 40_001)
    for i in range(12):
        length = np.linalg.norm(RAYS.direction[i])
        middle = (fine[:-1] + fine[1:]) / 2
        rgb, density = numpy_field(RAYS.origin[i] + middle[:, None] / length * RAYS.direction[i], RAYS.view[i])
        alpha = 1 - np.exp(-density * fine[1])
        weights = alpha * np.exp(-fine[1] * (np.cumsum(density) - density))
        np.testing.assert_allclose(exact().color[i], weights @ rgb + 1 - weights.sum(), atol=2e-4)
        np.testing.assert_allclose(exact().depth[i], weights @ middle / length, atol=2e-3)
        np.testing.assert_allclose(exact().opacity[i], weights.sum(), atol=1e-6)


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


def render_view(pose, *background):
    with jax.enable_x64(True):
        return scene.render_view(CAMERA, pose, *background, chunk=50)


def test_the_plate_faces_up_and_marbles_face_the_camera():
    above = numpy_cameras.look_at([0.01, 0.0, 4.0], up=[0.0, 1, 0])
    seen = render_view(above)
    plate = seen.normal[np.linalg.norm(seen.normal - [0, 0, 1], axis=-1) < 0.25]
    assert len(plate) > 8
    beside = numpy_cameras.look_at([0.0, -3.8, 1.4])
    view = numpy_cameras.rays(CAMERA, beside).view.reshape(16, 16, 3)
    seen = render_view(beside)
    facing = np.sum(seen.normal * view, -1)[seen.opacity > 0.99]
    assert len(facing) > 20 and (facing < 0.05).all()


def test_colors_are_colors_and_depend_on_the_view():
    generator = np.random.default_rng(0)
    points = generator.uniform(-0.9, 0.9, size=(4000, 1, 3))
    view = generator.normal(size=(2, 4000, 3))
    view = view / np.linalg.norm(view, axis=-1, keepdims=True)
    (rgb, density), (other, _) = numpy_field(points, view[0]), numpy_field(points, view[1])
    assert rgb.min() >= 0 and rgb.max() <= 1
    inside = density[:, 0] > 0
    change = np.abs(rgb - other)[inside, 0].max(-1)
    assert inside.sum() > 100 and change.max() > 0.2 and np.median(change) < 0.05


def test_a_marble_alone_is_shaded_by_its_formula():
    """Ambient, diffuse, highlight and reflection of the sky, by hand for one body without shadow or pattern."""
    body = scene.MARBLES[2]._replace(pattern=lambda q, u: 0 * u[0])
    generator = np.random.default_rng(0)
    normal, view = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in generator.normal(size=(2, 60, 3)))
    points = np.array(body.center) + 0.8 * np.array(body.radii) * normal
    found = in_float64(lambda p, v: scene.field(p, v, (body,))[0][:, 0], points[:, None], view)
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
    """The median error of 256 rays falls at least like 1 / S from 64 to 1,024 samples."""
    sizes = np.array([64, 128, 256, 512, 1024])
    samples = []
    for number in sizes:
        t = np.linspace(2.5, 5.5, number) / np.linalg.norm(RAYS.direction, axis=-1)[:, None]
        samples.append((*numpy_field(RAYS.origin[:, None] + t[..., None] * RAYS.direction[:, None], RAYS.view), t))
    colors = in_float64(
        lambda samples: [nerf.composite(*a, direction=RAYS.direction, background=1.0).color for a in samples], samples
    )
    errors = [np.median(np.abs(color - exact().color).max(-1)) for color in colors]
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert slope <= -0.9
    # The level of 64 samples, that no step from 64 on may hide: a percent.
    assert errors[0] < 0.01 and errors[-1] < 1e-4


def test_fewer_nodes_and_segments_change_little():
    cheap = render(RAYS, np.ones(3), num_nodes=24, num_segments=6)
    assert -10 * np.log10(np.mean((exact().color - cheap.color) ** 2)) > 70
    np.testing.assert_allclose(cheap.depth, exact().depth, atol=1e-5)


def test_float32_is_enough():
    found = jax.device_get(program()(jax.tree.map(np.float32, RAYS), 1.0))
    assert found.color.dtype == np.float32
    np.testing.assert_allclose(found.color, exact().color, atol=1e-4)
    np.testing.assert_allclose(found.opacity, exact().opacity, atol=1e-4)
    np.testing.assert_allclose(found.depth, exact().depth, atol=1e-3)


def test_an_image_is_its_rays_with_the_background_where_nothing_is():
    pose = numpy_cameras.look_at(scene.TARGET + np.array([0.0, -3.6, 1.7]), scene.TARGET)
    behind = np.array([0.1, 0.6, 0.3])
    whole = render(numpy_cameras.rays(CAMERA, pose), behind, num_nodes=24, num_segments=6)
    image = render_view(pose, behind)
    for a, b in zip(image, whole, strict=True):
        np.testing.assert_allclose(a.reshape(b.shape), b, atol=2e-5)
    empty = image.opacity == 0
    assert 0.3 < empty.mean() < 0.9 and (~empty).sum() > 50 and (~empty).sum() % 50
    assert (image.color[empty] == behind).all() and not image.depth[empty].any() and not image.normal[empty].any()


def test_gradients_are_finite_where_rays_hit_and_where_they_miss():
    rays = jax.tree.map(np.float32, scene_rays(40, only_hits=False))
    total = lambda origin: jnp.sum(scene.opacity(rays._replace(origin=origin)))
    gradient = in_float32(jax.grad(total), rays.origin)
    assert np.isfinite(gradient).all() and gradient.any(-1).sum() > 1 and not gradient.any(-1).all()


def test_wrong_inputs():
    with pytest.raises(ValueError, match="chunk is 0"):
        scene.render_view(CAMERA, np.eye(4), chunk=0)
    with pytest.raises(ValueError, match="not a rotation"):
        scene.render_view(CAMERA, 2 * np.eye(4))
    with pytest.raises(ValueError, match=r"points has shape \(4,\)"):
        scene.density(jnp.zeros(4))
