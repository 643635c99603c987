"""Values of library functions from one compiled program, because compiling takes nearly all the time of these tests."""

from functools import partial

import jax

compiled = partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
)


def values(f, *args, x64=False):
    """f(*args) as NumPy arrays, computed by one program; NumPy arguments are float32, or float64 with `x64`."""
    with jax.enable_x64(x64):
        return jax.device_get(compiled(f)(*args))
