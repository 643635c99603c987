"""Trees of arrays as named arrays and back, and their fingerprints."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

Tree = Any


def array_digest(x: np.ndarray) -> str:
    """sha256 of an array's dtype, shape and bytes."""
    x = np.ascontiguousarray(x)
    hashed = hashlib.sha256(f"{x.dtype.str}{x.shape}".encode())
    hashed.update(x.reshape(-1).view(np.uint8).data)
    return hashed.hexdigest()


def tree_digest(tree: Tree) -> str:
    """sha256 over the names and bytes of all arrays of a tree: equal exactly when the trees are bit-identical."""
    arrays = flatten(tree)
    lines = [f"{name} {array_digest(arrays[name])}\n" for name in sorted(arrays)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def flatten(tree: Tree) -> dict[str, np.ndarray]:
    """{path such as 'params/encoder/kernel': NumPy array} of a tree of arrays."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def unflatten(arrays: Mapping[str, np.ndarray], target: Tree, where: str | Path = "the file") -> Tree:
    """The tree of `target`'s structure with the arrays of the same names.

    Raises:
        ValueError: names, shapes or dtypes differ; the message lists which.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(target)
    expected = {_name(path): leaf for path, leaf in leaves}
    problems = [f"{name}: missing" for name in expected if name not in arrays]
    problems += [f"{name}: not in this model" for name in arrays if name not in expected]
    for name, leaf in expected.items():
        found = arrays.get(name)
        if found is not None and (found.shape, found.dtype) != (leaf.shape, leaf.dtype):
            problems.append(f"{name}: {found.dtype}{list(found.shape)}, expected {leaf.dtype}{list(leaf.shape)}")
    if problems:
        listed = "\n  ".join(problems[:10] + ["..."] * (len(problems) > 10))
        raise ValueError(f"{where} belongs to another model or configuration:\n  {listed}")
    return jax.tree_util.tree_unflatten(treedef, [arrays[_name(path)] for path, _ in leaves])


def _name(path) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
