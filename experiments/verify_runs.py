"""Short trainings of any experiment, for experiments.verify: what is trained is what the experiment trains."""

import contextlib
import dataclasses
import io
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen import training

STEPS, BATCH, WIDTH = 12, 16, 32
STOP_AT = 5
OPENED = "the run directory is open"


def small(config: Any) -> Any:
    """A config whose trainings take seconds, by one rule.

    Every training has at most 12 steps. Integers of `model`, `network` and `sampling`, also inside tuples, are at most
    32; fields named ...batch_size at most 16; other fields named ..._steps (warm-up, annealing) at most 6; one of
    several seeds. One device, eight exact shards, a checkpoint every 4 steps. Where timesteps may be drawn by their
    losses, they are, from a cosine chain of 5. Everything else is the preset's.
    """
    settings = dataclasses.replace(
        config.train,
        num_steps=STEPS,
        batch_size=min(config.train.batch_size, BATCH),
        log_every=4,
        save_every=4,
        accumulate=1,
        exact_shards=8,
        steps_per_call=0,
        devices=1,
    )
    config = dataclasses.replace(_small(config, "", False), train=settings)
    return _resampled(config) if hasattr(config, "timesteps") else config


def _resampled(config: Any) -> Any:
    """With a chain so short that each t has had its losses after a few steps; samplers then take all of it."""
    changes = {
        "process": dataclasses.replace(config.process, schedule="cosine", steps=5),
        "timesteps": dataclasses.replace(config.timesteps, sampler="loss_second_moment", history=2),
        "preview": dataclasses.replace(config.preview, steps=""),
    }
    samplers = {name: getattr(config.evaluation, name) for name in ("sampler", "second")}
    samplers = {name: dataclasses.replace(sampler, steps="") for name, sampler in samplers.items()}
    return dataclasses.replace(config, evaluation=dataclasses.replace(config.evaluation, **samplers), **changes)


def _small(value: Any, name: str, in_model: bool) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.name != "train"}
        changes = {n: _small(v, n, in_model or n in ("model", "network", "sampling")) for n, v in fields.items()}
        return dataclasses.replace(value, **changes)
    if isinstance(value, tuple):
        return tuple(_small(v, name, in_model) for v in value)
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    if name.endswith("batch_size"):
        return min(value, BATCH)
    if name == "seeds":
        return 1
    if in_model:
        value = min(value, WIDTH)
    return min(value, STEPS // 2) if name.endswith("_steps") else value


class _AllTrained(Exception):
    """The last training of a run has ended."""


class Unmeasured(dict):
    """Metrics that nobody measured: zero by any name."""

    def __missing__(self, name: str) -> float:
        return 0.0


class TrainOnly(training.Run):
    """A run in which nothing is measured, and which ends where something is drawn after a training."""

    trained = 0

    @property
    def figures(self) -> Path:
        """Where a run draws before its trainings."""
        if self.trained:
            raise _AllTrained
        return self.workdir / "figures"

    @figures.setter
    def figures(self, folder: Path) -> None:
        pass

    def once(self, name: str, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        """Nothing."""
        return Unmeasured()

    def finish(self, **_: Any) -> dict:
        """Writes no results."""
        return {}


def train(
    script: Any,
    config: Any,
    prepared: Any,
    workdir: Path,
    *,
    stages: int = 0,
    stop: bool = False,
    opened: Callable[[], None] = lambda: None,
) -> int:
    """Does all trainings of an experiment in `workdir`, or goes on with them.

    Args:
        script: the experiment's module.
        config: a small config.
        prepared: what `script.prepare` returned.
        workdir: the run directory.
        stages: how many trainings there are, where it is known; what follows the last is then left out.
        stop: a SIGTERM comes at step 5 of each training.
        opened: called when the run directory is open.

    Returns:
        The number of trainings.

    Raises:
        training.Interrupted: after a SIGTERM.
    """
    fit = training.fit
    run: Any = None

    def short_fit(run, settings, **arguments):
        settings = dataclasses.replace(settings, num_steps=min(settings.num_steps, STEPS))
        # Previews are left out.
        arguments["also"] = [training.Every(STOP_AT, _terminate)] if stop else ()
        state = fit(run, settings, **arguments)
        run.trained += 1
        if run.trained == stages:
            raise _AllTrained
        return state

    training.fit = short_fit
    try:
        with TrainOnly(workdir, config, experiment=script.__name__, quiet=True) as run:
            opened()
            script.train(config, prepared, run)
    except _AllTrained:
        pass
    finally:
        training.fit = fit
    return run.trained if run else 0


def _terminate(step, state):
    if step == STOP_AT:
        signal.raise_signal(signal.SIGTERM)


def train_with_stops(*arguments: Any, stages: int) -> str:
    """`train`, stopped in each of its trainings and started again. Returns how often."""
    stops = 0
    while True:
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                train(*arguments, stop=True, stages=stages)
            break
        except training.Interrupted as stopped:
            stops += 1
            if stopped.code != 128 + signal.SIGTERM or stops > stages:
                raise ValueError(f"stop number {stops} of {stages}, exit code {stopped.code}") from stopped
    if stops != stages:
        raise ValueError(f"{stages} trainings were sent a SIGTERM and {stops} stopped")
    return f"{stops} stops"


class End(NamedTuple):
    """What a run left on disk.

    Attributes:
        arrays: {"stage: state/params/...": array} of the last checkpoints.
        early: the same of the first checkpoints that were kept.
        metrics: metrics.jsonl.
    """

    arrays: dict[str, np.ndarray]
    early: dict[str, np.ndarray]
    metrics: bytes

    @property
    def params(self) -> dict[str, np.ndarray]:
        return {name: x for name, x in self.arrays.items() if "state/params" in name}


def read_end(workdir: Path) -> End:
    """The end of a run, from its checkpoints.

    Raises:
        ValueError: there is none, or one is damaged.
    """
    arrays, early = {}, {}
    for folder in _checkpoint_folders(workdir):
        stage = str(folder.relative_to(workdir / "checkpoints"))
        with training.Checkpoints(folder) as checkpoints:
            steps = checkpoints.steps()
            arrays |= {f"{stage}: {name}": x for name, x in checkpoints.arrays(steps[-1]).items()}
            early |= {f"{stage}: {name}": x for name, x in checkpoints.arrays(steps[0]).items()}
    if not arrays:
        raise ValueError(f"no checkpoint in {workdir}")
    return End(arrays, early, (workdir / "metrics.jsonl").read_bytes())


def _checkpoint_folders(workdir: Path) -> Iterator[Path]:
    top = workdir / "checkpoints"
    for folder in sorted([top, *top.rglob("*")]):
        if folder.is_dir() and training.Checkpoints(folder).steps():
            yield folder


def steps_saved(workdir: Path) -> int:
    """Steps that a run would not repeat, over all its trainings."""
    return sum(training.Checkpoints(folder).steps()[-1] for folder in _checkpoint_folders(workdir))
