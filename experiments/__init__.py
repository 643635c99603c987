"""One script per paper result. Run from the checkout: `python -m experiments.<name> <preset>`.

The size of XLA's CPU thread pool changes the bits of matrix products, and simulated devices deadlock when the pool is
smaller than the number of queued collectives. It is therefore one constant, set before jax is imported.

Compiled programs are kept below ~/.cache/jaxgen; JAX_COMPILATION_CACHE_DIR is another place, or none if empty.
"""

import os

import jaxgen  # noqa: F401 (sets XLA flags)
from experiments.command import compilation_cache

os.environ.setdefault("NPROC", "16")
compilation_cache.use(compilation_cache.folder())
