"""What the arguments of public functions may be: conversion of natural inputs, and clear errors for the others.

    @takes(key=Key(), mean=Float("... Z"), log_variance=Float("... Z"))
    def reparameterize(key, mean, log_variance): ...

- Lists, numbers, NumPy arrays, booleans and integers become floating arrays: of the dtype of the floating arrays in the
  same call, otherwise of JAX's default. Floating arrays of JAX are passed on as they are, so the bits of a compiled
  program do not depend on these checks.
- Legacy keys (`jax.random.PRNGKey`) become keys of `jax.random.key`.
- Shapes are patterns: names are sizes, equal wherever a name stands in a call; "..." is any number of axes, the same
  ones in the whole call; "...1" likewise, but an axis of size 1 broadcasts; a number is that size; "_" is any size; "|"
  separates alternatives. Nothing is broadcast by accident.
- Shapes and dtypes are checked always. Values (ranges, NaN) are checked where they are known: not under jit, vmap or
  grad, and in arrays of at most `MOST_CHECKED` numbers, so that no training waits for its device.
- None is passed on where the annotation or the default allows it.

What does not fit is a ValueError that names the argument, what it is, and what would be right. This module imports
nothing of jaxgen.
"""

from .calls import takes
from .specifications import Count, Each, Float, Host, Int, Key, Real
from .values import as_float, as_key, concrete, same_shape

__all__ = [
    "Count",
    "Each",
    "Float",
    "Host",
    "Int",
    "Key",
    "Real",
    "as_float",
    "as_key",
    "concrete",
    "same_shape",
    "takes",
]
