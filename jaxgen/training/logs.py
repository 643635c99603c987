"""What a run writes while it trains: metrics.jsonl, timing.jsonl, TensorBoard events, and a line for a person.

metrics.jsonl holds no clock values, so it is the same file after any number of crashes and resumes. Rates and times go
to timing.jsonl.
"""

import contextlib
import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO

from jaxgen.files import open_regular, read_json_lines
from jaxgen.files.run_records import METRICS, TIMING

from .files import CannotWrite, write_text
from .tensorboard import Scalars

SHAPES = {"metrics.jsonl": METRICS, "timing.jsonl": TIMING}


class Logs:
    """The log files of a run directory. Use as a context manager.

    Args:
        workdir: the run directory.
        quiet: nothing is shown on the terminal.
        check: called before each line is written; raises where the folder is no longer the run's.
    """

    def __init__(self, workdir: str | Path, quiet: bool = False, check: Callable[[], None] = lambda: None):
        self._workdir, self._check = Path(workdir), check
        self._quiet = quiet
        self._files: dict[str, IO[str]] = {}
        self._tensorboard: dict[str, Scalars | None] = {}
        self._session = 1 + max((line.get("session", 0) for line in self._read("timing.jsonl")[0]), default=0)
        self._start = time.perf_counter()
        self._last_shown = float("-inf")
        self._bar = None

    def __enter__(self) -> "Logs":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def rewind(self, stage: str, step: int) -> None:
        """Drops the metrics of `stage` after `step`: the run goes on from there.

        Of a file with damaged lines a copy is kept, except where only the last one is cut off, as a kill leaves it.
        """
        path = self._workdir / "metrics.jsonl"
        if not path.exists():
            return
        lines, damaged = self._read("metrics.jsonl")
        if damaged and set(damaged) != {len(lines) + 1}:
            shutil.copy(path, copy := self._unused("metrics.damaged"))
            warnings.warn(f"the damaged {path.name} is kept as {copy}", stacklevel=3)
        kept = [line for line in lines if line.get("stage", "") != stage or line["step"] <= step]
        if (file := self._files.pop("metrics.jsonl", None)) is not None:
            file.close()
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def start(self, stage: str, step: int, num_steps: int) -> None:
        """Shows that a stage begins or goes on at `step`."""
        self._stage_start, self._stage_first = time.perf_counter(), step
        if self._quiet:
            return
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=num_steps, initial=step, desc=stage or None, unit="step", dynamic_ncols=True)
        else:
            after = f" from step {step}" if step else ""
            print(f"{stage or 'training'}: {num_steps} steps{after}", file=sys.stderr, flush=True)

    def advance(self, step: int) -> None:
        """Moves the progress bar to `step`."""
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def write(self, stage: str, step: int, num_steps: int, metrics: dict[str, float]) -> None:
        """One line in metrics.jsonl, one in timing.jsonl, the TensorBoard scalars, and one line for a person."""
        named = {"stage": stage} if stage else {}
        self._check()
        self._append("metrics.jsonl", {"step": step, **named, **metrics})
        elapsed = time.perf_counter() - self._stage_start
        rate = (step - self._stage_first) / elapsed if elapsed > 0 else 0.0
        seconds = time.perf_counter() - self._start
        timing = {"step": step, **named, "session": self._session, "seconds": round(seconds, 3)}
        self._append("timing.jsonl", {**timing, "steps_per_second": round(rate, 4)})
        try:
            if (writer := self._tensorboard_writer(stage, step)) is not None:
                writer.write(step, metrics)
        except OSError as error:
            raise CannotWrite(str(self._workdir / "tensorboard"), error) from error
        self._show(stage, step, num_steps, rate, metrics)

    def finish(self) -> None:
        """Ends the progress bar of a stage."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def total_seconds(self) -> float:
        """Wall time of the run over all its sessions, up to now."""
        longest: dict[int, float] = {self._session: time.perf_counter() - self._start}
        for line in self._read("timing.jsonl")[0]:
            session = line.get("session", 0)
            longest[session] = max(longest.get(session, 0.0), line.get("seconds", 0.0))
        return sum(longest.values())

    def close(self) -> None:
        """Closes every file."""
        self.finish()
        for file in [*self._files.values(), *filter(None, self._tensorboard.values())]:
            # What a full disk did not take was said when it was written.
            with contextlib.suppress(OSError):
                file.close()
        self._files.clear()
        self._tensorboard.clear()

    def _append(self, name: str, line: dict) -> None:
        path = self._workdir / name
        try:
            if name not in self._files:
                self._files[name] = open(path, "a")
                # The line that a killed process left unfinished stays a line of its own.
                self._files[name].write("" if _ends_a_line(path) else "\n")
            self._files[name].write(json.dumps(line, allow_nan=False) + "\n")
            self._files[name].flush()
        except OSError as error:
            raise CannotWrite(str(path), error) from error

    def _read(self, name: str) -> tuple[list[dict], dict[int, str]]:
        """(the lines of a file, {number of a damaged line: its beginning}), with a warning for each of these."""
        path = self._workdir / name
        lines, damaged = read_json_lines(path, SHAPES[name])
        for number, text in damaged.items():
            warnings.warn(f"{path}, line {number} is damaged and was left out: {text!r}", stacklevel=4)
        return lines, damaged

    def _unused(self, name: str) -> Path:
        number = 0
        while (path := self._workdir / f"{name}-{number}.jsonl").exists():
            number += 1
        return path

    def _tensorboard_writer(self, stage: str, step: int) -> Scalars | None:
        if stage not in self._tensorboard:
            try:
                self._tensorboard[stage] = Scalars(self._workdir / "tensorboard" / stage, step)
            except ImportError:
                self._tensorboard[stage] = None
        return self._tensorboard[stage]

    def _show(self, stage, step, num_steps, rate, metrics) -> None:
        if self._quiet:
            return
        short = {name: f"{value:.4g}" for name, value in metrics.items()}
        if self._bar is not None:
            self._bar.set_postfix(short, refresh=False)
        elif step >= num_steps or time.perf_counter() - self._last_shown > 5:
            self._last_shown = time.perf_counter()
            values = "  ".join(f"{name} {value}" for name, value in short.items())
            where = f"{stage} step" if stage else "step"
            print(f"{where} {step}/{num_steps}  {rate:.3g} steps/s  {values}", file=sys.stderr, flush=True)


def _ends_a_line(path: Path) -> bool:
    with open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        return not size or (file.seek(size - 1) >= 0 and file.read(1) == b"\n")
