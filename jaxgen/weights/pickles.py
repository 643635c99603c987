"""Reading pickled arrays without running pickled code: PyTorch's two file formats, and NumPy's object arrays.

A pickle is a program that may call anything it can name. Here it can name only what is below: containers, and
functions that make arrays out of bytes and check that they stay inside of them. Everything else is refused by name.
"""

import collections
import io
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

_STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_DTYPES = {"float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"}
_MAGIC = 0x1950A86A20F9469CFC6C


class UnsafeWeightsError(ValueError):
    """The file names something that is not needed to hold arrays; nothing of it was run."""


def read_torch_zip(path: Path) -> Any:
    """What `torch.save` of PyTorch 1.6 and later wrote: nested containers with NumPy arrays for tensors.

    Raises:
        UnsafeWeightsError: the file would call more than what makes tensors.
        ValueError: the file is damaged, or of a kind that `torch.save` does not write.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ValueError(f"{path} is a zip file without one data.pkl; expected a file of torch.save")
        root = roots[0]
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise ValueError(f"{path} holds big-endian numbers; only little-endian ones are read")
        read: dict[str, np.ndarray] = {}

        def storage(kind: np.dtype, key: str, count: int) -> np.ndarray:
            if key not in read:
                entry = archive.getinfo(f"{root}data/{key}")
                if entry.file_size != entry.compress_size or entry.file_size < count * kind.itemsize:
                    raise ValueError(f"{path}: tensor data {key!r} is compressed or shorter than declared")
                read[key] = np.frombuffer(archive.read(entry), kind, count)
            return read[key]

        return _Unpickler(io.BytesIO(archive.read(f"{root}data.pkl")), str(path), storage).load()


def read_torch_legacy(path: Path) -> Any:
    """What `torch.save` of PyTorch before 1.6 wrote, as `read_torch_zip` does.

    Raises:
        UnsafeWeightsError: the file would call more than what makes tensors.
        ValueError: the file is damaged, or not one of `torch.save`.
    """
    size = path.stat().st_size
    declared: dict[str, np.ndarray] = {}

    def storage(kind: np.dtype, key: str, count: int) -> np.ndarray:
        # The numbers come after the pickle, so the tensors are views of arrays that are filled at the end.
        if count < 0 or count * kind.itemsize > size:
            raise ValueError(f"{path}: tensor data {key!r} is declared longer than the file")
        return declared.setdefault(key, np.zeros(count, kind))

    with open(path, "rb") as file:
        unpickle = lambda: _Unpickler(file, str(path), storage).load()
        try:
            magic = unpickle()
        except (pickle.UnpicklingError, EOFError) as error:
            raise ValueError(f"{path} is no file of torch.save") from error
        if magic != _MAGIC:
            raise ValueError(f"{path} is a pickle, but not one of torch.save")
        unpickle()  # protocol version
        if not unpickle().get("little_endian", True):
            raise ValueError(f"{path} holds big-endian numbers; only little-endian ones are read")
        tree = unpickle()
        for key in unpickle():
            _fill(file, declared[key], path)
    return tree


def read_object_array(file: BinaryIO, name: str) -> Any:
    """The pickled part of a .npy file of objects: nested containers with arrays.

    Raises:
        UnsafeWeightsError: the file would call more than what makes arrays.
    """

    def storage(kind, key, count):
        raise UnsafeWeightsError(f"{name} refers to data outside of the pickle")

    return _Unpickler(file, name, storage).load()


def _fill(file: BinaryIO, array: np.ndarray, path: Path) -> None:
    count = int.from_bytes(file.read(8), "little")
    data = file.read(array.nbytes)
    if count != array.size or len(data) != array.nbytes:
        raise ValueError(f"{path} ends in the middle of its numbers")
    array[:] = np.frombuffer(data, array.dtype)


class _Unpickler(pickle.Unpickler):
    """Finds only what `_allowed` gives; tensors' data come from `storage(dtype, key, count)`."""

    def __init__(self, file, name, storage):
        super().__init__(file, encoding="latin1")
        self.name = name
        self.storage = storage
        # Made anew for each file: a pickle may set attributes of the functions that it finds.
        self.allowed = _allowed()

    def find_class(self, module, name):
        place = (module.replace("numpy._core", "numpy.core"), name)
        if place not in self.allowed:
            raise UnsafeWeightsError(
                f"{self.name} refers to {module}.{name}, which weights do not need; nothing of it was run. "
                "Save the state_dict alone, or as safetensors"
            )
        return self.allowed[place]

    def persistent_load(self, pid):
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], np.dtype):
            raise ValueError(f"{self.name} refers to tensor data in an unknown way")
        if len(pid) > 5 and pid[5] is not None:
            raise ValueError(f"{self.name} has storages that are views of others; save it anew with a newer PyTorch")
        return self.storage(pid[1], str(pid[2]), int(pid[4]))


class _Dtype:
    """A pickled numpy.dtype of numbers, or of objects, which are then a list."""

    def __init__(self, code: str):
        self.value = np.dtype(str(code))
        if self.value.fields or (self.value.hasobject and self.value != np.dtype(object)):
            raise UnsafeWeightsError(f"an array of dtype {code!r}; only numbers are read")

    def __setstate__(self, state):
        if state[1] in ("<", ">"):
            self.value = self.value.newbyteorder(state[1])


class PickledArray:
    """A pickled numpy.ndarray: `value` is the array, or the list of its objects."""

    value: Any = None

    def __setstate__(self, state):
        _, shape, dtype, is_fortran, data = state
        if isinstance(data, list) or dtype.value.hasobject:
            self.value = list(data)
        else:
            flat = np.frombuffer(_bytes(data), dtype.value)
            self.value = flat.reshape(shape, order="F" if is_fortran else "C")


def _allowed() -> dict[tuple[str, str], Any]:
    """What a pickle may name. Only functions, types that cannot be changed, and constants."""
    allowed: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): lambda *args: _tensor(*args),
        ("torch._utils", "_rebuild_tensor"): lambda *args: _tensor(*args),
        ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
        ("torch", "Size"): lambda sizes=(): tuple(sizes),
        ("torch", "device"): lambda *_: None,
        ("numpy.core.multiarray", "_reconstruct"): lambda *_: PickledArray(),
        ("numpy.core.multiarray", "scalar"): lambda dtype, data: np.frombuffer(_bytes(data), dtype.value, 1)[0],
        ("numpy", "ndarray"): None,
        ("numpy", "dtype"): lambda code, *_: _Dtype(code),
        ("_codecs", "encode"): lambda text, _: _bytes(text),
    }
    allowed |= {("torch", name): np.dtype(kind) for name, kind in _STORAGES.items()}
    return allowed | {("torch", name): name for name in _DTYPES}


def _bytes(data: bytes | str) -> bytes:
    return data.encode("latin1") if isinstance(data, str) else data


def _tensor(storage, offset, size, stride, *_) -> np.ndarray:
    """A view of the storage, inside of it."""
    size, stride = [tuple(int(n) for n in numbers) for numbers in (size, stride)]
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride), default=0) < 0 or (math.prod(size) and last >= storage.size):
        raise ValueError(
            f"a tensor of size {size}, stride {stride} and offset {offset} leaves its {storage.size} numbers"
        )
    if not math.prod(size):
        return np.zeros(size, storage.dtype)
    strides = tuple(step * storage.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides)
