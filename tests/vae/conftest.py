"""Random parameters without compiling a network's initializers."""

import jax
import numpy as np
import pytest

from jaxgen import vae


@pytest.fixture
def random_params():
    """A function network -> normal float32 parameters of a VAE."""

    def make(network, scale=0.7):
        x = jax.ShapeDtypeStruct((1, network.data_size), np.float32)
        draw = lambda: vae.draw_noise(jax.random.key(0), network.latent_sizes, 1)
        shapes = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, draw()), x)["params"]
        generator = np.random.default_rng(0)
        return jax.tree.map(lambda s: (scale * generator.normal(size=s.shape)).astype(np.float32), shapes)

    return make
