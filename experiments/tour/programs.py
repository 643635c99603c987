"""Runs the programs of the tour, two at a time on a CPU, prefixes their lines with names, and handles interruptions."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

STOPPED = {130, 143, -2, -15}  # by Ctrl-C or SIGTERM: the shell's codes and Python's


def at_once() -> int:
    """Number of programs at a time: two on a CPU with several cores, one on a GPU or TPU, which a program claims."""
    if (os.cpu_count() or 1) < 2:
        return 1
    # In another process, because jax claims the accelerator.
    query = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    found = subprocess.run(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return 2 if found.stdout.strip() == "cpu" else 1


class Programs:
    """Runs commands in several lanes; `stopped` is the exit code of the first that was stopped.

    The standard input of each is a pipe that the system closes when this process has ended.
    """

    def __init__(self) -> None:
        self.stopped: int | None = None
        self._running: set[subprocess.Popen] = set()
        self._lock = threading.RLock()  # a signal's handler may interrupt another

    def run(self, name: str, arguments: Sequence[str]) -> int:
        """Runs a command to its end, each line that it writes after its name. Returns the exit code."""
        with self._lock:
            if self.stopped is not None:
                return self.stopped
            process = subprocess.Popen(
                arguments,
                cwd=Path(__file__).parents[2],
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            self._running.add(process)
        with process:
            for line in process.stdout or ():
                print(f"{name}: {line}", end="", flush=True)
        with self._lock:
            self._running.remove(process)
            if process.returncode in STOPPED and self.stopped is None:
                self.stopped = process.returncode if process.returncode > 0 else 128 - process.returncode
        return process.returncode

    def stop(self, number: int, pass_on: bool) -> None:
        """Starts nothing more, and passes the signal on to the running programs."""
        with self._lock:
            self.stopped = self.stopped or 128 + number
            for process in self._running if pass_on else ():
                process.send_signal(number)

    def side_by_side(self, lanes: Sequence[Callable[[], None]]) -> None:
        """Calls every lane in its own thread, and returns when all have ended.

        The programs handle interruptions: Ctrl-C reaches them from the terminal, SIGTERM is passed on.
        """
        before = signal.signal(signal.SIGTERM, lambda number, frame: self.stop(number, pass_on=True))
        try:
            with ThreadPoolExecutor(len(lanes)) as pool:
                ends = [pool.submit(lane) for lane in lanes]
                while not all(end.done() for end in ends):
                    try:
                        wait(ends)
                    except KeyboardInterrupt:
                        self.stop(signal.SIGINT, pass_on=False)
        finally:
            signal.signal(signal.SIGTERM, before)
        for end in ends:
            end.result()
