"""The loss of coarse and fine: values, whose gradient goes where, and one key a ray."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import nerf
from tests.programs import in_float32, in_float64

NETWORK = nerf.NeRF(
    depth=2, width=6, skips=(0,), view_width=4, position_frequencies=2, direction_frequencies=1,
    density_activation=nerf.shifted_softplus,
)  # fmt: skip
SETTINGS = dict(num_coarse=5, num_fine=6, infinite_last_interval=False)
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


HALF = np.full((RAYS, 3), 0.5)
BEHIND = {"half": HALF, "ninety": HALF + 0.4, "one ray": HALF + 0.4 * (np.arange(RAYS) == 2)[:, None]}


@pytest.fixture(scope="module")
def found():
    """(losses, metrics) of each case, by one program."""

    def draws(key):
        sample_key, *noise_keys = jax.random.split(key, 3)
        uniform = lambda key, num: jax.random.uniform(key, (num,), jnp.float64)
        normal = lambda key, num: jax.random.normal(key, (num,), jnp.float64)
        return {
            "uniforms": tuple(map(uniform, jax.random.split(sample_key), (5, 6))),
            "noise": tuple(map(normal, noise_keys, (5, 11))),
        }

    def program(params, batch):
        given = batch | jax.vmap(draws)(jax.random.split(jax.random.key(0), RAYS))
        by_draws = nerf.nerf_loss(NETWORK, 0.5, 3.0, noise_std=1.0, **SETTINGS)(params, given, None, None)
        behind = jax.vmap(lambda behind: total(params, batch | {"background": behind})[1])(np.stack([*BEHIND.values()]))
        return {
            "plain": total(params, batch)[1],
            "half": total(params, batch, background=0.5)[1],
            "coarse": total({"coarse": params["coarse"]}, batch)[1],
            "noise": total(params, batch, noise_std=1.0)[1],
            "given": by_draws,
            "backgrounds": behind[0],
        }

    return in_float64(program, PARAMS, BATCH)


def test_the_sum_of_both_squared_errors():
    coarse, fine, target = np.random.default_rng(0).uniform(size=(3, 5, 2, 3)).astype(np.float32)
    one, both = in_float32(
        lambda *a: (nerf.photometric_loss(a[0], None, a[2]), nerf.photometric_loss(*a)), coarse, fine, target
    )
    expected = ((coarse - target) ** 2).sum(-1)
    np.testing.assert_allclose(one, expected, rtol=1e-6)
    np.testing.assert_allclose(both, expected + ((fine - target) ** 2).sum(-1), rtol=1e-6)
    with pytest.raises(ValueError, match="target has shape .*, and coarse has shape"):
        nerf.photometric_loss(coarse, fine, target[..., :2])


def test_the_loss_is_that_of_the_rendering(found):
    losses, metrics = found["half"]

    def one(params, ray, key):
        fields = [nerf.network_field(NETWORK, params[name]) for name in ("coarse", "fine")]
        sample_key = jax.random.split(key, 3)[0]
        return nerf.render_rays(sample_key, ray, 0.5, 3.0, *fields, background=0.5, **SETTINGS)

    def each(params, rays):
        keys = jax.random.split(jax.random.key(0), RAYS)
        return jax.lax.map(lambda a: one(params, *a), (rays, keys))

    seen = in_float64(each, PARAMS, BATCH["rays"])
    squares = [(s.color - BATCH["rgb"]) ** 2 for s in (seen.coarse, seen.fine)]
    np.testing.assert_allclose(losses, squares[0].sum(-1) + squares[1].sum(-1), rtol=1e-9)
    np.testing.assert_allclose(metrics["coarse_squared_error"], squares[0].mean(-1), rtol=1e-9)
    np.testing.assert_allclose(metrics["fine_squared_error"], squares[1].mean(-1), rtol=1e-9)
    np.testing.assert_allclose(metrics["opacity"], seen.fine.opacity, rtol=1e-9)


def test_a_background_in_the_batch_is_each_rays_own(found):
    behind = dict(zip(BEHIND, found["backgrounds"], strict=True))
    half = found["half"][0]
    np.testing.assert_allclose(behind["half"], half, rtol=1e-12)
    np.testing.assert_allclose(behind["one ray"], np.where(np.arange(RAYS) == 2, behind["ninety"], half), rtol=1e-12)
    assert np.all(behind["ninety"] != half)


def test_noise_reaches_both_networks(found):
    plain, noisy = found["plain"][1], found["noise"][1]
    for name in ("coarse_squared_error", "fine_squared_error"):
        assert np.all(plain[name] != noisy[name])


def test_a_batch_may_hold_the_draws(found):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9), found["given"], found["noise"])


def test_one_network_alone(found):
    losses, metrics = found["coarse"]
    assert set(metrics) == {"coarse_squared_error", "opacity"}
    np.testing.assert_allclose(losses, 3 * metrics["coarse_squared_error"], rtol=1e-12)
    np.testing.assert_allclose(metrics["coarse_squared_error"], found["plain"][1]["coarse_squared_error"], rtol=1e-12)


def test_gradients():
    """Against finite differences; and where both are trained, the coarse term's alone reaches the coarse network."""
    generator = np.random.default_rng(1)
    step = jax.tree.map(lambda a: generator.normal(size=a.shape), PARAMS["fine"])
    along = lambda gradient: sum(np.sum(a * b) for a, b in zip(*map(jax.tree.leaves, (gradient, step)), strict=True))

    def program(params, batch, step):
        """Each gradient, and the sum of the losses at both ends of a step of that network's parameters."""

        def both_ends(params, name):
            moved = lambda h: params | {name: jax.tree.map(lambda a, s: a + h * s, params[name], step)}
            return jax.lax.map(lambda h: total(moved(h), batch)[0], jnp.array([1e-6, -1e-6]))

        coarse = {"coarse": params["coarse"]}
        gradient = jax.grad(lambda params: total(params, batch)[0])
        return gradient(params), both_ends(params, "fine"), gradient(coarse), both_ends(coarse, "coarse")

    both, both_ends, alone, alone_ends = in_float64(program, PARAMS, BATCH, step)
    slope = lambda ends: (ends[0] - ends[1]) / 2e-6
    np.testing.assert_allclose(along(both["fine"]), slope(both_ends), rtol=1e-6)
    np.testing.assert_allclose(along(alone["coarse"]), slope(alone_ends), rtol=1e-6)
    for a, b in zip(*map(jax.tree.leaves, (both["coarse"], alone["coarse"])), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
