"""CIFAR-10 (Krizhevsky 2009) in its binary version, its python version, or as PNG strips."""

import json
import logging
import os
import re
from pathlib import Path

import numpy as np

from jaxgen.data.checks import as_dataset, check_split, contents, existing_folder, find_file
from jaxgen.files import ArrayPickle, Budget, numpy_names, read_image, read_pickle, regular_file_size

FILES = (
    "the folder with data_batch_1.bin ... data_batch_5.bin and test_batch.bin (binary version), or "
    "data_batch_1 ... data_batch_5 and test_batch (python version), both from "
    "https://www.cs.toronto.edu/~kriz/cifar.html, or cifar10_batch_<i>.png and cifar10_labels.js"
)
PIXELS = 3 * 32 * 32
STRIP = 1000  # images in a PNG strip
LABELS = 51_000  # labels of the strips: 50,000 train, then 1,000 test

_log = logging.getLogger(__name__)


def read_cifar10(directory: str | os.PathLike | None, split: str = "train") -> dict[str, np.ndarray]:
    """CIFAR-10 in whichever of three layouts the folder holds; the first of these that is there.

    * binary: data_batch_{1..5}.bin and test_batch.bin, records of 1 + 3,072 bytes.
    * python: data_batch_{1..5} and test_batch, pickles read by an unpickler that builds arrays of
      numbers, bytes, str, list and dict and nothing else.
    * strips: cifar10_batch_<i>.png, 1,000 images each, one a row; train is every strip from 0 to 49
      that is there (a warning is logged when some are missing), test is strip 50; all labels are in
      cifar10_labels.js.

    Args:
        directory: the folder.
        split: "train" or "test".

    Returns:
        {"image": uint8 [N, 32, 32, 3], "label": int32 [N]} in the official order.

    Raises:
        FileNotFoundError: no folder, no known layout, or a missing file.
        ValueError: a damaged file, or a pickle that asks for anything but arrays.
    """
    check_split(split)
    folder = existing_folder(directory, FILES)
    names = [f"data_batch_{i}" for i in range(1, 6)] if split == "train" else ["test_batch"]
    if any(folder.glob("*_batch*.bin")):
        parts = [_read_binary(find_file(folder, [f"{name}.bin"], FILES)) for name in names]
    elif any((folder / name).is_file() for name in ("data_batch_1", "test_batch")):
        parts = [_read_python(find_file(folder, [name], FILES)) for name in names]
    elif any(folder.glob("cifar10_batch_*.png")):
        parts = _read_strips(folder, split)
    else:
        raise FileNotFoundError(f"no CIFAR-10 batch in {folder}, which holds {contents(folder)}; expected {FILES}")
    image, label = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return as_dataset(image, label, where=folder)


def _read_binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Records of one label byte and 3,072 bytes: the red, green and blue planes, row by row."""
    size = regular_file_size(path)
    if size == 0 or size % (1 + PIXELS):
        raise ValueError(
            f"{path}: found {size:,} bytes; expected a multiple of {1 + PIXELS} (30,730,000 in "
            f"the original): the file is truncated or another one, take it again from {FILES}"
        )
    records = np.fromfile(path, np.uint8).reshape(-1, 1 + PIXELS)
    return _from_planes(records[:, 1:]), _as_labels(path, records[:, 0])


def _read_python(path: Path) -> tuple[np.ndarray, np.ndarray]:
    batch = {_text(k): v for k, v in read_arrays_pickle(path).items()}
    if not {"data", "labels"} <= batch.keys():
        raise ValueError(
            f"{path}: found the keys {sorted(batch)}; expected data and labels (CIFAR-10's python "
            f"version; CIFAR-100 has other keys): {FILES}"
        )
    data, label = batch["data"], batch["labels"]
    # Lists inside of lists may share their parts, and be huge as an array.
    if isinstance(label, list):
        label = [n.value if isinstance(n, ArrayPickle) else n for n in label]
        is_plain = all(isinstance(n, int | float) or (isinstance(n, np.ndarray) and not n.ndim) for n in label)
    else:
        is_plain = isinstance(label, np.ndarray)
    if not is_plain:
        raise ValueError(f"{path}: found labels that are no list of numbers; expected one integer each: {FILES}")
    label = np.asarray(label)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (PIXELS,):
        is_array = isinstance(data, np.ndarray)
        found = f"{data.dtype} {data.shape}" if is_array else type(data).__name__
        raise ValueError(f"{path}: found data {found}; expected uint8 (N, {PIXELS}): {FILES}")
    if label.shape != (len(data),) or label.dtype.kind not in "iu":
        raise ValueError(f"{path}: found {label.dtype} labels {label.shape}; expected {len(data)} integers: {FILES}")
    return _from_planes(data), _as_labels(path, label)


def _as_labels(path: Path, label: np.ndarray) -> np.ndarray:
    """int32, if all are 0 to 9."""
    if label.size and (label.min() < 0 or label.max() > 9):
        raise ValueError(
            f"{path}: found labels from {label.min()} to {label.max()}; expected 0 to 9: "
            f"these are not CIFAR-10's files, or they are damaged. Expected {FILES}"
        )
    return label.astype(np.int32)


def _from_planes(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def _read_strips(folder: Path, split: str) -> list[tuple[np.ndarray, np.ndarray]]:
    labels_path = find_file(folder, ["cifar10_labels.js"], FILES)
    if (size := regular_file_size(labels_path)) > 64 * LABELS:
        raise ValueError(f"{labels_path}: found {size:,} bytes; expected {LABELS:,} labels: take it again from {FILES}")
    try:
        listed = re.search(r"\[[\d,\s]*\]", labels_path.read_text(encoding="utf-8"))
        labels = _as_labels(labels_path, np.array(json.loads(listed.group()) if listed else [], np.int64))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{labels_path}: not a list of labels ({error}); expected {FILES}") from error
    if len(labels) != LABELS:
        raise ValueError(
            f"{labels_path}: found {len(labels):,} labels; expected {LABELS:,} (50,000 train, then "
            f"1,000 test): take it again from {FILES}"
        )
    wanted = range(50) if split == "train" else range(50, 51)
    present = [i for i in wanted if (folder / f"cifar10_batch_{i}.png").is_file()]
    if not present:
        find_file(folder, [f"cifar10_batch_{wanted[0]}.png"], FILES)
    if len(present) < len(wanted):
        _log.warning(
            "%s: strips %s are there: %s of the %s training images",
            folder,
            _ranges(present),
            f"{STRIP * len(present):,}",
            f"{STRIP * len(wanted):,}",
        )
    parts = []
    for i in present:
        path = folder / f"cifar10_batch_{i}.png"
        strip = np.asarray(read_image(path))
        if strip.shape != (STRIP, 32 * 32, 3) or strip.dtype != np.uint8:
            raise ValueError(
                f"{path}: found {strip.dtype} {strip.shape}; expected uint8 ({STRIP}, 1024, 3), "
                "one image a row: take it again"
            )
        parts.append((strip.reshape(-1, 32, 32, 3), labels[STRIP * i : STRIP * (i + 1)]))
    return parts


def _ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 5] -> '0-2, 5'."""
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def read_arrays_pickle(path: str | os.PathLike) -> dict:
    """A pickled dict of arrays of numbers, bytes, str, numbers, list, dict and nothing else.

    Loading a pickle can run any code; `jaxgen.files.read_pickle` reads it without a way to do so. Names that arrays do
    not need are refused.

    Raises:
        ValueError: a damaged file, something else than a dict, or a refused name.
    """
    size = regular_file_size(path)
    budget = Budget(size)
    with open(path, "rb") as file:
        try:
            value = read_pickle(file, numpy_names(budget), budget, size)
            if file.read(1):
                raise ValueError("more follows the pickle")
        # A damaged pickle fails in whatever way its bytes happen to ask for.
        except Exception as error:
            raise ValueError(
                f"{path}: cannot be read as a pickle of arrays ({type(error).__name__}: {error}); "
                f"expected arrays, bytes, str, list and dict only: {FILES}"
            ) from error
    if not isinstance(value, dict):
        found = type(value).__name__
        raise ValueError(f"{path}: found a pickled {found}; expected a dict: {FILES}")
    return {k: v.value if isinstance(v, ArrayPickle) else v for k, v in value.items()}


def _text(value: str | bytes) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
