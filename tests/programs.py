"""Programs for tests that run them once: compiling takes nearly all of their time."""

from functools import partial
from importlib import metadata

import jax

QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_parallel_codegen_split_count": 1,
}
"""Compiler options for less optimization; compiling takes a quarter to a third of the processor time."""
if metadata.version("jaxlib").startswith("0.10."):
    # XLA's older code for fusions, half as long to compile; later versions do not have it.
    QUICK["xla_cpu_use_fusion_emitters"] = False

compiled = partial(jax.jit, compiler_options=QUICK)
"""`jax.jit` with QUICK."""


def values(function, *arguments, x64=False):
    """function(*arguments) by one program, as NumPy arrays; NumPy arguments are float32, or float64 with `x64`."""
    with jax.enable_x64(x64):
        return jax.device_get(compiled(function)(*arguments))


in_float32 = values
in_float64 = partial(values, x64=True)
