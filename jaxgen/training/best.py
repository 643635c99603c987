"""The best of several steps by a measure, such as an estimate on held-out data."""

from collections.abc import Callable
from typing import Any

from .run import Run


class KeepBest:
    """Keeps the tree with the highest score in checkpoints of its own, also over resumed sessions.

    Args:
        run: the open run directory.
        folder: name of the checkpoints, below those of the run.
        score: name of the measured value that is to be highest.
        what: name of the measurement in measured.json.
        **depends_on: as of `Run.cached`, besides the step.
    """

    def __init__(self, run: Run, folder: str, score: str, what: str, **depends_on: Any):
        self._checkpoints = lambda: run.checkpoints(folder, keep=1)
        self._cached = lambda step, measure: run.cached(what, measure, **depends_on, step=step)
        self._score = score

    def offer(self, step: int, tree: Any, measure: Callable[[], dict[str, float]]) -> None:
        """Measures the tree of a step, once, and keeps it if it is better than what has been kept."""
        measured = self._cached(step, measure)
        with self._checkpoints() as best:
            steps = best.steps()
            before = self._cached(steps[-1], dict) if steps else None
            if not before or measured[self._score] > before[self._score]:
                best.save(step, tree)

    def restore(self, like: Any) -> Any:
        """The tree that was kept, or `like`, one of its structure, if there is none."""
        with self._checkpoints() as best:
            restored = best.restore(like)
        return like if restored is None else restored[1]
