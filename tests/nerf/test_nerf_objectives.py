"""The loss of coarse and fine: values, whose gradient goes where, and one key a ray."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import nerf

NETWORK = nerf.NeRF(
    depth=2, width=6, skips=(0,), view_width=4, position_frequencies=2, direction_frequencies=1,
    density_activation=nerf.shifted_softplus,
)  # fmt: skip
SETTINGS = dict(num_coarse=5, num_fine=6, endless=False)
RAYS = 4


def batch_and_params():
    generator = np.random.default_rng(0)
    direction = generator.normal(size=(RAYS, 3))
    unit = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    rays = nerf.Rays(generator.normal(size=(RAYS, 3)), direction, unit)
    shapes = jax.eval_shape(NETWORK.init, jax.random.key(0), jnp.zeros((1, 1, 3)), jnp.zeros((1, 3)))["params"]
    draw = lambda: jax.tree.map(lambda s: 0.7 * generator.normal(size=s.shape), shapes)
    return {"rays": rays, "rgb": generator.uniform(size=(RAYS, 3))}, {"coarse": draw(), "fine": draw()}


BATCH, PARAMS = batch_and_params()


def total(params, batch, **settings):
    loss = nerf.nerf_loss(NETWORK, 0.5, 3.0, **SETTINGS, **settings)
    losses, metrics = loss(params, batch, jax.random.split(jax.random.key(0), RAYS), None)
    return jnp.sum(losses), (losses, metrics)


@functools.cache
def compiled(**settings):
    return jax.jit(functools.partial(total, **settings))


GRADIENT = jax.jit(jax.grad(total, has_aux=True))


def in_float64(function, *arguments):
    """Its value as NumPy arrays."""
    with jax.enable_x64(True):
        return jax.device_get(function(*jax.tree.map(jnp.asarray, arguments)))


def losses(params=PARAMS, batch=BATCH, **settings):
    return in_float64(compiled(**settings), params, batch)[1]


def test_the_sum_of_both_squared_errors():
    coarse, fine, target = np.random.default_rng(0).uniform(size=(3, 5, 2, 3)).astype(np.float32)
    expected = ((coarse - target) ** 2).sum(-1)
    np.testing.assert_allclose(nerf.photometric_loss(coarse, None, target), expected, rtol=1e-6)
    expected = expected + ((fine - target) ** 2).sum(-1)
    np.testing.assert_allclose(nerf.photometric_loss(coarse, fine, target), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="must be equal"):
        nerf.photometric_loss(coarse, fine, target[..., :2])


def test_the_loss_is_that_of_the_rendering():
    found, metrics = losses(background=0.5)

    @jax.jit
    def one(params, ray, i):
        key = jax.random.split(jax.random.key(0), RAYS)[i]
        fields = [nerf.network_field(NETWORK, params[name]) for name in ("coarse", "fine")]
        sample_key = jax.random.split(key, 3)[0]
        return nerf.render_rays(sample_key, ray, 0.5, 3.0, *fields, background=0.5, **SETTINGS)

    for i in range(RAYS):
        with jax.enable_x64(True):
            ray = jax.tree.map(lambda a, i=i: jnp.asarray(a[i]), BATCH["rays"])
            seen = jax.device_get(one(jax.tree.map(jnp.asarray, PARAMS), ray, i))
        squares = [(s.color - BATCH["rgb"][i]) ** 2 for s in (seen.coarse, seen.fine)]
        np.testing.assert_allclose(found[i], squares[0].sum() + squares[1].sum(), rtol=1e-9)
        np.testing.assert_allclose(metrics["coarse_squared_error"][i], squares[0].mean(), rtol=1e-9)
        np.testing.assert_allclose(metrics["fine_squared_error"][i], squares[1].mean(), rtol=1e-9)
        np.testing.assert_allclose(metrics["opacity"][i], seen.fine.opacity, rtol=1e-9)


def test_a_background_in_the_batch_is_each_rays_own():
    behind = np.full((RAYS, 3), 0.5)
    behind[2] = 0.9
    found, _ = losses(PARAMS, BATCH | {"background": behind})
    other = lambda value: losses(PARAMS, BATCH | {"background": np.full((RAYS, 3), value)})[0]
    half, ninety = losses(background=0.5)[0], other(0.9)
    np.testing.assert_allclose(other(0.5), half, rtol=1e-12)
    np.testing.assert_allclose(found, np.where(np.arange(RAYS) == 2, ninety, half), rtol=1e-12)


def test_noise_reaches_both_networks():
    plain, noisy = losses()[1], losses(noise_std=1.0)[1]
    for name in ("coarse_squared_error", "fine_squared_error"):
        assert np.all(plain[name] != noisy[name])


def test_a_batch_may_hold_the_draws():
    def draws(key):
        sample_key, *noise_keys = jax.random.split(key, 3)
        uniform = lambda key, num: jax.random.uniform(key, (num,), jnp.float64)
        normal = lambda key, num: jax.random.normal(key, (num,), jnp.float64)
        return {
            "uniforms": tuple(map(uniform, jax.random.split(sample_key), (5, 6))),
            "noise": tuple(map(normal, noise_keys, (5, 11))),
        }

    loss = nerf.nerf_loss(NETWORK, 0.5, 3.0, noise_std=1.0, **SETTINGS)
    with jax.enable_x64(True):
        given = jax.jit(jax.vmap(draws))(jax.random.split(jax.random.key(0), RAYS))
        found = in_float64(jax.jit(lambda params, batch: loss(params, batch, None, None)), PARAMS, BATCH | given)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9), found, losses(noise_std=1.0))


def test_one_network_alone():
    found, metrics = losses({"coarse": PARAMS["coarse"]})
    assert set(metrics) == {"coarse_squared_error", "opacity"}
    np.testing.assert_allclose(found, 3 * metrics["coarse_squared_error"], rtol=1e-12)
    np.testing.assert_allclose(metrics["coarse_squared_error"], losses()[1]["coarse_squared_error"], rtol=1e-12)


def slope(params, name, step, h=1e-6):
    """The derivative of the sum of losses along a step of one network's parameters, by central differences."""
    moved = lambda h: params | {name: jax.tree.map(lambda a, s: a + h * s, params[name], step)}
    ends = [in_float64(compiled(), moved(sign * h), BATCH)[0] for sign in (1, -1)]
    return (ends[0] - ends[1]) / (2 * h)


def test_gradients():
    """Against finite differences; and where both are trained, the coarse term's alone reaches the coarse network."""
    generator = np.random.default_rng(1)
    step = jax.tree.map(lambda a: generator.normal(size=a.shape), PARAMS["fine"])
    along = lambda gradient: sum(np.sum(a * b) for a, b in zip(*map(jax.tree.leaves, (gradient, step)), strict=True))
    both, _ = in_float64(GRADIENT, PARAMS, BATCH)
    coarse = {"coarse": PARAMS["coarse"]}
    alone, _ = in_float64(GRADIENT, coarse, BATCH)
    np.testing.assert_allclose(along(both["fine"]), slope(PARAMS, "fine", step), rtol=1e-6)
    np.testing.assert_allclose(along(alone["coarse"]), slope(coarse, "coarse", step), rtol=1e-6)
    for a, b in zip(*map(jax.tree.leaves, (both["coarse"], alone["coarse"])), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
