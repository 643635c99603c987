"""Training in a notebook: the engine's compiled steps without a run directory."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax

from jaxgen.data.batches import DeviceBatches, HostBatches, prefetched

from . import keys
from .loop import NonFiniteLoss, next_boundary
from .parallel import ParallelUpdate
from .stacking import Callback
from .state import TrainState, create_state
from .update import Objective, Update, update_from_objective

Tree = Any


def train(
    loss: Objective,
    params: Tree,
    batches: DeviceBatches | HostBatches,
    num_steps: int,
    *,
    optimizer: optax.GradientTransformation,
    batch_size: int | None = None,
    seed: int = 0,
    ema_decay: float | Callable[[jax.Array], jax.Array] | None = None,
    statistics: Callable[..., Tree] | None = None,
    log_every: int | None = None,
    callbacks: Sequence[Callback] = (),
) -> TrainState:
    """Trains parameters on the mean of a loss over batches.

        state = training.train(loss, params, data.image_batches(images, 100), 1000, optimizer=optax.adam(1e-3))

    Args:
        loss: `loss(params, batch, keys, context) -> (losses [B], {name: [B]})`.
        params: tree of arrays, the start.
        batches: such as those of `data.image_batches`.
        num_steps: number of updates.
        optimizer: an optax transformation.
        batch_size: examples a step, where the batches do not know it.
        seed: random seed of the order of the data and of what the loss draws.
        ema_decay: decay of a moving average of the parameters, kept in the state's `ema`, or a function of the step.
        statistics: for a loss of a batch statistic, see `update_from_objective`.
        log_every: steps between lines of metrics, averaged over them; None: a tenth of the steps; 0: no lines.
        callbacks: (every, function) pairs: `function(step, state)` each `every` steps.

    Returns:
        The trained state, on the devices.

    Raises:
        ValueError: the batch size is not known, or it is not that of the batches.
        NonFiniteLoss: a metric was not finite.
    """
    update = update_from_objective(loss, optimizer, statistics=statistics, ema_decay=ema_decay)
    state = create_state(params, optimizer, ema=ema_decay is not None)
    return train_state(
        update,
        state,
        batches,
        num_steps,
        batch_size=batch_size,
        seed=seed,
        log_every=log_every,
        callbacks=callbacks,
    )


def train_state(
    update: Update,
    state: TrainState,
    batches: DeviceBatches | HostBatches,
    num_steps: int,
    *,
    batch_size: int | None = None,
    seed: int = 0,
    log_every: int | None = None,
    callbacks: Sequence[Callback] = (),
    devices: Sequence[Any] | None = None,
) -> TrainState:
    """`train` for any update, such as that of a GAN's two players.

    Args:
        update: `update(state, batch, keys, mean) -> (state, metrics)`.
        state: before the first step; it is trained until it has made `num_steps` updates.
        batches: as in `train`.
        num_steps: number of updates.
        batch_size: as in `train`.
        seed: as in `train`.
        log_every: as in `train`.
        callbacks: as in `train`.
        devices: by default as many local devices as divide the batch.

    Returns:
        The trained state, on the devices.

    Raises:
        ValueError: the batch size is not known, it is not that of the batches, or the devices do not divide it.
        NonFiniteLoss: a metric was not finite.
    """
    size = batch_size or batches.batch_size
    if size is None:
        raise ValueError("the batches do not know their size: give batch_size")
    if batches.batch_size not in (None, size):
        raise ValueError(f"batches are of {batches.batch_size} examples, and batch_size is {size}")
    if devices is None:
        local = jax.local_devices()
        devices = local[: max(n for n in range(1, len(local) + 1) if size % n == 0)]
    parallel = ParallelUpdate(update, batches, batch_size=size, devices=devices)
    key = keys.root(seed)
    empty = sums = parallel.empty_sums(state, key)
    state, step = parallel.place(state), int(state.step)
    log_every = max(num_steps // 10, 1) if log_every is None else log_every
    boundaries = [num_steps, log_every or num_steps, *(every for every, _ in callbacks)]
    fed = None
    if isinstance(batches, HostBatches):
        fed = prefetched(batches, keys.stream(key, "order"), step, parallel.local_positions)
    try:
        while step < num_steps:
            # Short calls, so that an interrupt takes effect soon.
            end = min(step + (1 if fed else 100), *(next_boundary(step, every) for every in boundaries))
            state, sums = parallel(state, sums, key, next(fed) if fed else None, end - step)
            step = end
            if step == num_steps or (log_every and step % log_every == 0):
                values = jax.device_get(sums)
                if values.first_bad_step >= 0:
                    raise NonFiniteLoss(f"{values.not_finite()} not finite at step {int(values.first_bad_step)}")
                if log_every:
                    means = "  ".join(f"{name} {float(v) / int(values.count):.4g}" for name, v in values.totals.items())
                    print(f"step {step}/{num_steps}  {means}", file=sys.stderr, flush=True)
                sums = empty
            for every, function in callbacks:
                if step % every == 0 or step == num_steps:
                    function(step, state)
            jax.block_until_ready(sums.count)
    finally:
        if fed:
            fed.close()
    return state
