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


@pytest.mark.parametrize("name", DEFINITIONS)
def test_losses_are_their_definitions(name):
    losses, (discriminator, generator) = getattr(gan, name), DEFINITIONS[name]
    with jax.enable_x64(True):
        real, fake = jnp.asarray(REAL), jnp.asarray(FAKE)
        np.testing.assert_allclose(losses.discriminator(real, fake), discriminator(REAL, FAKE), rtol=1e-11)
        np.testing.assert_allclose(losses.generator(fake), generator(FAKE), rtol=1e-11)


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_gradients_are_finite_at_extreme_logits(name, dtype):
    losses = getattr(gan, name)
    with jax.enable_x64(True):
        logits = jnp.asarray([-1e4, -100, 100, 1e4], dtype)
        for f in (lambda a: losses.discriminator(a, -a), lambda a: losses.discriminator(-a, a), losses.generator):
            values, gradient = f(logits), jax.grad(lambda a, f=f: jnp.sum(f(a)))(logits)
            assert values.dtype == dtype and np.isfinite(values).all() and np.isfinite(gradient).all()


def test_the_gradients_of_both_generator_losses_are_in_the_ratio_d_over_1_minus_d():
    with jax.enable_x64(True):
        fake = jnp.asarray(FAKE)
        slope = lambda saturating: jax.grad(lambda a: jnp.sum(gan.generator_loss(a, saturating)))(fake)
        saturating, other = np.asarray(slope(True)), np.asarray(slope(False))
    d = SIGMOID(FAKE)
    np.testing.assert_allclose(saturating, -d, rtol=1e-12)
    np.testing.assert_allclose(other, -(1 - d), rtol=1e-12)
    np.testing.assert_allclose(saturating / other, d / (1 - d), rtol=1e-11)


def test_the_discriminator_gradient_by_logit_is_probability_minus_target():
    gradient = jax.grad(lambda r, f: jnp.sum(gan.discriminator_loss(r, f)), argnums=(0, 1))(
        jnp.asarray(REAL, jnp.float32), jnp.asarray(FAKE, jnp.float32)
    )
    np.testing.assert_allclose(gradient[0], SIGMOID(REAL) - 1, atol=1e-6)
    np.testing.assert_allclose(gradient[1], SIGMOID(FAKE), atol=1e-6)


def test_least_squares_targets():
    assert gan.least_squares_discriminator_loss(jnp.array([3.0]), jnp.array([5.0]), 1.0, -1.0)[0] == 20.0
    assert gan.least_squares_generator_loss(jnp.array([3.0]), 0.0)[0] == 4.5


def test_the_saturating_form_is_not_the_default():
    assert gan.generator_loss(jnp.array([0.0]))[0] > 0 > gan.generator_loss(jnp.array([0.0]), True)[0]
