import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import gan
from jaxgen.nn import Conv

B, D, H = 5, 3, 4


@pytest.fixture
def setting():
    rng = np.random.default_rng(0)
    shapes = {"w": (D, H), "b": (H,), "v": (H,)}
    params = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    return params, *rng.normal(size=(2, B, D))


def critic_of(params):
    return lambda x: jnp.tanh(x @ params["w"] + params["b"][None]) @ params["v"]


def input_gradient(params, x):
    """Analytic, NumPy."""
    h = np.tanh(x @ params["w"] + params["b"])
    return ((1 - h**2) * params["v"]) @ params["w"].T


def penalty_by_hand(params, keys, real, fake, target):
    share = np.stack([np.asarray(jax.random.uniform(k, (1,), jnp.float64)) for k in keys])
    norm = np.linalg.norm(input_gradient(params, share * real + (1 - share) * fake), axis=1)
    return (norm - target) ** 2


def difference(f, params, name, index, step=1e-5):
    """Central difference of a function of the parameters."""
    moved = []
    for sign in (1, -1):
        changed = {k: v.copy() for k, v in params.items()}
        changed[name][index] += sign * step
        moved.append(f(changed))
    return (moved[0] - moved[1]) / (2 * step)


@pytest.mark.parametrize("target", [1.0, 0.0])
def test_gradient_penalty_and_its_gradient_against_numpy(setting, target):
    params, real, fake = setting
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(1), B)
        total = lambda p: jnp.mean(
            gan.gradient_penalty(jax.random.clone(keys), critic_of(p), jnp.asarray(real), jnp.asarray(fake), target)
        )
        found = gan.gradient_penalty(
            jax.random.clone(keys), critic_of(jax.tree.map(jnp.asarray, params)), jnp.asarray(real),
            jnp.asarray(fake), target,
        )  # fmt: skip
        gradient = jax.jit(jax.grad(total))(jax.tree.map(jnp.asarray, params))
        clones = [jax.random.clone(k) for k in keys]
        by_hand = lambda p: penalty_by_hand(p, [jax.random.clone(k) for k in clones], real, fake, target)
        np.testing.assert_allclose(found, by_hand(params), rtol=1e-12)
        for name, index in (("w", (0, 1)), ("w", (2, 3)), ("b", (2,)), ("v", (1,))):
            expected = difference(lambda p: by_hand(p).mean(), params, name, index)
            assert float(gradient[name][index]) == pytest.approx(expected, rel=1e-7, abs=1e-9)


def test_given_places_of_the_gradient_penalty(setting):
    """The norm at u x + (1 - u) G(z) in float64 NumPy, and the same penalty as by the keys that make u."""
    params, real, fake = setting
    uniforms = np.random.default_rng(1).uniform(size=B)
    with jax.enable_x64(True):
        arguments = critic_of(jax.tree.map(jnp.asarray, params)), jnp.asarray(real), jnp.asarray(fake)
        penalty = lambda keys, **given: gan.gradient_penalty(keys, *arguments, **given)
        found = penalty(None, uniforms=uniforms)
        keys = jax.random.split(jax.random.key(1), B)
        drawn = jax.vmap(lambda key: jax.random.uniform(key, (), jnp.float64))(jax.random.clone(keys))
        np.testing.assert_array_equal(penalty(None, uniforms=drawn), penalty(keys))
    place = uniforms[:, None] * real + (1 - uniforms[:, None]) * fake
    np.testing.assert_allclose(found, (np.linalg.norm(input_gradient(params, place), axis=1) - 1) ** 2, rtol=1e-12)
    x = jnp.asarray(real, jnp.float32)
    with pytest.raises(ValueError, match=rf"uniforms has shape \({B}, 1\); expected \({B},\)"):
        gan.gradient_penalty(None, lambda x: x[:, 0], x, x, uniforms=uniforms[:, None])
    with pytest.raises(ValueError, match="no key and no uniforms"):
        gan.gradient_penalty(None, lambda x: x[:, 0], x, x)


def test_r1_and_its_gradient_against_numpy(setting):
    params, real, fake = setting
    by_hand = lambda p: np.sum(input_gradient(p, real) ** 2, axis=1) / 2
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(1), B)
        penalty = lambda p: gan.r1_penalty(keys, critic_of(p), jnp.asarray(real), jnp.asarray(fake))
        found = penalty(jax.tree.map(jnp.asarray, params))
        gradient = jax.jit(jax.grad(lambda p: jnp.mean(penalty(p))))(jax.tree.map(jnp.asarray, params))
    np.testing.assert_allclose(found, by_hand(params), rtol=1e-12)
    for name, index in (("w", (0, 1)), ("w", (2, 3)), ("b", (2,)), ("v", (1,))):
        expected = difference(lambda p: by_hand(p).mean(), params, name, index)
        assert float(gradient[name][index]) == pytest.approx(expected, rel=1e-7, abs=1e-9)


def test_a_linear_critic_of_slope_1_costs_nothing_and_a_constant_one_has_a_finite_gradient():
    keys = jax.random.split(jax.random.key(0), 2)
    x, y = jnp.zeros((2, 3)), jnp.ones((2, 3))
    slope = jnp.array([0.6, 0.8, 0.0])
    penalty = lambda w: gan.gradient_penalty(jax.random.clone(keys), lambda x: x @ w, x, y)
    np.testing.assert_allclose(penalty(slope), 0, atol=1e-12)
    np.testing.assert_allclose(penalty(3 * slope), 4, rtol=1e-6)
    np.testing.assert_array_equal(penalty(0 * slope), 1)
    np.testing.assert_array_equal(jax.grad(lambda w: jnp.sum(penalty(w)))(0 * slope), 0)


def test_each_example_has_its_own_penalty_and_place():
    """On images, and example by example as all together."""
    keys = jax.random.split(jax.random.key(0), 3)
    rng = np.random.default_rng(0)
    real, fake = (jnp.asarray(rng.normal(size=(3, 4, 4, 2)), jnp.float32) for _ in range(2))
    w = jnp.asarray(rng.normal(size=(32,)), jnp.float32)
    critic = lambda x: jnp.square(jnp.tanh(x.reshape(len(x), -1) @ w))
    for penalty in (gan.gradient_penalty, gan.r1_penalty):
        together = penalty(jax.random.clone(keys), critic, real, fake)
        alone = [
            penalty(jax.random.clone(keys)[i : i + 1], critic, real[i : i + 1], fake[i : i + 1])[0] for i in range(3)
        ]
        np.testing.assert_allclose(together, alone, rtol=1e-4)
    at_middle = gan.gradient_penalty(jax.random.clone(keys), critic, real, fake)
    again = gan.gradient_penalty(jax.random.split(jax.random.key(5), 3), critic, real, fake)
    assert not np.allclose(at_middle, again)


def test_second_derivatives_through_convolutions():
    """R1 of a convolutional critic: the gradient by a kernel entry meets a difference of the penalty, float64."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x = jnp.asarray(rng.normal(size=(2, 6, 6, 1)))
        layer = Conv(2, 4, stride=2)
        params = {"kernel": jnp.asarray(rng.normal(size=(4, 4, 1, 2))), "bias": jnp.asarray(rng.normal(size=2))}
        keys = jax.random.split(jax.random.key(0), 2)

        @jax.jit
        def total(params):
            critic = lambda x: jnp.sum(jnp.tanh(layer.apply({"params": params}, x)), axis=(1, 2, 3))
            return jnp.mean(gan.r1_penalty(keys, critic, x, x))

        gradient = jax.jit(jax.grad(total))(params)["kernel"]
        for index in ((0, 1, 0, 1), (3, 2, 0, 0)):
            moved = [total({**params, "kernel": params["kernel"].at[index].add(e)}) for e in (1e-5, -1e-5)]
            assert float(gradient[index]) == pytest.approx(float(moved[0] - moved[1]) / 2e-5, rel=1e-7)
