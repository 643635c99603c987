"""Programs for tests that run them once: compiling takes nearly all of their time."""

from functools import partial

import jax

compiled = partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
)
"""`jax.jit` with less optimization, hence faster to compile."""


def values(function, *arguments, x64=False):
    """function(*arguments) by one program, as NumPy arrays; NumPy arguments are float32, or float64 with `x64`."""
    with jax.enable_x64(x64):
        return jax.device_get(compiled(function)(*arguments))


in_float32 = values
in_float64 = partial(values, x64=True)
