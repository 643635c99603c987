"""PyTorch's two file formats, and NumPy's files of objects, read without running what is in them.

The pickle in such a file notes which numbers of which storage a tensor has (`torch_pickles`). Storages are flat; the
arrays are made of them at the end, inside of their bounds.
"""

import io
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxgen import files
from jaxgen.weights.flat import flat
from jaxgen.weights.torch_pickles import Attributes, Storage, Tensor, load_tree

_MAGIC = 0x1950A86A20F9469CFC6C
_PICKLE = 32 << 20


def read_torch_zip(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file that `torch.save` of PyTorch 1.6 and later wrote, any shapes.

    Raises:
        UnsafeWeightsError: the file names more than what makes tensors.
        ValueError: the file is damaged, or of a kind that `torch.save` does not write.
    """
    with files.open_zip(path) as archive:
        names = archive.namelist()
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise ValueError("it is a zip file without one data.pkl; expected a file of torch.save")
        root = roots[0]
        if f"{root}constants.pkl" in names or any(name.startswith(f"{root}code/") for name in names):
            raise ValueError(
                "it is a TorchScript archive, which holds a program; save the weights alone with PyTorch: "
                "torch.save(torch.jit.load(file).state_dict(), new_file)"
            )
        if f"{root}byteorder" in names and files.read_entry(archive, f"{root}byteorder", 16) != b"little":
            raise ValueError("it holds big-endian numbers; only little-endian ones are read")
        size, unpacked = os.path.getsize(path), 0
        budget = files.Budget(size)

        def read(storage: Storage) -> bytes:
            nonlocal unpacked
            unpacked += storage.num_bytes
            files.check_expansion(unpacked, size)
            return files.read_entry(archive, f"{root}data/{storage.key}", storage.num_bytes)

        data = files.read_entry(archive, f"{root}data.pkl", _PICKLE)
        tree = load_tree(io.BytesIO(data), len(data), budget)
        return flat(tree, _Resolver(read, budget), budget)


def read_torch_legacy(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file that `torch.save` of PyTorch before 1.6 wrote, as `read_torch_zip` gives them.

    Raises:
        UnsafeWeightsError: the file names more than what makes tensors.
        ValueError: the file is damaged, or not one of `torch.save`.
    """
    size = os.path.getsize(path)
    budget = files.Budget(size)
    with open(path, "rb") as file:
        storages: dict[str, Storage] = {}
        unpickle = lambda: load_tree(file, size, budget, storages)
        if unpickle() != _MAGIC:
            raise ValueError("it is a pickle, but not one of torch.save")
        unpickle()  # protocol version
        system = unpickle()
        if type(system) is not dict or system.get("little_endian", True) is not True:
            raise ValueError("it holds big-endian numbers; only little-endian ones are read")
        tree, keys = unpickle(), unpickle()
        if type(keys) is not list or not all(type(key) is str for key in keys) or sorted(keys) != sorted(storages):
            raise ValueError("its list of storages is not that of its tensors")
        places = {}
        for key in keys:
            count = int.from_bytes(file.read(8), "little")
            places[key] = file.tell()
            end = places[key] + storages[key].num_bytes
            if count != storages[key].count or end > size:
                raise ValueError(f"it ends in the middle of its numbers, or the size of storage {key!r} is damaged")
            file.seek(end)
        if file.tell() != size:
            raise ValueError(f"{size - file.tell():,} bytes follow its numbers")

        def read(storage: Storage) -> bytes:
            file.seek(places[storage.key])
            return file.read(storage.num_bytes)

        return flat(tree, _Resolver(read, budget), budget)


def read_object_array(file: BinaryIO, size: int) -> dict[str, np.ndarray]:
    """The pickled part of a .npy file of objects: arrays of any shape, named by their places in containers.

    Args:
        file: after the header.
        size: of the file in bytes.

    Raises:
        UnsafeWeightsError: the file names more than what makes arrays.
        ValueError: it is damaged.
    """
    budget = files.Budget(size)
    tree = load_tree(file, size, budget)
    if file.read(1):
        raise ValueError("more follows its pickle")
    return flat(tree, _Resolver(None, budget), budget)


class _Resolver:
    """Makes arrays of what stands for them; tensors that are alike share one array."""

    def __init__(self, read: Callable[[Storage], bytes] | None, budget: files.Budget):
        self.read, self.budget = read, budget
        self.storages: dict[str, np.ndarray] = {}
        self.arrays: dict[str, np.ndarray] = {}

    def __call__(self, node: Any) -> Any:
        if isinstance(node, files.ArrayPickle | Attributes):
            return node.value
        if not isinstance(node, Tensor):
            return node
        key = repr((node.storage.key, node.dtype.name, node.offset, node.size, node.stride))
        if key not in self.arrays:
            self.arrays[key] = self.array(node)
        return self.arrays[key]

    def array(self, tensor: Tensor) -> np.ndarray:
        storage, count, size = tensor.storage, math.prod(tensor.size), tensor.dtype.itemsize
        numbers = storage.num_bytes // size
        last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.size, tensor.stride, strict=True))
        if count and last >= numbers:
            raise ValueError(
                f"a tensor of size {tensor.size}, stride {tensor.stride} and offset {tensor.offset} leaves its "
                f"{numbers} numbers"
            )
        if not count:
            return np.zeros(tensor.size, tensor.dtype)
        whole = self.numbers(storage)[: numbers * size].view(tensor.dtype)
        if _is_contiguous(tensor.size, tensor.stride):
            return whole[tensor.offset : tensor.offset + count].reshape(tensor.size)
        self.budget.spend(size=count * size)
        strides = tuple(step * size for step in tensor.stride)
        return np.lib.stride_tricks.as_strided(whole[tensor.offset :], tensor.size, strides).copy()

    def numbers(self, storage: Storage) -> np.ndarray:
        if storage.key not in self.storages:
            assert self.read is not None  # without it, `load_tree` refuses storages
            self.storages[storage.key] = np.frombuffer(self.read(storage), np.uint8)
        found = self.storages[storage.key]
        if found.size != storage.num_bytes:
            raise ValueError(f"tensor data {storage.key!r} is longer or shorter than declared")
        return found


def _is_contiguous(size: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    step = 1
    for length, found in zip(size[::-1], stride[::-1], strict=True):
        if length > 1 and found != step:
            return False
        step *= length
    return True
