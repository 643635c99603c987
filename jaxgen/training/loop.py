"""The training loop: resume, run the compiled steps, log, save, stop cleanly.

The host stays at most two calls ahead of the device, so the device never waits for the host and Ctrl-C is answered
within about a second. Metrics are fetched where they are logged and before a save, while the next call runs.
"""

import contextlib
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
from .stacking import Callback, Deferred, Fit, StackedUpdate, parallel_options, program_of
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


class _Call(NamedTuple):
    end: int
    sums: list[MetricSums]
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
        Deferred: the run has `defer`, and this training is not finished.
    """
    limits = run.limits
    if limits.instead is not None:
        return limits.instead(settings, update, state, batches, stage)
    if limits.max_steps is not None:
        settings = dataclasses.replace(settings, num_steps=min(settings.num_steps, limits.max_steps))
    if limits.callbacks is not None:
        callbacks = limits.callbacks
    asked = Fit(run, settings, update, state, batches, key, stage, callbacks)
    if run.defer and max(run.checkpoints(stage).steps(), default=0) < settings.num_steps:
        raise Deferred(asked)
    (state,) = _fit([asked])
    run.trainings += 1
    if run.trainings == limits.max_trainings:
        raise StoppedEarly(f"{run.trainings} trainings")
    return state


def fit_together(fits: Sequence[Fit]) -> list[list[Fit]]:
    """Makes trainings that were deferred: those that differ in constants and seeds alone, in one program.

    Each has the bits, the checkpoints and the logs that it has alone.

    Args:
        fits: what was asked for.

    Returns:
        those that were trained together, group by group.

    Raises:
        What `fit` raises.
    """
    groups: dict[Any, list[Fit]] = {}
    for number, asked in enumerate(fits):
        groups.setdefault(program_of(asked) or number, []).append(asked)
    for group in groups.values():
        _fit(group)
    return list(groups.values())


def _fit(fits: Sequence[Fit]) -> list[TrainState]:
    """Trains together what one program can train; the trained states."""
    _, settings, _, _, batches, key, stage, _ = fits[0]
    if hosts.is_multihost() and settings.devices not in (0, jax.device_count()):
        raise ValueError(f"devices is {settings.devices}; with several processes all devices take part: leave it at 0")
    if batches.batch_size not in (None, settings.batch_size):
        raise ValueError(f"batches are of {batches.batch_size} examples, and batch_size is {settings.batch_size}")
    if settings.prefetch:
        batches = on_host(batches, settings.prefetch)
    if len(fits) > 1:
        made: list[Any] = [fit.batches for fit in fits]
        parallel: Any = StackedUpdate([fit.update for fit in fits], made, **parallel_options(settings))
    else:
        parallel = ParallelUpdate(fits[0].update, batches, **parallel_options(settings))
    warn_if_pool_unset(settings.exact_shards)
    hosts.check_same("training settings", to_dict(settings))
    makers = [None if isinstance(fit.state, TrainState) else fit.state for fit in fits]
    targets: Any = [jax.eval_shape(make) if make else fit.state for make, fit in zip(makers, fits, strict=True)]
    empty = parallel.empty_sums(targets[0], key)
    with contextlib.ExitStack() as opened:
        stores = [opened.enter_context(fit.run.checkpoints(stage, settings.keep_checkpoints)) for fit in fits]
        caught = opened.enter_context(caught_signals())
        states, sums = [], []
        for make, target, store in zip(makers, targets, stores, strict=True):
            if (restored := store.restore({"state": target, "tally": empty})) is not None:
                states.append(parallel.place(restored[1]["state"]))
                sums.append(parallel.replicate(restored[1]["tally"]))
            else:
                states.append(parallel.create(make) if make else parallel.place(target))
                sums.append(empty)
        del targets  # so that a state that was given away does not stay in memory
        steps = {int(state.step) for state in states}
        if len(steps) == 1:
            return _go_on(fits, parallel, batches, stores, caught, states, sums, empty)
    # A stop between two saves leaves them at different steps.
    return [state for fit in fits for state in _fit([fit])]


def _go_on(fits, parallel, batches, stores, caught, states, sums, empty) -> list[TrainState]:
    """Trains the states, which are all at one step, to the end."""
    settings, stage, step = fits[0].settings, fits[0].stage, int(states[0].step)
    if step > settings.num_steps:
        raise ValueError(f"the checkpoint is at step {step}, beyond num_steps = {settings.num_steps}")
    for fit in fits:
        fit.run.logs.rewind(stage, step)
    if step == settings.num_steps:
        if number := hosts.largest(caught[0] if caught else 0):
            raise _interrupted(step, settings, stores[0], number)
        return states
    for fit in fits:
        fit.run.logs.start(stage, step, settings.num_steps)
    fed = None
    if isinstance(batches, HostBatches):
        fed = prefetched(batches, keys.stream(fits[0].key, "order"), step, parallel.local_positions)
    try:
        return _train(fits, parallel, fed, stores, caught, states, sums, empty)
    except jax.errors.JaxRuntimeError as error:
        if not hosts.is_multihost():
            raise
        raise hosts.HostLost(
            f"another host of this run has stopped or cannot be reached. {stores[0].last_good()} Run the same "
            f"command again on all hosts, or on another number of them. (JAX said: {str(error)[:200]})"
        ) from error
    finally:
        if fed:
            fed.close()
        for fit in fits:
            fit.run.logs.finish()


def _train(fits, parallel, fed, stores, caught, states, sums, empty):
    settings, stage, step = fits[0].settings, fits[0].stage, int(states[0].step)
    every = {every for fit in fits for every, _ in fit.callbacks}
    boundaries = (settings.num_steps, settings.log_every, settings.save_every, *every)
    ahead: deque[_Call] = deque()
    pace = Pace(1 if fed else settings.steps_per_call)
    agreed = Agreed(pace, caught)

    def settle(calls_left: int) -> None:
        """Waits until at most `calls_left` calls are under way, and logs those that have ended."""
        while len(ahead) > calls_left:
            call = ahead.popleft()
            jax.block_until_ready(call.sums[0].count)
            pace.ended(call.end)
            agreed.count(call.votes)
            for fit in fits:
                fit.run.logs.advance(call.end)
            if not (call.logs or call.saves):
                continue
            for fit, store, total in zip(fits, stores, call.sums, strict=True):
                values = jax.device_get(total)
                if values.first_bad_step >= 0:
                    raise NonFiniteLoss(
                        f"{values.not_finite()} not finite at step {int(values.first_bad_step)}"
                        f"{f' of {stage}' if stage else ''}{f' in {fit.run.workdir}' if len(fits) > 1 else ''}. "
                        f"{store.last_good()} A smaller learning rate, gradient clipping, or a look at the data of "
                        "that step may help."
                    )
                if call.logs:
                    means = {n: float(v) / int(values.count) for n, v in values.totals.items()}
                    fit.run.logs.write(stage, call.end, settings.num_steps, means)

    def save() -> None:
        if ahead:
            # The last call answers for those before it: a bad step stays in the sums until it is logged.
            ahead[-1] = ahead[-1]._replace(saves=True)
        settle(0)
        for store, state, total in zip(stores, states, sums, strict=True):
            store.save(step, {"state": state, "tally": total})

    while step < settings.num_steps and not agreed.stop:
        end = min(next_boundary(step, every) for every in boundaries)
        num = min(end - step, agreed.steps)
        if len(fits) > 1:
            keys_of_all = tuple(fit.key for fit in fits)
            states, sums = map(list, parallel(tuple(states), tuple(sums), keys_of_all, None, num))
        else:
            state, total = parallel(states[0], sums[0], fits[0].key, next(fed) if fed else None, num)
            states, sums = [state], [total]
        step += num
        logs = step % settings.log_every == 0 or step == settings.num_steps
        ahead.append(_Call(step, sums, logs, step % settings.save_every == 0, agreed.votes()))
        if logs:
            sums = [empty] * len(fits)
        settle(0 if pace.unknown else CALLS_AHEAD - 1)
        if step % settings.save_every == 0 and step < settings.num_steps:
            save()
        for fit, state in zip(fits, states, strict=True):
            for every, function in fit.callbacks:
                if step % every == 0 or step == settings.num_steps:
                    function(step, hosts.local(state))
    save()
    for store in stores:
        store.wait()
    if number := hosts.largest(caught[0] if caught else 0):
        raise _interrupted(step, settings, stores[0], number)
    return states


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
