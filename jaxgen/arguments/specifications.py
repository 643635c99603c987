"""What an argument may be: one class for each kind, with `convert(name, x, dtype, bound)`.

`dtype` is the floating dtype of the call, or None, and `bound` the sizes that names in shapes stand for so far. Ours.
"""

import dataclasses
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .shapes import Bound, check_shape
from .values import array, as_float, as_key, check_values, concrete, describe, known


@dataclasses.dataclass(frozen=True)
class Float:
    """A floating array of JAX.

    Attributes:
        shape: pattern, None: any shape.
        low: least value.
        high: largest value.
        finite: whether NaN and infinity are refused.
        only: whether integers and booleans are refused: images that must have been scaled.
        hint: added to the message about the range or the dtype.
        most_axes: largest number of axes.
        numpy: whether floating arrays of NumPy are passed on as they are.
    """

    shape: str | None = None
    low: float | None = None
    high: float | None = None
    finite: bool = False
    only: bool = False
    hint: str = ""
    most_axes: int | None = None
    numpy: bool = False

    def convert(self, name: str, x: Any, dtype: Any, bound: Bound) -> Any:
        """The argument, or a ValueError."""
        x = array(name, x)
        if self.only and not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"{name} has dtype {x.dtype}; expected floating point{self.hint}")
        check_shape(name, x.shape, self.shape, bound)
        if self.most_axes is not None and x.ndim > self.most_axes:
            wanted = "flatten each example: x.reshape(len(x), -1)"
            raise ValueError(f"{name} has shape {x.shape}; expected at most {self.most_axes} axes: {wanted}")
        check_values(name, x, self.low, self.high, self.finite, self.hint)
        if self.numpy and isinstance(x, np.ndarray) and jnp.issubdtype(x.dtype, jnp.floating):
            return x
        return as_float(name, x, dtype)


@dataclasses.dataclass(frozen=True)
class Host:
    """A float64 array of NumPy, for functions that compute on the host.

    Attributes:
        shape: pattern, None: any shape.
        low: least value.
        high: largest value.
        dtype: None keeps a floating dtype.
        only: whether integers and booleans are refused.
        hint: added to the message about the range.
        finite: whether NaN and infinity are refused.
    """

    shape: str | None = None
    low: float | None = None
    high: float | None = None
    dtype: Any = np.float64
    only: bool = False
    hint: str = ""
    finite: bool = True

    def convert(self, name: str, x: Any, dtype: Any, bound: Bound) -> Any:
        """The argument, or a ValueError."""
        del dtype
        x = np.asarray(known(name, array(name, x)))
        check_shape(name, x.shape, self.shape, bound)
        is_floating = jnp.issubdtype(x.dtype, jnp.floating)
        if self.only and not is_floating:
            raise ValueError(f"{name} has dtype {x.dtype}; expected floating point{self.hint}")
        wanted = self.dtype if self.dtype is not None else x.dtype if is_floating else np.float32
        x = x.astype(wanted, copy=False)
        if self.finite and not np.isfinite(x).all():
            raise ValueError(f"{name} holds {int(np.sum(~np.isfinite(x)))} values that are not finite; expected none")
        if x.size and (
            (self.low is not None and x.min() < self.low) or (self.high is not None and x.max() > self.high)
        ):
            bounds = f"[{self.low}, {self.high}]"
            raise ValueError(f"{name} runs from {x.min():g} to {x.max():g}; expected values in {bounds}{self.hint}")
        return x


@dataclasses.dataclass(frozen=True)
class Int:
    """An array of integers, such as labels: of JAX, or of NumPy for functions of the host.

    Attributes:
        shape: pattern, None: any shape.
        low: least value.
        host: whether it becomes an array of NumPy.
    """

    shape: str | None = None
    low: int | None = None
    host: bool = False

    def convert(self, name: str, x: Any, dtype: Any, bound: Bound) -> Any:
        """The argument, or a ValueError."""
        del dtype
        x = array(name, x)
        if x.dtype == bool:
            x = x.astype(np.int32)
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise ValueError(f"{name} has dtype {x.dtype}; expected integers")
        check_shape(name, x.shape, self.shape, bound)
        check_values(name, x, self.low, None, False, "")
        if self.host:
            return np.asarray(known(name, x))
        if isinstance(x, np.ndarray) and x.size:
            limit = jnp.iinfo(jax.dtypes.canonicalize_dtype(x.dtype))
            if x.min() < limit.min or x.max() > limit.max:
                raise ValueError(f"{name} runs from {x.min()} to {x.max()}; expected integers that fit {limit.dtype}")
        return jnp.asarray(x)


@dataclasses.dataclass(frozen=True)
class Key:
    """A random key or keys.

    Attributes:
        shape: pattern, None: any shape.
    """

    shape: str | None = None

    def convert(self, name: str, x: Any, dtype: Any, bound: Bound) -> Any:
        """The argument, or a ValueError."""
        del dtype
        keys = as_key(x, name)
        check_shape(name, keys.shape, self.shape, bound)
        return keys


@dataclasses.dataclass(frozen=True)
class Each:
    """A tuple or list of arguments of one kind, such as one array for each latent layer.

    Attributes:
        spec: of each.
        kind: the named tuple that they become, which says how many there are; None: a tuple of any number.
    """

    spec: Float
    kind: Any = None

    def convert(self, name: str, x: Any, dtype: Any, bound: Bound) -> Any:
        """The argument, or a ValueError."""
        if not isinstance(x, (list, tuple)) or not len(x):
            raise ValueError(f"{name} is {describe(x)}; expected {self._wanted()}")
        if self.kind is None:
            return tuple(self.spec.convert(f"{name}[{i}]", part, dtype, bound) for i, part in enumerate(x))
        if len(x) != len(self.kind._fields):
            raise ValueError(f"{name} has {len(x)} parts; expected {self._wanted()}")
        fields = zip(self.kind._fields, x, strict=True)
        return self.kind(*(self.spec.convert(f"{name}.{field}", part, dtype, bound) for field, part in fields))

    def _wanted(self) -> str:
        return "a tuple of arrays" if self.kind is None else f"{self.kind.__name__}({', '.join(self.kind._fields)})"


@dataclasses.dataclass(frozen=True)
class Count:
    """A whole number of Python, known when a program is traced.

    Attributes:
        low: least value.
    """

    low: int = 1

    def convert(self, name: str, x: Any, dtype: Any, bound: Bound) -> int:
        """The argument, or a ValueError."""
        del dtype, bound
        try:
            number = operator.index(x)
        except TypeError:
            raise ValueError(f"{name} is {describe(x)}; expected a whole number") from None
        if number < self.low:
            raise ValueError(f"{name} is {number}; expected at least {self.low}")
        return number


@dataclasses.dataclass(frozen=True)
class Real:
    """A real number, which may be traced; it is passed on as it is.

    Attributes:
        low: least value.
        high: largest value.
        positive: whether 0 is refused too.
    """

    low: float | None = None
    high: float | None = None
    positive: bool = False

    def convert(self, name: str, x: Any, dtype: Any, bound: Bound) -> Any:
        """The argument, or a ValueError."""
        del dtype, bound
        number = array(name, x)
        if number.ndim:
            raise ValueError(f"{name} has shape {number.shape}; expected a number")
        if self.positive and concrete(number) and not number > 0:
            raise ValueError(f"{name} is {number}; expected a positive number")
        if concrete(number) and np.isnan(number):
            raise ValueError(f"{name} is {number}; expected a number")
        check_values(name, number, self.low, self.high, False, "")
        return x if isinstance(x, (int, float, np.generic, jax.Array)) else number
