"""The IDX format of MNIST and Fashion-MNIST (LeCun; the format is described with the data set)."""

import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from jaxgen.data.checks import as_dataset, check_split, existing_folder, find_file
from jaxgen.files import Stream, as_path, check_expansion, fill, open_unpacked, regular_file_size

FILES = (
    "the folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
    "t10k-labels-idx1-ubyte, gzipped or not "
    "(MNIST: https://ossci-datasets.s3.amazonaws.com/mnist/, "
    "Fashion-MNIST: https://github.com/zalandoresearch/fashion-mnist)"
)


def read_mnist(directory: str | os.PathLike | None, split: str = "train") -> dict[str, np.ndarray]:
    """MNIST, Fashion-MNIST or any data set in the same four files.

    Args:
        directory: folder of the IDX files; an unpacked file is preferred to its `.gz`.
        split: "train" (60,000) or "test" (10,000; the files named t10k).

    Returns:
        {"image": uint8 [N, 28, 28, 1], "label": int32 [N]} in the order of the files.

    Raises:
        FileNotFoundError: no folder or no file.
        ValueError: a damaged file, an empty split, or images and labels that differ in number.
    """
    check_split(split)
    folder = existing_folder(directory, FILES)
    prefix = "train" if split == "train" else "t10k"
    arrays = []
    for kind, ndim in (("images", 3), ("labels", 1)):
        stems = (f"{prefix}-{kind}-idx{ndim}-ubyte", f"{prefix}-{kind}.idx{ndim}-ubyte")
        path = find_file(folder, [stem + end for stem in stems for end in ("", ".gz")], FILES)
        arrays.append(read_idx(path, ndim))
    return as_dataset(*arrays, where=folder)


def read_idx(path: str | os.PathLike, ndim: int) -> np.ndarray:
    """An array of unsigned bytes from an IDX file, gzipped (whatever its name) or not.

    The file is a magic number 0x0000TTDD (TT = 0x08: unsigned bytes; DD: number of dimensions),
    the DD sizes as big-endian 32-bit integers, and the values in row-major order.

    Args:
        path: the file.
        ndim: the number of dimensions that it must have (3: images, 1: labels).

    Returns:
        uint8, the shape written in the file.

    Raises:
        ValueError: damaged gzip, another magic number, or another length than the sizes promise.
    """
    path = as_path(path)
    size = regular_file_size(path)
    file, stream, packed = open_unpacked(path)
    with file:
        try:
            return _read_stream(path, stream, ndim, size, packed)
        except (EOFError, zlib.error) as error:
            raise ValueError(
                f"{path}: damaged or truncated gzip file of {size:,} bytes ({error}); expected "
                f"a complete one: download it again from its source: {FILES}"
            ) from error


def _read_stream(path: Path, stream: Stream, ndim: int, size: int, packed: bool) -> np.ndarray:
    """The array in a stream of the file of `size` bytes."""
    start = 4 + 4 * ndim
    raw = stream.read(start)
    expected = bytes([0, 0, 8, ndim])
    if raw[:4] != expected:
        raise ValueError(
            f"{path}: found magic number 0x{raw[:4].hex()} ({raw[:4]!r}); expected "
            f"0x{expected.hex()} (IDX, unsigned bytes, {ndim} dimensions): is it another file, or "
            f"a web page saved under this name? Expected {FILES}"
        )
    if len(raw) < start:
        raise ValueError(
            f"{path}: truncated after {len(raw)} bytes; expected a header of {start} bytes: "
            f"download it again from its source: {FILES}"
        )
    shape = struct.unpack(f">{ndim}I", raw[4:])
    num_bytes = math.prod(shape)
    if packed:
        try:
            check_expansion(num_bytes, size)
        except ValueError as error:
            raise ValueError(f"{path}: the shape in its header is {shape}: {error}") from error
    found = num_bytes if packed else size - start
    if found == num_bytes:
        array = np.empty(num_bytes, np.uint8)
        found = fill(stream, array.data) + len(stream.read(1))
    if found != num_bytes:
        more = " or more" if packed and found > num_bytes else ""
        raise ValueError(
            f"{path}: found {found:,}{more} bytes of values; expected {num_bytes:,} for the shape "
            f"{shape} in its header: the file is truncated or altered, download it again: {FILES}"
        )
    try:
        return array.reshape(shape)
    except ValueError as error:  # sizes beside a 0
        raise ValueError(f"{path}: the shape in its header is {shape} ({error}); expected {FILES}") from error
