"""What every test runs under: strict arithmetic, checked keys, eight simulated devices, one thread-pool size.

NPROC and the number of devices must be set before jax is imported. Fewer pool threads than queued collectives
deadlock on few cores, and the size of the pool changes the bits of matrix products, so it is one constant.
"""

import os

os.environ.setdefault("NPROC", "16")

from pathlib import Path

import jax

# Many tests compile the same programs; so do the next runs of the suite.
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parent.parent / f".jax_cache-{jax.__version__}"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS", "cpu"))
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
