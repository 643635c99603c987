"""Weights in the files of other frameworks: read without running what is in them, and written.

Read: PyTorch's `.pt`, `.pth`, `.tar` (both of its formats), NumPy's `.npz` and `.npy` (lists of arrays too),
safetensors, and TensorFlow's checkpoints (`.index`, with the data files beside it). Which one a file is is seen from
its bytes. Written: `.npz` and safetensors.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.weights.pickles import (
    PickledArray,
    UnsafeWeightsError,
    read_object_array,
    read_torch_legacy,
    read_torch_zip,
)
from jaxgen.weights.tensorflow_checkpoints import read_tensorflow_checkpoint


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a file under their names.

    Containers inside of it are flattened: their keys, or positions, are joined by dots. Numbers become arrays of shape
    (); text and None are left out. Arrays may be read-only.

    Args:
        path: a file of PyTorch, NumPy or safetensors, or the `.index` of a TensorFlow checkpoint.

    Raises:
        FileNotFoundError: there is no such file.
        UnsafeWeightsError: a pickle in it would call more than what makes arrays.
        ValueError: it is damaged, of an unknown kind, or two entries have the same name.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; expected weights as .pt, .pth, .npz, .npy, .safetensors or .index")
    with open(path, "rb") as file:
        start = file.read(9)
    try:
        return _flat(_read(path, start), str(path))
    except (UnsafeWeightsError, FileNotFoundError):
        raise
    except Exception as error:  # Damaged files fail in many ways, in zip, pickle and NumPy.
        raise ValueError(f"{path} cannot be read: {error}") from error


def write_weights(path: str | Path, weights: Mapping[str, np.ndarray]) -> None:
    """Writes arrays under their names, as what the suffix says.

    Args:
        path: ends with .npz or .safetensors.
        weights: name -> array of any shape.

    Raises:
        ValueError: another suffix, or a dtype that such a file does not have.
    """
    path = Path(path)
    arrays = {name: np.asarray(array) for name, array in weights.items()}
    if path.suffix == ".npz":
        # Not np.savez(**arrays): a name may be "file".
        with zipfile.ZipFile(path, "w") as archive:
            for name, array in arrays.items():
                if array.dtype.kind not in "biufc":
                    raise ValueError(f"{name!r} has dtype {array.dtype}, which .npz does not have; safetensors may")
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)
    elif path.suffix == ".safetensors":
        _write_safetensors(path, arrays)
    else:
        raise ValueError(f"the suffix of {path} is {path.suffix!r}; expected .npz or .safetensors")


def _read(path: Path, start: bytes) -> Any:
    if start.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            is_torch = any(name.endswith("data.pkl") for name in archive.namelist())
        if is_torch:
            return read_torch_zip(path)
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    if start.startswith(b"\x93NUMPY"):
        return _read_npy(path)
    if start.startswith(b"\x80"):
        return read_torch_legacy(path)
    if path.suffix == ".index":
        return read_tensorflow_checkpoint(path)
    if start[8:9] == b"{":
        from safetensors.numpy import load_file

        return load_file(path)
    raise ValueError("it is none of PyTorch's, NumPy's, TensorFlow's and safetensors' files")


def _read_npy(path: Path) -> Any:
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        _, _, dtype = read_header(file)
        if dtype.hasobject:
            return read_object_array(file, str(path))
    return {"": np.load(path, allow_pickle=False)}


def _write_safetensors(path: Path, arrays: dict[str, np.ndarray]) -> None:
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


def _flat(tree: Any, path: str) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}

    def visit(value, names):
        if isinstance(value, PickledArray):
            value = value.value
        if isinstance(value, dict | list | tuple):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for key, child in items:
                visit(child, [*names, str(key)])
        elif isinstance(value, np.ndarray | np.generic | bool | int | float):
            name = ".".join(names).removesuffix(".")
            if name in found:
                raise ValueError(f"{path} has two entries named {name!r}")
            found[name] = np.asarray(value)

    visit(tree, [])
    return found
