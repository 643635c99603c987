"""A small regression that the engine's tests train: noise in the loss, data in the stateless order."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen import training
from jaxgen.data.order import shuffled_index
from jaxgen.training import keys

BATCH, FEATURES, EXAMPLES = 16, 6, 50
DATA = np.random.default_rng(0).normal(size=(EXAMPLES, FEATURES)).astype(np.float32)
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))


@dataclasses.dataclass(frozen=True)
class Config:
    seed: int = 0
    width: int = 8
    train: training.Settings = training.Settings(num_steps=12, batch_size=BATCH, log_every=4, save_every=4)


def init(key):
    first, second = jax.random.split(key)
    return {
        "in": 0.3 * jax.random.normal(first, (FEATURES, 8)),
        "out": 0.3 * jax.random.normal(second, (8, FEATURES)),
    }


def objective(params, batch, example_keys, context):
    noise = 0.1 * jax.vmap(lambda k: jax.random.normal(k, (FEATURES,)))(example_keys)
    hidden = jnp.tanh((batch["x"] + noise) @ params["in"])
    losses = jnp.sum((hidden @ params["out"] - batch["x"]) ** 2, axis=-1)
    return losses, {"hidden": jnp.mean(hidden**2, axis=-1)}


def take(key, arrays, step, positions):
    return {"x": arrays[shuffled_index(key, step, positions, BATCH, EXAMPLES)]}


BATCHES = training.DeviceBatches(take, DATA)


def update(optimizer=OPTIMIZER, **options):
    return training.update_from_objective(objective, optimizer, **options)


def state(optimizer=OPTIMIZER, seed=0, **options):
    params = init(keys.stream(keys.root(seed), "params"))
    return training.create_state(params, optimizer, **options)


@functools.cache
def compiled(optimizer, ema, devices, options):
    """One compiled update for all tests of a process that ask for the same."""
    make = update(optimizer, ema_decay=0.9 if ema else None)
    return training.ParallelUpdate(
        make, BATCHES, batch_size=BATCH, devices=jax.devices()[:devices], **dict(options)
    )


def run_steps(calls, *, optimizer=OPTIMIZER, seed=0, devices=1, start=None, ema=False, **options):
    """Final (state, tally) on the host after calls of the given numbers of steps."""
    parallel = compiled(optimizer, ema, devices, tuple(options.items()))
    key = keys.root(seed)
    begin = state(optimizer, seed, ema=ema) if start is None else start[0]
    tally = parallel.empty_tally(begin, key) if start is None else parallel.replicate(start[1])
    current = parallel.place(begin)
    for number in calls:
        current, tally = parallel(current, tally, key, None, number)
    return jax.device_get((current, tally))
