"""Short trainings of any experiment: each trains what the experiment trains, for a few steps."""

import contextlib
import dataclasses
import importlib
import io
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from jaxgen import training

STEPS, BATCH, WIDTH = 12, 16, 32
STOP_AT = 5


def experiments() -> list[str]:
    """The names of all experiments."""
    here = Path(__file__).parents[1]
    files = [path.stem for path in here.glob("*.py") if "\nPRESETS" in path.read_text()]
    packages = [path.parent.name for path in here.glob("*/__init__.py") if "PRESETS" in path.read_text()]
    return sorted(files + packages)


def load(name: str) -> Any:
    """The module of an experiment, with PRESETS, `validate_and_load` and `train`, and perhaps `make_sample_fn`."""
    return importlib.import_module(f"experiments.{name}")


class Trial(NamedTuple):
    """What is trained.

    Attributes:
        script: the experiment's module.
        config: a reduced config.
        prepared: what `script.validate_and_load(config)` returned.
    """

    script: Any
    config: Any
    prepared: Any

    @property
    def name(self) -> str:
        """The name of the experiment."""
        return self.script.__name__.removeprefix("experiments.")

    def with_settings(self, **changes: Any) -> Self:
        """With other values in `config.train`."""
        return self._replace(config=replace_fields(self.config, {f"train.{n}": v for n, v in changes.items()}))


def prepare_trial(name: str, config: Any) -> Trial:
    """The trial of an experiment with this config, whose data is read."""
    script = load(name)
    return Trial(script, config, script.validate_and_load(config))


def replace_fields(config: Any, changes: Mapping[str, Any]) -> Any:
    """A config with other values of fields, which are named with dots: {"model.width": 3}. Lists become tuples."""
    for name, value in changes.items():
        field, _, inner = name.partition(".")
        if inner:
            value = replace_fields(getattr(config, field), {inner: value})
        elif isinstance(value, list):
            value = tuple(value)
        config = dataclasses.replace(config, **{field: value})
    return config


def reduce_config(config: Any) -> Any:
    """A config whose trainings take seconds, by one rule.

    Every training has at most 12 steps. Integers of `model`, `network` and `sampling`, also inside tuples, are at most
    32; fields named ...batch_size at most 16; other fields named ..._steps (warm-up, annealing) at most 6; one of
    several seeds. One device, eight exact shards, a checkpoint every 4 steps. Where timesteps may be drawn by their
    losses, they are, from a cosine chain of 5, so short that each t has had its losses after a few steps; samplers then
    take all of it. Everything else is the preset's.
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
    config = dataclasses.replace(_reduce(config, "", False), train=settings)
    if not hasattr(config, "timesteps"):
        return config
    by_losses = {"timesteps.sampler": "loss_second_moment", "timesteps.history": 2}
    chain = {"process.schedule": "cosine", "process.steps": 5}
    samplers = dict.fromkeys(("preview.steps", "evaluation.sampler.steps", "evaluation.second.steps"), "")
    return replace_fields(config, by_losses | chain | samplers)


def _reduce(value: Any, name: str, in_model: bool) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.name != "train"}
        changes = {n: _reduce(v, n, in_model or n in ("model", "network", "sampling")) for n, v in fields.items()}
        return dataclasses.replace(value, **changes)
    if isinstance(value, tuple):
        return tuple(_reduce(v, name, in_model) for v in value)
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    if name.endswith("batch_size"):
        return min(value, BATCH)
    if name == "seeds":
        return 1
    if in_model:
        value = min(value, WIDTH)
    return min(value, STEPS // 2) if name.endswith("_steps") else value


class ZeroMetrics(dict):
    """Metrics that were not measured: zero by any name."""

    def __missing__(self, name: str) -> float:
        return 0.0


class TrainOnly(training.Run):
    """A run in which nothing is measured, and which ends where something is drawn after a training."""

    @property
    def figures(self) -> Path:
        """Where a run draws before its trainings."""
        if self.trainings:
            raise training.StoppedEarly
        return self.workdir / "figures"

    @figures.setter
    def figures(self, folder: Path) -> None:
        pass

    def cached(self, what: str, measure: Callable[[], dict[str, float]], **depends_on: Any) -> dict[str, float]:
        """Measures nothing."""
        return ZeroMetrics()

    def finish(self, **_: Any) -> dict:
        """Writes no results."""
        return {}


def train(
    trial: Trial,
    workdir: Path,
    *,
    stages: int = 0,
    stop: bool = False,
    whole: bool = False,
    opened: Callable[[], None] = lambda: None,
) -> int:
    """Does all trainings of an experiment in `workdir`, or resumes them.

    Args:
        trial: what is trained.
        workdir: the run directory.
        stages: the number of trainings, where it is known; what follows the last is then left out.
        stop: send a SIGTERM at step 5 of each training.
        whole: evaluate and draw too, with the experiment's callbacks.
        opened: called when the run directory is open.

    Returns:
        The number of trainings.

    Raises:
        training.Interrupted: after a SIGTERM.
    """
    # Previews are left out.
    callbacks = [(STOP_AT, _terminate)] if stop else []
    limits = training.Limits(STEPS, stages or None, None if whole else callbacks)
    with contextlib.suppress(training.StoppedEarly):
        kind, experiment = (training.Run, trial.name) if whole else (TrainOnly, trial.script.__name__)
        with kind(workdir, trial.config, experiment=experiment, quiet=True, limits=limits) as run:
            opened()
            trial.script.train(trial.config, trial.prepared, run)
    return run.trainings


def _terminate(step: int, state: Any) -> None:
    if step == STOP_AT:
        signal.raise_signal(signal.SIGTERM)


def train_with_stops(trial: Trial, workdir: Path, stages: int) -> str:
    """`train`, stopped in each of its trainings and resumed. Returns the number of stops in words."""
    stops = 0
    while True:
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                train(trial, workdir, stop=True, stages=stages)
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

    arrays: Mapping[str, np.ndarray]
    early: Mapping[str, np.ndarray]
    metrics: bytes

    @property
    def params(self) -> dict[str, np.ndarray]:
        return {name: x for name, x in self.arrays.items() if "state/params" in name}

    def digest(self) -> tuple[str, bytes]:
        """(sha256 of the last checkpoints, metrics.jsonl): equal for runs with the same bits."""
        return training.tree_digest(self.arrays), self.metrics


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
