"""Paths as users write them."""

import os
from pathlib import Path


def as_path(path: str | os.PathLike) -> Path:
    """A path; `~` stands for the home folder.

    Raises:
        ValueError: no text or path, a home folder that does not exist, or a null character.
    """
    try:
        found = Path(path).expanduser()
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"{path!r} is no path ({error}); expected a string or a pathlib.Path") from error
    if "\0" in str(found):
        raise ValueError(f"{str(path)!r} is no path: it holds a null character")
    return found
