"""Checks of values, which are known only outside of a transformation."""

from typing import Any

import numpy as np
from jax.core import Tracer


def known(*values: Any) -> bool:
    """Whether all values are numbers already, and not what `jit`, `vmap` or `grad` puts in their place."""
    return not any(isinstance(value, Tracer) for value in values)


def check_interval(near: Any, far: Any, in_disparity: bool = False) -> None:
    """Raises ValueError unless near < far everywhere, both finite (and near > 0 in disparity). Skipped if unknown.

    Args:
        near: scalar or [...].
        far: scalar or [...].
        in_disparity: whether samples are spaced in 1 / t.
    """
    if not known(near, far):
        return
    low, high = np.broadcast_arrays(np.asarray(near), np.asarray(far))
    wrong = ~(np.isfinite(low) & np.isfinite(high) & (low < high))
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"near is {low[where]} and far is {high[where]}{f' at {where}' if where else ''}; "
            "need near < far, both finite, in units of the ray's direction"
        )
    if in_disparity and not (low > 0).all():
        raise ValueError(f"near is {low.min()}; samples in disparity (1 / t) need near > 0")


def check_vectors(name: str, array: Any, size: int = 3) -> None:
    """Raises ValueError unless the array is [..., size]."""
    shape = np.shape(array)
    if shape[-1:] != (size,):
        raise ValueError(f"{name} has shape {shape}; expected [..., {size}]")
