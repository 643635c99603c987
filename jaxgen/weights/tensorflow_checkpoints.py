"""Reading TensorFlow's checkpoints (`name.index` and `name.data-0000i-of-0000n`) without TensorFlow.

The index is a table of sorted strings as in LevelDB, from a variable's name to where its numbers are. Formats:
tensorflow/core/lib/io/table_format.txt and tensorflow/core/protobuf/tensor_bundle.proto.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
# Of types.proto. Others (strings, resources) are left out.
_DTYPES = {
    1: np.float32, 2: np.float64, 3: np.int32, 4: np.uint8, 5: np.int16, 6: np.int8, 9: np.int64, 10: np.bool_,
    14: ml_dtypes.bfloat16, 17: np.uint16, 19: np.float16, 22: np.uint32, 23: np.uint64,
}  # fmt: skip


def read_tensorflow_checkpoint(index: Path) -> dict[str, np.ndarray]:
    """The variables of a checkpoint under their names.

    Args:
        index: the file that ends with `.index`; the data files lie beside it.

    Raises:
        FileNotFoundError: a data file is missing.
        ValueError: the index is damaged, compressed, or big-endian; a data file is too short.
    """
    prefix = str(index).removesuffix(".index")
    entries = dict(_table(index.read_bytes(), str(index)))
    header = _fields(entries.pop(b""))
    num_shards = header.get(1, 0)
    if header.get(2, 0) != 0:
        raise ValueError(f"{index} is big-endian; only little-endian checkpoints are read")
    shards = {}
    for i in range(num_shards):
        path = Path(f"{prefix}.data-{i:05d}-of-{num_shards:05d}")
        if not path.is_file():
            raise FileNotFoundError(f"no file {path}, which belongs to {index}")
        shards[i] = path
    arrays = {}
    for name, entry in entries.items():
        fields = _fields(entry)
        if fields.get(1, 0) not in _DTYPES or 7 in fields:  # 7: slices of a variable
            continue
        dtype = np.dtype(_DTYPES[fields[1]])
        shape = _shape(fields.get(2, b""))
        count = math.prod(shape)
        if fields.get(5, 0) != count * dtype.itemsize:
            raise ValueError(f"{index}: the size of {name.decode()} is not that of its shape {shape}")
        with open(shards[fields.get(3, 0)], "rb") as file:
            file.seek(fields.get(4, 0))
            data = file.read(count * dtype.itemsize)
        if len(data) != count * dtype.itemsize:
            raise ValueError(f"{shards[fields.get(3, 0)]} ends before {name.decode()}")
        arrays[name.decode()] = np.frombuffer(data, dtype).reshape(shape)
    return arrays


def _table(data: bytes, name: str) -> Iterator[tuple[bytes, bytes]]:
    """All (key, value) of a table."""
    if len(data) < _FOOTER or int.from_bytes(data[-8:], "little") != _MAGIC:
        raise ValueError(f"{name} is no index of a TensorFlow checkpoint")
    footer = data[-_FOOTER:]
    _, position = _varint(footer, 0)
    _, position = _varint(footer, position)
    offset, position = _varint(footer, position)
    size, _ = _varint(footer, position)
    for _, handle in _block(data, offset, size, name):
        offset, position = _varint(handle, 0)
        size, _ = _varint(handle, position)
        yield from _block(data, offset, size, name)


def _block(data: bytes, offset: int, size: int, name: str) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of one block: each key shares a prefix with the one before."""
    block = data[offset : offset + size + 1]
    if len(block) != size + 1 or block[-1] != 0:
        raise ValueError(f"{name} is damaged or compressed")
    end = size - 4 - 4 * int.from_bytes(block[size - 4 : size], "little")
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        own, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + own]
        position += own
        yield key, block[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and the position after it."""
    value, shift = 0, 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
        shift += 7


def _fields(message: bytes) -> dict:
    """A protocol buffer's fields by number; of a repeated one, the last."""
    return dict(_all_fields(message))


def _all_fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, position = _varint(message, position)
        elif kind == 2:
            length, position = _varint(message, position)
            value, position = message[position : position + length], position + length
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
            value, position = message[position : position + length], position + length
        else:
            raise ValueError(f"a protocol buffer with a field of kind {kind}")
        yield number, value


def _shape(message: bytes) -> tuple[int, ...]:
    """TensorShapeProto: repeated dimensions (field 2), each with a size (field 1)."""
    return tuple(_fields(dim).get(1, 0) for number, dim in _all_fields(message) if number == 2)  # type: ignore[arg-type]
