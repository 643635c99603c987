"""What every test runs under: strict arithmetic, checked keys, eight simulated devices, one thread-pool size.

NPROC and the number of devices must be set before jax is imported. Fewer pool threads than queued collectives
deadlock on few cores, and the size of the pool changes the bits of matrix products, so it is one constant.
"""

import functools
import json
import os
from pathlib import Path

import pytest

import jaxgen  # noqa: F401 (sets XLA flags)
from experiments.command import compilation_cache
from jaxgen import compiler

os.environ.setdefault("NPROC", "16")
# Many tests compile the same programs; so do the next runs of the suite, and the programs that tests start.
os.environ["JAX_COMPILATION_CACHE_DIR"] = f"{Path(__file__).parent.parent}/.jax_cache-{compilation_cache.name()}"

import jax

from tests import programs

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS", "cpu"))
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


DURATIONS = Path(__file__).parent / "durations.json"


def pytest_collection_modifyitems(items):
    """The files that took longest when durations.json was written come first, new files before all."""
    seconds = json.loads(DURATIONS.read_text())
    items.sort(key=lambda item: -seconds.get(item.location[0], float("inf")))


def pytest_runtest_setup(item):
    """Fast tests compile without most optimizations, unless they are marked as optimized; slow tests as users do.

    Nothing compiled in one way is used in the other. The engine takes `programs.QUICK`, other programs what a setting
    of JAX allows.
    """
    quick = not any(map(item.get_closest_marker, ("slow", "optimized")))
    if quick != (compiler.options is quick_options):
        jax.clear_caches()
        jax.config.update("jax_disable_most_optimizations", quick)
        compiler.options = quick_options if quick else default_options


default_options = compiler.options


@functools.wraps(default_options)
def quick_options(backend=None):
    return {**default_options(backend), **programs.QUICK}


@pytest.fixture(autouse=True)
def flags_as_they_were():
    """A deterministic preset sets XLA_FLAGS for its process, which belong to what bits depend on, and JAX's caches."""
    before, caches = os.environ.get("XLA_FLAGS"), jax.config.values["jax_persistent_cache_enable_xla_caches"]
    yield
    jax.config.update("jax_persistent_cache_enable_xla_caches", caches)
    os.environ.pop("XLA_FLAGS", None)
    if before is not None:
        os.environ["XLA_FLAGS"] = before
