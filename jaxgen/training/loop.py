"""The training loop: resume, run the compiled steps, log, save, stop cleanly.

The host stays at most two calls ahead of the device, so the device never waits for the host and Ctrl-C is answered
within about a second. Metrics are fetched where they are logged and before a save, while the next call runs.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from jaxgen.data.batches import DeviceBatches, HostBatches, on_host, prefetched

from . import hosts, keys
from .config import Settings, to_dict
from .pace import Agreed, Pace, caught_signals
from .parallel import MetricSums, ParallelUpdate, warn_if_pool_unset
from .run import Run, StoppedEarly
from .state import TrainState
from .update import Update

CALLS_AHEAD = 2


class NonFiniteLoss(FloatingPointError):
    """A metric became NaN or infinite; the message names the step, the metric and the last good checkpoint."""


class Interrupted(SystemExit):
    """Training was stopped by a signal after its state was saved; the exit code is 128 + the signal."""

    def __init__(self, message: str, code: int):
        super().__init__(code)
        self.message = message


Callback = tuple[int, Callable[[int, TrainState], None]]
"""(every, function): `function(step, state)` each `every` steps and at the last, the state still on the devices."""


class _Call(NamedTuple):
    end: int
    sums: MetricSums
    logs: bool
    saves: bool
    votes: Any


def fit(
    run: Run,
    settings: Settings,
    *,
    update: Update,
    state: TrainState | Callable[[], TrainState],
    batches: DeviceBatches | HostBatches,
    key: jax.Array,
    stage: str = "",
    callbacks: Sequence[Callback] = (),
) -> TrainState:
    """Trains `state` to `settings.num_steps` updates, or goes on from the run's newest whole checkpoint.

    Args:
        run: the open run directory.
        settings: how.
        update: `update(state, batch, keys, mean) -> (state, metrics)`.
        state: the state before the first step, or a function that makes it: then no device has to hold all of it
            where `settings.model_parallel_size` devices share it.
        batches: where a step's batch comes from; with `settings.prefetch`, the host makes them.
        key: the root key (of the run, or of the stage), a scalar.
        stage: name of this training among several of one run; its checkpoints are kept apart.
        callbacks: (every, function) pairs, such as previews.

    Returns:
        The trained state, on the devices. It is saved.

    Raises:
        ValueError: the batch does not divide as asked, or the checkpoint is of another model.
        NonFiniteLoss: a metric was not finite.
        Interrupted: SIGINT or SIGTERM, here or on another host; the state was saved first.
        HostLost: another host has ended.
        StoppedEarly: by the limits of the run.
    """
    limits = run.limits
    if limits.max_steps is not None:
        settings = dataclasses.replace(settings, num_steps=min(settings.num_steps, limits.max_steps))
    if limits.callbacks is not None:
        callbacks = limits.callbacks
    state = _fit(run, settings, update, state, batches, key, stage, callbacks)
    run.trainings += 1
    if run.trainings == limits.max_trainings:
        raise StoppedEarly(f"{run.trainings} trainings")
    return state


def _fit(
    run: Run,
    settings: Settings,
    update: Update,
    state: TrainState | Callable[[], TrainState],
    batches: DeviceBatches | HostBatches,
    key: jax.Array,
    stage: str,
    callbacks: Sequence[Callback],
) -> TrainState:
    if hosts.is_multihost() and settings.devices not in (0, jax.device_count()):
        raise ValueError(f"devices is {settings.devices}; with several processes all devices take part: leave it at 0")
    if batches.batch_size not in (None, settings.batch_size):
        raise ValueError(f"batches are of {batches.batch_size} examples, and batch_size is {settings.batch_size}")
    if settings.prefetch:
        batches = on_host(batches, settings.prefetch)
    parallel = ParallelUpdate(
        update,
        batches,
        batch_size=settings.batch_size,
        devices=pick_devices(settings.devices),
        backend="shard_map" if settings.model_parallel_size > 1 else settings.backend,
        accumulate=settings.accumulate,
        exact_shards=settings.exact_shards,
        model_parallel_size=settings.model_parallel_size,
    )
    warn_if_pool_unset(settings.exact_shards)
    hosts.check_same("training settings", to_dict(settings))
    make = None if isinstance(state, TrainState) else state
    target: Any = jax.eval_shape(make) if make else state
    empty = parallel.empty_sums(target, key)
    with run.checkpoints(stage, settings.keep_checkpoints) as checkpoints, caught_signals() as caught:
        restored = checkpoints.restore({"state": target, "tally": empty})
        sums = empty
        if restored is not None:
            state, sums = parallel.place(restored[1]["state"]), parallel.replicate(restored[1]["tally"])
        else:
            state = parallel.create(make) if make else parallel.place(target)
        del target  # so that a state that was given away does not stay in memory
        step = int(state.step)
        if step > settings.num_steps:
            raise ValueError(f"the checkpoint is at step {step}, beyond num_steps = {settings.num_steps}")
        run.logs.rewind(stage, step)
        if step == settings.num_steps:
            if number := hosts.largest(caught[0] if caught else 0):
                raise _interrupted(step, settings, checkpoints, number)
            return state
        run.logs.start(stage, step, settings.num_steps)
        fed = None
        if isinstance(batches, HostBatches):
            fed = prefetched(batches, keys.stream(key, "order"), step, parallel.local_positions)
        try:
            return _train(run, settings, parallel, fed, key, stage, callbacks, checkpoints, caught, state, sums, empty)
        except jax.errors.JaxRuntimeError as error:
            if not hosts.is_multihost():
                raise
            raise hosts.HostLost(
                f"another host of this run has stopped or cannot be reached. {checkpoints.last_good()} Run the same "
                f"command again on all hosts, or on another number of them. (JAX said: {str(error)[:200]})"
            ) from error
        finally:
            if fed:
                fed.close()
            run.logs.finish()


def pick_devices(number: int) -> list[Any]:
    """The first `number` of jax.devices(), or all for 0."""
    devices = jax.devices()
    if number > len(devices):
        raise ValueError(f"{number} devices asked for, {len(devices)} found ({devices[0].platform})")
    return devices[: number or len(devices)]


def _train(run, settings, parallel, fed, key, stage, callbacks, checkpoints, caught, state, sums, empty):
    step = int(state.step)
    boundaries = (settings.num_steps, settings.log_every, settings.save_every, *(every for every, _ in callbacks))
    ahead: deque[_Call] = deque()
    pace = Pace(1 if fed else settings.steps_per_call)
    agreed = Agreed(pace, caught)

    def settle(calls_left: int) -> None:
        """Waits until at most `calls_left` calls are under way, and logs those that have ended."""
        while len(ahead) > calls_left:
            call = ahead.popleft()
            jax.block_until_ready(call.sums.count)
            pace.ended(call.end)
            agreed.count(call.votes)
            run.logs.advance(call.end)
            if not (call.logs or call.saves):
                continue
            values = jax.device_get(call.sums)
            if values.first_bad_step >= 0:
                raise NonFiniteLoss(
                    f"{values.not_finite()} not finite at step {int(values.first_bad_step)}"
                    f"{f' of {stage}' if stage else ''}. {checkpoints.last_good()} A smaller learning rate, gradient "
                    "clipping, or a look at the data of that step may help."
                )
            if call.logs:
                means = {n: float(v) / int(values.count) for n, v in values.totals.items()}
                run.logs.write(stage, call.end, settings.num_steps, means)

    def save() -> None:
        if ahead:
            # The last call answers for those before it: a bad step stays in the sums until it is logged.
            ahead[-1] = ahead[-1]._replace(saves=True)
        settle(0)
        checkpoints.save(step, {"state": state, "tally": sums})

    while step < settings.num_steps and not agreed.stop:
        end = min(next_boundary(step, every) for every in boundaries)
        num = min(end - step, agreed.steps)
        state, sums = parallel(state, sums, key, next(fed) if fed else None, num)
        step += num
        logs = step % settings.log_every == 0 or step == settings.num_steps
        ahead.append(_Call(step, sums, logs, step % settings.save_every == 0, agreed.votes()))
        if logs:
            sums = empty
        settle(0 if pace.unknown else CALLS_AHEAD - 1)
        if step % settings.save_every == 0 and step < settings.num_steps:
            save()
        for every, function in callbacks:
            if step % every == 0 or step == settings.num_steps:
                function(step, hosts.local(state))
    save()
    checkpoints.wait()
    if number := hosts.largest(caught[0] if caught else 0):
        raise _interrupted(step, settings, checkpoints, number)
    return state


def _interrupted(step, settings, checkpoints, number) -> Interrupted:
    return Interrupted(
        f"Stopped at step {step} of {settings.num_steps}; "
        f"saved {f'in {checkpoints.directory}' if hosts.is_primary() else 'by process 0'}. "
        "Run the same command to go on.",
        128 + number,
    )


def next_boundary(step: int, every: int) -> int:
    """The first multiple of `every` after `step`."""
    return (step // every + 1) * every
