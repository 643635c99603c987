"""The positional encoding: values, orders, precision, gradient."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import nerf
from tests.programs import in_float32, in_float64

X = np.random.default_rng(0).uniform(-6, 6, size=(40, 3))


def by_hand(p, num_frequencies, pi):
    """Equation 4 for one number."""
    factor = math.pi if pi else 1.0
    return [f(2.0**k * factor * p) for k in range(num_frequencies) for f in (math.sin, math.cos)]


def encode(x, *args, **options):
    return nerf.positional_encoding(jnp.asarray(x), *args, **options)


def test_the_default_has_pi_and_no_input():
    found = in_float32(lambda: encode([0.5], 2))
    np.testing.assert_allclose(found, [1, 0, 0, -1], atol=1e-7)


@pytest.mark.parametrize("pi", [True, False])
def test_both_orders(pi):
    """Equation 4 for each number, and the order of the features."""
    waves = np.array([[by_hand(p, 4, pi) for p in row] for row in X]).reshape(40, 3, 4, 2)
    # [.., coordinate, frequency, sine or cosine] -> frequency, then sine or cosine, then coordinate; or sine first.
    interleaved = waves.transpose(0, 2, 3, 1).reshape(40, 24)
    blocks = waves.transpose(0, 3, 2, 1).reshape(40, 24)
    one, plain, in_blocks, both, mapped = in_float64(
        lambda x: (
            encode([0.37], 5, pi=pi),
            encode(x, 4, pi=pi),
            encode(x, 4, pi=pi, order="blocks"),
            encode(x, 4, pi=pi, order="blocks", include_input=True),
            jax.vmap(lambda x: encode(x, 4, pi=pi))(x),
        ),
        X,
    )
    np.testing.assert_allclose(one, by_hand(0.37, 5, pi), rtol=1e-12)
    np.testing.assert_allclose(plain, interleaved, atol=1e-12)
    np.testing.assert_allclose(in_blocks, blocks, atol=1e-12)
    np.testing.assert_allclose(both, np.concatenate([X, blocks], -1), atol=1e-12)
    np.testing.assert_allclose(mapped, interleaved, atol=1e-12)


@pytest.mark.parametrize("pi", [True, False])
def test_float32_keeps_its_digits_at_every_frequency(pi):
    x = np.linspace(-6, 6, 20_001, dtype=np.float32)[:, None]
    found = jax.jit(lambda x: nerf.positional_encoding(x, 10, pi=pi))(x)
    phase = 2.0 ** np.arange(10) * (np.pi if pi else 1.0) * x.astype(np.float64)
    expected = np.stack([np.sin(phase), np.cos(phase)], -1).reshape(-1, 20)
    np.testing.assert_allclose(found, expected, atol=3e-7)


def test_the_gradient():
    gradient = in_float64(jax.grad(lambda x: jnp.sum(encode(x, 3))), X)
    phase = np.pi * 2.0 ** np.arange(3) * X[..., None]
    expected = np.sum(np.pi * 2.0 ** np.arange(3) * (np.cos(phase) - np.sin(phase)), -1)
    np.testing.assert_allclose(gradient, expected, rtol=1e-9)


def test_no_frequencies_leave_the_input():
    with_input, without = in_float32(lambda x: (encode(x, 0, include_input=True), encode(x, 0)), np.float32(X))
    np.testing.assert_array_equal(with_input, np.float32(X))
    assert without.shape == (40, 0)


def test_wrong_inputs():
    with pytest.raises(ValueError, match="num_frequencies is -1"):
        nerf.positional_encoding(np.ones(3), -1)
    with pytest.raises(ValueError, match="'authors'.*interleaved, blocks"):
        nerf.positional_encoding(np.ones(3), 2, order="authors")
    with pytest.raises(ValueError, match="scalar"):
        nerf.positional_encoding(np.float32(1), 2)
