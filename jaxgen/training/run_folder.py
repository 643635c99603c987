"""What is in the place of a run folder before a run begins in it."""

import os
import warnings
from pathlib import Path

from jaxgen.files import run_records


class RunRefused(ValueError):
    """The working directory cannot take this run; nothing was written."""


def check_kinds(folder: Path) -> None:
    """Refuses what would stop the run only when it is read or written.

    Args:
        folder: of the run.

    Raises:
        RunRefused: something else is in the place of a file or a folder of the run.
    """
    for names, is_right, kind in (
        (run_records.FILES, Path.is_file, "a regular file"),
        (run_records.FOLDERS, Path.is_dir, "a folder"),
    ):
        for path in (folder / name for name in names):
            if os.path.lexists(path) and not is_right(path):
                raise RunRefused(
                    f"{path} is not {kind}, which a run has there. Remove it, or choose another --workdir."
                )


def set_aside(folder: Path) -> None:
    """Moves away what a run wrote after its folder was deleted, with a warning.

    Args:
        folder: of a run that begins, without a config.json.
    """
    present = [folder / name for name in run_records.FOLDERS if (folder / name).exists()]
    if not any(path.is_file() for place in present for path in place.rglob("*")):
        return
    number = 0
    while (aside := folder / f".deleted-{number}").exists():
        number += 1
    aside.mkdir()
    for place in present:
        place.rename(aside / place.name)
    warnings.warn(
        f"{folder} held {', '.join(place.name for place in present)} without a config.json, as a run "
        f"leaves whose folder is deleted; moved to {aside}, and the run starts anew",
        stacklevel=5,
    )
