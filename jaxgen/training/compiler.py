"""Compiler options that make a program fast, where this jaxlib knows them."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

# YNNPACK fusions. On two cores, time with over without (medians; the bits change): a training step of a small U-Net
# 0.75, of a DCGAN 0.8 to 1.5 by the day; of dense networks 0.96 to 1.08, so those go without.
CPU_CONVOLUTION = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"}


def compiler_options(backend: str | None = None) -> dict[str, str]:
    """The options for a program with convolutions on "cpu", "gpu" or "tpu" (default: JAX's own); {} where none help.

    None with several processes: there a pmap compiled with options would not accept a process's own arrays.
    """
    if (backend or jax.default_backend()) != "cpu" or jax.process_count() > 1:
        return {}
    return known(CPU_CONVOLUTION)


def known(options: Mapping[str, str]) -> dict[str, str]:
    """Those of the options that this jaxlib knows. An unknown one in XLA_FLAGS would abort the process."""
    return {name: value for name, value in options.items() if _is_known(name, value)}


def with_options(function: Any, *args: Any, backend: str | None = None) -> Callable[..., Any]:
    """`function`, from jit or pmap, as it should be called with such arguments.

    Compiled with `compiler_options` if it convolves; otherwise itself.
    """
    options = compiler_options(backend)
    if not options:
        return function
    lowered = function.lower(*args)
    if "stablehlo.convolution" not in lowered.as_text():
        return function
    return lowered.compile(compiler_options=options)


@functools.cache
def _is_known(name: str, value: str) -> bool:
    probe = jax.jit(jnp.negative).lower(jax.ShapeDtypeStruct((), jnp.float32))
    try:
        probe.compile(compiler_options={name: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True
