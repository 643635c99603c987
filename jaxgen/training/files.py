"""Files that are either the old version or the new one, never half of each."""

import glob
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxgen import files
from jaxgen.files.run_records import EXPECTED


class CannotWrite(OSError):
    """The disk is full, or the run directory can no longer be written; what was there before is whole."""

    def __init__(self, what: str, error: BaseException, so_far: str = "What was written before is whole."):
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = getattr(error, "strerror", None) or lines[0][:200]
        super().__init__(
            f"cannot write {what}: {reason}. {so_far} Free disk space, or make the folder writable, and run the same "
            "command to go on."
        )


def write_text(path: str | Path, text: str) -> None:
    """Writes beside the file, flushes to disk, then renames over it.

    Raises:
        CannotWrite: the disk is full, the folder is read-only, ...; the old file is as it was.
    """
    try:
        _replace(Path(path), text)
    except OSError as error:
        raise CannotWrite(str(path), error) from error


def _replace(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_json(path: str | Path, value: Any) -> None:
    """`value` as indented JSON; NaN and infinity, which JSON does not have, are an error."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path, shape: Any = None) -> Any:
    """The value in a JSON file of a run.

    Args:
        path: the file.
        shape: what it must hold, as for `jaxgen.files.check_shape`.

    Raises:
        ValueError: the file is damaged, or holds something else; the message names it and the place.
    """
    return files.read_json(path, EXPECTED, shape=shape)


def remove_leftovers(folder: Path, names: Iterable[str]) -> None:
    """Removes what killed processes left of files that they were writing to these names with `write_text`."""
    for name in names:
        for path in folder.glob(f".{glob.escape(name)}.????????"):
            path.unlink(missing_ok=True)
