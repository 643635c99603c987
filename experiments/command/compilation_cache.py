"""Where compiled programs are kept between runs: on by default for experiments and tests.

JAX names an entry by the program, its options and the versions, but a CPU program holds instructions of the processor
that it was compiled on. So the folder also depends on jaxlib's version and on the processor's features. Several
processes may share it: a half-written entry does not decompress, and is compiled anew.
"""

import hashlib
import os
import platform
import re
from importlib import metadata
from pathlib import Path

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def folder() -> Path:
    """$XDG_CACHE_HOME/jaxgen/xla/<jaxlib's version>-<machine>-<features>, by default below ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "jaxgen" / "xla" / name()


def name() -> str:
    """Of the folder for this jaxlib and this processor."""
    try:
        found = re.search(r"^(flags|Features)\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    features = " ".join(sorted(found[2].split())) if found else platform.processor()
    digest = hashlib.sha256(features.encode()).hexdigest()[:8]
    return f"{metadata.version('jaxlib')}-{platform.machine()}-{digest}"


def use(where: Path) -> None:
    """Sets JAX's environment variables, unless they are set. To be called before jax is imported; "" means no cache."""
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(where))
    # Small programs too: many of them make a start slow.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    if DETERMINISTIC in os.environ.get("XLA_FLAGS", ""):
        os.environ.setdefault("JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES", "none")


def make_deterministic() -> None:
    """From here on, programs for a GPU have only kernels that give the same bits each time.

    To be called before the devices are opened.

    Raises:
        ValueError: XLA_FLAGS says otherwise.
    """
    import jax

    flags = os.environ.get("XLA_FLAGS", "")
    name, _, value = DETERMINISTIC.partition("=")
    if found := re.search(rf"{name}(?:=(\S*))?(?!\S)", flags):
        if found[1] not in (None, value):
            raise ValueError(
                f"train.deterministic is set, and XLA_FLAGS has {found[0]}: leave out one of the two "
                "(--train.no-deterministic, or the flag)"
            )
    else:
        os.environ["XLA_FLAGS"] = f"{flags} {DETERMINISTIC}".strip()
    # JAX keeps which kernels measured fastest, in this program or in others; here that must decide nothing.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
