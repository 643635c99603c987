"""Kills trainings of all families at random moments and counts the runs whose resumed end is bit-identical.

    python -m experiments.verify.crash_test --kills 100
    python -m experiments.verify.crash_test vae gan --kills 20

The trainings are those of `experiments.verify.golden_runs`, with a checkpoint after every step. Each kill is a SIGKILL
at a moment drawn evenly over the time that a whole training takes from the opening of its run directory. A run is
started again until it ends; then its parameters, optimizer and metrics.jsonl must be those of a run that was never
killed, bit for bit, or all its kills count as lost. Processes are forked from one that has imported everything, so that
a restart takes a second. Exits with 1 where a kill was lost.
"""

import dataclasses
import sys
import tempfile
import time
from pathlib import Path

import jax
import tyro

from experiments.command.terminal import errors_exit
from experiments.verify import golden_runs
from experiments.verify.killed_runs import KilledRuns


@dataclasses.dataclass(frozen=True)
class Options:
    """What is killed, and how often."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """experiments; none: all that are recorded"""
    kills: int = 100
    """total number of kills, distributed over the experiments in turn"""
    seconds: float = 0.0
    """time after the first kill in which others are begun; 0: no limit"""


def check(options: Options) -> None:
    """Raises ValueError where nothing would be killed, or an experiment is not among those that are recorded."""
    if options.kills < 1 or options.seconds < 0:
        raise ValueError(f"kills is {options.kills}, seconds {options.seconds}; expected at least 1 and 0")
    for name in options.names:
        golden_runs.check_name(name)


def kill_all(options: Options) -> dict[str, KilledRuns]:
    """{experiment: its killed runs}."""
    check(options)
    names = options.names or golden_runs.EXPERIMENTS
    log = lambda line: print(line, flush=True)
    with tempfile.TemporaryDirectory(prefix="crash-test-") as folder:
        runs = {name: KilledRuns(name, golden_runs.config_of(name), Path(folder) / name, log) for name in names}
        done, first = 0, time.perf_counter()
        while done < options.kills and not 0 < options.seconds < time.perf_counter() - first:
            runs[names[done % len(names)]].kill()
            done += 1
        for killed in runs.values():
            killed.end()
    return runs


def main() -> None:
    options = tyro.cli(Options, prog="python -m experiments.verify.crash_test", description=__doc__)
    began = time.perf_counter()
    with errors_exit(2):
        runs = kill_all(options)
    for name, killed in runs.items():
        saved = f"with {min(killed.saved)} to {max(killed.saved)} steps saved" if killed.saved else ""
        print(f"{name:24} {killed.kills - killed.lost} of {killed.kills} kills survived, {killed.runs} runs, {saved}")
    kills, lost = sum(k.kills for k in runs.values()), sum(k.lost for k in runs.values())
    print(f"{kills - lost} of {kills} kills survived, {time.perf_counter() - began:.0f} s, jax {jax.__version__}")
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
