"""The dense stack against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgen.nn import DenseStack


@pytest.mark.parametrize("activate_last", [False, True])
def test_equals_numpy(activate_last):
    stack = DenseStack((5, 3), nn.tanh, bias_init=nn.initializers.normal(), activate_last=activate_last)
    x = jax.random.normal(jax.random.key(1), (2, 4, 6))
    params = stack.init(jax.random.key(0), x)["params"]
    with jax.enable_x64(True):
        params, x = jax.tree.map(lambda a: jnp.asarray(np.asarray(a, np.float64)), (params, x))
        found = stack.apply({"params": params}, x)
    layers = jax.tree.map(np.asarray, params)
    h = np.tanh(np.asarray(x) @ layers["layers_0"]["kernel"] + layers["layers_0"]["bias"])
    h = h @ layers["layers_1"]["kernel"] + layers["layers_1"]["bias"]
    np.testing.assert_allclose(found, np.tanh(h) if activate_last else h, rtol=1e-13)


def test_without_layers_is_the_identity():
    x = jnp.arange(6.0).reshape(2, 3)
    stack = DenseStack(())
    np.testing.assert_array_equal(stack.apply(stack.init(jax.random.key(0), x), x), x)
