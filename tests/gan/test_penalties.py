import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import gan
from jaxgen.nn import Conv
from tests.parameters import apply

B, D, H = 5, 3, 4
UNIFORMS = np.random.default_rng(1).uniform(size=B)


def setting():
    rng = np.random.default_rng(0)
    shapes = {"w": (D, H), "b": (H,), "v": (H,)}
    params = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    return params, *rng.normal(size=(2, B, D))


def compiled(f, *arguments):
    """The values of f as NumPy arrays, from one program; float64 stays float64."""
    with jax.enable_x64(True):
        return jax.device_get(jax.jit(f)(*arguments))


def keys(num=B, seed=1):
    return jax.random.split(jax.random.key(seed), num)


def critic_of(params):
    return lambda x: jnp.tanh(x @ params["w"] + params["b"][None]) @ params["v"]


def input_gradient(params, x):
    """Analytic, NumPy."""
    h = np.tanh(x @ params["w"] + params["b"])
    return ((1 - h**2) * params["v"]) @ params["w"].T


def penalty_by_hand(params, share, real, fake, target):
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


@pytest.fixture(scope="module")
def found():
    """Penalties, gradients of their mean, and the same with given places, of one setting, from one program."""
    params, real, fake = setting()

    def f(params, real, fake, uniforms):
        mean_gradient = lambda penalty: jax.grad(lambda p: jnp.mean(penalty(critic_of(p))))(params)
        targets = {t: lambda critic, t=t: gan.gradient_penalty(keys(), critic, real, fake, t) for t in (1.0, 0.0)}
        r1 = lambda critic: gan.r1_penalty(keys(), critic, real, fake)
        given = lambda uniforms: gan.gradient_penalty(None, critic_of(params), real, fake, uniforms=uniforms)
        drawn = jax.vmap(lambda key: jax.random.uniform(key, (), jnp.float64))(keys())
        return {
            "share": drawn,
            **{str(t): (penalty(critic_of(params)), mean_gradient(penalty)) for t, penalty in targets.items()},
            "r1": (r1(critic_of(params)), mean_gradient(r1)),
            "given": given(uniforms),
            "given draws": given(drawn),
        }

    return compiled(f, params, real, fake, UNIFORMS)


def check_gradient(gradient, by_hand, params):
    for name, index in (("w", (0, 1)), ("w", (2, 3)), ("b", (2,)), ("v", (1,))):
        expected = difference(lambda p: by_hand(p).mean(), params, name, index)
        assert float(gradient[name][index]) == pytest.approx(expected, rel=1e-7, abs=1e-9), (name, index)


@pytest.mark.parametrize("target", [1.0, 0.0])
def test_gradient_penalty_and_its_gradient_against_numpy(found, target):
    params, real, fake = setting()
    by_hand = lambda p: penalty_by_hand(p, found["share"][:, None], real, fake, target)
    penalty, gradient = found[str(target)]
    np.testing.assert_allclose(penalty, by_hand(params), rtol=1e-12)
    check_gradient(gradient, by_hand, params)


def test_given_places_of_the_gradient_penalty(found):
    """The norm at u x + (1 - u) G(z) in float64 NumPy, and the same penalty as by the keys that make u."""
    params, real, fake = setting()
    np.testing.assert_array_equal(found["given draws"], found["1.0"][0])
    place = UNIFORMS[:, None] * real + (1 - UNIFORMS[:, None]) * fake
    expected = (np.linalg.norm(input_gradient(params, place), axis=1) - 1) ** 2
    np.testing.assert_allclose(found["given"], expected, rtol=1e-12)
    x = np.float32(real)
    with pytest.raises(ValueError, match=rf"uniforms has shape \({B}, 1\); expected \({B},\)"):
        gan.gradient_penalty(None, lambda x: x[:, 0], x, x, uniforms=UNIFORMS[:, None])
    with pytest.raises(ValueError, match="no key and no uniforms"):
        gan.gradient_penalty(None, lambda x: x[:, 0], x, x)


def test_r1_and_its_gradient_against_numpy(found):
    params, real, _ = setting()
    by_hand = lambda p: np.sum(input_gradient(p, real) ** 2, axis=1) / 2
    penalty, gradient = found["r1"]
    np.testing.assert_allclose(penalty, by_hand(params), rtol=1e-12)
    check_gradient(gradient, by_hand, params)


def test_a_linear_critic_of_slope_1_costs_nothing_and_a_constant_one_has_a_finite_gradient():
    x, y = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    slope = np.array([0.6, 0.8, 0.0], np.float32)
    penalty = lambda w: gan.gradient_penalty(keys(2), lambda x: x @ w, x, y)
    f = lambda w: (penalty(w), penalty(3 * w), penalty(0 * w), jax.grad(lambda w: jnp.sum(penalty(w)))(0 * w))
    of_1, of_3, of_0, gradient = compiled(f, slope)
    np.testing.assert_allclose(of_1, 0, atol=1e-12)
    np.testing.assert_allclose(of_3, 4, rtol=1e-6)
    np.testing.assert_array_equal(of_0, 1)
    np.testing.assert_array_equal(gradient, 0)


def test_each_example_has_its_own_penalty_and_place():
    """On images, and example by example as all together."""
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(2, 3, 4, 4, 2)).astype(np.float32)
    w = rng.normal(size=(32,)).astype(np.float32)
    critic = lambda x: jnp.square(jnp.tanh(x.reshape(len(x), -1) @ w))

    def f(real, fake):
        part = lambda penalty, i: penalty(keys(3)[i : i + 1], critic, real[i : i + 1], fake[i : i + 1])[0]
        penalties = (gan.gradient_penalty, gan.r1_penalty)
        pairs = [(penalty(keys(3), critic, real, fake), [part(penalty, i) for i in range(3)]) for penalty in penalties]
        return pairs, gan.gradient_penalty(keys(3, seed=5), critic, real, fake)

    pairs, elsewhere = compiled(f, real, fake)
    for together, alone in pairs:
        np.testing.assert_allclose(together, alone, rtol=1e-4)
    assert not np.allclose(pairs[0][0], elsewhere)


def test_second_derivatives_through_convolutions():
    """R1 of a convolutional critic: the gradient by a kernel entry meets a difference of the penalty, float64."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, 6, 1))
    layer = Conv(2, 4, stride=2)
    params = {"kernel": rng.normal(size=(4, 4, 1, 2)), "bias": rng.normal(size=2)}
    indices, step = ((0, 1, 0, 1), (3, 2, 0, 0)), 1e-5

    def total(params):
        critic = lambda x: jnp.sum(jnp.tanh(apply(layer, params, x)), axis=(1, 2, 3))
        return jnp.mean(gan.r1_penalty(None, critic, x, x))

    def f(params):
        moves = jnp.stack([
            params["kernel"].at[index].add(e) for index in indices for e in (step, -step)
        ])  # fmt: skip
        moved = jax.lax.map(lambda kernel: total({**params, "kernel": kernel}), moves)
        return jax.grad(total)(params)["kernel"], moved.reshape(len(indices), 2)

    gradient, moved = compiled(f, params)
    for index, (up, down) in zip(indices, moved, strict=True):
        assert float(gradient[index]) == pytest.approx(float(up - down) / (2 * step), rel=1e-7)


def test_dragan_is_the_slope_around_the_data():
    """Kodali et al. 2017: the norm of the gradient at x + s e."""
    params, real, _ = setting()
    noise = np.random.default_rng(4).normal(size=real.shape)
    f = lambda params, real, noise: gan.dragan_penalty(None, critic_of(params), real, None, 0.3, 1.5, noise=noise)
    expected = (np.linalg.norm(input_gradient(params, real + 0.3 * noise), axis=1) - 1.5) ** 2
    np.testing.assert_allclose(compiled(f, params, real, noise), expected, rtol=1e-10)
    by_key = lambda keys, real: gan.dragan_penalty(keys, critic_of(params), real, None)
    own = lambda keys, real: jnp.concatenate([by_key(keys[i : i + 1], real[i : i + 1]) for i in range(B)])
    np.testing.assert_allclose(compiled(by_key, keys(), real), compiled(own, keys(), real), rtol=1e-10)
    with pytest.raises(ValueError, match="neither|no key"):
        gan.dragan_penalty(None, critic_of(params), real, None)


def test_a_critic_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"returns shape \(5, 1\) for 5 examples; expected \(5,\)"):
        gan.squared_gradient(lambda x: x[:, :1], np.ones((B, D), np.float32))
