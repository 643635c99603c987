"""What NumPy names in the pickles of its arrays, and what stands for it when they are read."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxgen.files.limits import Budget


class ArrayPickle:
    """A pickled array of numbers: `value` is the array of any shape, or the list of its objects.

    Args:
        budget: copies of bytes take from it.
        objects: whether it may be one of objects.
    """

    def __init__(self, budget: Budget, objects: bool):
        self.budget, self.objects, self.value = budget, objects, None

    def set_state(self, state: Any) -> None:
        """Takes (version, shape, dtype, whether columns come first, data)."""
        if type(state) is not tuple or len(state) != 5:
            raise ValueError("an array whose state is no tuple of five")
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _DtypePickle):
            raise ValueError("an array without a dtype")
        shape = _sizes(shape)
        if dtype.code == "O":
            if not self.objects or type(data) is not list or len(data) != math.prod(shape):
                raise ValueError("an array of dtype object is refused")
            self.value = data[0] if shape == () else data
            return
        if isinstance(data, str):
            self.budget.spend(size=len(data))
            data = data.encode("latin1")
        self.value = _array(data, np.dtype(dtype.order + dtype.code), shape, bool(fortran))


class _DtypePickle:
    """A pickled numpy.dtype."""

    def __init__(self, code: Any):
        self.code, self.order = _text(code), "="
        if not re.fullmatch(r"[biuf][1248]|f16|c8|c16|O8?", self.code):
            raise ValueError(f"an array of dtype {self.code[:40]!r} is refused; only numbers are read")
        self.code = "O" if self.code == "O8" else self.code

    def set_state(self, state: Any) -> None:
        order = _text(state[1]) if type(state) is tuple and len(state) > 1 else ""
        if order not in ("<", ">", "|", "="):
            raise ValueError(f"an array of byte order {order!r} is refused")
        self.order = order


def numpy_names(budget: Budget, *, objects: bool = False) -> dict[str, Callable[..., Any] | None]:
    """The names of a pickle of NumPy arrays for `read_pickle`.

    Args:
        budget: copies of bytes take from it.
        objects: whether arrays of objects are lists, or refused.
    """

    def encode(text: Any, encoding: Any = "latin1") -> bytes:
        if _text(encoding) != "latin1" or not isinstance(text, str):
            raise ValueError(f"bytes encoded as {_text(encoding)[:40]!r} are refused")
        budget.spend(size=len(text))
        return text.encode("latin1")

    def from_buffer(data: Any, dtype: Any, shape: Any, order: Any = "C") -> ArrayPickle:
        array = ArrayPickle(budget, objects)
        array.set_state((1, shape, dtype, _text(order) == "F", data))
        return array

    def scalar(dtype: Any, data: Any) -> ArrayPickle:
        return from_buffer(data, dtype, ())

    return {
        "_codecs.encode": encode,
        "builtins.bytes": lambda: b"",  # how protocol 2 writes no bytes
        "numpy.ndarray": None,
        "numpy.dtype": lambda code, *_: _DtypePickle(code),
        "numpy.core.multiarray._reconstruct": lambda *_: ArrayPickle(budget, objects),
        "numpy.core.numeric._frombuffer": from_buffer,
        "numpy.core.multiarray.scalar": scalar,
    }


def _array(data: Any, dtype: np.dtype, shape: tuple[int, ...], fortran: bool) -> np.ndarray:
    """A view of the bytes."""
    if not isinstance(data, bytes) or len(data) != math.prod(shape) * dtype.itemsize:
        found = f"{len(data):,} bytes" if isinstance(data, bytes) else type(data).__name__
        raise ValueError(f"an array {dtype} {list(shape)} is given {found}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _sizes(shape: Any) -> tuple[int, ...]:
    plain = type(shape) in (tuple, list) and len(shape) <= 32
    if not plain or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape):
        raise ValueError("an array whose shape is no tuple of sizes")
    return tuple(shape)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value[:100].decode("latin1")
    return value if isinstance(value, str) else repr(type(value))
