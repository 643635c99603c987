"""Natural and odd inputs to every public function: `pytest -m inputs`.

One file a room holds the table `calls()`: {name of the function: `Call`}, a call with small right arguments, and
`EXEMPT`: {name: why}, for functions without arrays or keys, and for those that other tests cover, such as readers.
`test_natural_inputs` changes the arguments of every call. A public function in neither table fails it, so a new
function gets a line here.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

GENERATOR = np.random.default_rng(0)


class Call(NamedTuple):
    """A right call.

    Attributes:
        arguments: by name. Arrays of NumPy, keys and tuples of arrays are varied, all else is left.
        free: names of arguments of any shape, for which one more axis, or one example, is right; "NAME:1" where one
            example alone is.
    """

    arguments: dict[str, Any]
    free: tuple[str, ...] = ()


def call(*free, **arguments):
    return Call(arguments, free)


def unit(*shape):
    """float32 inside (0.1, 0.9)."""
    return GENERATOR.uniform(0.1, 0.9, shape).astype(np.float32)


def key():
    return jax.random.key(0)


def keys(num):
    return jax.random.split(jax.random.key(0), num)
