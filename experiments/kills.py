"""Kills trainings of all families at random moments, starts them again, and counts those that end as if nothing was.

    python -m experiments.kills --kills 100
    python -m experiments.kills vae gan --kills 20

The trainings are those of `experiments.recorded`, with a checkpoint after every step. Each kill is a SIGKILL at a
moment drawn evenly over the time that a whole training takes from the opening of its run directory. A run is started
again until it ends; then its parameters, optimizer and metrics.jsonl must be those of a run that was never killed, bit
for bit, or all kills that it had count as lost. Processes are forked from one that has imported everything, so that a
restart takes a second. Ends with 1 where a kill was lost.
"""

import dataclasses
import multiprocessing
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import tyro

from experiments import recorded, verify_runs
from jaxgen import training

TIMEOUT = 900.0


@dataclasses.dataclass(frozen=True)
class Options:
    """What is killed, and how often."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """experiments; none: all that are recorded"""
    kills: int = 100
    """in all, dealt out over the experiments in turn"""
    seconds: float = 0.0
    """no new kill so many after the first; 0: until all are done"""


class Killed:
    """The runs of one experiment in `folder`, one after another."""

    def __init__(self, name: str, folder: Path, processes: Any):
        self.name, self.kills, self.lost, self.runs = name, 0, 0, 0
        self.saved: list[int] = []
        self._folder, self._processes, self._pending = folder, processes, 0
        process, connection = self._start(folder / "whole")
        self._finish(process, connection)
        # Once more, without compiling, for the time that it takes.
        process, connection = self._start(folder / "timed")
        self._wait_open(process, connection)
        began = time.perf_counter()
        self._finish(process, connection)
        self._seconds = time.perf_counter() - began
        self._whole = _bits(folder / "whole")
        if _bits(folder / "timed") != self._whole:
            raise ValueError(f"{name}: two runs that nobody killed have different ends")

    def kill(self) -> None:
        """Starts or goes on, and kills once; a run that ends before its kill is judged, and the next one is killed."""
        while True:
            process, connection = self._start(self._run)
            self._wait_open(process, connection)
            began = time.perf_counter()
            process.join(self._seconds * secrets.randbelow(10_000) / 10_000)
            if process.is_alive():
                process.kill()
                process.join()
                connection.close()
                self.kills, self._pending = self.kills + 1, self._pending + 1
                self.saved.append(verify_runs.steps_saved(self._run))
                return
            self._finish(process, connection)
            if not self._pending:
                # It ran from its start to its end; the machine may be less busy than before.
                self._seconds = min(self._seconds, time.perf_counter() - began)
            self._judge()

    def end(self) -> None:
        """Lets the run under way end, and judges it."""
        if self._pending:
            self._finish(*self._start(self._run))
            self._judge()

    @property
    def _run(self) -> Path:
        return self._folder / f"run-{self.runs}"

    def _judge(self) -> None:
        same = _bits(self._run) == self._whole
        self.lost += 0 if same else self._pending
        print(f"{self.name}: {'the same' if same else 'ANOTHER'} end after {self._pending} kills", flush=True)
        self.runs, self._pending = self.runs + 1, 0

    def _start(self, workdir: Path):
        here, there = self._processes.Pipe()
        process = self._processes.Process(target=_train, args=(self.name, str(workdir), there))
        process.start()
        there.close()
        return process, here

    def _wait_open(self, process, connection) -> None:
        """Until the run directory is open, or the process has ended."""
        if not connection.poll(TIMEOUT):
            process.kill()
            raise ValueError(f"{self.name} did not open its run directory in {TIMEOUT:.0f} s")

    def _finish(self, process, connection) -> None:
        process.join(TIMEOUT)
        if process.exitcode != 0:
            process.kill()
            raise ValueError(f"a process of {self.name} ended with {process.exitcode}, expected 0")
        connection.close()


def _bits(workdir: Path) -> tuple[str, bytes]:
    end = verify_runs.read_end(workdir)
    return training.tree_digest(end.arrays), end.metrics


def _train(name: str, workdir: str, connection) -> None:
    """In a process of its own."""
    script, config = recorded.config_of(name)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, save_every=1))
    prepared = script.prepare(config)
    verify_runs.train(script, config, prepared, Path(workdir), opened=lambda: connection.send("open"))


def check(options: Options) -> None:
    """Raises ValueError where nothing would be killed, or an experiment is not among those that are recorded."""
    if options.kills < 1 or options.seconds < 0:
        raise ValueError(f"kills is {options.kills}, seconds {options.seconds}; expected at least 1 and 0")
    for name in options.names:
        if name not in recorded.EXPERIMENTS:
            raise ValueError(f"no experiment {name!r} is recorded; those are {', '.join(recorded.EXPERIMENTS)}")


def main() -> None:
    options = tyro.cli(Options, prog="python -m experiments.kills", description=__doc__)
    processes = multiprocessing.get_context("forkserver")
    names = options.names or recorded.EXPERIMENTS
    processes.set_forkserver_preload(["orbax.checkpoint", *(f"experiments.{name}" for name in names)])
    began, all_of_them = time.perf_counter(), []
    try:
        check(options)
        with tempfile.TemporaryDirectory(prefix="kills-") as folder:
            for name in names:
                all_of_them.append(Killed(name, Path(folder) / name, processes))
            done, first = 0, time.perf_counter()
            while done < options.kills and not 0 < options.seconds < time.perf_counter() - first:
                all_of_them[done % len(names)].kill()
                done += 1
            for each in all_of_them:
                each.end()
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
    for each in all_of_them:
        saved = f"with {min(each.saved)} to {max(each.saved)} steps saved" if each.saved else ""
        print(f"{each.name:24} {each.kills - each.lost} of {each.kills} kills survived, {each.runs} runs, {saved}")
    kills, lost = sum(e.kills for e in all_of_them), sum(e.lost for e in all_of_them)
    print(f"{kills - lost} of {kills} kills survived, {time.perf_counter() - began:.0f} s, jax {jax.__version__}")
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
