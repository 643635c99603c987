"""Conversion of weights by a list of entries: which of the authors' arrays is which parameter of this library.

The layouts are those of the authors' released files.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.diffusion.unet.networks import EncoderUNet, UNet
from jaxgen.weights import explain, select

Params = Any


class WeightsMismatchError(ValueError):
    """The weights are not those of the network; the message lists what is missing, unknown or of another shape."""


class Entry(NamedTuple):
    """One parameter.

    Attributes:
        names: of the arrays that it consists of, in the authors' file.
        path: in the tree of parameters.
        ours: those arrays -> the parameter.
        theirs: the parameter -> those arrays, as a tuple.
    """

    names: tuple[str, ...]
    path: tuple[str, ...]
    ours: Callable[..., Any]
    theirs: Callable[[Any], tuple[Any, ...]]


def parameter_shapes(network: UNet | EncoderUNet, image_size: int | tuple[int, int]) -> Params:
    """The tree of the network's parameters as `jax.ShapeDtypeStruct`, without memory for them.

    Args:
        network: the network.
        image_size: height and width of its images, or one number for both.
    """
    sides = (image_size, image_size) if isinstance(image_size, int) else image_size
    x = jax.ShapeDtypeStruct((1, *sides, network.in_channels), jnp.float32)
    t = jax.ShapeDtypeStruct((1,), jnp.int32)
    labels = (t,) if isinstance(network, UNet) and network.num_classes is not None else ()
    return jax.eval_shape(network.init, jax.random.key(0), x, t, *labels)["params"]


def to_parameters(entries: Iterable[Entry], weights: Mapping[str, np.ndarray], shapes: Params) -> Params:
    """The tree of float32 parameters.

    Args:
        entries: of all parameters.
        weights: name -> array; prefixes such as `module.` are taken off (`jaxgen.weights.select`).
        shapes: tree of the parameters' shapes.

    Raises:
        WeightsMismatchError: an entry is missing, unknown, or of another shape.
    """
    entries = list(entries)
    known = {name for entry in entries for name in entry.names}
    given, weights = weights, select(weights, known)
    wrong = [f"missing: {name}" for entry in entries for name in entry.names if name not in weights]
    wrong += [f"unknown: {name}" for name in sorted(set(weights) - known)]
    tree: Params = {}
    for entry in entries:
        expected = [array.shape for array in jax.eval_shape(entry.theirs, leaf(shapes, entry.path))]
        arrays = [np.asarray(weights[name], np.float32) for name in entry.names if name in weights]
        unfit = [
            f"shape: {name} is {weights[name].shape}, expected {shape}"
            for name, shape in zip(entry.names, expected, strict=True)
            if name in weights and weights[name].shape != shape
        ]
        wrong += unfit
        if not unfit and len(arrays) == len(entry.names):
            _put(tree, entry.path, jax.device_put(entry.ours(*arrays)))
    if wrong:
        shown = wrong[:20] + ([f"and {len(wrong) - 20} more"] if len(wrong) > 20 else [])
        raise WeightsMismatchError(
            f"these weights are not those of the network (is it another architecture?). {explain(given)}\n  "
            + "\n  ".join(shown)
        )
    return tree


def to_weights(entries: Iterable[Entry], params: Params) -> dict[str, np.ndarray]:
    """name -> array from the tree of parameters: the inverse of `to_parameters`."""
    return {
        name: np.asarray(array)
        for entry in entries
        for name, array in zip(entry.names, entry.theirs(leaf(params, entry.path)), strict=True)
    }


def leaf(tree: Params, path: tuple[str, ...]) -> Any:
    """The array at `path` in the tree."""
    for name in path:
        tree = tree[name]
    return tree


def _put(tree: Params, path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value
