"""Named arrays in an .npz that is written completely or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.files import as_path, read_npz


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes arrays, any shapes, as an .npz next to the path and renames it; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            np.savez(file, **arrays)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of an .npz, such as `write_arrays` wrote, any shapes.

    Raises:
        OSError: it cannot be opened.
        ValueError: the file is damaged, or no .npz.
    """
    path = as_path(path)
    try:
        return read_npz(path)
    except Exception as error:  # zipfile and zlib each have their own
        if isinstance(error, OSError):
            raise
        raise ValueError(f"{path} is not a whole file of arrays ({error}); remove it to compute it anew") from error
