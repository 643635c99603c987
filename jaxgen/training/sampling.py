"""Draws samples over devices, so that sample i is a function of (key, i) and of nothing else.

In value always, because each sample has a key of its own. In its last bits too where a program's shape and a sample's
row in it are fixed: a matrix product rounds differently with another number of rows, and in another row.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgen.compiler import check_once, with_options

from . import hosts

Tree = Any
AXIS = "data"


class ParallelSampler:
    """A sampler over devices: `draw(params, key, numbers, given) -> samples`, NumPy arrays on every process.

    Args:
        function: `function(params, keys [b], numbers [b]) -> tree of [b, ...]`: row j from keys[j] and numbers[j]
            alone. The numbers, uint32, are for what else belongs to a sample, such as its label. Where a call has
            `given`, its rows are a fourth argument.
        devices: from jax.devices(); default all there are. With several processes each draws its share on its own.
        batch_size: samples at a time, over all devices of a process; fewer where fewer are asked for.
        fixed_batch_size: K > 0: sample i is always row i % K of a program for K samples, on one device. Then its bits
            do not depend on which others are drawn, nor on the number of devices or processes; a sample drawn alone
            costs as much as K. `batch_size` is not used.
        exact_shard: the name of `fixed_batch_size` in jaxgen 0.1.0.

    Raises:
        ValueError: a batch below 1, or a negative fixed batch.
    """

    def __init__(
        self,
        function: Callable[[Tree, jax.Array, jax.Array], Tree],
        *,
        devices: Sequence[Any] | None = None,
        batch_size: int = 64,
        fixed_batch_size: int = 0,
        exact_shard: int = 0,
    ):
        fixed = fixed_batch_size or exact_shard
        if batch_size < 1 or fixed < 0:
            raise ValueError(f"batch_size is {batch_size}, fixed_batch_size {fixed}; expected at least 1 and 0")
        chosen = jax.devices() if devices is None else devices
        check_once()
        local = [d for d in chosen if d.process_index == jax.process_index()]
        self._batch_size, self._fixed = batch_size, fixed
        self._mesh = Mesh(np.array(local), (AXIS,))
        self._num_devices, self._platform = len(local), local[0].platform
        self._compiled: dict[Any, Callable[..., Any]] = {}

        def rows(params, key, numbers, more):
            keys = jax.random.key_data(jax.vmap(jax.random.fold_in, (None, 0))(key, numbers))
            # A barrier that is handed a typed key counts as a use of it.
            params, keys, numbers, more = lax.optimization_barrier((params, keys, numbers, more))
            return function(params, jax.random.wrap_key_data(keys, impl=jax.random.key_impl(key)), numbers, *more)

        specs = (PartitionSpec(), PartitionSpec(), PartitionSpec(AXIS), PartitionSpec(AXIS))
        sharded = jax.shard_map(rows, mesh=self._mesh, in_specs=specs, out_specs=PartitionSpec(AXIS), check_vma=False)
        self._program = jax.jit(sharded)

    def __call__(
        self, params: Tree, key: jax.Array, numbers: Any, given: Callable[[np.ndarray], Tree] | None = None
    ) -> Tree:
        """The samples of these numbers.

        Args:
            params: what the function takes, a tree of arrays.
            key: scalar key; sample i is drawn from fold_in(key, i).
            numbers: which samples, integers [n] from 0 to 2**32 - 1, in any order.
            given: `given(numbers) -> tree of [n, ...]`, what else the samples of these numbers are drawn from. It is
                asked for every row that is computed, also for those that only fill a batch.

        Returns:
            The function's tree, NumPy arrays [n, ...].

        Raises:
            ValueError: no numbers, or some that are none.
        """
        numbers = np.asarray(numbers)
        if numbers.ndim != 1 or not len(numbers) or numbers.dtype.kind not in "iu":
            raise ValueError(f"numbers are {numbers.dtype}{list(numbers.shape)}; expected integers [n], n at least 1")
        if numbers.min() < 0 or numbers.max() >= 2**32:
            raise ValueError(f"numbers go from {numbers.min()} to {numbers.max()}; expected 0 to 2**32 - 1")
        rows, found, size = self._plan(numbers.astype(np.int64))
        share = len(rows) // jax.process_count() if hosts.is_multihost() else len(rows)
        first = share * jax.process_index() if hosts.is_multihost() else 0
        whole, split = (NamedSharding(self._mesh, spec) for spec in (PartitionSpec(), PartitionSpec(AXIS)))
        params, key = jax.device_put((params, key), whole)
        parts, waiting = [], None
        for start in range(first, first + share, size):
            batch = rows[start : start + size]
            more = () if given is None else (given(batch),)
            made = self._run(params, key, *jax.device_put((batch, more), split))
            if waiting is not None:
                parts.append(jax.device_get(waiting))
            waiting = made
        parts.append(jax.device_get(waiting))
        drawn = jax.tree.map(lambda *x: np.concatenate(x), *parts)
        return jax.tree.map(lambda x: hosts.joined(x)[found], drawn)

    def _plan(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        """(numbers in the order of computation, where the wanted ones are among them, how many a call)."""
        parts = self._num_devices * (jax.process_count() if hosts.is_multihost() else 1)
        if self._fixed:
            # Only batches with a wanted sample, each whole.
            batches, which = np.unique(numbers // self._fixed, return_inverse=True)
            found = which * self._fixed + numbers % self._fixed
            batches = _filled(batches, parts)
            rows = (batches[:, None] * self._fixed + np.arange(self._fixed)).reshape(-1)
            size = self._fixed * self._num_devices
        else:
            most = max(1, self._batch_size // self._num_devices)
            size = min(most, -(-len(numbers) // parts)) * self._num_devices
            found = np.arange(len(numbers))
            rows = _filled(numbers, size * parts // self._num_devices)
        return rows.astype(np.uint32), found, size

    def _run(self, params: Tree, key: jax.Array, numbers: jax.Array, more: Tree) -> Tree:
        leaves, structure = jax.tree.flatten((params, numbers, more))
        shapes = (structure, *((x.shape, x.dtype) for x in leaves))
        if shapes not in self._compiled:
            self._compiled[shapes] = with_options(self._program, params, key, numbers, more, backend=self._platform)
        return self._compiled[shapes](params, key, numbers, more)


def _filled(numbers: np.ndarray, multiple: int) -> np.ndarray:
    """`numbers`, the last repeated until their count is a multiple."""
    return np.concatenate([numbers, np.repeat(numbers[-1:], -len(numbers) % multiple)])
