"""What every reader checks, and the words it uses when a check fails."""

import difflib
import math
import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.files import as_path

SPLITS = ("train", "test")
MAX_CLASSES = 100_000
"""Labels are below this."""


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
    folder = as_path(directory)
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
    image: np.ndarray,
    label: np.ndarray | None = None,
    *,
    where: str | os.PathLike,
    where_label: str | os.PathLike | None = None,
    rescale: bool = True,
) -> dict[str, np.ndarray]:
    """{"image": uint8 [N, H, W, C], "label": int32 [N]}, C-contiguous, after checking them.

    Args:
        image: [N, H, W, C] or [N, H, W]: see `as_bytes`.
        label: [N], if there are labels: see `as_labels`.
        where: the file or folder they were read from, for the message.
        where_label: that of the labels, where it is another one.
        rescale: false: bytes are what they are, also where all are 0 and 1.

    Raises:
        ValueError: other values or another shape, no example, labels that do not fit.
    """
    if rescale or image.dtype != np.uint8:
        image = as_bytes(image, where)
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
            ".transpose(0, 2, 3, 1), or layout='NCHW' (--data.layout)"
        )
    dataset = {"image": np.ascontiguousarray(image)}
    if label is not None:
        dataset["label"] = as_labels(label, len(image), where if where_label is None else where_label)
    return dataset


def as_bytes(image: np.ndarray, where: str | os.PathLike) -> np.ndarray:
    """Pixels of any numeric type as uint8, of the same shape.

    | values | read as |
    |---|---|
    | 0 and 1 alone, of any type | black and white |
    | floating point in [0, 1] | rounded to 256 levels |
    | whole numbers from 0 to 255, of any type | themselves |

    Raises:
        ValueError: other values, such as [-1, 1], 16-bit pixels, fractions above 1 or NaN.
    """
    if image.dtype.kind not in "biuf":
        raise ValueError(
            f"{where}: found {image.dtype} values; expected numbers, uint8 from 0 to 255 or floats in [0, 1]"
        )
    if image.size == 0:
        return image.astype(np.uint8)
    low, high = image.min(), image.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{where}: found {image.dtype} values that are not finite; expected images without NaN or inf")
    is_whole = image.dtype.kind != "f" or np.array_equal(image, np.rint(image))
    if is_whole and low >= 0 and high <= 255:
        return image.astype(np.uint8, copy=False) * np.uint8(255) if high == 1 else image.astype(np.uint8, copy=False)
    # Resampling may leave [0, 1] by rounding.
    if image.dtype.kind == "f" and low >= -1e-5 and high <= 1 + 1e-5:
        return np.rint(np.clip(image.astype(np.float32), 0, 1) * np.float32(255)).astype(np.uint8)
    raise ValueError(
        f"{where}: found {image.dtype} values from {low} to {high}; expected uint8 from 0 to 255, or floats in [0, 1]: "
        "scale to one of them (values in [-1, 1]: x / 2 + 0.5; fractions from 0 to 255: round, then .astype(np.uint8))"
    )


def as_labels(label: np.ndarray, num: int, where: str | os.PathLike) -> np.ndarray:
    """Class labels as int32 [num], from 0 up.

    Args:
        label: whole numbers of any numeric type, [num], [num, 1] or [1, num], or one-hot rows [num, K].
        num: number of images.
        where: the file they were read from, for the message.

    Raises:
        ValueError: another shape or number of labels, fractions, negative labels, labels above 99,999.
    """
    expected = f"expected one integer each, shape ({num},), or one-hot rows [{num}, K]"
    found = f"{where}: found labels {label.dtype} {label.shape} for {num} images"
    if label.dtype.kind not in "biuf":
        raise ValueError(
            f"{found}; {expected}: number the classes, for example by np.unique(labels, return_inverse=True)[1]"
        )
    if label.ndim == 2 and label.shape[0] == num and label.shape[1] > 1:
        if not (np.isin(label, (0, 1)).all() and (label.sum(axis=1) == 1).all()):
            raise ValueError(f"{found}, whose rows are not one-hot; {expected}: use .argmax(axis=1) of scores")
        label = label.argmax(axis=1)
    elif label.ndim == 2 and 1 in label.shape:
        label = label.reshape(-1)
    if label.shape != (num,):
        raise ValueError(f"{found}; {expected}: images and labels of different files?")
    if label.dtype.kind == "f" and not np.array_equal(label, np.rint(label)):
        raise ValueError(f"{found} with fractions or NaN; {expected}: are they scores?")
    # Numbers of Python: float16 does not reach the limit.
    low, high = (label.min().item(), label.max().item()) if num else (0, 0)
    if not (low >= 0 and high < MAX_CLASSES):
        raise ValueError(
            f"{where}: found labels from {low} to {high}; expected classes from 0 to {MAX_CLASSES - 1}: "
            "number them by np.unique(labels, return_inverse=True)[1], over both splits at once"
        )
    return np.ascontiguousarray(label, dtype=np.int32)


def arrange(
    array: np.ndarray, layout: str, shape: tuple[int, ...], where: str | os.PathLike, num: int | None = None
) -> np.ndarray:
    """An array of images as [N, H, W] or [N, H, W, C].

    Args:
        array: [N, H, W], [N, H, W, C], [N, D], or as `layout` says.
        layout: its axes in the order in which they are stored, letters of N, H, W and perhaps C: "HWN" and "HWCN" as
            MATLAB has them, "NCHW" as PyTorch. An axis of flat images stands for several letters, first or last: "WHN"
            for [D, N] of columns that MATLAB made of images. Empty: N first, C last.
        shape: sizes of the letters other than N of flat images, in the order of `layout`. Empty: square images of one
            channel.
        where: the file, for the message.
        num: number of labels, where there are some, which tells [N, H, W] from [H, W, N].

    Raises:
        ValueError: a layout that does not fit, flat images of an unknown shape, or, without a layout, an order of axes
            that is probably another.
    """
    shape = _sizes(shape)
    if not isinstance(layout, str):
        raise ValueError(f"layout is {layout!r}; expected text such as 'NCHW', or '' for the usual order")
    letters = layout or {2: "NHW" + "C" * (len(shape) == 3), 3: "NHW", 4: "NHWC"}.get(array.ndim, "")
    if not letters:
        return array  # as_dataset refuses it
    if sorted(letters) not in (sorted("NHW"), sorted("NHWC")):
        raise ValueError(
            f"layout is {layout!r}; expected the letters N, H, W and perhaps C in the order of the axes, as 'HWN'"
        )
    if array.ndim == 2 and letters[0] != "N" != letters[-1]:
        raise ValueError(
            f"{where}: found flat images {array.shape} and layout {layout!r}; N must be its first or last letter"
        )
    if array.ndim == 2:
        size = array.shape[1] if letters[0] == "N" else array.shape[0]
        side = math.isqrt(size)
        sizes = shape or ((side, side) if len(letters) == 3 else ())
        if len(sizes) != len(letters) - 1 or math.prod(sizes) != size:
            raise ValueError(
                f"{where}: found flat images, shape {array.shape}, and shape {shape or 'not given'}; expected shape= "
                f"(--data.shape) with a product of {size}, such as 28 28, or 32 32 3 with colour"
            )
        array = array.reshape((len(array), *sizes) if letters[0] == "N" else (*sizes, array.shape[1]))
    elif shape:
        raise ValueError(
            f"{where}: found images of shape {array.shape}; shape= (--data.shape) is for flat images [N, D]"
        )
    if array.ndim != len(letters):
        raise ValueError(
            f"{where}: found {array.ndim} axes, shape {array.shape}; layout {layout!r} names {len(letters)}"
        )
    if not layout and (other := _other_layout(array.shape, num)):
        raise ValueError(
            f"{where}: found shape {array.shape}, which may be {other}; set layout={other!r} (--data.layout) if it is, "
            f"or {letters!r} if it is {len(array)} images"
        )
    return array.transpose([letters.index(letter) for letter in "NHWC" if letter in letters])


def _sizes(shape: Any) -> tuple[int, ...]:
    try:
        sizes = tuple(operator.index(size) for size in shape)
    except TypeError:
        sizes = (0,)
    if any(size < 1 for size in sizes):
        raise ValueError(f"shape is {shape!r}; expected positive whole numbers such as (28, 28)")
    return sizes


def _other_layout(shape: tuple[int, ...], num: int | None) -> str:
    """The order of axes that a shape looks like, if that is not [N, H, W] or [N, H, W, C]; `num` labels, if any."""
    first, second, last = shape[0], shape[1], shape[-1]
    if len(shape) == 3:
        looks = num != first and (first == second != last or last > 4 * max(first, second) or num == last)
        return "HWN" if looks else ""
    if last in (1, 3):
        return ""
    return "NCHW" if second in (1, 3) else "HWCN" if shape[2] in (1, 3) and num != first else ""
