"""Where the arrays of a state lie when several devices hold one model together.

Devices then form a grid: "data" rows share a batch, and the "model" devices of a row share every large array of the
state. The engine's update is written for a row; how its arithmetic is divided inside a row is left to XLA.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Tree = Any
MODEL_AXIS = "model"


def data_parallel_size(num_devices: int, model_parallel_size: int) -> int:
    """Over how many rows of devices a batch is split.

    Raises:
        ValueError: the devices do not form whole rows.
    """
    if model_parallel_size < 1 or num_devices % model_parallel_size:
        raise ValueError(
            f"{num_devices} devices do not form rows of model_parallel_size = {model_parallel_size}; "
            f"{-(-num_devices // max(model_parallel_size, 1)) * max(model_parallel_size, 1)} would"
        )
    return num_devices // model_parallel_size


def check_shared(backend: str, exact_shards: int) -> None:
    """Raises ValueError where devices cannot share a model."""
    if backend != "shard_map":
        raise ValueError(f"backend is {backend!r}; devices that share a model need 'shard_map'")
    if exact_shards:
        raise ValueError(
            "exact_shards promises bits that do not depend on the devices; how XLA divides a model does: leave "
            "model_parallel_size at 1"
        )


def array_spec(shape: tuple[int, ...], model_parallel_size: int) -> PartitionSpec:
    """Cut along the largest axis that `model_parallel_size` divides, the last of equals.

    Whole on every device: vectors and numbers, which are small, and arrays without such an axis.
    """
    fitting = [(size, axis) for axis, size in enumerate(shape) if size and size % model_parallel_size == 0]
    if len(shape) < 2 or not fitting:
        return PartitionSpec()
    return PartitionSpec(*(None,) * max(fitting)[1], MODEL_AXIS)


def tree_specs(tree: Tree, model_parallel_size: int) -> Tree:
    """`array_spec` of every array of a tree of arrays or shapes."""
    return jax.tree.map(lambda x: array_spec(np.shape(x), model_parallel_size), tree)


def tree_shardings(tree: Tree, mesh: Mesh) -> Tree:
    """The placement of a tree of arrays or shapes on a grid of devices; whole everywhere without a "model" axis."""
    model_parallel_size = mesh.shape.get(MODEL_AXIS, 1)
    if model_parallel_size == 1:
        return jax.tree.map(lambda _: NamedSharding(mesh, PartitionSpec()), tree)
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), tree_specs(tree, model_parallel_size))


def bytes_per_device(tree: Tree, model_parallel_size: int) -> int:
    """Of a tree of arrays or shapes, shared by that many devices."""

    def of(x) -> int:
        whole = x.size * x.dtype.itemsize
        return whole // model_parallel_size if MODEL_AXIS in array_spec(x.shape, model_parallel_size) else whole

    return sum(of(x) for x in jax.tree.leaves(tree))
