"""Checkpoints that are never half-written, never silently wrong, and never in the way of training.

Orbax writes the arrays (atomically: a directory is renamed when it is complete). Around it stand a sha256 of every
array, computed from the state in memory before anything is written and verified when it is read, and a check that the
state is finite. The training loop waits for the copy from device to host; the rest happens in a background thread.

With several processes, process 0 writes and reads: the others send it their pieces of what devices of several of them
hold together, and receive what it read.
"""

import shutil
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgen import weights

from . import hosts
from .files import CannotWrite
from .run_lock import FolderLostError

Tree = Any


class DamagedCheckpoint(ValueError):
    """A checkpoint whose bytes are not those that were saved."""


class NonFiniteState(FloatingPointError):
    """A state with a NaN or an infinity, which is never saved."""


class Checkpoints:
    """Saves and restores trees of arrays by step, under one directory. Use as a context manager.

    Args:
        directory: made when the first checkpoint is saved.
        keep: how many of the newest are kept.
        check: called before and after each is written; raises where the folder is no longer the run's.
    """

    def __init__(self, directory: str | Path, keep: int = 3, check: Callable[[], None] = lambda: None):
        if keep < 1:
            raise ValueError(f"keep is {keep}; at least one checkpoint must be kept")
        self.directory = Path(directory).absolute()
        self._keep, self._check = keep, check
        self._lazy_manager = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._saving: Future | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def steps(self) -> list[int]:
        """The steps of the complete checkpoints, in increasing order."""
        if not self.directory.is_dir():
            return []
        return sorted(int(p.name) for p in self.directory.iterdir() if p.name.isdigit() and p.is_dir())

    def save(self, step: int, tree: Tree) -> None:
        """Copies `tree` to the host and writes it in the background; a step that is there already is left as it is.

        Raises:
            NonFiniteState: an array holds a NaN or an infinity; nothing is written.
            CannotWrite: the previous checkpoint could not be written.
        """
        self.wait()
        self._check()
        if hosts.broadcast_from_primary(step in self.steps()):
            return
        arrays = weights.flatten(hosts.fetch(tree))
        bad = [name for name, x in arrays.items() if np.issubdtype(x.dtype, np.inexact) and not np.isfinite(x).all()]
        if bad:
            raise NonFiniteState(
                f"the state at step {step} is not finite in {', '.join(bad[:5])}{' ...' if len(bad) > 5 else ''}; "
                f"it was not saved. {self.last_good()}"
            )
        if hosts.is_primary():
            self._saving = self._thread.submit(self._write, step, arrays)

    def restore(self, target: Tree) -> tuple[int, Tree] | None:
        """The newest checkpoint that is whole.

        One that is not (missing or truncated files, an array whose sha256 differs) is moved aside, with a warning that
        names it, and the one before is tried.

        Args:
            target: a tree of the same structure, shapes and dtypes.

        Returns:
            (step, tree of NumPy arrays), or None where there is no checkpoint.

        Raises:
            ValueError: the checkpoint is whole but belongs to another model: its names, shapes or dtypes differ.
        """
        self.wait()
        step, arrays = self._newest_whole() if hosts.is_primary() else (0, None)
        step, arrays = hosts.broadcast_from_primary(step), hosts.broadcast_arrays_from_primary(arrays)
        return None if arrays is None else (step, weights.unflatten(arrays, target, self.directory / str(step)))

    def _newest_whole(self) -> tuple[int, dict[str, np.ndarray] | None]:
        for step in reversed(self.steps()):
            try:
                return step, self.arrays(step)
            except DamagedCheckpoint as error:
                aside = self._move_aside(step)
                warnings.warn(
                    f"checkpoint of step {step}: {error}. Moved to {aside}; trying the one before.", stacklevel=3
                )
        return 0, None

    def arrays(self, step: int) -> dict[str, np.ndarray]:
        """{path such as 'state/params/kernel': array} of one checkpoint.

        Raises:
            DamagedCheckpoint: it is not there, or not what was saved.
        """
        self.wait()
        return self._thread.submit(self._read, step).result()

    def last_good(self) -> str:
        """A sentence that names the newest checkpoint, once the save under way has ended."""
        self.wait()
        if not hosts.is_primary():
            return "The checkpoints are with process 0."
        steps = self.steps()
        if not steps:
            return f"There is no checkpoint yet in {self.directory}."
        return f"The last good checkpoint is step {steps[-1]} in {self.directory}."

    def wait(self) -> None:
        """Returns when the last save is on disk.

        Raises:
            CannotWrite: it could not be written; the checkpoints before it are whole.
        """
        saving, self._saving = self._saving, None
        if saving is None:
            return
        try:
            saving.result()
        except FolderLostError:
            raise
        except Exception as error:  # orbax and tensorstore raise many kinds for a full disk
            raise CannotWrite(f"a checkpoint to {self.directory}", error, self.last_good()) from error

    def close(self) -> None:
        """Waits for the last save and lets go of the background thread."""
        try:
            self.wait()
        finally:
            self._thread.submit(self._close_manager).result()
            self._thread.shutdown()

    def _manager(self):
        import orbax.checkpoint as ocp

        if self._lazy_manager is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            # Orbax's own asynchrony is off: it would have to hash after the write had begun.
            alone = ocp.options.MultiprocessingOptions(
                primary_host=jax.process_index(), active_processes={jax.process_index()}
            )
            options = ocp.CheckpointManagerOptions(
                max_to_keep=self._keep, enable_async_checkpointing=False, multiprocessing_options=alone, create=False
            )
            self._lazy_manager = ocp.CheckpointManager(self.directory, options=options)
        return self._lazy_manager

    def _close_manager(self):
        if self._lazy_manager is not None:
            self._lazy_manager.close()
            self._lazy_manager = None

    def _write(self, step: int, arrays: dict[str, np.ndarray]) -> None:
        import orbax.checkpoint as ocp

        digests = {name: weights.array_digest(x) for name, x in arrays.items()}
        saved = ocp.args.Composite(
            state=ocp.args.StandardSave(arrays), meta=ocp.args.JsonSave({"step": step, "sha256": digests})
        )
        self._check()
        # Of a save that was killed; orbax writes under such a name, then renames.
        for leftover in self.directory.glob("*.orbax-checkpoint-tmp*") if self._lazy_manager is None else ():
            shutil.rmtree(leftover, ignore_errors=True)
        self._manager().save(step, args=saved, force=True)
        self._check()

    def _read(self, step: int) -> dict[str, np.ndarray]:
        import orbax.checkpoint as ocp

        wanted = ocp.args.Composite(state=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore())
        folder = self.directory / str(step)
        if odd := next((p for p in folder.rglob("*") if not (p.is_file() or p.is_dir())), None):
            # A pipe would be waited for.
            raise DamagedCheckpoint(f"{odd.relative_to(folder)} is not a regular file")
        manager = self._manager()
        manager.reload()
        try:
            read: Any = manager.restore(step, args=wanted)
            digests = read.meta["sha256"]
            arrays = {name: np.asarray(x) for name, x in read.state.items()}
        except Exception as error:  # orbax and tensorstore raise many kinds for a broken file
            raise DamagedCheckpoint(f"cannot be read ({type(error).__name__}: {_first_line(error)})") from error
        if digests.keys() != arrays.keys():
            raise DamagedCheckpoint(f"arrays are missing or extra: {sorted(digests.keys() ^ arrays.keys())[:5]}")
        wrong = [name for name, x in arrays.items() if weights.array_digest(x) != digests[name]]
        if wrong:
            raise DamagedCheckpoint(f"sha256 differs from what was saved in {', '.join(wrong[:5])}")
        return arrays

    def _move_aside(self, step: int) -> Path:
        number = 0
        while (aside := self.directory / f"damaged-{step}-{number}").exists():
            number += 1
        (self.directory / str(step)).rename(aside)
        self._thread.submit(self._close_manager).result()
        return aside


def tree_digest(tree: Tree) -> str:
    """sha256 over the names and bytes of all arrays of a tree: equal exactly when the trees are bit-identical."""
    return weights.tree_digest(hosts.fetch(tree))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
