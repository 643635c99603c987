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
    options = ((4, 1e-6), (12, 1e-5), (1, 0.5))
    every = lambda *a: [nn.group_norm(*a, num_groups=groups, epsilon=epsilon) for groups, epsilon in options]
    for (groups, epsilon), found in zip(options, jax.jit(every)(x, scale, bias), strict=True):
        expected = oracle(x, scale, bias, groups, epsilon)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=f"{groups} groups, {epsilon}")


def test_statistics_are_float32_under_bfloat16():
    x = (4 + RNG.normal(size=(2, 64, 64, 8))).astype(jnp.bfloat16)
    one, zero = np.ones(8, np.float32), np.zeros(8, np.float32)
    found = jax.jit(lambda *a: nn.group_norm(*a, num_groups=2))(x, one, zero)
    assert found.dtype == jnp.bfloat16
    expected = oracle(np.asarray(x, np.float32), 1.0, 0.0, 2, 1e-6)
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, rtol=0.01, atol=0.01)


def test_a_constant_image_gives_the_bias():
    x, bias = np.full((1, 3, 3, 4), 7.3, np.float32), np.arange(4, dtype=np.float32)
    found = jax.jit(lambda *a: nn.group_norm(*a, num_groups=2))(x, np.ones(4, np.float32), bias)
    np.testing.assert_allclose(found, np.broadcast_to(bias, found.shape), atol=3e-3)


def test_group_norm_refuses_what_does_not_divide():
    zero = np.zeros(12)
    with pytest.raises(ValueError, match="12 channels do not divide into 5 groups"):
        nn.group_norm(np.zeros((1, 2, 12)), zero, zero, num_groups=5)
    with pytest.raises(ValueError, match="axis between"):
        nn.group_norm(np.zeros((2, 12)), zero, zero, num_groups=4)
