"""safetensors, both ways. The `safetensors` package checks a file's header before anything is read."""

import json
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

_DTYPES: dict[str, Any] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "I64": np.int64,
    "I32": np.int32, "I16": np.int16, "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16,
    "U8": np.uint8, "BOOL": np.bool_, "C64": np.complex64, "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2, "F8_E8M0": ml_dtypes.float8_e8m0fnu,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz, "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
}  # fmt: skip
_HEADER, _ENTRIES = 4 << 20, 25_000


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name, any shapes.

    Raises:
        ValueError: the header is damaged, ranges overlap or leave holes, a name stands twice, or a dtype is unknown.
    """
    from safetensors import SafetensorError, safe_open

    size = os.path.getsize(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(_HEADER, size - 8):
            raise ValueError(f"its header is declared to have {length:,} bytes; the file has {size:,}")
        text = file.read(length)
        try:
            with safe_open(path, "numpy"):  # checks the header, the ranges and the size of the file
                header = json.loads(text, object_pairs_hook=_without_repetition)
        except (SafetensorError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"it is a damaged safetensors file, or an incomplete one: {error}") from error
        if len(header) > _ENTRIES:
            raise ValueError(f"it has {len(header):,} arrays; expected at most {_ENTRIES:,}")
        arrays = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            if entry["dtype"] not in _DTYPES:
                known = ", ".join(_DTYPES)
                raise ValueError(f"{name!r} has the dtype {entry['dtype']}, which is not read; known are {known}")
            start, stop = entry["data_offsets"]
            array = np.empty(stop - start, np.uint8)
            file.seek(8 + length + start)
            if file.readinto(array.data) != array.size:
                raise ValueError(f"it ends within {name!r}")
            arrays[name] = array.view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        return arrays


def write_safetensors(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays of any shape by name.

    Raises:
        ValueError: a dtype that such a file does not have.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    # The package writes the bytes of other memory layouts as they lie.
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    try:
        save_file(arrays, path)
    except SafetensorError as error:
        dtypes = {str(array.dtype): name for name, array in arrays.items()}
        wrong = next((name for dtype, name in dtypes.items() if f'"{dtype}"' in str(error)), "an array")
        raise ValueError(f"{wrong!r} has a dtype that safetensors does not have: {error}") from error


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in its header")
    return found
