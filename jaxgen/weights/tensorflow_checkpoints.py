"""Reading TensorFlow's checkpoints (`name.index` and `name.data-0000i-of-0000n`) without TensorFlow.

The index is a table of sorted strings as in LevelDB, from a variable's name to where its numbers are. Checksums of its
blocks and of the numbers are compared. Formats: tensorflow/core/lib/io/table_format.txt and
tensorflow/core/protobuf/tensor_bundle.proto.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np

from jaxgen.files import Budget
from jaxgen.weights.crc32c import masked_crc32c

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_INDEX = 4 << 20
_KEY = 1000
# Of types.proto. Others (strings, resources) are left out.
_DTYPES = {
    1: np.float32, 2: np.float64, 3: np.int32, 4: np.uint8, 5: np.int16, 6: np.int8, 8: np.complex64, 9: np.int64,
    10: np.bool_, 14: ml_dtypes.bfloat16, 17: np.uint16, 18: np.complex128, 19: np.float16, 22: np.uint32,
    23: np.uint64, 24: ml_dtypes.float8_e5m2, 25: ml_dtypes.float8_e4m3fn,
}  # fmt: skip


def read_tensorflow_checkpoint(index: Path) -> dict[str, np.ndarray]:
    """The variables of a checkpoint under their names, any shapes.

    Args:
        index: the file that ends with `.index`; the data files lie beside it.

    Raises:
        FileNotFoundError: a data file is missing.
        ValueError: the index is damaged, compressed, or big-endian; a data file is damaged or of another size.
    """
    prefix = str(index).removesuffix(".index")
    if os.path.getsize(index) > _INDEX:
        raise ValueError(f"{index} has {os.path.getsize(index):,} bytes; expected at most {_INDEX:,} of an index")
    entries = _entries(index.read_bytes(), str(index))
    if b"" not in entries:
        raise ValueError(f"{index} has no header")
    header = _fields(entries.pop(b""))
    if _int(header, 2):
        raise ValueError(f"{index} is big-endian; only little-endian checkpoints are read")
    num_shards, shards = _int(header, 1), []
    for i in range(num_shards):
        path = Path(f"{prefix}.data-{i:05d}-of-{num_shards:05d}")
        if not path.is_file():
            raise FileNotFoundError(f"no file {path}, which belongs to {index}")
        shards.append(path)
    budget = Budget(sum(os.path.getsize(path) for path in shards))
    arrays = {}
    for key, entry in entries.items():
        name, fields = key.decode(), _fields(entry)
        if _int(fields, 1) not in _DTYPES or 7 in fields:  # 7: slices of a variable
            continue
        dtype, shape = np.dtype(_DTYPES[_int(fields, 1)]), _shape(_bytes(fields, 2))
        size = math.prod(shape) * dtype.itemsize
        if _int(fields, 5) != size:
            raise ValueError(f"{index}: the size of {name} is not that of its shape {shape}")
        if _int(fields, 3) >= num_shards:
            raise ValueError(f"{index}: {name} is in data file {_int(fields, 3)} of {num_shards}")
        budget.spend(size=size)
        path, start = shards[_int(fields, 3)], _int(fields, 4)
        if start + size > os.path.getsize(path):
            raise ValueError(f"{path} ends before {name}")
        with open(path, "rb") as file:
            file.seek(start)
            data = file.read(size)
        if len(data) != size or masked_crc32c(data) != int.from_bytes(_bytes(fields, 6), "little"):
            raise ValueError(f"{path} is damaged: the checksum of {name} is another one")
        arrays[name] = np.frombuffer(data, dtype).reshape(shape)
    return arrays


def _entries(data: bytes, name: str) -> dict[bytes, bytes]:
    """{key: value} of a table, whose keys are sorted."""
    budget, found, last = Budget(len(data)), {}, None
    for key, value in _table(data, name):
        budget.spend(objects=1, size=len(key) + len(value))
        if len(key) > _KEY or (last is not None and key <= last):
            raise ValueError(f"{name} is damaged: its names are not sorted, or too long")
        found[key], last = value, key
    return found


def _table(data: bytes, name: str) -> Iterator[tuple[bytes, bytes]]:
    """All (key, value) of a table."""
    if len(data) < _FOOTER or int.from_bytes(data[-8:], "little") != _MAGIC:
        raise ValueError(f"{name} is no index of a TensorFlow checkpoint")
    footer = data[-_FOOTER:]
    _, position = _varint(footer, 0)
    _, position = _varint(footer, position)
    offset, position = _varint(footer, position)
    size, _ = _varint(footer, position)
    last = -1
    for _, handle in _block(data, offset, size, name):
        offset, position = _varint(handle, 0)
        size, _ = _varint(handle, position)
        if offset <= last:
            raise ValueError(f"{name} is damaged: its blocks are not in order")
        last = offset
        yield from _block(data, offset, size, name)


def _block(data: bytes, offset: int, size: int, name: str) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of one block: each key shares a prefix with the one before."""
    end = offset + size
    if size < 4 or end + 5 > len(data) or data[end] != 0:
        raise ValueError(f"{name} is damaged or compressed")
    if masked_crc32c(data[offset : end + 1]) != int.from_bytes(data[end + 1 : end + 5], "little"):
        raise ValueError(f"{name} is damaged: the checksum of a block is another one")
    block = data[offset:end]
    stop = size - 4 - 4 * int.from_bytes(block[-4:], "little")
    position, key = 0, b""
    while position < stop:
        shared, position = _varint(block, position)
        own, position = _varint(block, position)
        length, position = _varint(block, position)
        if shared > len(key) or own > _KEY or position + own + length > stop:
            raise ValueError(f"{name} is damaged: an entry leaves its block")
        key = key[:shared] + block[position : position + own]
        position += own
        yield key, block[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number of at most 64 bits in groups of seven, the lowest first, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80 and value < 1 << 64:
            return value, position
    raise ValueError("a number that does not end, or of more than 64 bits")


def _fields(message: bytes) -> dict[int, int | bytes]:
    """A protocol buffer's fields by number; of a repeated one, the last."""
    return dict(_all_fields(message))


def _all_fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == 2:
            length, position = _varint(message, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a protocol buffer with a field of kind {kind}")
        if position + length > len(message):
            raise ValueError("a protocol buffer that ends early")
        yield number, message[position : position + length]
        position += length


def _int(fields: dict[int, int | bytes], number: int) -> int:
    value = fields.get(number, 0)
    if not isinstance(value, int):
        raise ValueError(f"field {number} of a protocol buffer is no number")
    return value


def _bytes(fields: dict[int, int | bytes], number: int) -> bytes:
    value = fields.get(number, b"")
    if not isinstance(value, bytes):
        raise ValueError(f"field {number} of a protocol buffer is a number")
    return value


def _shape(message: bytes) -> tuple[int, ...]:
    """TensorShapeProto: repeated dimensions (field 2), each with a size (field 1)."""
    found = [_int(_fields(dim), 1) for number, dim in _all_fields(message) if number == 2 and isinstance(dim, bytes)]
    if len(found) > 32 or any(n >= 1 << 48 for n in found):
        raise ValueError("a shape of too many or too large axes")
    return tuple(found)
