"""The dense stack against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgen.nn import DenseStack


@pytest.mark.parametrize("activate_last", [False, True])
def test_equals_numpy(activate_last):
    stack = DenseStack((5, 3), nn.tanh, activate_last=activate_last)
    shapes = jax.eval_shape(stack.init, jax.random.key(0), jnp.zeros((1, 6)))["params"]
    generator = np.random.default_rng(0)
    layers = jax.tree.map(lambda s: generator.normal(size=s.shape), shapes)
    x = generator.normal(size=(2, 4, 6))
    with jax.enable_x64(True):
        found = jax.jit(stack.apply)({"params": layers}, x)
    h = np.tanh(x @ layers["layers_0"]["kernel"] + layers["layers_0"]["bias"])
    h = h @ layers["layers_1"]["kernel"] + layers["layers_1"]["bias"]
    np.testing.assert_allclose(found, np.tanh(h) if activate_last else h, rtol=1e-13)


def test_without_layers_is_the_identity():
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(DenseStack(()).apply({}, x), x)
