"""Where a step's batch comes from: made on the device inside the step, or fed by the host ahead of it.

Both are functions of (key, step, positions), so the order of the data needs no iterator and no state.
"""

import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Tree = Any


@dataclasses.dataclass(frozen=True)
class DeviceBatches:
    """Batches gathered from arrays that live on every device.

    Attributes:
        make: `make(key, arrays, step, positions) -> batch`, traced inside the step; `key` is the run's "order" stream,
            the same at every step and its own to use, `positions` int32 [b] are this device's in the global batch.
        arrays: tree of arrays, copied once to every device (uint8 images stay uint8).
        batch_size: examples of a global batch, where `make` is meant for that many alone.
    """

    make: Callable[[jax.Array, Tree, Any, Any], Tree]
    arrays: Tree
    batch_size: int | None = None


@dataclasses.dataclass(frozen=True)
class HostBatches:
    """Batches made by the host, for data that does not fit on a device.

    Attributes:
        make: `make(key, step, positions) -> batch`, a tree of NumPy arrays with leading axis len(positions); called in
            background threads. `positions` are those of this process's devices.
        prefetch: batches made ahead.
        batch_size: as of `DeviceBatches`.
        workers: threads; with several, `make` is called for so many steps at once. Batches are trained on in the order
            of the steps in any case, and with one they are also made in it.
    """

    make: Callable[[jax.Array, int, np.ndarray], Tree]
    prefetch: int = 2
    workers: int = 1
    batch_size: int | None = None


def group_examples(batches: DeviceBatches, number: int) -> DeviceBatches:
    """Batches [b, number, ...], for updates that take several steps on each batch.

    Args:
        batches: batches [b, ...]; where they have a batch size, that of all groups together.
        number: examples at one position. Position i holds the examples number * i, ..., number * (i + 1) - 1.

    Returns:
        The same batches where `number` is 1.
    """
    if number == 1:
        return batches

    def make(key, arrays, step, positions):
        members = positions[:, None] * number + jnp.arange(number, dtype=positions.dtype)[None]
        batch = batches.make(key, arrays, step, members.reshape(-1))
        return jax.tree.map(lambda x: x.reshape(-1, number, *x.shape[1:]), batch)

    return DeviceBatches(make, batches.arrays, batches.batch_size and batches.batch_size // number)


def on_host(batches: DeviceBatches | HostBatches, prefetch: int) -> HostBatches:
    """The same batches, made by the CPU `prefetch` steps ahead; the arrays stay in the host's memory.

    Args:
        batches: DeviceBatches, whose `make` is compiled for the CPU, or HostBatches.
        prefetch: batches made ahead.

    Raises:
        ValueError: JAX_PLATFORMS leaves the CPU out.
    """
    if isinstance(batches, HostBatches):
        return dataclasses.replace(batches, prefetch=prefetch)
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise ValueError("prefetch makes batches on the CPU: add cpu to JAX_PLATFORMS, or set prefetch to 0") from error
    program = jax.jit(batches.make)
    arrays = jax.device_put(batches.arrays, cpu)

    def make(key, step, positions):
        with jax.default_device(cpu):
            return jax.device_get(program(jax.device_put(key, cpu), arrays, np.int32(step), positions))

    return HostBatches(make, prefetch, batch_size=batches.batch_size)


def prefetched(batches: HostBatches, key: jax.Array, first: int, positions: np.ndarray) -> Generator[Tree, None, None]:
    """Yields the batches of steps first, first + 1, ... A failure in `make` is raised where the batch is asked for."""
    with ThreadPoolExecutor(max(batches.workers, 1), thread_name_prefix="prefetch") as pool:
        number = max(batches.prefetch, batches.workers, 1)
        ahead = deque(pool.submit(batches.make, jax.random.clone(key), first + i, positions) for i in range(number))
        try:
            for step in itertools.count(first + number):
                batch = ahead.popleft().result()
                ahead.append(pool.submit(batches.make, jax.random.clone(key), step, positions))
                yield batch
        finally:
            # What has begun is waited for: a thread inside JAX when the interpreter ends would abort the process.
            pool.shutdown(cancel_futures=True)
