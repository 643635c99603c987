"""Compiles one per-device update for all devices, with pmap or jit(shard_map), and runs any number of steps a call.

The number of steps is an argument of the compiled loop, not a part of the program: one step, ten or a thousand a call
run the very same instructions, so they give the same bits.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgen.compiler import check_once, with_options
from jaxgen.data.batches import DeviceBatches, HostBatches

from . import keys as key_streams
from .mean import device_mean, exact_mean
from .placement import MODEL_AXIS, check_shared, data_parallel_size, tree_shardings, tree_specs
from .state import TrainState
from .update import Update

Tree = Any
AXIS = "data"
Backend = Literal["pmap", "shard_map"]


class MetricSums(NamedTuple):
    """Metrics added up since the last log line; carried through the compiled loop.

    Attributes:
        totals: {name: float32 scalar}, sums over steps.
        count: int32 scalar, steps added.
        first_bad_step: int32 scalar, the first step with a metric that is not finite, or -1.
    """

    totals: dict[str, Any]
    count: Any
    first_bad_step: Any

    def not_finite(self) -> str:
        """The names of the metrics whose sums, fetched to the host, are not finite."""
        return ", ".join(name for name, total in self.totals.items() if not abs(float(total)) < float("inf"))


def check_split(batch_size: int, num_devices: int, accumulate: int = 1, exact_shards: int = 0) -> None:
    """Raises ValueError, naming what would fit, unless the batch splits evenly as asked."""
    if min(batch_size, num_devices, accumulate) < 1 or exact_shards < 0:
        raise ValueError(
            f"batch size {batch_size}, devices {num_devices} and accumulate {accumulate} must be at least 1, "
            f"exact_shards {exact_shards} at least 0"
        )
    if exact_shards:
        if accumulate > 1:
            raise ValueError("exact_shards already splits the batch: leave accumulate at 1 and raise exact_shards")
        if exact_shards % num_devices:
            raise ValueError(
                f"exact_shards is {exact_shards}, not divisible by {num_devices} devices; "
                f"{_next_multiple(exact_shards, num_devices)} is"
            )
        parts, what = exact_shards, f"exact_shards = {exact_shards}"
    else:
        parts, what = num_devices * accumulate, f"{num_devices} devices x accumulate {accumulate}"
    if batch_size % parts:
        raise ValueError(
            f"a batch of {batch_size} does not divide into {what}; {_next_multiple(batch_size, parts)} would"
        )


def _copied(tree: Tree, shardings: Any) -> Tree:
    """A copy on the devices. may_alias=False copies what NumPy holds, but not an array that is already in its place."""
    copied = lambda x: jnp.array(x, copy=True) if isinstance(x, jax.Array) else x
    return jax.device_put(jax.tree.map(copied, tree), shardings, may_alias=False)


class ParallelUpdate:
    """An update compiled over devices: `state, sums = parallel(state, sums, key, first_batch, num_steps)`.

    Args:
        update: `update(state, batch, keys, mean) -> (state, metrics)`.
        batches: where a step's batch comes from.
        batch_size: the global batch.
        devices: from jax.devices(), of all processes; default all there are.
        backend: "pmap", or "shard_map" for jit(shard_map).
        accumulate: micro-shards of each device, computed one after another (gradient accumulation).
        exact_shards: K > 0 fixes K micro-shards and the order of their sum, so that the bits do not depend on the
            number of devices.
        model_parallel_size: M > 1: the devices are rows of M, each of which holds one copy of the state (`place`) and
            computes what a single device computes otherwise; needs "shard_map".

    Raises:
        ValueError: the batch or the devices do not divide evenly, or M > 1 with what cannot go with it.
    """

    def __init__(
        self,
        update: Update,
        batches: DeviceBatches | HostBatches,
        *,
        batch_size: int,
        devices: Sequence[Any] | None = None,
        backend: Backend = "pmap",
        accumulate: int = 1,
        exact_shards: int = 0,
        model_parallel_size: int = 1,
    ):
        devices = list(jax.devices() if devices is None else devices)
        check_once()
        rows = data_parallel_size(len(devices), model_parallel_size)
        check_split(batch_size, rows, accumulate, exact_shards)
        if model_parallel_size > 1:
            check_shared(backend, exact_shards)
        # XLA takes no collectives over a manual axis of one beside an automatic axis.
        is_one_row = rows == 1 and model_parallel_size > 1
        if exact_shards:
            self._mean = exact_mean(AXIS, exact_shards, rows)
        else:
            self._mean = device_mean(None if is_one_row else AXIS, accumulate)
        self._update, self._batches, self._backend = self._once(update), batches, backend
        self._batch_size, self._platform = batch_size, devices[0].platform
        self._compiled: dict[Any, Callable[..., Any]] = {}
        if model_parallel_size > 1:
            self._mesh = Mesh(np.array(devices).reshape(rows, model_parallel_size), (AXIS, MODEL_AXIS))
        else:
            self._mesh = Mesh(np.array(devices), (AXIS,))
        by_device = np.array(devices).reshape(rows, model_parallel_size)
        local = [i for i, row in enumerate(by_device) if any(d.process_index == jax.process_index() for d in row)]
        self._model_devices, self._is_one_row = model_parallel_size, is_one_row
        by_row = np.arange(batch_size, dtype=np.int32).reshape(rows, -1)[local]
        self.local_positions = by_row.reshape(-1)
        self._num_local = len(local)
        self._positions = self._split(self.local_positions)
        self._make = batches.make if isinstance(batches, DeviceBatches) else None
        self._arrays = self.replicate(batches.arrays) if isinstance(batches, DeviceBatches) else None

        whole, split = PartitionSpec(), PartitionSpec(AXIS)
        # check_vma=True would psum the gradient of a replicated parameter a second time. The model axis is XLA's.
        shard = partial(jax.shard_map, mesh=self._mesh, out_specs=whole, check_vma=False, axis_names={AXIS})
        of_step = self._metrics_of_step
        self._metrics = of_step if is_one_row else shard(of_step, in_specs=(whole, whole, whole, split, split))
        per_call = (None, None, None, None, 0, 0, None)
        if backend == "pmap":
            self._program = jax.pmap(
                self._steps, AXIS, in_axes=per_call, out_axes=None, devices=devices, donate_argnums=(0,)
            )
        elif backend == "shard_map":
            sharded = shard(self._steps, in_specs=tuple(whole if axis is None else split for axis in per_call))
            self._program = jax.jit(sharded, donate_argnums=(0,))
            self._sharded = self._steps if is_one_row else sharded
        else:
            raise ValueError(f"backend is {backend!r}; it must be 'pmap' or 'shard_map'")

    def _steps(self, state, sums, key, arrays, positions, batch, num_steps):
        """What a device runs in one call."""
        streams = order_and_model(key)

        def one(_, carry):
            state, sums = carry
            new_state, metrics = self._step(self._update, self._make, state, streams, arrays, positions, batch)
            return new_state, add_metrics(sums, metrics, state.step)

        return lax.fori_loop(0, num_steps, one, (state, sums))

    def _once(self, update: Update) -> Callable[..., Any]:
        """`update(state, batch, keys)`, traced once: `empty_sums` and the program share it.

        Inlined, it is the same program as without jit.
        """
        return jax.jit(lambda state, batch, keys: update(state, batch, keys, self._mean), inline=True)

    def _metrics_of_step(self, state, key, arrays, positions, batch):
        return self._step(self._update, self._make, state, order_and_model(key), arrays, positions, batch)[1]

    def _step(self, update, make, state, streams, arrays, positions, batch):
        """(state, metrics) after one update, whose batch `make` makes, unless that is None and it is given."""
        order, model = streams
        keys = key_streams.per_example(key_streams.at_step(model, state.step), positions)
        if make:
            batch = make(jax.random.clone(order), arrays, state.step, positions)
        # The update compiles alike, wherever its batch comes from.
        state, metrics = update(state, lax.optimization_barrier(batch), keys)
        if self._model_devices > 1:
            cut = tree_shardings(state, self._mesh) if self._is_one_row else tree_specs(state, self._model_devices)
            state = lax.with_sharding_constraint(state, cut)
        return state, metrics

    def __call__(
        self, state: TrainState, sums: MetricSums, key: jax.Array, batch: Tree, num_steps: int
    ) -> tuple[TrainState, MetricSums]:
        """Runs `num_steps` updates and returns without waiting for them. `state` is given away (donated).

        Args:
            state: on the devices (`place`).
            sums: metrics so far.
            key: the run's root key.
            batch: with HostBatches, this process's part of the batch, leading axis len(local_positions), and
                num_steps must be 1; with DeviceBatches, None.
            num_steps: how many.
        """
        if isinstance(self._batches, HostBatches):
            if num_steps != 1:
                raise ValueError("batches fed by the host run one step a call")
            batch = self._split(batch)
        args = (state, sums, key, self._arrays, self._positions, batch, np.int32(num_steps))
        leaves, structure = jax.tree.flatten(args)
        shapes = (structure, *((x.shape, x.dtype) for x in leaves))
        if shapes not in self._compiled:
            self._compiled[shapes] = with_options(self._program_for(state), *args, backend=self._platform)
        return self._compiled[shapes](*args)

    def place(self, state: TrainState) -> TrainState:
        """Puts a fresh copy of a state on the devices: on every one, or cut among those that share a model."""
        if self._model_devices == 1:
            return self.replicate(state)
        return _copied(state, tree_shardings(state, self._mesh))

    def create(self, make: Callable[[], TrainState]) -> TrainState:
        """The state that `make` makes, each array where it belongs from the first, so that none has to fit whole."""
        if self._model_devices == 1:
            return self.replicate(make())
        return jax.jit(make, out_shardings=tree_shardings(jax.eval_shape(make), self._mesh))()

    def _program_for(self, state: TrainState) -> Callable[..., Any]:
        if self._model_devices == 1:
            return self._program
        everywhere = NamedSharding(self._mesh, PartitionSpec())
        return jax.jit(
            self._sharded, donate_argnums=(0,), out_shardings=(tree_shardings(state, self._mesh), everywhere)
        )

    def replicate(self, tree: Tree) -> Tree:
        """Puts a fresh copy of every array on every device; giving the copy away leaves the caller's alone."""
        return _copied(tree, NamedSharding(self._mesh, PartitionSpec()))

    def empty_sums(self, state: TrainState, key: jax.Array) -> MetricSums:
        """A sums of zeros with the names that the update reports. Of a host feed, the batch of step 0 is made."""
        fed = self._batches if isinstance(self._batches, HostBatches) else None
        local = self.local_positions, fed.make(key, 0, self.local_positions) if fed else None
        whole = lambda x: jax.ShapeDtypeStruct((self._batch_size, *np.shape(x)[1:]), x.dtype)
        names = jax.eval_shape(self._metrics, state, key, self._arrays, *jax.tree.map(whole, local))
        for name, value in names.items():
            if value.shape != ():
                raise ValueError(f"metric {name!r} has shape {value.shape}; a metric is one number")
        return self.replicate(
            MetricSums(totals=dict.fromkeys(names, np.float32(0)), count=np.int32(0), first_bad_step=np.int32(-1))
        )

    def _split(self, tree: Tree) -> Tree:
        """This process's part of a batch, laid out over its devices."""
        if self._backend == "pmap":
            return jax.tree.map(lambda x: x.reshape(self._num_local, -1, *x.shape[1:]), tree)
        sharding = NamedSharding(self._mesh, PartitionSpec(AXIS))
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), tree)


def pick_devices(number: int) -> list[Any]:
    """The first `number` of jax.devices(), or all for 0."""
    devices = jax.devices()
    if number > len(devices):
        raise ValueError(f"{number} devices asked for, {len(devices)} found ({devices[0].platform})")
    return devices[: number or len(devices)]


def warn_if_pool_unset(exact_shards: int) -> None:
    """On CPU the bits also depend on the thread pool's size, which only NPROC fixes."""
    import os

    if exact_shards and jax.default_backend() == "cpu" and "NPROC" not in os.environ:
        warnings.warn(
            "exact_shards on CPU: the environment variable NPROC is not set, so the bits also depend on this machine's "
            "number of cores and on the number of devices. Set NPROC=16 before jax is imported.",
            stacklevel=2,
        )


def order_and_model(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The keys of the order of the data and of what the update draws, from the root key."""
    return key_streams.stream(key, "order"), key_streams.stream(key, "model")


def add_metrics(sums: MetricSums, metrics: dict[str, jax.Array], step: jax.Array) -> MetricSums:
    """The sums with the metrics of one more step, whose number is `step`."""
    finite = jnp.stack([jnp.isfinite(v) for v in metrics.values()]).all()
    is_first = (sums.first_bad_step < 0) & ~finite
    return MetricSums(
        totals={name: sums.totals[name] + metrics[name].astype(jnp.float32) for name in metrics},
        count=sums.count + 1,
        first_bad_step=jnp.where(is_first, step, sums.first_bad_step),
    )


def _next_multiple(n: int, of: int) -> int:
    return -(-n // of) * of
