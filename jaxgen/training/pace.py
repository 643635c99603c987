"""How many steps a call of the compiled program has, and when training stops: by signals, on one host or several."""

import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from . import hosts

SECONDS_PER_CALL = 0.5


class Pace:
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


class Agreed:
    """When to stop, and how many steps a call has: with several processes, what all of them know to be decided.

    Each process votes at each call. The devices compare the votes after the call, so that no host waits for them, and
    all processes count them at the same point of their loops, when the call has ended.
    """

    def __init__(self, pace: Pace, caught: list[int]):
        self._pace, self._caught = pace, caught
        self._decided = (0, 1)
        if several := hosts.is_multihost():
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


@contextmanager
def caught_signals() -> Iterator[list[int]]:
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
