"""The decorator that converts and checks the arguments of a call (ours)."""

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from .shapes import Bound
from .specifications import Count, Each, Float, Host, Int, Key, Real
from .values import describe

Function = TypeVar("Function", bound=Callable[..., Any])

Spec = Each | Float | Host | Int | Key | Count | Real | type | Mapping[str, Any]


def takes(**specs: Spec) -> Callable[[Function], Function]:
    """Converts and checks arguments, any shape, before a function sees them, as this module describes.

    Args:
        **specs: by the name of the argument: a specification; a class, of which the argument must be an instance; or a
            dictionary of specifications for the entries of a batch, of which "x" must be there.

    Returns:
        a decorator. The function keeps its signature and its docstring.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        missing = specs.keys() - signature.parameters.keys()
        if missing:
            raise TypeError(f"{function.__qualname__} has no arguments {', '.join(sorted(missing))}")

        optional = {name for name in specs if _admits_none(signature.parameters[name], specs[name])}

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            call = signature.bind(*args, **kwargs)
            _convert(specs, call.arguments, optional)
            return function(*call.args, **call.kwargs)

        return checked  # pyright: ignore[reportReturnType]

    return decorate


def _admits_none(parameter: inspect.Parameter, spec: Spec) -> bool:
    """Whether None may be given; a key may always be None, and the function says what is missing then."""
    annotation = parameter.annotation
    admitted = annotation in (Any, inspect.Parameter.empty) or type(None) in typing.get_args(annotation)
    return isinstance(spec, Key) or parameter.default is None or admitted


def _convert(specs: Mapping[str, Spec], arguments: dict[str, Any], optional: set[str]) -> None:
    """Replaces the arguments by what the function gets."""
    dtype = _floating_dtype(specs, arguments)
    bound: Bound = {}
    for name, spec in specs.items():
        if name not in arguments or (arguments[name] is None and name in optional):
            continue
        x = arguments[name]
        if isinstance(spec, Mapping):
            arguments[name] = _convert_batch(name, spec, x, dtype, bound)
        elif isinstance(spec, type):
            if not isinstance(x, spec):
                raise ValueError(f"{name} is {describe(x)}; expected {spec.__name__}")
        else:
            arguments[name] = spec.convert(name, x, dtype, bound)


def _convert_batch(name: str, specs: Mapping[str, Spec], batch: Any, dtype: Any, bound: Bound) -> Any:
    if not isinstance(batch, Mapping) or "x" not in batch:
        held = (
            f"the entries {', '.join(map(str, batch))}" if isinstance(batch, Mapping) else f"a {type(batch).__name__}"
        )
        raise ValueError(f'{name} is {held}; expected a dictionary with the entry "x"')
    converted = dict(batch)
    for entry, spec in specs.items():
        if converted.get(entry) is not None:
            converted[entry] = spec.convert(f"{name}[{entry!r}]", converted[entry], dtype, bound)  # pyright: ignore
    return converted


def _floating_dtype(specs: Mapping[str, Spec], arguments: Mapping[str, Any]) -> Any:
    """The widest floating dtype among the arrays of a call, or None."""
    values = []
    for name, spec in specs.items():
        if isinstance(spec, Float):
            values.append(arguments.get(name))
        elif isinstance(spec, Mapping) and isinstance(arguments.get(name), Mapping):
            values += [arguments[name].get(entry) for entry, each in spec.items() if isinstance(each, Float)]
    dtypes = {x.dtype for x in values if isinstance(x, (jax.Array, np.ndarray))}
    dtypes = {dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)}
    return jax.dtypes.canonicalize_dtype(max(dtypes, key=lambda d: jnp.finfo(d).bits)) if dtypes else None
