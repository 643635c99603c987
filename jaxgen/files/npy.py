"""NumPy's .npy and .npz: the header, parsed as text, is compared with the size of the data before memory is allocated.

Source: NEP 1 and numpy.lib.format.
"""

import math
import os
import re
from typing import NamedTuple

import numpy as np

from jaxgen.files.gzips import Stream, fill
from jaxgen.files.limits import check_expansion, describe, first_bytes, regular_file_size
from jaxgen.files.zips import open_zip

_HEADER = 10_000
_ITEM = re.compile(
    r"""\s*(['"])(descr|fortran_order|shape)\1\s*:\s*"""
    r"""(?:(['"])(?P<descr>[<>|=]?[a-zA-Z]\d{0,9})\3|(?P<order>True|False)|\((?P<shape>[\dL,\s]*)\))\s*"""
)


class Header(NamedTuple):
    """What the header of a .npy says.

    Attributes:
        dtype: of numbers, text, or object.
        shape: of the array.
        fortran: whether the first axis is the fastest.
        length: bytes of the header.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool
    length: int

    @property
    def num_bytes(self) -> int:
        """Bytes of the data after the header."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy_header(stream: Stream) -> Header:
    """The header at the start of a stream.

    Raises:
        ValueError: there is none, or it is not a header of an array of numbers, text or objects.
    """
    start = stream.read(8)
    if len(start) < 8 or start[:6] != b"\x93NUMPY" or start[6] not in (1, 2, 3) or start[7]:
        raise ValueError(f"it is no .npy of a known version, but {describe(start)}")
    length = 2 if start[6] == 1 else 4
    size_of_text = int.from_bytes(_exactly(stream, length), "little")
    if size_of_text > _HEADER:
        raise ValueError(f"its header is declared to have {size_of_text:,} bytes; expected at most {_HEADER:,}")
    text = _exactly(stream, size_of_text).decode("utf-8" if start[6] == 3 else "latin1")
    found = _fields(text)
    if re.search(r"'descr'\s*:\s*\[", text) and "descr" not in found:
        raise ValueError("it is an array of records; expected an array of numbers")
    if found.keys() != {"descr", "fortran_order", "shape"}:
        raise ValueError(f"its header is {text.strip()[:200]!r}; expected descr, fortran_order and shape")
    *sizes, last = (size.strip() for size in found["shape"].split(","))
    sizes += [last] if last else []
    if len(sizes) > 32 or not all(re.fullmatch(r"\d{1,18}L?", size) for size in sizes):
        raise ValueError(f"its header declares the shape ({found['shape'][:100]})")
    shape = tuple(int(size.rstrip("L")) for size in sizes)
    return Header(_dtype(found["descr"]), shape, found["fortran_order"] == "True", 8 + length + size_of_text)


def read_npy_data(stream: Stream, header: Header, available: int) -> np.ndarray:
    """The array after a header, of any shape, C-contiguous and writeable.

    Args:
        stream: right after the header.
        header: of `read_npy_header`.
        available: bytes after the header, as the file system or the archive declares them.

    Raises:
        ValueError: objects, or another number of bytes.
    """
    if header.dtype.hasobject:
        raise ValueError("it holds pickled objects, which are never loaded (allow_pickle=False)")
    if header.num_bytes != available:
        raise ValueError(
            f"its header declares {header.dtype} {list(header.shape)}, {header.num_bytes:,} bytes; {available:,} follow"
        )
    array = np.empty(math.prod(header.shape), header.dtype)
    if array.nbytes and fill(stream, array.view(np.uint8).data) != array.nbytes:
        raise ValueError("its data ends early")
    if array.dtype.kind == "b" and array.nbytes and array.view(np.uint8).max() > 1:
        raise ValueError("it is of truth values, and holds other bytes than 0 and 1")
    if array.dtype.kind == "U" and array.nbytes:
        letters = array.view(array.dtype.str[0].replace("|", "=") + "u4")
        if letters.max() > 0x10FFFF:
            raise ValueError("its text has characters that do not exist")
    if header.fortran:
        return np.ascontiguousarray(array.reshape(header.shape[::-1]).T)
    return array.reshape(header.shape)


def read_npy(path: str | os.PathLike) -> np.ndarray:
    """The array in a .npy file, of any shape, C-contiguous; pickled objects are never loaded.

    Raises:
        OSError: it cannot be opened.
        ValueError: not a .npy file, a truncated one, one with more than one array, or one of objects or records.
    """
    size = regular_file_size(path)
    try:
        with open(path, "rb") as file:
            header = read_npy_header(file)
            return read_npy_data(file, header, size - header.length)
    except (ValueError, MemoryError) as error:
        raise ValueError(
            f"{path}: not a whole .npy array of numbers ({error}); expected a file written by "
            "numpy.save(path, array): save it again, with a plain dtype"
        ) from error


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name, of any shapes; pickled objects are never loaded.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is damaged, holds something else than arrays, or unpacks to more than `check_expansion` allows;
            the message does not name the file.
    """
    size = regular_file_size(path)
    start = first_bytes(path)
    if not start.startswith(b"PK"):
        raise ValueError(f"it is no .npz, but {describe(start)}")
    arrays = {}
    with open_zip(path) as archive:
        entries = archive.infolist()
        check_expansion(sum(entry.file_size for entry in entries if entry.compress_size != entry.file_size), size)
        for entry in entries:
            if not entry.filename.endswith(".npy"):
                raise ValueError(f"the entry {entry.filename!r} is no .npy; expected arrays only")
            with archive.open(entry) as stream:
                try:
                    header = read_npy_header(stream)
                    array = read_npy_data(stream, header, entry.file_size - header.length)
                    if stream.read(1):
                        raise ValueError("its data is longer than declared")
                except ValueError as error:
                    raise ValueError(f"the entry {entry.filename!r} cannot be read: {error}") from error
            arrays[entry.filename.removesuffix(".npy")] = array
    return arrays


def _exactly(stream: Stream, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise ValueError("it ends in its header")
    return data


def _fields(text: str) -> dict[str, str]:
    """The items of a header: a dict literal of three known kinds of values, and nothing else."""
    text = text.strip()
    found: dict[str, str] = {}
    if not (text.startswith("{") and text.endswith("}")):
        return found
    position, end = 1, len(text) - 1
    while position < end:
        item = _ITEM.match(text, position, end)
        if item is None or item[2] in found:
            return {} if text[position:end].strip() else found
        kind = {"descr": "descr", "fortran_order": "order", "shape": "shape"}[item[2]]
        if item[kind] is None:
            return {}
        found[item[2]] = item[kind]
        position = item.end()
        if position < end:
            if text[position] != ",":
                return {}
            position += 1
    return found


def _dtype(code: str) -> np.dtype:
    kind = code.lstrip("<>|=")[:1]
    if kind not in "biufcSUO?":
        raise ValueError(
            f"its dtype is {code!r}; expected numbers (numpy.save writes bfloat16 and float8 without their names: "
            "use safetensors for these)"
        )
    try:
        dtype = np.dtype(code)
    except (TypeError, ValueError) as error:
        raise ValueError(f"its dtype is {code!r}, which NumPy does not have") from error
    if not dtype.itemsize:
        raise ValueError(f"its dtype is {code!r}, values without bytes")
    return dtype
