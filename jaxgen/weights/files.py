"""Weights in the files of other frameworks: read without running what is in them, and written.

Read: PyTorch's `.pt`, `.pth`, `.tar` (both of its formats), NumPy's `.npz` and `.npy` (lists of arrays too),
safetensors, and TensorFlow's checkpoints (`.index`, with the data files beside it). Which one a file is is seen from
its bytes. Written: `.npz` and safetensors.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxgen import files
from jaxgen.weights.safetensors_files import read_safetensors, write_safetensors
from jaxgen.weights.tensorflow_checkpoints import read_tensorflow_checkpoint
from jaxgen.weights.torch_files import read_object_array, read_torch_legacy, read_torch_zip
from jaxgen.weights.torch_pickles import UnsafeWeightsError

_BLOCK = 1 << 20


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a file under their names.

    Containers inside of it are flattened: their keys, or positions, are joined by dots. Numbers become arrays of shape
    (); text, None and integers beyond 64 bits are left out. Arrays may be read-only.

    Args:
        path: a file of PyTorch, NumPy or safetensors, or the `.index` of a TensorFlow checkpoint.

    Raises:
        FileNotFoundError: there is no such file.
        UnsafeWeightsError: a pickle in it names more than what makes arrays.
        ValueError: it is damaged, of an unknown kind, two entries have the same name, or a number is NaN.
    """
    path = files.as_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; expected weights as .pt, .pth, .npz, .npy, .safetensors or .index")
    try:
        found = _read(path, files.first_bytes(path))
        arrays = {name: array for name, array in found.items() if array.dtype.kind not in "SU"}
        # Arrays that are the same are checked once.
        for name, array in {id(array): (name, array) for name, array in arrays.items()}.values():
            _check_numbers(name, array)
        return arrays
    except UnsafeWeightsError as error:
        raise UnsafeWeightsError(f"{path} cannot be read: {error}") from error
    except OSError:
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
        write_safetensors(path, arrays)
    else:
        raise ValueError(f"the suffix of {path} is {path.suffix!r}; expected .npz or .safetensors")


def _read(path: Path, start: bytes) -> dict[str, np.ndarray]:
    # The first byte of safetensors is of the header's length, and may be that of a pickle.
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size:
        return read_safetensors(path)
    if start.startswith(b"PK"):
        with files.open_zip(path) as archive:
            is_torch = any(name.endswith("data.pkl") for name in archive.namelist())
        return read_torch_zip(path) if is_torch else files.read_npz(path)
    if start.startswith(b"\x93NUMPY"):
        return _read_npy(path)
    if start.startswith(b"\x80"):
        return read_torch_legacy(path)
    if path.suffix == ".index":
        return read_tensorflow_checkpoint(path)
    if start[8:9] == b"{":  # and longer than the file
        return read_safetensors(path)
    raise ValueError(f"it is {files.describe(start)}; expected a file of PyTorch, NumPy, TensorFlow or safetensors")


def _read_npy(path: Path) -> dict[str, np.ndarray]:
    with open(path, "rb") as file:
        header = files.read_npy_header(file)
        if header.dtype.hasobject:
            return read_object_array(file, path.stat().st_size)
        return {"": files.read_npy_data(file, header, path.stat().st_size - header.length)}


def _check_numbers(name: str, array: np.ndarray) -> None:
    """Refuses NaN, and truth values that are neither 0 nor 1."""
    kind = array.dtype.kind
    if kind in "iu" or (array.shape == () and array.dtype == np.float64):  # a number besides the arrays, such as a loss
        return
    numbers = array.reshape(-1) if array.flags.c_contiguous else array.reshape(-1, order="A")
    for first in range(0, numbers.size, _BLOCK):
        block = numbers[first : first + _BLOCK]
        if kind == "b" and block.view(np.uint8).max() > 1:
            raise ValueError(f"{name!r} is of truth values, and holds other bytes than 0 and 1")
        if kind != "b" and np.isnan(block).any():
            raise ValueError(f"{name!r} holds NaN: the training that wrote it has failed, or the file is damaged")
