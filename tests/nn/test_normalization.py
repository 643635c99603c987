import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import nn

RNG = np.random.default_rng(0)


def oracle(x, scale, bias, groups, epsilon):
    parts = x.astype(np.float64).reshape(*x.shape[:-1], groups, -1)
    axes = (*range(1, x.ndim - 1), x.ndim)
    mean, variance = parts.mean(axis=axes, keepdims=True), parts.var(axis=axes, keepdims=True)
    return ((parts - mean) / np.sqrt(variance + epsilon)).reshape(x.shape) * scale + bias


@pytest.mark.parametrize("shape", [(2, 5, 12), (3, 4, 5, 12)])
def test_group_norm_is_numpys(shape):
    x = (1 + 2 * RNG.normal(size=shape)).astype(np.float32)
    scale, bias = RNG.normal(size=(2, 12)).astype(np.float32)
    for groups, epsilon in ((4, 1e-6), (12, 1e-5), (1, 0.5)):
        found = jax.jit(lambda *a, g=groups, e=epsilon: nn.group_norm(*a, num_groups=g, epsilon=e))(x, scale, bias)
        np.testing.assert_allclose(found, oracle(x, scale, bias, groups, epsilon), rtol=1e-4, atol=1e-5)


def test_statistics_are_float32_under_bfloat16():
    x = jnp.asarray(4 + RNG.normal(size=(2, 64, 64, 8)), jnp.bfloat16)
    one, zero = jnp.ones(8), jnp.zeros(8)
    found = nn.group_norm(x, one, zero, num_groups=2)
    assert found.dtype == jnp.bfloat16
    expected = oracle(np.asarray(x, np.float32), 1.0, 0.0, 2, 1e-6)
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, rtol=0.01, atol=0.01)


def test_a_constant_image_gives_the_bias():
    found = nn.group_norm(jnp.full((1, 3, 3, 4), 7.3), jnp.ones(4), jnp.arange(4.0), num_groups=2)
    np.testing.assert_allclose(found, np.broadcast_to(np.arange(4.0), found.shape), atol=3e-3)


def test_group_norm_refuses_what_does_not_divide():
    with pytest.raises(ValueError, match="12 channels do not divide into 5 groups"):
        nn.group_norm(jnp.zeros((1, 2, 12)), jnp.ones(12), jnp.zeros(12), num_groups=5)
    with pytest.raises(ValueError, match="axis between"):
        nn.group_norm(jnp.zeros((2, 12)), jnp.ones(12), jnp.zeros(12), num_groups=4)
