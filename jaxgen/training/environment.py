"""What a run's bits depend on besides its config and seed."""

import os
import platform
from importlib import metadata
from typing import Any

import jax

from jaxgen.compiler import cpu_model, cpu_vectors, fusions_in_force

# What a record of the bits does not need to agree in: they do not depend on it, or it is recorded in better words.
NOT_OF_BITS = ("python", "device_count", "process_count", "compilation_cache")


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
        "cpu_model": cpu_model(),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS"),
        "cpu_fusions": fusions_in_force() if jax.default_backend() == "cpu" else None,
        "matmul_precision": config.jax_default_matmul_precision,
        "x64": config.jax_enable_x64,
        "compilation_cache": bool(config.jax_compilation_cache_dir and config.jax_enable_compilation_cache),
        "prng": "threefry2x32",
        "threefry_partitionable": config.jax_threefry_partitionable,
    }


def of_bits(described: dict) -> dict:
    """The entries that the parameters of a run on one device depend on; equal ones promise equal bits.

    Where NPROC fixes the size of the thread pool, the number of cores is not among them.
    """
    left_out = (*NOT_OF_BITS, *(("cpu_count",) if described["NPROC"] else ()))
    versions = {n: v for n, v in described["versions"].items() if n != "orbax-checkpoint"}
    return {**{n: v for n, v in described.items() if n not in left_out}, "versions": versions}


def differences(old: dict, new: dict) -> list[str]:
    """The entries of both that differ, as 'name: old -> new'. What one version does not record says nothing."""
    found = []
    for name in (n for n in new if n in old and old[n] != new[n]):
        if isinstance(old[name], dict) and isinstance(new[name], dict):
            # A library that came or went is said too.
            both = {n: None for n in (*old[name], *new[name])}
            pairs = ((f"{name}.{n}", old[name].get(n), new[name].get(n)) for n in both)
            found += [f"{n}: {a!r} -> {b!r}" for n, a, b in pairs if a != b]
        else:
            found.append(f"{name}: {old[name]!r} -> {new[name]!r}")
    return found
