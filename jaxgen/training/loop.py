"""The training loop: resume, run the compiled steps, log, save, stop cleanly.

The host stays at most two calls ahead of the device, so the device never waits for the host and Ctrl-C is answered
within about a second. Metrics are fetched where they are logged and before a save, while the next call runs.
"""

import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from . import hosts, keys
from .batches import DeviceBatches, HostBatches, on_host, prefetched
from .config import Settings, to_dict
from .parallel import ParallelUpdate, Tally, warn_if_pool_unset
from .run import Run
from .state import TrainState
from .update import Update

SECONDS_PER_CALL = 0.5
CALLS_AHEAD = 2


class NonFiniteLoss(FloatingPointError):
    """A metric became NaN or infinite; the message names the step, the metric and the last good checkpoint."""


class Interrupted(SystemExit):
    """Training was stopped by a signal after its state was saved; the exit code is 128 + the signal."""

    def __init__(self, message: str, code: int):
        super().__init__(code)
        self.message = message


class Every(NamedTuple):
    """Something to do each `steps` steps: `action(step, state)`, with the state still on this process's devices."""

    steps: int
    action: Callable[[int, TrainState], None]


class _Call(NamedTuple):
    end: int
    tally: Tally
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
    also: Sequence[Every] = (),
) -> TrainState:
    """Trains `state` to `settings.num_steps` updates, or goes on from the run's newest whole checkpoint.

    Args:
        run: the open run directory.
        settings: how.
        update: `update(state, batch, keys, mean) -> (state, metrics)`.
        state: the state before the first step, or a function that makes it: then no device has to hold all of it
            where `settings.model_devices` devices share it.
        batches: where a step's batch comes from; with `settings.prefetch`, the host makes them.
        key: the root key (of the run, or of the stage), a scalar.
        stage: name of this training among several of one run; its checkpoints are kept apart.
        also: things to do every so many steps, such as previews.

    Returns:
        The trained state, on the devices. It is saved.

    Raises:
        ValueError: the batch does not divide as asked, or the checkpoint is of another model.
        NonFiniteLoss: a metric was not finite.
        Interrupted: SIGINT or SIGTERM, here or on another host; the state was saved first.
        HostLost: another host has ended.
    """
    if hosts.are_several() and settings.devices not in (0, jax.device_count()):
        raise ValueError(f"devices is {settings.devices}; with several processes all devices take part: leave it at 0")
    if settings.prefetch:
        batches = on_host(batches, settings.prefetch)
    parallel = ParallelUpdate(
        update,
        batches,
        batch_size=settings.batch_size,
        devices=pick_devices(settings.devices),
        backend="shard_map" if settings.model_devices > 1 else settings.backend,
        accumulate=settings.accumulate,
        exact_shards=settings.exact_shards,
        model_devices=settings.model_devices,
    )
    warn_if_pool_unset(settings.exact_shards)
    hosts.check_same("training settings", to_dict(settings))
    make = None if isinstance(state, TrainState) else state
    target: Any = jax.eval_shape(make) if make else state
    empty = parallel.empty_tally(target, key)
    with run.checkpoints(stage, settings.keep_checkpoints) as checkpoints, _signals() as caught:
        restored = checkpoints.restore({"state": target, "tally": empty})
        tally = empty
        if restored is not None:
            state, tally = parallel.place(restored[1]["state"]), parallel.replicate(restored[1]["tally"])
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
            return _train(run, settings, parallel, fed, key, stage, also, checkpoints, caught, state, tally, empty)
        except jax.errors.JaxRuntimeError as error:
            if not hosts.are_several():
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


def _train(run, settings, parallel, fed, key, stage, also, checkpoints, caught, state, tally, empty):
    step = int(state.step)
    boundaries = (settings.num_steps, settings.log_every, settings.save_every, *(e.steps for e in also))
    ahead: deque[_Call] = deque()
    pace = _Pace(1 if fed else settings.steps_per_call)
    agreed = _Agreed(pace, caught)

    def settle(calls_left: int) -> None:
        """Waits until at most `calls_left` calls are under way, and logs those that have ended."""
        while len(ahead) > calls_left:
            call = ahead.popleft()
            jax.block_until_ready(call.tally.count)
            pace.ended(call.end)
            agreed.count(call.votes)
            run.logs.advance(call.end)
            if not (call.logs or call.saves):
                continue
            values = jax.device_get(call.tally)
            if values.first_bad_step >= 0:
                names = [n for n, v in values.totals.items() if not abs(float(v)) < float("inf")]
                raise NonFiniteLoss(
                    f"{', '.join(names)} not finite at step {int(values.first_bad_step)}"
                    f"{f' of {stage}' if stage else ''}. {checkpoints.last_good()} A smaller learning rate, gradient "
                    "clipping, or a look at the data of that step may help."
                )
            if call.logs:
                means = {n: float(v) / int(values.count) for n, v in values.totals.items()}
                run.logs.write(stage, call.end, settings.num_steps, means)

    def save() -> None:
        if ahead:
            # The last call answers for those before it: a bad step stays in the tally until it is logged.
            ahead[-1] = ahead[-1]._replace(saves=True)
        settle(0)
        checkpoints.save(step, {"state": state, "tally": tally})

    while step < settings.num_steps and not agreed.stop:
        end = min(_next_boundary(step, every) for every in boundaries)
        num = min(end - step, agreed.steps)
        state, tally = parallel(state, tally, key, next(fed) if fed else None, num)
        step += num
        logs = step % settings.log_every == 0 or step == settings.num_steps
        ahead.append(_Call(step, tally, logs, step % settings.save_every == 0, agreed.votes()))
        if logs:
            tally = empty
        settle(0 if pace.unknown else CALLS_AHEAD - 1)
        if step % settings.save_every == 0 and step < settings.num_steps:
            save()
        for every in also:
            if step % every.steps == 0 or step == settings.num_steps:
                every.action(step, hosts.local(state))
    save()
    checkpoints.wait()
    if number := hosts.largest(caught[0] if caught else 0):
        raise _interrupted(step, settings, checkpoints, number)
    return state


def _interrupted(step, settings, checkpoints, number) -> Interrupted:
    return Interrupted(
        f"Stopped at step {step} of {settings.num_steps}; "
        f"saved {f'in {checkpoints.directory}' if hosts.is_first() else 'by process 0'}. "
        "Run the same command to go on.",
        128 + number,
    )


class _Agreed:
    """When to stop, and how many steps a call has: with several processes, what all of them know to be decided.

    Each process votes at each call. The devices compare the votes after the call, so that no host waits for them, and
    all processes count them at the same point of their loops, when the call has ended.
    """

    def __init__(self, pace: "_Pace", caught: list[int]):
        self._pace, self._caught = pace, caught
        self._decided = (0, 1)
        if several := hosts.are_several():
            mesh = Mesh(np.array(jax.devices()), ("device",))
            self._split = NamedSharding(mesh, PartitionSpec("device"))
            self._largest = jax.jit(lambda x: jnp.max(x, axis=0), out_shardings=NamedSharding(mesh, PartitionSpec()))
        self._several = several

    @property
    def stop(self) -> bool:
        return bool(self._decided[0] if self._several else self._caught)

    @property
    def steps(self) -> int:
        return self._decided[1] if self._several else self._pace.steps()

    def votes(self) -> Any:
        if not self._several:
            return None
        wish = np.array([bool(self._caught), self._pace.steps()], np.int32)
        local = np.tile(wish, (jax.local_device_count(), 1))
        return self._largest(jax.make_array_from_process_local_data(self._split, local))

    def count(self, votes: Any) -> None:
        if self._several:
            stop, steps = np.asarray(votes).tolist()
            self._decided = (stop, steps)


class _Pace:
    """How many steps a call should have, so that it takes about SECONDS_PER_CALL."""

    def __init__(self, fixed: int):
        self._fixed = fixed
        self._ends: deque[tuple[int, float]] = deque(maxlen=4)

    @property
    def unknown(self) -> bool:
        """Whether no call has been timed yet; the first call also compiles and does not count."""
        return not self._fixed and len(self._ends) < 2

    def ended(self, step: int) -> None:
        self._ends.append((step, time.perf_counter()))

    def steps(self) -> int:
        if self._fixed:
            return self._fixed
        if self.unknown:
            return 1
        (step0, time0), (step1, time1) = self._ends[0], self._ends[-1]
        return max(1, int((step1 - step0) / max(time1 - time0, 1e-6) * SECONDS_PER_CALL))


def _next_boundary(step: int, every: int) -> int:
    return (step // every + 1) * every


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects the first SIGINT or SIGTERM instead of dying of it; a second one acts at once."""
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def note(number, frame):
        caught.append(number)
        print("\nstopping after this call, then saving ...", file=sys.stderr, flush=True)
        for s in (signal.SIGINT, signal.SIGTERM):
            signal.signal(s, before[s])

    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
