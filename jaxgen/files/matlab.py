"""MATLAB's files up to version 7, read without running anything: arrays of real numbers.

scipy reads more of them, and a damaged file can end the process there. Source: MathWorks, "MAT-File Format" (2019),
levels 4 and 5. Version 7.3 is HDF5, which is not read.
"""

import contextlib
import math
import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxgen.files.gzips import Bytes, Unpacked, fill
from jaxgen.files.limits import check_expansion, describe, regular_file_size

_HEADER = 128
_VARIABLES = 10_000
_NAME = 256
_PREFIX = 1024
"""Bytes of a compressed array that hold its flags, shape and name."""
_MATRIX, _COMPRESSED = 14, 15
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {
    1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 6: "double", 7: "single", 8: "int8", 9: "uint8",
    10: "int16", 11: "uint16", 12: "int32", 13: "uint32", 14: "int64", 15: "uint64",
}  # fmt: skip
_LEVEL_4 = ("f8", "f4", "i4", "i2", "u2", "u1")


class MatArray(NamedTuple):
    """What a file says of one of its variables.

    Attributes:
        kind: its class in MATLAB, such as "double", "uint8", "char" or "struct"; "logical" for truth values.
        shape: of the variable.
        numbers: whether `read_mat` reads it.
    """

    kind: str
    shape: tuple[int, ...]
    numbers: bool


class _Variable(NamedTuple):
    about: MatArray
    data: memoryview
    stored: np.dtype | None


def read_mat_variables(path: str | os.PathLike) -> dict[str, MatArray]:
    """The variables of a file by name; their shapes are those of MATLAB, at least two sizes.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is damaged, or no such file.
    """
    with _named(path):
        found = {name: variable.about for name, variable in _variables(_bytes(path), None)}
        if not found:
            raise ValueError("it holds no array, as one that was cut off")
        return found


def read_mat(path: str | os.PathLike, name: str) -> np.ndarray:
    """The array `name` of a file, of any shape, C-contiguous.

    It has the dtype in which it is stored, which may be smaller than its class: MATLAB stores doubles that are small
    whole numbers as bytes.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is damaged, no such file, or has no array of real numbers of this name.
    """
    with _named(path):
        found = dict(_variables(_bytes(path), name))
        if name not in found:
            raise ValueError(f"it has no array {name!r} but {', '.join(found) or 'none'}")
        about, data, stored = found[name]
        if stored is None:
            raise ValueError(f"{name!r} is {about.kind} or complex; expected an array of real numbers")
        count = math.prod(about.shape)
        if len(data) != count * stored.itemsize:
            raise ValueError(f"{name!r} has {len(data):,} bytes of {stored} for the shape {about.shape}")
        array = np.frombuffer(data, stored).reshape(about.shape, order="F")
        return np.array(array, stored.newbyteorder("="), order="C")


@contextlib.contextmanager
def _named(path: str | os.PathLike) -> Iterator[None]:
    """Errors of a damaged file name it."""
    try:
        yield
    except (ValueError, EOFError, struct.error, zlib.error, MemoryError) as error:
        raise ValueError(
            f"{path}: not a whole MATLAB file ({error}); expected version 5 to 7: take it again from its source, or "
            "save it again with -v7 (version 7.3 is HDF5)"
        ) from error


def _bytes(path: str | os.PathLike) -> memoryview:
    regular_file_size(path)
    return memoryview(Path(path).read_bytes())


def _variables(data: memoryview, wanted: str | None) -> Iterator[tuple[str, _Variable]]:
    """Every variable; compressed ones are unpacked and compared with their checksums, all or `wanted` alone."""
    if len(data) >= 20 and 0 in data[:4]:
        found = _level_4(data)
    elif len(data) >= _HEADER and bytes(data[126:128]) in (b"IM", b"MI"):
        order = "<" if bytes(data[126:128]) == b"IM" else ">"
        version = struct.unpack_from(f"{order}H", data, 124)[0]
        if version >> 8 != 1:
            raise ValueError(
                f"it is of version {version >> 8}, HDF5" if version >> 8 == 2 else "its version is unknown"
            )
        found = _level_5(data[_HEADER:], order, len(data), wanted)
    else:
        raise ValueError(f"it is {describe(bytes(data[:64]))}")
    names = set()
    for name, variable in found:
        if name in names:
            raise ValueError(f"it has two variables {name!r}")
        names.add(name)
        if len(names) > _VARIABLES:
            raise ValueError(f"it has more than {_VARIABLES:,} variables")
        yield name, variable


def _level_5(data: memoryview, order: str, size: int, wanted: str | None) -> Iterator[tuple[str, _Variable]]:
    unpacked = elements = 0
    while len(data):
        elements += 1
        if elements > _VARIABLES:
            raise ValueError(f"it has more than {_VARIABLES:,} variables")
        kind, body, data = _element(data, order, top=True)
        if kind == _COMPRESSED:
            stream = Unpacked(Bytes(body), wbits=15)
            start = stream.read(_PREFIX)
            if len(start) < 8:
                raise ValueError("a compressed array ends early")
            inner, length = struct.unpack_from(f"{order}2I", start)
            name, variable = _matrix(memoryview(start)[8 : 8 + length], order, inner, length)
            if wanted is None or name == wanted:
                unpacked += length
                check_expansion(unpacked, size)
                whole = memoryview(bytearray(8 + length))
                whole[: len(start)] = start[: len(whole)]
                if fill(stream, whole[len(start) :]) + len(start) != len(whole) or stream.read(1):
                    raise ValueError(f"the compressed array {name!r} is not as long as declared, {length:,} bytes")
                name, variable = _matrix(whole[8:], order, inner, length)
        else:
            name, variable = _matrix(body, order, kind, len(body))
        if name:  # without: MATLAB's own workspace of functions
            yield name, variable


def _element(
    data: memoryview, order: str, *, top: bool = False, whole: bool = True
) -> tuple[int, memoryview, memoryview]:
    """(type, bytes, what follows) of the element at the start of `data`."""
    if len(data) < 8:
        raise ValueError("it ends within a tag")
    kind, length = struct.unpack_from(f"{order}2I", data)
    if kind >> 16 and not top:  # a small element: four bytes inside of its tag
        length, kind = kind >> 16, kind & 0xFFFF
        if length > 4:
            raise ValueError("a small element has more than four bytes")
        return kind, data[4 : 4 + length], data[8:]
    end = 8 + length
    if end > len(data) and whole:
        raise ValueError(f"it ends within an element of {length:,} bytes")
    padded = end if kind == _COMPRESSED else -(-end // 8) * 8
    return kind, data[8:end], data[padded:]


def _matrix(body: memoryview, order: str, kind: int, length: int) -> tuple[str, _Variable]:
    """(name, variable) of the content of a matrix, of which `body` may be only the start."""
    if kind != _MATRIX:
        raise ValueError(f"it has an element of type {kind}; expected arrays")
    if not length:
        return "", _Variable(MatArray("double", (0, 0), False), body, None)
    kind, flags, body = _element(body, order)
    if kind != 6 or len(flags) != 8:
        raise ValueError("an array without flags")
    word = struct.unpack_from(f"{order}I", flags)[0]
    about = _CLASSES.get(word & 0xFF, f"of class {word & 0xFF}")
    kind, sizes, body = _element(body, order)
    if kind != 5 or len(sizes) % 4 or not 8 <= len(sizes) <= 128:
        raise ValueError("an array without sizes")
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    kind, text, body = _element(body, order)
    name = bytes(text).decode("latin1")
    if kind != 1 or not re.fullmatch(r"\w*", name, re.ASCII) or len(name) > _NAME or min(shape) < 0:
        raise ValueError("an array with a wrong name or size")
    is_number = 6 <= word & 0xFF <= 15 and not word & 0x800
    if word & 0x200 and is_number:
        about = "logical"
    stored, data = None, body
    if is_number and len(body):
        kind, data, _ = _element(body, order, whole=False)
        if kind not in _TYPES:
            raise ValueError(f"the array {name!r} is stored as type {kind}")
        stored = np.dtype(order + _TYPES[kind])
    return name, _Variable(MatArray(about, shape, is_number), data, stored)


def _level_4(data: memoryview) -> Iterator[tuple[str, _Variable]]:
    order = "<" if struct.unpack_from("<I", data)[0] < 5000 else ">"
    while len(data):
        if len(data) < 20:
            raise ValueError("it ends within a header")
        kind, rows, columns, is_complex, length = struct.unpack_from(f"{order}5i", data)
        thousands, precision, text = kind // 1000, kind // 10 % 10, kind % 10
        known = thousands == (order == ">") and not kind // 100 % 10 and precision < 6 and text < 3
        if kind < 0 or not known or min(rows, columns) < 0 or is_complex not in (0, 1) or not 0 < length <= _NAME:
            raise ValueError("a header of level 4 that is none")
        name = bytes(data[20 : 20 + length]).rstrip(b"\0").decode("latin1")
        stored = np.dtype(order + _LEVEL_4[precision])
        end = 20 + length + rows * columns * stored.itemsize * (1 + is_complex)
        if end > len(data) or not re.fullmatch(r"\w+", name, re.ASCII):
            raise ValueError("an array of level 4 with a wrong name or size")
        about = MatArray(("double", "char", "sparse")[text], (rows, columns), not (text or is_complex))
        yield name, _Variable(about, data[20 + length : end], stored if about.numbers else None)
        data = data[end:]
