"""Kills trainings and samplings at random moments and counts the runs whose resumed end is bit-identical.

    python -m experiments.verify.crash_test --kills 100
    python -m experiments.verify.crash_test vae gan sampling --kills 20
    python -m experiments.verify.crash_test deep_autoencoder vae --whole

The trainings are those of `experiments.verify.golden_runs`, with a checkpoint after every step. Each kill is a SIGKILL
at a moment drawn evenly over the time that a whole training takes from the opening of its run directory. A run is
started again until it ends; then its parameters, optimizer and metrics.jsonl must be those of a run that was never
killed, bit for bit, or all its kills count as lost. With `--whole` runs evaluate and draw too, and results.json and the
figures must be the same. `sampling` is `experiments.sample_batches sample` of a small diffusion model, whose file must
have the same arrays. Processes are forked from one that has imported everything, so that a restart takes a second.
Exits with 1 where a kill was lost.
"""

import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import tyro

from experiments.command.terminal import errors_exit
from experiments.verify import golden_runs, short_runs
from experiments.verify.killed_runs import KilledRuns, KilledSampling
from experiments.verify.processes import ForkedTraining

SAMPLING = "sampling"
UNMEASURED = ("evaluation.samples", "evaluation.images", "preview_every")


@dataclasses.dataclass(frozen=True)
class Options:
    """What is killed, and how often."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """experiments, or "sampling"; none: all"""
    kills: int = 100
    """total number of kills, distributed over the experiments in turn"""
    whole: bool = False
    """kill in evaluations and figures too"""
    seconds: float = 0.0
    """time after the first kill in which others are begun; 0: no limit"""


def check(options: Options) -> None:
    """Raises ValueError where nothing would be killed, or an experiment is not among those that are recorded."""
    if options.kills < 1 or options.seconds < 0:
        raise ValueError(f"kills is {options.kills}, seconds {options.seconds}; expected at least 1 and 0")
    for name in options.names:
        if name != SAMPLING:
            golden_runs.check_name(name)


def kill_all(options: Options) -> dict[str, KilledRuns]:
    """{experiment: its killed runs}."""
    check(options)
    names = options.names or (*golden_runs.EXPERIMENTS, SAMPLING)
    log = lambda line: print(line, flush=True)
    with tempfile.TemporaryDirectory(prefix="crash-test-") as folder:
        runs = {name: killed_runs(name, Path(folder) / name, options.whole, log) for name in names}
        done, first = 0, time.perf_counter()
        while done < options.kills and not 0 < options.seconds < time.perf_counter() - first:
            runs[names[done % len(names)]].kill()
            done += 1
        for killed in runs.values():
            killed.end()
    return runs


def killed_runs(name: str, folder: Path, whole: bool, log: Callable[[str], object]) -> KilledRuns:
    """The killed runs of an experiment, or of sampling."""
    if name != SAMPLING:
        return KilledRuns(name, golden_runs.config_of(name), folder, log, whole=whole)
    # Drawn from a run that measures nothing.
    config = short_runs.replace_fields(golden_runs.config_of("ddpm"), dict.fromkeys(UNMEASURED, 0))
    ForkedTraining("ddpm", config, folder / "network", whole=True).finish()
    return KilledSampling(folder / "network", folder, log)


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
