"""Kills one run after another at random moments, resumes it, and compares its end with an unkilled run's."""

import hashlib
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from experiments.verify import short_runs
from experiments.verify.processes import ForkedTraining


class KilledRuns:
    """The runs of one training with a checkpoint after every step, in folders of their own.

    Each kill comes at a moment drawn evenly over the time that a whole training takes from the opening of its run
    directory. A run is started again until it ends; then its arrays and metrics.jsonl must be those of a run that was
    never killed, or all its kills count as lost.

    Args:
        name: of the experiment.
        config: its reduced config.
        folder: of all runs.
        log: called with a line about every run that was judged.
        whole: runs evaluate and draw too; then results.json and the figures must also be the same.

    Attributes:
        kills, lost, runs: numbers of kills, of lost kills, and of runs that were judged.
        saved: steps that were saved at each kill.
        whole: the folder of the run that was never killed.

    Raises:
        ValueError: two unkilled runs end differently, or a process failed.
    """

    def __init__(
        self,
        name: str,
        config: Any,
        folder: Path,
        log: Callable[[str], object] = lambda line: None,
        *,
        whole: bool = False,
    ):
        self.kills, self.lost, self.runs, self.saved = 0, 0, 0, list[int]()
        self.whole = folder / "whole"
        self._config = config and short_runs.replace_fields(config, {"train.save_every": 1})
        self._evaluates = whole
        self._name, self._folder, self._log, self._pending = name, folder, log, 0
        self._start(self.whole).finish()
        # Once more with compiled programs, for the time that it takes.
        process = self._start(folder / "timed")
        process.wait_open()
        began = time.perf_counter()
        process.finish()
        self._seconds = time.perf_counter() - began
        self._expected = self._digest(self.whole)
        if self._digest(folder / "timed") != self._expected:
            raise ValueError(f"{name}: two runs without a kill have different ends")

    def kill(self) -> None:
        """Starts or resumes a run and kills it; a run that ends before its kill is judged, and the next is killed."""
        while True:
            process = self._start(self._run)
            process.wait_open()
            began = time.perf_counter()
            if process.kill_after(self._seconds * secrets.randbelow(10_000) / 10_000):
                self.kills, self._pending = self.kills + 1, self._pending + 1
                self.saved.append(self._steps_saved())
                return
            process.finish()
            if not self._pending:
                # An uninterrupted run; the machine may be less busy than before.
                self._seconds = min(self._seconds, time.perf_counter() - began)
            self._judge()

    def end(self) -> None:
        """Lets the current run end, and judges it."""
        if self._pending:
            self._start(self._run).finish()
            self._judge()

    def _start(self, workdir: Path) -> ForkedTraining:
        return ForkedTraining(self._name, self._config, workdir, whole=self._evaluates)

    def _steps_saved(self) -> int:
        return short_runs.steps_saved(self._run)

    def _digest(self, workdir: Path) -> Any:
        trained = short_runs.read_end(workdir).digest()
        if not self._evaluates:
            return trained
        results = json.loads((workdir / "results.json").read_text())
        # progress.png is over time.
        figures = sorted(path for path in workdir.glob("figures/*") if path.name != "progress.png")
        return trained, {**results, "seconds": 0}, [(path.name, _sha256(path)) for path in figures]

    @property
    def _run(self) -> Path:
        return self._folder / f"run-{self.runs}"

    def _judge(self) -> None:
        is_same = self._digest(self._run) == self._expected
        self.lost += 0 if is_same else self._pending
        self._log(f"{self._name}: {'the same' if is_same else 'ANOTHER'} end after {self._pending} kills")
        self.runs, self._pending = self.runs + 1, 0


class KilledSampling(KilledRuns):
    """`sample_batches sample`, killed in the same way: the file of samples must have the same arrays.

    Args:
        network: folder of a trained run.
        folder, log: as of `KilledRuns`.
    """

    def __init__(self, network: Path, folder: Path, log: Callable[[str], object] = lambda line: None):
        self._network = network
        super().__init__("sampling", None, folder, log)

    def _start(self, workdir: Path) -> ForkedTraining:
        return ForkedTraining("sample_batches", None, workdir, network=self._network)

    def _steps_saved(self) -> int:
        return len(list(self._run.glob("*.parts/*.npz")))

    def _digest(self, workdir: Path) -> Any:
        with np.load(workdir / "samples.npz") as arrays:
            return {name: (x.shape, hashlib.sha256(x.tobytes()).hexdigest()) for name, x in arrays.items()}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
