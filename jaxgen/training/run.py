"""The run directory: what a run is (config.json), what it ran on (environment.json), what came out (results.json)."""

import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax

from jaxgen.files import check_shape, run_records

from . import environment, hosts, run_folder
from .checkpoints import Checkpoints, tree_digest
from .config import differences, to_dict, untracked_fields
from .files import read_json, remove_leftovers, write_json
from .logs import Logs
from .run_folder import RunRefused
from .run_lock import Lock


class Limits(NamedTuple):
    """Ends a run early, for trials of what a run does.

    Attributes:
        max_steps: updates of each training, or None.
        max_trainings: after so many trainings `StoppedEarly` is raised, or None.
        callbacks: replace those of the experiment, or None.
        instead: `instead(settings, update, state, batches, stage)` is called in place of each training, or None.
    """

    max_steps: int | None = None
    max_trainings: int | None = None
    callbacks: Sequence[tuple[int, Callable[[int, Any], None]]] | None = None
    instead: Callable[..., Any] | None = None


class StoppedEarly(Exception):
    """The run has done `Limits.max_trainings` trainings."""


class Run:
    """An open run directory. Use as a context manager.

    With several processes all must open it; process 0 writes it, and the `workdir` of the others is a scratch folder.

    Args:
        workdir: the directory; made if absent.
        config: frozen dataclass with a field `seed`; recorded, and compared when the run is resumed.
        experiment: name of the experiment.
        preset: name of the preset it started from.
        extendable_fields: dotted names of fields that may be larger on resume ("train.num_steps").
        quiet: nothing is shown on the terminal.
        limits: where the run ends early.
        defer: `fit` raises `Deferred` in place of training, for `fit_together`.

    Raises:
        RunRefused: the directory belongs to another run or config, is in use, is not a run, or cannot be written.
    """

    def __init__(
        self,
        workdir: str | Path,
        config: Any,
        *,
        experiment: str,
        preset: str = "",
        extendable_fields: tuple[str, ...] = (),
        quiet: bool = False,
        limits: Limits | None = None,
        defer: bool = False,
    ):
        self.workdir = Path(workdir).absolute()
        self.experiment, self.preset, self.config = experiment, preset, config
        self.limits, self.trainings, self.defer = limits or Limits(), 0, defer
        self._scratch, refusal = None, None
        try:
            if hosts.is_primary():
                self._open(extendable_fields)
        except Exception as error:
            refusal = error
        said = hosts.broadcast_from_primary(refusal and str(refusal))
        if refusal:
            raise refusal
        if said:
            raise RunRefused(f"process 0 cannot open the run: {said}")
        if not hosts.is_primary():
            self._scratch = tempfile.TemporaryDirectory(prefix="jaxgen-")
            self.workdir = Path(self._scratch.name)
            self._open(())
        try:
            self._check_hosts()
        except BaseException:
            self._close()
            raise
        self.logs = Logs(self.workdir, quiet or not hosts.is_primary(), self._lock.check)

    def _open(self, extendable_fields: tuple[str, ...]) -> None:
        try:
            self._check_resumable(extendable_fields)
            self.workdir.mkdir(parents=True, exist_ok=True)
            self._lock = Lock(self.workdir)
        except BlockingIOError as error:
            raise RunRefused(
                f"another process is running in {self.workdir}. Wait for it, or choose another --workdir."
            ) from error
        except OSError as error:
            raise RunRefused(f"cannot write to {self.workdir}: {error.strerror}. Choose another --workdir.") from error
        try:
            # Once more: another process may have begun and ended since.
            self._check_resumable(extendable_fields)
            self._begin()
        except BaseException:
            self._lock.close()
            raise

    def _check_hosts(self) -> None:
        """All processes must have the same config, and should have the same libraries and flags."""
        theirs = hosts.broadcast_from_primary([self.experiment, to_dict(self.config)])
        changed = differences(theirs[1], self.config)
        if hosts.largest(bool(changed or theirs[0] != self.experiment)):
            listed = "".join(f"\n  {line}" for line in changed)
            raise RunRefused(
                f"the processes do not have the same config{listed and '; process 0 -> this one:'}{listed}"
            )
        now = environment.describe()
        if changed := environment.differences(hosts.broadcast_from_primary(now), now):
            warnings.warn(
                f"process {jax.process_index()} has another environment than process 0:\n  " + "\n  ".join(changed),
                stacklevel=3,
            )

    def _begin(self) -> None:
        record = {
            "experiment": self.experiment,
            "preset": self.preset,
            "seed": self.config.seed,
            "config": to_dict(self.config),
            "untracked": untracked_fields(self.config),
        }
        remove_leftovers(self.workdir, run_records.FILES)
        if not (self.workdir / "config.json").exists():
            run_folder.set_aside(self.workdir)
        write_json(self.workdir / "config.json", record)
        self._note_environment()
        self.figures = self.workdir / "figures"
        self.figures.mkdir(exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        try:
            self.logs.close()
        finally:
            self._close()

    def _close(self) -> None:
        self._lock.close()
        if self._scratch:
            self._scratch.cleanup()

    def checkpoints(self, stage: str = "", keep: int = 3) -> Checkpoints:
        """The checkpoints of one stage."""
        return Checkpoints(self.workdir / "checkpoints" / stage, keep, self._lock.check)

    def finish(
        self, *, step: int, params: Any, metrics: dict[str, float], paper: dict[str, float] | None = None
    ) -> dict:
        """Writes results.json and returns what it holds.

        Args:
            step: updates made.
            params: the final parameters; their sha256 is recorded.
            metrics: measured values by name.
            paper: the published values of metrics of the same name.
        """
        self._lock.check()
        unknown = sorted(set(paper or {}) - set(metrics))
        if unknown:
            raise ValueError(f"the paper's {', '.join(unknown)} has no measured value beside it")
        results = {
            "experiment": self.experiment,
            "preset": self.preset,
            "seed": self.config.seed,
            "step": int(step),
            "params_sha256": tree_digest(params),
            "seconds": round(self.logs.total_seconds(), 1),
            "metrics": {name: float(value) for name, value in metrics.items()},
            "paper": dict(paper or {}),
        }
        write_json(self.workdir / "results.json", results)
        return results

    def cached(
        self, what: str, measure: Callable[[], Mapping[str, float]], *, old_name: str = "", **depends_on: Any
    ) -> dict[str, float]:
        """The result of `measure`, kept in measured.json, so that a resumed run does not measure it again.

        Args:
            what: name of the measurement.
            measure: returns finite numbers by name.
            old_name: the sentence under which 0.1.0 kept the same result.
            depends_on: all that the result depends on within this run, such as images=40, step=1000; values as in a
                config.
        """
        path, key = self.workdir / "measured.json", to_dict({"what": what, **depends_on})
        entries = read_json(path, run_records.MEASURED) if path.exists() else []
        if isinstance(entries, dict):  # as 0.1.0 kept them, under sentences
            entries = [{"key": {"what": sentence}, "values": values} for sentence, values in entries.items()]
        known = [entry["values"] for entry in entries if entry["key"] in (key, {"what": old_name})]
        values = hosts.broadcast_from_primary(known[0] if known else None)
        if values is None:
            # Every process measures, in case that needs them all; process 0's values stand.
            values = hosts.broadcast_from_primary({name: float(value) for name, value in measure().items()})
            self._lock.check()
            write_json(path, [*entries, {"key": key, "values": values}])
        return values

    def record_dataset(self, name: str, fingerprint: str) -> None:
        """Records the data's fingerprint in environment.json, and warns where it is not the one the run began with."""
        hosts.check_same(f"data {name}", fingerprint)
        path = self.workdir / "environment.json"
        self._lock.check()
        recorded = read_json(path, run_records.ENVIRONMENT)
        before = recorded.setdefault("data", {}).setdefault(name, fingerprint)
        if before != fingerprint:
            warnings.warn(
                f"the data {name!r} is not what this run began with (sha256 {before[:12]}, now {fingerprint[:12]}): "
                "what follows is not a continuation of the same run",
                stacklevel=2,
            )
        write_json(path, recorded)

    def _check_resumable(self, extendable_fields: tuple[str, ...]) -> None:
        path = self.workdir / "config.json"
        if self.workdir.exists() and not self.workdir.is_dir():
            raise RunRefused(f"{self.workdir} is a file; --workdir must be a directory")
        if not path.exists():
            # Dot files are ours: a run killed in its first moment leaves only its lock.
            present = self.workdir.iterdir() if self.workdir.exists() else ()
            others = [p.name for p in present if not p.name.startswith(".")]
            if not set(others) <= set(run_records.FOLDERS):
                raise RunRefused(
                    f"{self.workdir} holds {', '.join(sorted(others)[:3])} but no config.json: it is not a run. "
                    "Choose an empty --workdir."
                )
            if self.workdir.exists() and not os.access(self.workdir, os.W_OK):
                raise RunRefused(f"cannot write to {self.workdir}: permission denied. Choose another --workdir.")
            return
        run_folder.check_kinds(self.workdir)
        recorded = read_json(path)
        if not isinstance(recorded, dict) or not {"experiment", "config"} <= recorded.keys():
            raise RunRefused(f"{path} was not written by a run of this library. Choose another --workdir.")
        check_shape(recorded, run_records.CONFIG, str(path))
        if recorded["experiment"] != self.experiment:
            raise RunRefused(
                f"{self.workdir} holds a run of {recorded['experiment']!r}, not of {self.experiment!r}. "
                "Choose another --workdir."
            )
        changed = differences(recorded["config"], self.config, extendable_fields)
        if changed:
            listed = "\n  ".join(changed)
            raise RunRefused(
                f"{self.workdir} holds a run with another config:\n  {listed}\n"
                "Choose another --workdir, or give the recorded values to resume it."
            )

    def _note_environment(self) -> None:
        path = self.workdir / "environment.json"
        now = environment.describe()
        if not path.exists():
            write_json(path, now)
            return
        before = read_json(path, run_records.ENVIRONMENT)
        changed = environment.differences({k: v for k, v in before.items() if k not in ("data", "resumed_in")}, now)
        if changed:
            before.setdefault("resumed_in", []).append(now)
            write_json(path, before)
            warnings.warn(
                "this run began in another environment; its bits may differ from an uninterrupted run's:\n  "
                + "\n  ".join(changed),
                stacklevel=4,
            )
