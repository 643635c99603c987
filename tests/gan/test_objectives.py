import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import gan

RNG = np.random.default_rng(0)
REAL, FAKE = 2 * RNG.normal(size=(2, 50))
SIGMOID = lambda a: 1 / (1 + np.exp(-a))

DEFINITIONS = {
    "NON_SATURATING": (lambda r, f: -np.log(SIGMOID(r)) - np.log(1 - SIGMOID(f)), lambda f: -np.log(SIGMOID(f))),
    "SATURATING": (lambda r, f: -np.log(SIGMOID(r)) - np.log(1 - SIGMOID(f)), lambda f: np.log(1 - SIGMOID(f))),
    "LEAST_SQUARES": (lambda r, f: (r - 1) ** 2 / 2 + f**2 / 2, lambda f: (f - 1) ** 2 / 2),
    "WASSERSTEIN": (lambda r, f: f - r, lambda f: -f),
    "HINGE": (lambda r, f: np.maximum(0, 1 - r) + np.maximum(0, 1 + f), lambda f: -f),
}


EXTREME = np.array([-1e4, -100, 100, 1e4])


@pytest.fixture(scope="module")
def found():
    """All values and gradients that the tests compare, from one program."""

    def with_gradient(f, a):
        return f(a), jax.grad(lambda a: jnp.sum(f(a)))(a)

    def of_losses(losses, real, fake, extreme):
        fs = (lambda a: losses.discriminator(a, -a), lambda a: losses.discriminator(-a, a), losses.generator)
        at_extremes = {dtype: [with_gradient(f, a) for f in fs] for dtype, a in extreme.items()}
        return losses.discriminator(real, fake), losses.generator(fake), at_extremes

    def f(real, fake, extreme, real32, fake32, few):
        slope = lambda saturating: jax.grad(lambda a: jnp.sum(gan.generator_loss(a, saturating)))(fake)
        by_discriminator = jax.grad(lambda r, f: jnp.sum(gan.discriminator_loss(r, f)), argnums=(0, 1))
        return {
            "losses": {name: of_losses(getattr(gan, name), real, fake, extreme) for name in DEFINITIONS},
            "slopes": (slope(True), slope(False)),
            "discriminator": by_discriminator(real32, fake32),
            "targets": (
                gan.least_squares_discriminator_loss(few[0], few[1], 1.0, -1.0),
                gan.least_squares_generator_loss(few[0], 0.0),
            ),
            "default": (gan.generator_loss(few[2]), gan.generator_loss(few[2], True)),
        }

    few, extreme = np.array([[3.0], [5.0], [0.0]], np.float32), {"float32": np.float32(EXTREME), "float64": EXTREME}
    with jax.enable_x64(True):
        return jax.device_get(jax.jit(f)(REAL, FAKE, extreme, np.float32(REAL), np.float32(FAKE), few))


@pytest.mark.parametrize("name", DEFINITIONS)
def test_losses_are_their_definitions(found, name):
    discriminator, generator = DEFINITIONS[name]
    np.testing.assert_allclose(found["losses"][name][0], discriminator(REAL, FAKE), rtol=1e-11)
    np.testing.assert_allclose(found["losses"][name][1], generator(FAKE), rtol=1e-11)


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_gradients_are_finite_at_extreme_logits(found, name, dtype):
    for values, gradient in found["losses"][name][2][dtype]:
        assert values.dtype == dtype and np.isfinite(values).all() and np.isfinite(gradient).all()


def test_the_gradients_of_both_generator_losses_are_in_the_ratio_d_over_1_minus_d(found):
    saturating, other = found["slopes"]
    d = SIGMOID(FAKE)
    np.testing.assert_allclose(saturating, -d, rtol=1e-12)
    np.testing.assert_allclose(other, -(1 - d), rtol=1e-12)
    np.testing.assert_allclose(saturating / other, d / (1 - d), rtol=1e-11)


def test_the_discriminator_gradient_by_logit_is_probability_minus_target(found):
    by_real, by_fake = found["discriminator"]
    np.testing.assert_allclose(by_real, SIGMOID(REAL) - 1, atol=1e-6)
    np.testing.assert_allclose(by_fake, SIGMOID(FAKE), atol=1e-6)


def test_least_squares_targets(found):
    discriminator, generator = found["targets"]
    assert discriminator[0] == 20.0
    assert generator[0] == 4.5


def test_the_saturating_form_is_not_the_default(found):
    default, saturating = found["default"]
    assert default[0] > 0 > saturating[0]
