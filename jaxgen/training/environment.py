"""What a run's bits depend on besides its config and seed."""

import os
import platform
from importlib import metadata
from typing import Any

import jax

from .compiler import compiler_options, cpu_vectors


def describe() -> dict:
    """Versions, devices and settings that can change a bit of the result, as plain data."""
    devices = jax.devices()
    config: Any = jax.config
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": {
            name: metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
        },
        "backend": jax.default_backend(),
        "device_kind": devices[0].device_kind,
        "device_count": len(devices),
        "process_count": jax.process_count(),
        "cpu_count": os.cpu_count(),
        "NPROC": os.environ.get("NPROC"),
        "PJRT_NPROC": os.environ.get("PJRT_NPROC"),
        "cpu_vectors": cpu_vectors(),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS"),
        "convolution_compiler_options": compiler_options(),
        "matmul_precision": config.jax_default_matmul_precision,
        "x64": config.jax_enable_x64,
        "compilation_cache": bool(config.jax_compilation_cache_dir and config.jax_enable_compilation_cache),
        "prng": "threefry2x32",
        "threefry_partitionable": config.jax_threefry_partitionable,
    }


def differences(old: dict, new: dict) -> list[str]:
    """The entries of both that differ, as 'name: old -> new'. What one version does not record says nothing."""
    return [f"{n}: {old[n]!r} -> {new[n]!r}" for n in new if n in old and old[n] != new[n]]
