"""Compiler options that make a program fast, where this jaxlib knows them."""

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

# XLA on CPU hands convolutions of 32 channels and more to YNNPACK, and by default single dots and reductions too.
# Without AVX-512 Eigen is faster, with AVX-512 it is not. Time of Eigen's over YNNPACK's on two cores:
#
#                                                      AVX2 alone    AVX-512
#   gradient of a 3x3 convolution, 64x28x28x32            0.33      0.7 to 1.1
#                                  8x32x32x128            0.55      1.1
#                                  8x16x16x512->256       0.60      1.0 to 1.1
#   gradient of a 4x4 convolution of stride 2               -       1.0 to 1.7
#   training step of a small U-Net                        0.39      0.8 to 1.2
#
# Naming the other two leaves programs without convolutions as they are, the same instructions and bits. The value
# "LIBRARY_FUSION_TYPE_DOT" (with which the first column was measured) takes convolutions away as well, but changes the
# bits of dense networks, for 0.9 to 1.1 of their time.
EIGEN_CONVOLUTION = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE"
}


_MODEL = ("model name", "cpu family", "model", "stepping")


def compiler_options(backend: str | None = None) -> dict[str, str]:
    """The options for a program with convolutions on "cpu", "gpu" or "tpu" (default: JAX's own); {} where none help.

    None with several processes: there a pmap compiled with options would not accept a process's own arrays.
    """
    if (backend or jax.default_backend()) != "cpu" or jax.process_count() > 1 or not prefers_eigen(_cpu_info()):
        return {}
    return known(EIGEN_CONVOLUTION)


def prefers_eigen(cpu_info: str) -> bool:
    """Whether the text of /proc/cpuinfo tells of AVX2 without AVX-512."""
    return cpu_vectors(cpu_info) == "avx2"


def cpu_vectors(cpu_info: str | None = None) -> str:
    """The widest vectors of the CPU, on which XLA's bits depend: "avx512", "avx2" or "" for others.

    Args:
        cpu_info: the text of /proc/cpuinfo; None: this machine's.
    """
    flags = re.search(r"^flags\s*:(.*)$", _cpu_info() if cpu_info is None else cpu_info, re.MULTILINE)
    words = flags[1].split() if flags else []
    return "avx512" if "avx512f" in words else "avx2" if "avx2" in words else ""


def cpu_model() -> str:
    """The processor by name and numbers, such as "AMD EPYC 26 2 1": how products are cut into blocks depends on it."""
    found = [re.search(rf"^{what}\s*:\s*(.*)$", _cpu_info(), re.MULTILINE) for what in _MODEL]
    return " ".join(match[1] for match in found if match)


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
def _cpu_info() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


@functools.cache
def _is_known(name: str, value: str) -> bool:
    probe = jax.jit(jnp.negative).lower(jax.ShapeDtypeStruct((), jnp.float32))
    try:
        probe.compile(compiler_options={name: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True
