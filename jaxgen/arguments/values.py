"""Arrays, keys and values of arguments (ours)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

MOST_CHECKED = 2**20
"""Values of larger arrays are not checked."""


def concrete(x: Any) -> bool:
    """Whether values may be checked: x, of any shape, is not traced, not large, and wholly on this host."""
    if isinstance(x, Tracer) or np.size(x) > MOST_CHECKED:
        return False
    return not isinstance(x, jax.Array) or x.is_fully_addressable


def array(name: str, x: Any) -> Any:
    """x as an array of JAX or NumPy with numbers in it."""
    given = x
    if isinstance(x, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array; expected one without a mask: fill it, {name}.filled(0)")
    if not isinstance(x, (jax.Array, np.ndarray)):
        try:
            has_jax = any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(x))
            x = jnp.asarray(x) if has_jax else np.asarray(x)
        except (TypeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{name} is {describe(x)}; expected an array of numbers ({reason})") from None
    if x.dtype.kind in "OSU":
        raise ValueError(f"{name} is {describe(given)}; expected an array of numbers")
    if not any(jnp.issubdtype(x.dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)):
        raise ValueError(f"{name} has dtype {x.dtype}; expected real numbers")
    return x


def describe(x: Any) -> str:
    """A short text of a value that does not fit."""
    if isinstance(x, (jax.Array, np.ndarray)):
        return f"{x.dtype} {x.shape}"
    text = repr(x) if isinstance(x, (str, bytes, int, float, complex, type(None))) else f"of type {type(x).__name__}"
    return text if len(text) < 60 else f"{text[:57]}..."


def as_float(name: str, x: Any, dtype: Any = None) -> jax.Array:
    """x, of any shape, as a floating array; floating arrays of JAX are returned as they are.

    Args:
        name: of the argument, for messages.
        x: an array, list or number.
        dtype: what booleans and integers become; None: JAX's default floating type.

    Raises:
        ValueError: x holds no real numbers.
    """
    x = array(name, x)
    if jnp.issubdtype(x.dtype, jnp.floating):
        return jnp.asarray(x)
    return jnp.asarray(x, jnp.result_type(float) if dtype is None else dtype)


def as_key(key: Any, name: str = "key") -> jax.Array:
    """A key of `jax.random.key`, or an array of them of any shape; legacy keys of `jax.random.PRNGKey` are converted.

    Raises:
        ValueError: key is neither.
    """
    given: Any = key
    if isinstance(given, (list, tuple)) and given and all(isinstance(k, (jax.Array, np.ndarray)) for k in given):
        given = jnp.stack(list(given))
    if isinstance(given, (jax.Array, np.ndarray)):
        if jnp.issubdtype(given.dtype, jax.dtypes.prng_key):
            return jnp.asarray(given)
        try:
            if given.dtype == np.uint32 and given.ndim > 0:
                return jax.random.wrap_key_data(jnp.asarray(given))
        except (TypeError, ValueError):
            pass
    found = describe(given)
    raise ValueError(f"{name} is {found}; expected a key, jax.random.key(seed), or several, jax.random.split(key, num)")


def same_shape(**arrays: Any) -> None:
    """Raises ValueError unless all arrays that are not None have one shape."""
    shapes = {name: np.shape(x) for name, x in arrays.items() if x is not None}
    if len(set(shapes.values())) > 1:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"shapes are {found}; expected the same shape, since nothing is broadcast")


def check_values(name: str, x: Any, low: float | None, high: float | None, finite: bool, hint: str) -> None:
    """Raises ValueError for values of x, of any shape, outside [low, high] or not finite, where they are known."""
    if (low is None and high is None and not finite) or not np.size(x) or not concrete(x):
        return
    values = np.asarray(x)
    if values.dtype.kind not in "biuf":
        values = values.astype(np.float32)
    if finite and not np.isfinite(values).all():
        raise ValueError(f"{name} holds {int(np.sum(~np.isfinite(values)))} values that are not finite; expected none")
    smallest, largest = values.min(), values.max()
    # Written so that NaN is refused too.
    if (low is not None and not smallest >= low) or (high is not None and not largest <= high):
        if low is not None and high is not None:
            wanted = f"values in [{low:g}, {high:g}]"
        else:
            wanted = f"at least {low:g}" if high is None else f"at most {high:g}"
        raise ValueError(f"{name} runs from {smallest:g} to {largest:g}; expected {wanted}{hint}")


def known(name: str, x: Any) -> Any:
    """x, or ValueError where it is traced."""
    if isinstance(x, Tracer):
        raise ValueError(f"{name} is traced; this function computes on the host, so call it outside of jit and grad")
    return x
