"""The ways to train that must not change the result."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax

from experiments.verify import short_runs
from experiments.verify.killed_runs import KilledRuns
from experiments.verify.processes import ForkedTraining
from experiments.verify.short_runs import Trial

Group = Literal["rerun", "resume", "calls", "prefetch", "shard_map", "devices", "processes", "kill", "samples"]


class Job(NamedTuple):
    """One training.

    Attributes:
        trial: what is trained.
        workdir: the run directory.
        stages: number of trainings.
        kills: number of kills.
    """

    trial: Trial
    workdir: Path
    stages: int = 0
    kills: int = 0

    def fork(self, **options: Any) -> ForkedTraining:
        """The training in a process of its own, with as many devices as here."""
        jax_options = {"jax_num_cpu_devices": jax.device_count(), **options.pop("jax_options", {})}
        name, config = self.trial.name, self.trial.config
        return ForkedTraining(name, config, self.workdir, stages=self.stages, jax_options=jax_options, **options)


class Variant(NamedTuple):
    """One way to train.

    Attributes:
        group: its name on the command line.
        name: its name in the table.
        changes: of the settings.
        run: trains in another way than in this process, and returns a remark.
        rounds: without exact shards, the result agrees to rounding only.
    """

    group: Group
    name: str
    changes: dict[str, Any] = {}
    run: Callable[[Job], str] | None = None
    rounds: bool = False


def stop_and_resume(job: Job) -> str:
    """Trains with a SIGTERM in each training."""
    return short_runs.train_with_stops(job.trial, job.workdir, job.stages)


def rerun(job: Job) -> str:
    """Trains again in a new process, without compiled programs."""
    job.fork(jax_options={"jax_enable_compilation_cache": False}).finish()
    return ""


def kill(job: Job) -> str:
    """Kills the training `job.kills` times, with a checkpoint after every step, and resumes it each time.

    Raises:
        ValueError: two ends differ, or a process failed.
    """
    folder = job.workdir.with_name(f"{job.workdir.name}-killed")
    runs = KilledRuns(job.trial.name, job.trial.config, folder)
    for _ in range(job.kills):
        runs.kill()
    runs.end()
    saved = f"with {', '.join(map(str, runs.saved))} steps saved"
    if runs.lost:
        raise ValueError(f"killed {saved}, and the end of {runs.lost} kills is another")
    runs.whole.rename(job.workdir)
    return f"{runs.kills} kills of {runs.runs} runs, {saved}"


def join(job: Job) -> str:
    """Trains in two joined processes of two devices each, on this machine."""
    with socket.socket() as unused:
        unused.bind(("localhost", 0))
        address = f"localhost:{unused.getsockname()[1]}"
    options = {"jax_options": {"jax_num_cpu_devices": 2}}
    processes = [job.fork(distributed=f"{address},2,{index}", **options) for index in range(2)]
    try:
        for process in processes:
            process.finish()
    finally:
        for process in processes:
            process.kill()
    return ""


_SHARD_MAP = {"backend": "shard_map"}
_ALL = {"devices": 0}
VARIANTS = (
    Variant("rerun", "a new process, compiled anew", run=rerun),
    Variant("resume", "SIGTERM at step 5, then resumed", run=stop_and_resume),
    *[Variant("calls", f"{n} step{'s' * (n > 1)} per call", {"steps_per_call": n}) for n in (1, 3, 10)],
    # XLA fuses the making of a batch, where it is part of the program, into the update.
    Variant("prefetch", "fed by the host, 2 ahead", {"prefetch": 2}, rounds=True),
    Variant("shard_map", "shard_map", _SHARD_MAP),
    Variant("devices", "2 devices", {"devices": 2}, rounds=True),
    Variant("devices", "4 devices", {"devices": 4}, rounds=True),
    Variant("devices", "4 devices, shard_map", {"devices": 4, **_SHARD_MAP}, rounds=True),
    Variant("devices", "8 devices", {"devices": 8}, rounds=True),
    Variant("processes", "2 processes x 2 devices", _ALL, join, rounds=True),
    Variant("processes", "2 processes x 2 devices, shard_map", {**_ALL, **_SHARD_MAP}, join, rounds=True),
    Variant("kill", "SIGKILL at random moments", run=kill),
)
