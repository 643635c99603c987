"""Layouts that are fast on CPU compute what the plain ones do: values, gradients, second derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import nn
from tests.programs import compiled


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def normal(number, *shape):
    return np.random.default_rng(number).normal(size=shape)


def derivatives(f, *args):
    """Value, gradients, and the gradients of the gradients' squared norm, of sum(sin(f))."""
    total = lambda *args: jnp.sum(jnp.sin(f(*args)))
    everything = tuple(range(len(args)))
    gradient = jax.grad(total, everything)
    norm = lambda *args: sum(jnp.sum(jnp.square(g)) for g in gradient(*args))
    return f(*args), gradient(*args), jax.grad(norm, everything)(*args)


def assert_same(f, g, *args):
    both = compiled(lambda *args: [jax.tree.leaves(derivatives(h, *args)) for h in (f, g)])(*args)
    for one, other in zip(*both, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12 * np.max(np.abs(other)))


@pytest.mark.parametrize("leading", [(5,), (2, 3), (2, 3, 2)])
def test_matmul(leading):
    x, kernel = normal(0, *leading, 4), normal(1, 4, 3)
    assert_same(lambda x, w: nn.matmul(x, w, backward="forward_form"), jnp.matmul, x, kernel)


def test_auto_is_the_plain_product_for_two_axes():
    """Its weight gradient sums over the batch alone, and forward mode works."""
    x, kernel = normal(0, 5, 4), normal(1, 4, 3)
    tangent = compiled(lambda x, w: jax.jvp(nn.matmul, (x, w), (x, w))[1])(x, kernel)
    np.testing.assert_allclose(tangent, 2 * x @ kernel, rtol=1e-12)


def test_dense_dot_of_other_axes_is_the_general_one():
    x, kernel = normal(0, 5, 4), normal(1, 5, 3)
    found = compiled(lambda x, w: nn.dense_dot(x, w, (((0,), (0,)), ((), ()))))(x, kernel)
    np.testing.assert_allclose(found, x.T @ kernel, rtol=1e-12)


def test_dense_dot_of_the_last_axis_is_the_fast_one():
    product = lambda x, w: jnp.sum(nn.dense_dot(x, w, (((2,), (0,)), ((), ()))))
    program = jax.make_jaxpr(jax.grad(product, 1))(normal(0, 2, 3, 4), normal(1, 4, 3))
    # By the platform, `auto` is the plain product elsewhere.
    assert ("optimization_barrier" in str(program)) == (jax.default_backend() == "cpu")


def test_nearest():
    x = normal(0, 2, 3, 4, 2)
    np.testing.assert_array_equal(compiled(nn.nearest)(x), x.repeat(2, axis=1).repeat(2, axis=2))


@pytest.mark.parametrize("size, channels", [((3, 4), (2, 3)), ((1, 1), (1, 1)), ((2, 5), (17, 18))])
def test_upsampled_conv(size, channels):
    """Few and many channels: the transposed convolution has a program for each."""
    x, kernel = normal(0, 2, *size, channels[0]), normal(1, 3, 3, *channels)
    plain = lambda x, k: nn.conv(nn.nearest(x), k, backward="xla")
    assert_same(lambda x, k: nn.upsampled_conv(x, k, backward="forward_form"), plain, x, kernel)
    found, expected = compiled(lambda x, k: (nn.upsampled_conv(x, k, backward="xla"), plain(x, k)))(x, kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_upsampling_refuses():
    x = np.zeros((1, 4, 4, 2), np.float32)
    with pytest.raises(ValueError, match=r"the kernel is \(5, 5\)"):
        nn.upsampled_conv(x, np.zeros((5, 5, 2, 2), np.float32))
    with pytest.raises(ValueError, match="upsample needs stride 1"):
        jax.eval_shape(nn.Conv(2, stride=2, upsample=True).init, jax.random.key(0), x)
