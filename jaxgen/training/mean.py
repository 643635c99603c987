"""Averages over the global batch, however it is split: the one place that knows of devices and micro-shards.

An update asks `mean(f, batch, keys)` for the average of what `f` computes. Three ways to take it:

* `plain_mean`: no devices, `f` sees the whole batch. For tests and notebooks.
* `device_mean(axis)`: each device adds up its `accumulate` micro-shards, then `pmean` over the axis. The fastest; its
  last bits depend on the number of devices, because sums are taken in another order.
* `exact_mean(axis, ...)`: the batch is always the same K micro-shards; their values are gathered and added in one fixed
  order. The same bits on any number of devices that divides K, at the price of K values in memory.

Shapes of micro-shards are fixed and optimization barriers stand between them and the sum, so that XLA compiles the same
arithmetic for every number of devices.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Tree = Any


class Mean(NamedTuple):
    """The average that the engine hands to an update.

    `mean(f, batch, keys)` returns the average over the global batch of `f(batch, keys)`, where `f` maps a micro-shard
    (leading axis: its examples) to a tree of averages over that micro-shard. With `has_aux`, `f` returns a pair, and
    the second tree, of per-example arrays, comes back with one entry for each example of this device.

    Attributes:
        average: `average(f, batch, keys)` for an `f` that returns a pair.
        gather: turns a tree of per-example arrays of this device into those of the global batch, in global order.
    """

    average: Callable[[Callable, Tree, jax.Array], tuple[Tree, Tree]]
    gather: Callable[[Tree], Tree]

    def __call__(
        self, f: Callable[[Tree, jax.Array], Tree], batch: Tree, keys: jax.Array, has_aux: bool = False
    ) -> Tree:
        with_aux = f if has_aux else lambda batch, keys: (f(batch, keys), None)
        averages, per_example = self.average(with_aux, batch, keys)
        return (averages, per_example) if has_aux else averages


plain_mean = Mean(average=lambda f, batch, keys: f(batch, keys), gather=lambda tree: tree)


def device_mean(axis: str | None, accumulate: int = 1) -> Mean:
    """The average over devices of the average over `accumulate` micro-shards of each; axis None: of one device."""

    def average(f, batch, keys):
        if accumulate == 1:
            local, per_example = f(batch, keys)
        else:
            compute, shards = _micro_shards(f, batch, keys, accumulate)
            first = jax.eval_shape(lambda s: compute(s)[0], jax.tree.map(lambda x: x[0], shards))
            zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)

            def add(total, shard):
                value, per_example = compute(shard)
                return jax.tree.map(jnp.add, total, value), per_example

            total, per_example = lax.scan(add, zero, shards)
            local = jax.tree.map(lambda x: x / accumulate, total)
            per_example = _join(per_example)
        return (local if axis is None else lax.pmean(local, axis)), per_example

    return Mean(average, (lambda tree: tree) if axis is None else _gather_over(axis))


def exact_mean(axis: str, num_shards: int, num_devices: int) -> Mean:
    """The average over `num_shards` micro-shards, added in global order on every device alike."""

    def average(f, batch, keys):
        compute, shards = _micro_shards(f, batch, keys, num_shards // num_devices)
        values, per_example = _map_alike(compute, shards, num_shards // num_devices)
        values = lax.all_gather(values, axis, tiled=True)
        values = lax.optimization_barrier(values)
        first = jax.tree.map(lambda x: x[0], values)
        add = lambda i, total: jax.tree.map(lambda t, x: t + x[i], total, values)
        total = lax.fori_loop(1, num_shards, add, first)
        averages = jax.tree.map(lambda x: x / num_shards, total)
        return lax.optimization_barrier(averages), _join(per_example)

    return Mean(average, _gather_over(axis))


def _map_alike(f, shards, num):
    """lax.map(f, shards) whose body compiles to the same instructions for every `num`.

    XLA unrolls a loop that it knows to run once and simplifies a slice of an axis of length one; the body then fuses
    with its surroundings and rounds differently (seen on CPU). So the number of turns is hidden from it, and one shard
    travels as the first of two.
    """
    one = jax.tree.map(lambda x: x[0], shards)
    if num == 1:
        shards = jax.tree.map(lambda x: jnp.concatenate([x, x]), shards)
    empty = jax.tree.map(lambda x: jnp.zeros((max(num, 2), *x.shape), x.dtype), jax.eval_shape(f, one))

    def turn(i, values):
        shard = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, keepdims=False), shards)
        value = lax.optimization_barrier(f(lax.optimization_barrier(shard)))
        return jax.tree.map(lambda all, x: lax.dynamic_update_index_in_dim(all, x, i, 0), values, value)

    values = lax.fori_loop(0, lax.optimization_barrier(jnp.int32(num)), turn, empty)
    return jax.tree.map(lambda x: x[:num], values)


def _gather_over(axis):
    return lambda tree: lax.all_gather(tree, axis, tiled=True)


def _micro_shards(f, batch, keys, num):
    """(compute, shards): shards have a new leading axis of length `num`, and compute(shard) is f of one of them.

    Keys travel as plain integers, because a barrier or a loop that carries a typed key counts as a use of it.
    """
    impl = jax.random.key_impl(keys)
    compute = lambda shard: f(shard[0], jax.random.wrap_key_data(shard[1], impl=impl))
    split = lambda x: x.reshape(num, x.shape[0] // num, *x.shape[1:])
    return compute, jax.tree.map(split, (batch, jax.random.key_data(keys)))


def _join(tree):
    return jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), tree)
