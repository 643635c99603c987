"""Programs for tests that run them once: compiling takes nearly all of their time."""

from functools import partial

import jax

compiled = partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
)
"""`jax.jit` with less optimization, hence faster to compile."""


def in_float64(function, *arguments):
    """function(*arguments) by one program in float64, as NumPy arrays."""
    with jax.enable_x64(True):
        return jax.device_get(compiled(function)(*arguments))


def in_float32(function, *arguments):
    """function(*arguments) by one program in float32, as NumPy arrays."""
    return jax.device_get(compiled(function)(*arguments))
