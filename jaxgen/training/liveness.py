"""A lower bound of the memory that a traced function needs besides its arguments, from the shapes in its jaxpr.

Results of matrix products, convolutions, reductions, gathers and loops are stored; elementwise operations are assumed
to be fused into what reads them. A result is kept until its last use, also by what was computed from it elementwise.
"""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

# Their inner programs are part of the outer one.
INLINED = (
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "custom_jvp_call",
    "custom_vjp_call",
    "remat",
    "remat2",
    "checkpoint",
)
STORED = (
    "dot_general", "conv_general_dilated", "gather", "scatter", "sort", "reduce", "arg", "cum", "concatenate", "fft",
    "top_k", "dynamic_update_slice", "select_and", "triangular_solve", "cholesky", "lu", "eigh", "qr", "svd",
)  # fmt: skip
SMALL = 8
"""An input with so many times fewer bytes than a result is not counted as its source."""


class _Operation(NamedTuple):
    name: str
    inputs: list[Any]
    outputs: list[Any]
    sizes: list[int]
    inner: int


def peak_bytes(jaxpr: Any) -> int:
    """The largest number of bytes alive at once during a program, without its arguments and constants.

    Args:
        jaxpr: of `jax.make_jaxpr`.
    """
    return _peak(jaxpr.jaxpr if hasattr(jaxpr, "jaxpr") else jaxpr)


def _peak(jaxpr: Any) -> int:
    numbers, environment = itertools.count(), {}
    operations = list(_operations(jaxpr, environment, numbers))
    sources: dict[Any, frozenset[int]] = {}
    sizes, born, last = [], [], []
    variable_sizes: dict[Any, int] = {}

    def stored(size: int, at: int) -> frozenset[int]:
        sizes.append(size)
        born.append(at)
        last.append(at)
        return frozenset([len(sizes) - 1])

    for at, operation in enumerate(operations):
        read = [sources.get(variable, frozenset()) for variable in operation.inputs]
        for buffer in frozenset().union(*read):
            last[buffer] = at
        for output, size in zip(operation.outputs, operation.sizes, strict=True):
            variable_sizes[output] = size
            large = [
                found
                for variable, found in zip(operation.inputs, read, strict=True)
                if found and variable_sizes.get(variable, 0) * SMALL >= size
            ]
            found = frozenset().union(*large)
            is_part = any(sizes[buffer] > SMALL * size for buffer in found)
            if operation.inner or operation.name.startswith(STORED) or len(found) > 1 or is_part:
                found = stored(size, at)
            sources[output] = found
    end = len(operations)
    for variable in jaxpr.outvars:
        for buffer in sources.get(_key(variable, environment), ()):
            last[buffer] = end
    changes = np.zeros(end + 2, np.float64)
    for size, first, final in zip(sizes, born, last, strict=True):
        changes[first] += size
        changes[final + 1] -= size
    alive = np.cumsum(changes)[:-1]
    inner = np.array([operation.inner for operation in operations] + [0], np.float64)
    return int(np.max(alive + np.maximum(inner, 0)))


def _operations(jaxpr: Any, environment: dict, numbers: Iterator[int]) -> Iterator[_Operation]:
    """The operations of a program with those of inlined ones, in order; `environment` names their variables."""
    for equation in jaxpr.eqns:
        inputs = [_key(variable, environment) for variable in equation.invars]
        inner = [part for value in equation.params.values() for part in _jaxprs(value)]
        if equation.primitive.name in INLINED and len(inner) == 1 and len(inner[0].invars) == len(inputs):
            program = inner[0]
            # A program may be called several times: its variables are new each time.
            scope = {id(v): key for v, key in zip(program.invars, inputs, strict=True)}
            scope |= {id(v): next(numbers) for e in program.eqns for v in e.outvars}
            yield from _operations(program, scope, numbers)
            for outer, variable in zip(equation.outvars, program.outvars, strict=True):
                environment[id(outer)] = _key(variable, scope)
            continue
        outputs = [environment.setdefault(id(variable), next(numbers)) for variable in equation.outvars]
        sizes = [_bytes(variable.aval) for variable in equation.outvars]
        # A loop or branch whose inner program stores nothing still stores its results.
        needed = max((max(_peak(part), 1) for part in inner), default=0)
        yield _Operation(equation.primitive.name, inputs, outputs, sizes, needed)


def _key(variable: Any, environment: dict) -> Any:
    """The name of a variable; None for a literal and for what comes from outside."""
    return environment.get(id(variable))


def _jaxprs(value: Any) -> Iterator[Any]:
    for part in value if isinstance(value, (tuple, list)) else (value,):
        part = getattr(part, "jaxpr", part)
        if hasattr(part, "eqns"):
            yield part


def _bytes(aval: Any) -> int:
    try:
        return int(np.prod([int(size) for size in aval.shape], dtype=object)) * aval.dtype.itemsize
    except (AttributeError, TypeError):  # tokens, keys of an implementation
        return 0
