"""Parameters of networks for tests, without a compiled program."""

import math
from typing import Any

import jax
import numpy as np


def random_parameters(network, *args, seed=0, **kwargs):
    """Parameters with the shapes of `network.init(key, *args, **kwargs)["params"]`, drawn by NumPy.

    Kernels are N(0, 1 / fan in), scales near 1, biases N(0, 0.01): unlike an initializer's, none of them is zero, so
    that every parameter matters.
    """
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), *args, **kwargs))["params"]
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        values = rng.normal(size=leaf.shape)
        if len(leaf.shape) > 1:
            values /= math.sqrt(math.prod(leaf.shape[:-1]))
        else:
            values = 0.1 * values + (path[-1].key == "scale")
        return values.astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def apply(network, params, *args, **kwargs) -> Any:
    """The value of a network at parameters; Flax's own `apply` is typed as if it could return variables too."""
    return network.apply({"params": params}, *args, **kwargs)
