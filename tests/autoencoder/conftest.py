"""Random parameters without compiling a network's initializers."""

import jax
import numpy as np
import pytest


@pytest.fixture
def random_params():
    """A function (network, width) -> normal float32 parameters of a network on [..., width]."""

    def make(network, width, scale=0.7):
        x = jax.ShapeDtypeStruct((1, width), np.float32)
        shapes = jax.eval_shape(network.init, jax.random.key(0), x)["params"]
        generator = np.random.default_rng(0)
        draw = lambda s: (scale * generator.normal(size=s.shape)).astype(np.float32)
        return jax.tree.map(draw, shapes)

    return make
