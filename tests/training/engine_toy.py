"""A small regression that the engine's tests train: noise in the loss, data in a stateless order.

The tests share its few compiled programs, so it always has a moving average and the same optimizer, and the tests'
files are marked as optimized.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen import training
from jaxgen.training import keys

BATCH, FEATURES, EXAMPLES, DECAY = 16, 6, 50, 0.9
DATA = np.random.default_rng(0).normal(size=(EXAMPLES, FEATURES)).astype(np.float32)
# Division by sqrt(v) is where one-device programs have been seen to fuse differently.
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))


@dataclasses.dataclass(frozen=True)
class Config:
    seed: int = 0
    width: int = 8
    train: training.Settings = training.Settings(num_steps=12, batch_size=BATCH, log_every=4, save_every=4)


def parameters(seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"in": (FEATURES, 8), "out": (8, FEATURES)}
    return {name: 0.3 * rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def objective(params, batch, keys_per_example, context):
    # From the bits of an example's key: with jax.random.normal, compiling takes 1.6 times as long.
    uniform = (jax.random.key_data(keys_per_example) >> 8).astype(jnp.float32) * 2**-24
    noise = 0.1 * jnp.sin(40.0 * uniform[:, :1] * jnp.arange(1.0, FEATURES + 1)[None] + 6.0 * uniform[:, 1:])
    hidden = jnp.tanh((batch["x"] + noise) @ params["in"])
    losses = jnp.sum((hidden @ params["out"] - batch["x"]) ** 2, axis=-1)
    return losses, {"hidden": jnp.mean(hidden**2, axis=-1)}


def order(key_data, step, positions):
    """The examples of a batch: consecutive, from a start that depends on the key. For NumPy arrays too."""
    start = (key_data[1] % np.uint32(EXAMPLES)).astype(np.int32)
    return (start + step * np.int32(BATCH) + positions) % np.int32(EXAMPLES)


def take(key, arrays, step, positions):
    return {"x": arrays[order(jax.random.key_data(key), step, positions)]}


def take_on_host(key, step, positions):
    return {"x": DATA[order(np.asarray(jax.random.key_data(key)), step, positions)]}


BATCHES = training.DeviceBatches(take, DATA)


def update(optimizer=OPTIMIZER):
    return training.update_from_objective(objective, optimizer, ema_decay=DECAY)


def state(optimizer=OPTIMIZER, seed=0):
    return training.create_state(parameters(seed), optimizer, ema=True)


@functools.cache
def compiled(optimizer=OPTIMIZER, devices=1, options=()):
    """One compiled update for all tests of a process that ask for the same."""
    return training.ParallelUpdate(
        update(optimizer), BATCHES, batch_size=BATCH, devices=jax.devices()[:devices], **dict(options)
    )


def run_steps(calls, *, optimizer=OPTIMIZER, seed=0, devices=1, start=None, **options):
    """Final (state, sums) on the host after calls of the given numbers of steps."""
    parallel = compiled(optimizer, devices, tuple(options.items()))
    key = keys.root(seed)
    begin = state(optimizer, seed) if start is None else start[0]
    sums = parallel.empty_sums(begin, key) if start is None else parallel.replicate(start[1])
    current = parallel.place(begin)
    for number in calls:
        current, sums = parallel(current, sums, key, None, number)
    return jax.device_get((current, sums))
