"""What every reader checks, and the words it uses when a check fails."""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

SPLITS = ("train", "test")


def nearest(word: str, words: Sequence[str]) -> str:
    """The member of `words` that is spelled most like `word`."""
    lower = {w.lower(): w for w in words}
    return lower[difflib.get_close_matches(word.lower(), list(lower), 1, cutoff=0.0)[0]]


def check_split(split: str) -> None:
    """Raises ValueError unless `split` is "train" or "test"."""
    if split not in SPLITS:
        raise ValueError(f"found split {split!r}; expected 'train' or 'test' (nearest: {nearest(split, SPLITS)!r})")


def existing_folder(directory: str | os.PathLike | None, files: str) -> Path:
    """The path of a folder that is there.

    Args:
        directory: the folder; `~` stands for the home folder.
        files: which files belong in it and where they come from, for the message.

    Raises:
        ValueError: no folder was given, or it is a file.
        FileNotFoundError: there is no such folder.
    """
    if directory is None:
        raise ValueError(f"no data folder given; set directory= (on the command line --data.dir) to {files}")
    folder = Path(directory).expanduser()
    if folder.is_file():
        raise ValueError(f"{folder} is a file; directory= (--data.dir) must be a folder: give {files}")
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; set directory= (--data.dir) to {files}. Nothing is downloaded")
    return folder


def find_file(folder: Path, names: Sequence[str], files: str) -> Path:
    """The first of `names` that is a file in `folder`.

    Raises:
        FileNotFoundError: none is; the message lists what is there.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"no {' or '.join(names)} in {folder}, which holds {contents(folder)}; expected {files}")


def contents(folder: Path) -> str:
    """The first names in a folder, for a message."""
    names = sorted(path.name for path in folder.iterdir())
    if not names:
        return "nothing"
    return ", ".join(names[:8]) + (f", ... ({len(names)} in all)" if len(names) > 8 else "")


def as_dataset(
    image: np.ndarray, label: np.ndarray | None = None, *, where: str | os.PathLike
) -> dict[str, np.ndarray]:
    """{"image": uint8 [N, H, W, C], "label": int32 [N]}, C-contiguous, after checking them.

    Args:
        image: uint8 [N, H, W, C] or [N, H, W].
        label: integers [N], if there are labels.
        where: the file or folder they were read from, for the message.

    Raises:
        ValueError: another dtype or shape, no example, labels that do not fit.
    """
    if image.dtype != np.uint8:
        numbers = image.size > 0 and image.dtype.kind in "biuf"
        span = f" from {image.min()} to {image.max()}" if numbers else ""
        raise ValueError(
            f"{where}: found {image.dtype} values{span}; expected uint8 from 0 to 255: "
            "scale to that range, round, and save with .astype(np.uint8)"
        )
    if image.ndim == 3:
        image = image[..., None]
    if image.ndim != 4:
        raise ValueError(
            f"{where}: found images of shape {image.shape}; expected [N, H, W] or [N, H, W, C]: "
            "reshape the array before saving it"
        )
    if len(image) == 0:
        raise ValueError(
            f"{where}: the split is empty, shape {image.shape}; expected one example or more: "
            "choose another split or folder"
        )
    if 0 in image.shape or image.shape[3] > 4:
        raise ValueError(
            f"{where}: found images of shape {image.shape}, whose last axis holds "
            f"{image.shape[3]}; expected [N, H, W, C] with 1 to 4 channels: for [N, C, H, W] use "
            ".transpose(0, 2, 3, 1)"
        )
    dataset = {"image": np.ascontiguousarray(image)}
    if label is not None:
        if label.shape != (len(image),) or label.dtype.kind not in "iu":
            raise ValueError(
                f"{where}: found labels {label.dtype} {label.shape} for {len(image)} images; "
                f"expected one integer each, shape ({len(image)},): images and labels of different "
                "files?"
            )
        dataset["label"] = np.ascontiguousarray(label, dtype=np.int32)
    return dataset
