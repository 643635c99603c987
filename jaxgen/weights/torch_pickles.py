"""What a pickle of PyTorch may name, and what stands for tensors until their numbers are read.

It is read by `jaxgen.files.read_pickle`, which has no way to run code: a name that the pickle calls is one of the
functions below.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from jaxgen import files

_DTYPES: dict[str, Any] = {
    "float64": np.float64, "float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16,
    "int64": np.int64, "int32": np.int32, "int16": np.int16, "int8": np.int8, "uint8": np.uint8, "bool": np.bool_,
    "uint64": np.uint64, "uint32": np.uint32, "uint16": np.uint16, "complex64": np.complex64,
    "complex128": np.complex128, "float8_e4m3fn": ml_dtypes.float8_e4m3fn, "float8_e5m2": ml_dtypes.float8_e5m2,
    "float8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz, "float8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "float8_e8m0fnu": ml_dtypes.float8_e8m0fnu,
}  # fmt: skip
_STORAGES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64",
    "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
}  # fmt: skip
_STORAGE_NAMES = {f"torch.{name}Storage": dtype for name, dtype in _STORAGES.items()} | {
    "torch.UntypedStorage": "uint8",
    "torch.storage.UntypedStorage": "uint8",
}
_TENSOR_TYPES = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")


class UnsafeWeightsError(ValueError):
    """The file names something that is not needed to hold arrays; nothing of it was run."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers in the file."""

    dtype: np.dtype
    key: str
    count: int

    @property
    def num_bytes(self) -> int:
        return self.count * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor in the file: which numbers of a storage it has."""

    storage: Storage
    dtype: np.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class Attributes:
    """An argparse.Namespace: the dict of its attributes."""

    def __init__(self):
        self.value: dict[Any, Any] = {}

    def set_state(self, state: Any) -> None:
        if type(state) is not dict:
            raise ValueError("a Namespace whose state is no dict")
        self.value = state


def load_tree(file: BinaryIO, size: int, budget: files.Budget, storages: dict[str, Storage] | None = None) -> Any:
    """The tree of the next pickle of a file, with `Tensor` for tensors; `storages` notes what they refer to."""

    def storage(identifier: Any) -> Storage:
        plain = type(identifier) is tuple and 5 <= len(identifier) <= 6 and identifier[0] == "storage"
        if not plain or any(part is not None for part in identifier[5:]):
            raise ValueError("it refers to tensor data in an unknown way; save it anew with a newer PyTorch")
        _, kind, key, _, count = identifier[:5]
        name = _STORAGE_NAMES.get(kind.name) if isinstance(kind, files.Name) else None
        if name is None or type(key) is not str or len(key) > 100 or type(count) is not int or not 0 <= count < 1 << 48:
            raise ValueError("it refers to tensor data of an unknown kind")
        found = Storage(np.dtype(_DTYPES[name]), key, count)
        if storages is not None and storages.setdefault(key, found) != found:
            raise ValueError(f"it declares tensor data {key!r} twice")
        return found

    try:
        return files.read_pickle(file, _names(budget), budget, size, storage)
    except files.RefusedNameError as error:
        raise UnsafeWeightsError(
            f"it refers to {error.name}, which weights do not need; nothing of it was run. Save the state_dict alone, "
            "or as safetensors"
        ) from error


def _names(budget: files.Budget) -> dict[str, Callable[..., Any] | None]:
    """What a file of weights may name."""

    def counted(items: Any = ()) -> Any:
        if type(items) not in (list, tuple, dict):
            raise ValueError("a container of what is none")
        budget.spend(objects=len(items))
        return items

    def ordered(items: Any = ()) -> dict[Any, Any]:
        items = counted(items)
        pairs = items.items() if type(items) is dict else items
        if not all(type(pair) in (tuple, list) and len(pair) == 2 for pair in pairs):
            raise ValueError("a dict of what are no pairs")
        return {files.dict_key(key): value for key, value in pairs}

    def of_type(function: Any, kind: Any, arguments: Any, state: Any = None) -> Any:
        is_plain = isinstance(kind, files.Name) and kind.name in _TENSOR_TYPES
        if not isinstance(function, files.Name) or function.call is None or not is_plain:
            raise ValueError("a tensor of an unknown type")
        if type(arguments) is not tuple or function.name not in _REBUILDS:
            raise ValueError("a tensor that is made in an unknown way")
        return function.call(*arguments)

    return {
        **files.numpy_names(budget, objects=True),
        **dict.fromkeys(_STORAGE_NAMES),
        **dict.fromkeys(_TENSOR_TYPES),
        **{f"torch.{name}": None for name in _DTYPES},
        **_REBUILDS,
        "torch._tensor._rebuild_from_type_v2": of_type,
        "torch.Size": lambda sizes=(): tuple(counted(sizes)),
        "torch.device": lambda *_: None,
        "collections.OrderedDict": ordered,
        "collections.Counter": ordered,
        "collections.defaultdict": lambda *_: {},
        "builtins.dict": None,
        "builtins.list": None,
        "builtins.int": None,
        "builtins.set": lambda items=(): list(counted(items)),
        "builtins.frozenset": lambda items=(): list(counted(items)),
        "argparse.Namespace": lambda: Attributes(),
    }


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any, dtype: np.dtype | None = None) -> Tensor:
    if not isinstance(storage, Storage):
        raise ValueError(f"a tensor of the numbers of a {type(storage).__name__}; expected a storage")
    for sizes in (size, stride, (offset,)):
        plain = type(sizes) in (tuple, list) and len(sizes) <= 32
        if not plain or not all(type(n) is int and abs(n) < 1 << 48 for n in sizes):
            raise ValueError("a tensor whose size, stride or offset are no integers")
    if len(size) != len(stride) or min((offset, *size, *stride)) < 0:
        raise ValueError(
            f"a tensor of size {tuple(size)}, stride {tuple(stride)} and offset {offset} leaves its {storage.count} "
            "numbers"
        )
    return Tensor(storage, dtype or storage.dtype, offset, tuple(size), tuple(stride))


def _tensor_of_dtype(storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any):
    if not isinstance(dtype, files.Name) or dtype.name.removeprefix("torch.") not in _DTYPES:
        raise ValueError("a tensor without a dtype")
    return _tensor(storage, offset, size, stride, dtype=np.dtype(_DTYPES[dtype.name.removeprefix("torch.")]))


def _parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise ValueError(f"a parameter that is a {type(data).__name__}; expected a tensor")
    return data


_REBUILDS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}
