"""Volume rendering: closed forms, what is invariant, the empty ray, gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import nerf
from tests.programs import in_float32, in_float64

COMPOSITE = jax.jit(nerf.composite)
DIRECTION = np.array([0.6, -1.2, 1.0])
LENGTH = np.linalg.norm(DIRECTION)


def see(rgb, density, t, direction=DIRECTION, background=None, dtype: Any = np.float64, **options):
    """The composite as NumPy arrays, in float64 unless told."""
    with jax.enable_x64(True):
        arrays = [np.asarray(a, dtype) for a in (rgb, density, t, direction)]
        return jax.device_get(COMPOSITE(*arrays, background, **options))


def random_rays(rays=7, samples=12, seed=0):
    generator = np.random.default_rng(seed)
    rgb = generator.uniform(size=(rays, samples, 3))
    density = generator.exponential(size=(rays, samples))
    t = np.sort(generator.uniform(2, 6, size=(rays, samples)), -1)
    return rgb, density, t, generator.normal(size=(rays, 3))


@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-13), (np.float32, 2e-6)])
@pytest.mark.parametrize("infinite_last_interval", [True, False])
def test_equals_the_definition_sample_by_sample(infinite_last_interval, dtype, tolerance):
    rgb, density, t, direction = random_rays()
    density[0, -1] = 0
    far = None if infinite_last_interval else 6.5
    found = see(rgb, density, t, direction, 0.7, dtype, far=far)
    for ray in range(7):
        transmittance, color, depth, opacity = 1.0, np.zeros(3), 0.0, 0.0
        for i in range(12):
            end = t[ray, i + 1] if i < 11 else (np.inf if infinite_last_interval else 6.5)
            absorbs = density[ray, i] > 0
            optical = density[ray, i] * (end - t[ray, i]) * np.linalg.norm(direction[ray]) if absorbs else 0.0
            weight = transmittance * (1 - np.exp(-optical))
            np.testing.assert_allclose(found.transmittance[ray, i], transmittance, rtol=10 * tolerance)
            np.testing.assert_allclose(found.weights[ray, i], weight, rtol=10 * tolerance, atol=tolerance)
            color, depth, opacity = color + weight * rgb[ray, i], depth + weight * t[ray, i], opacity + weight
            transmittance *= np.exp(-optical)
        np.testing.assert_allclose(found.color[ray], color + transmittance * 0.7, rtol=tolerance)
        np.testing.assert_allclose(found.depth[ray], depth, rtol=tolerance)
        np.testing.assert_allclose(found.opacity[ray], opacity, rtol=tolerance)
        assert found.color.dtype == dtype


def test_a_slab_of_constant_density():
    """The sheet's: opacity 1 - exp(-s (f - n) |d|) whatever S, and the depth of left points as a geometric sum."""
    density, near, far = 0.5, 2.0, 6.0
    sizes = (2, 17, 64)

    def program(direction):
        def slab(samples, far):
            t = jnp.asarray(np.linspace(near, 6.0, samples))
            return nerf.composite(jnp.ones((samples, 3)), jnp.full(samples, density), t, direction, far=far)

        return [(slab(samples, far), slab(samples, None)) for samples in sizes]

    slant, straight = (in_float64(program, direction) for direction in (DIRECTION, np.array([0, 0, -1.0])))
    for samples, (finite, infinite) in zip(sizes, slant, strict=True):
        case = f"{samples} samples"
        step = (far - near) / (samples - 1)
        np.testing.assert_allclose(finite.opacity, 1 - np.exp(-density * 4 * LENGTH), rtol=1e-13, err_msg=case)
        np.testing.assert_allclose(finite.color, 1 - np.exp(-density * 4 * LENGTH), rtol=1e-13, err_msg=case)
        np.testing.assert_allclose(infinite.opacity, 1, rtol=1e-13, err_msg=case)
        np.testing.assert_allclose(infinite.weights[-1], np.exp(-density * 4 * LENGTH), rtol=1e-12, err_msg=case)
        r = np.exp(-density * step * LENGTH)
        depth = near + step * r * (1 - r ** (samples - 1)) / (1 - r)
        np.testing.assert_allclose(infinite.depth, depth, rtol=1e-13, err_msg=case)
    # The sheet's numbers.
    finite, infinite = straight[2]
    assert finite.opacity == pytest.approx(0.8646647, abs=1e-7)
    assert infinite.depth == pytest.approx(3.7020250, abs=1e-7)


def test_two_slabs_before_a_background():
    """Exact where an edge is a sample, however the slabs are divided."""
    t = np.array([1.0, 1.3, 2.0, 2.6, 3.5])
    density = np.array([0.4, 0.4, 1.1, 1.1, 1.1])
    first, second, behind = np.array([0.9, 0.1, 0.2]), np.array([0.1, 0.8, 0.3]), np.array([0.2, 0.3, 1.0])
    rgb = np.stack([first, first, second, second, second])
    found = see(rgb, density, t, background=behind, far=4.0)
    a, b = np.exp(-0.4 * 1.0 * LENGTH), np.exp(-1.1 * 2.0 * LENGTH)
    np.testing.assert_allclose(found.color, (1 - a) * first + a * (1 - b) * second + a * b * behind, rtol=1e-13)


def test_the_weights_telescope():
    rgb, density, t, direction = random_rays()
    found = see(rgb, density, t, direction, far=7.0)
    deltas = np.concatenate([np.diff(t), 7.0 - t[:, -1:]], -1) * np.linalg.norm(direction, axis=-1)[:, None]
    optical = density * deltas
    np.testing.assert_allclose(found.weights.sum(-1), 1 - np.exp(-optical.sum(-1)), rtol=1e-13)
    ends = found.transmittance - found.weights
    np.testing.assert_allclose(ends[:, :-1], found.transmittance[:, 1:], rtol=1e-12)
    np.testing.assert_allclose(found.transmittance, np.exp(-(np.cumsum(optical, -1) - optical)), rtol=1e-12)


@pytest.mark.parametrize("far", [None, 7.0])
def test_the_length_of_the_direction_is_a_unit_of_t(far):
    rgb, density, t, direction = random_rays()
    one = see(rgb, density, t, direction, far=far)
    other = see(rgb, density, t / 3, 3 * direction, far=far and far / 3)
    for name in ("color", "weights", "transmittance", "opacity"):
        np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(other.depth, one.depth / 3, rtol=1e-12)


def test_all_density_in_one_sample():
    t = np.linspace(2, 6, 9)
    rgb = np.random.default_rng(0).uniform(size=(9, 3))
    for i in (3, 8):
        density = np.zeros(9)
        density[i] = 1e4
        found = see(rgb, density, t, background=1.0, dtype=np.float32)
        np.testing.assert_allclose(found.weights, np.eye(9)[i], atol=1e-6)
        np.testing.assert_allclose(found.color, rgb[i], atol=1e-6)
        np.testing.assert_allclose([found.depth, found.opacity], [t[i], 1], rtol=1e-6)


@pytest.mark.parametrize("far", [None, 7.0])
def test_empty_and_opaque_rays_have_finite_values_and_gradients(far):
    rgb, _, t, direction = (a.astype(np.float32) for a in random_rays())

    def total(rgb, density, t, direction):
        seen = nerf.composite(rgb, density, t, direction, 1.0, far=far)
        inverse = nerf.disparity(seen.depth, seen.opacity)
        return sum(jnp.sum(a) for a in seen) + jnp.sum(inverse), (seen, inverse)

    program = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2, 3), has_aux=True))
    for value in (0.0, 1e30):
        density = np.full((7, 12), value, np.float32)
        (_, (seen, inverse)), gradients = jax.device_get(program(rgb, density, t, direction))
        assert all(np.isfinite(a).all() for a in jax.tree.leaves((seen, inverse, gradients))), value
        if value == 0:
            assert not np.any(seen.opacity) and not np.any(seen.depth) and not np.any(inverse)
            np.testing.assert_array_equal(seen.color, np.ones((7, 3)))
            np.testing.assert_array_equal(seen.transmittance, np.ones((7, 12)))
        else:
            np.testing.assert_allclose(seen.depth, t[:, 0])
            np.testing.assert_allclose(inverse, 1 / t[:, 0], rtol=1e-6)


@pytest.mark.parametrize("far", [None, 7.0])
def test_gradients_equal_finite_differences(far):
    arguments = random_rays(3, 6)
    coefficients = np.random.default_rng(5).normal(size=(3, 3))
    generator = np.random.default_rng(6)
    steps = [generator.normal(size=a.shape) for a in arguments]

    def value(rgb, density, t, direction):
        seen = nerf.composite(rgb, density, t, direction, 0.4, far=far)
        return jnp.sum(coefficients * seen.color) + jnp.sum(seen.depth) + jnp.sum(jnp.square(seen.weights))

    def program(*arguments):
        """The gradient, and for each argument its derivative along a step, by central differences."""

        def slope(number):
            moved = lambda h: [a + jnp.where(i == number, h * steps[i], 0) for i, a in enumerate(arguments)]
            return (value(*moved(1e-6)) - value(*moved(-1e-6))) / 2e-6

        return jax.grad(value, argnums=(0, 1, 2, 3))(*arguments), jax.lax.map(slope, jnp.arange(4))

    gradients, slopes = in_float64(program, *arguments)
    for gradient, step, slope in zip(gradients, steps, slopes, strict=True):
        np.testing.assert_allclose(np.sum(gradient * step), slope, rtol=1e-7)


def test_one_ray_at_a_time_is_the_same():
    rgb, density, t, direction = (a.astype(np.float32) for a in random_rays())
    behind = np.random.default_rng(1).uniform(size=(7, 3)).astype(np.float32)
    last_empty = np.concatenate([0 * density[:1], density[1:]])

    def program(*a):
        rgb, density, t, direction, behind, last_empty = a
        return {
            "whole": nerf.composite(*a[:5], far=jnp.full(7, 8.0)),
            "mapped": jax.vmap(lambda *a: nerf.composite(*a, far=8.0))(*a[:5]),
            "infinite": nerf.composite(rgb, last_empty, t, direction, behind, far=jnp.inf),
            "infinite_last_interval": nerf.composite(rgb, last_empty, t, direction, behind),
            "two": nerf.composite(rgb[..., :2], density, t, direction, jnp.array([0.1, 0.2])),
        }

    found = in_float32(program, rgb, density, t, direction, behind, last_empty)
    for names in (("whole", "mapped"), ("infinite", "infinite_last_interval")):
        for a, b in zip(*(found[name] for name in names), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, err_msg=str(names))
    # Channels are those of the field: a gray background behind a color of two.
    assert found["two"].color.shape == (7, 2)


def test_disparity_is_one_over_the_mean_depth():
    found = in_float32(nerf.disparity, np.array([2.0, 1.0, 0.0], np.float32), np.array([1.0, 0.25, 0.0], np.float32))
    np.testing.assert_allclose(found, [0.5, 0.25, 0])


def test_wrong_inputs():
    with pytest.raises(ValueError, match=r"t has shape \(5,\)"):
        nerf.composite(np.ones((4, 3)), np.ones(4), np.ones(5), np.ones(3))
    with pytest.raises(ValueError, match=r"rgb has shape \(3,\)"):
        nerf.composite(np.ones(3), np.ones(4), np.ones(4), np.ones(3))
    with pytest.raises(ValueError, match=r"direction has shape \(2, 4, 3\)"):
        nerf.composite(np.ones((2, 4, 3)), np.ones((2, 4)), np.ones((2, 4)), np.ones((2, 4, 3)))
