"""What a run writes while it trains: metrics.jsonl, timing.jsonl, TensorBoard events, and a line for a person.

metrics.jsonl holds no clock values, so it is the same file after any number of crashes and resumes. Rates and times go
to timing.jsonl.
"""

import json
import sys
import time
import warnings
from pathlib import Path
from typing import IO, Any

from .files import write_text


class Logs:
    """The log files of a run directory. Use as a context manager.

    Args:
        workdir: the run directory.
        quiet: nothing is shown on the terminal.
    """

    def __init__(self, workdir: str | Path, quiet: bool = False):
        self._workdir = Path(workdir)
        self._quiet = quiet
        self._files: dict[str, IO[str]] = {}
        self._tensorboard: dict[str, Any] = {}
        self._session = 1 + max((line.get("session", 0) for line in self._lines("timing.jsonl")), default=0)
        self._start = time.perf_counter()
        self._last_shown = float("-inf")
        self._bar = None

    def __enter__(self) -> "Logs":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def rewind(self, stage: str, step: int) -> None:
        """Drops the metrics of `stage` after `step`: the run goes on from there."""
        path = self._workdir / "metrics.jsonl"
        if not path.exists():
            return
        kept = []
        for line in self._lines("metrics.jsonl"):
            if line.get("stage", "") != stage or line["step"] <= step:
                kept.append(json.dumps(line) + "\n")
        if (file := self._files.pop("metrics.jsonl", None)) is not None:
            file.close()
        write_text(path, "".join(kept))

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
        self._append("metrics.jsonl", {"step": step, **named, **metrics})
        elapsed = time.perf_counter() - self._stage_start
        rate = (step - self._stage_first) / elapsed if elapsed > 0 else 0.0
        seconds = time.perf_counter() - self._start
        timing = {"step": step, **named, "session": self._session, "seconds": round(seconds, 3)}
        self._append("timing.jsonl", {**timing, "steps_per_second": round(rate, 4)})
        writer = self._tensorboard_writer(stage, step)
        if writer is not None:
            for name, value in metrics.items():
                writer.add_scalar(name, value, step)
        self._show(stage, step, num_steps, rate, metrics)

    def finish(self) -> None:
        """Ends the progress bar of a stage."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def total_seconds(self) -> float:
        """Wall time of the run over all its sessions, up to now."""
        longest: dict[int, float] = {self._session: time.perf_counter() - self._start}
        for line in self._lines("timing.jsonl"):
            longest[line["session"]] = max(longest.get(line["session"], 0.0), line["seconds"])
        return sum(longest.values())

    def close(self) -> None:
        """Closes every file."""
        self.finish()
        for file in self._files.values():
            file.close()
        self._files.clear()
        for writer in self._tensorboard.values():
            if writer is not None:
                writer.close()
        self._tensorboard.clear()

    def _append(self, name: str, line: dict) -> None:
        if name not in self._files:
            self._files[name] = open(self._workdir / name, "a")
        self._files[name].write(json.dumps(line, allow_nan=False) + "\n")
        self._files[name].flush()

    def _lines(self, name: str) -> list[dict]:
        path = self._workdir / name
        if not path.exists():
            return []
        lines = []
        for number, text in enumerate(path.read_text(errors="replace").splitlines(), 1):
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:
                # A killed process leaves at most its last line unfinished.
                warnings.warn(f"{path}, line {number} is damaged and was left out: {text[:60]!r}", stacklevel=3)
        return lines

    def _tensorboard_writer(self, stage: str, step: int):
        if stage not in self._tensorboard:
            try:
                from tensorboardX import SummaryWriter
            except ImportError:
                self._tensorboard[stage] = None
            else:
                folder = self._workdir / "tensorboard" / stage
                self._tensorboard[stage] = SummaryWriter(str(folder), purge_step=step)
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
