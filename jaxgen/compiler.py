"""What XLA must be told so that values on a CPU are right and programs are fast.

Since jaxlib 0.10.2, XLA on CPU fuses reductions through YNNPACK by default, and some ordinary programs come out wrong
without an error: `jnp.sum((E @ jnp.full((d, d), c)) * E, -1)` can be off by a factor of 1e12, and
`jax.vmap(lambda r: jnp.sum((M @ r) ** 2))` gets one row wrong (jax issue 39103); others end the process (39257, 40412).

`import jaxgen` therefore adds a flag to XLA_FLAGS that turns this fusion off (`add_flag`). XLA reads XLA_FLAGS when it
compiles for the first time. Where that was before, the engine compiles its own programs with the same option
(`with_options`), and `check` tells whether other programs are right. JAXGEN_XLA_GUARD=0 turns all of this off.

This module imports nothing of jaxgen, and jax only inside functions: the flag is set before jax is imported.
"""

import functools
import os
import re
import warnings
from collections.abc import Callable, MutableMapping
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["add_flag", "check", "check_once", "fusion_list", "fusions_in_force", "options", "with_options"]

FLAG = "xla_cpu_experimental_ynn_fusion_type"
SWITCH = "JAXGEN_XLA_GUARD"

# An unknown entry in XLA_FLAGS ends the process, so only versions that were tried are here.
JAXLIB_WITH_FLAG = ("0.10.2", "0.11.0", "0.11.1", "0.11.2", "0.12.0", "0.12.0.1")

# Relative to the list before it; only XLA_FLAGS take such a value, not the option of a program.
_NO_REDUCTIONS = "-LIBRARY_FUSION_TYPE_REDUCE"
_DOTS = "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
# XLA's default without reductions.
_DOTS_AND_CONVOLUTIONS = f"{_DOTS},LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"
_MODEL = ("model name", "cpu family", "model", "stepping")


def add_flag(environ: MutableMapping[str, str] = os.environ) -> None:
    """Adds the flag that turns reduction fusion off to XLA_FLAGS; flags that are there already stay.

    Does nothing for a jaxlib that is not known to have the flag, where the flags present turn the fusion off already,
    and where JAXGEN_XLA_GUARD is 0. Warns where XLA_FLAGS asks for the fusion by name.
    """
    if not is_on(environ) or _jaxlib_version() not in JAXLIB_WITH_FLAG:
        return
    flags = _read_flags(environ.get("XLA_FLAGS", ""))
    values = _values(flags)
    if not fuses_reductions(values):
        return
    if any(_names_reductions(value) for value in values):
        warnings.warn(
            f"XLA_FLAGS has --{FLAG}={values[-1]}: with this fusion of reductions, XLA on CPU computes some sums wrong "
            f"(jax issue 39103). jaxgen turns it off; set {SWITCH}=0 to keep it.",
            stacklevel=2,
        )
    environ["XLA_FLAGS"] = f"{flags} --{FLAG}={_NO_REDUCTIONS if values else fusion_list()}".strip()


def is_on(environ: MutableMapping[str, str] = os.environ) -> bool:
    """Whether jaxgen may change how XLA compiles: unless JAXGEN_XLA_GUARD is 0."""
    return environ.get(SWITCH, "1") != "0"


def fusion_list(jaxlib: str | None = None, cpu_info: str | None = None) -> str:
    """The value of the flag for this processor: what XLA may hand to YNNPACK, never reductions.

    Dots always, and convolutions where Eigen is not faster. Times of a training step without reduction fusion, with
    Eigen's convolutions over YNNPACK's, two cores:

                                        jaxlib 0.10.2           0.12.0.1
                                     AVX2      AVX-512          AVX-512
        U-Net, 28 x 28 x 32, batch 64  0.39    0.9 to 0.95     1.06 to 1.09

    0.12 was not measured with AVX2 alone, and takes what was best there with 0.10.2.

    Args:
        jaxlib: its version; None: the installed one.
        cpu_info: the text of /proc/cpuinfo; None: this machine's.
    """
    vectors = cpu_vectors(cpu_info)
    version = _jaxlib_version() if jaxlib is None else jaxlib
    uses_eigen = vectors == "avx2" or (vectors == "avx512" and version.startswith("0.10."))
    return _DOTS if uses_eigen else _DOTS_AND_CONVOLUTIONS


def fuses_reductions(values: list[str]) -> bool:
    """Whether reductions are fused under these values of the flag, given one after another.

    A value is a list of names that replaces the list before it, or of +NAME and -NAME, which change it. XLA's default
    has reductions.
    """
    fused = True
    for value in values:
        names = _names(value)
        if any(name[:1] in "+-" for name in names if name):
            fused = (fused or "+REDUCE" in names) and "-REDUCE" not in names
        else:
            fused = "REDUCE" in names
    return fused


def check() -> bool:
    """Whether XLA computes two sums right on this CPU that its reduction fusion gets wrong; warns where it does not.

    Takes about a third of a second. The programs are compiled as a function of jaxgen is that you call yourself,
    under jax.jit or not. On another backend than a CPU: True.
    """
    import jax

    if jax.default_backend() != "cpu" or not _wrong_sums():
        return True
    warnings.warn(
        f"XLA of jaxlib {_jaxlib_version()} computes some sums wrong on this CPU (jax issue 39103). Import jaxgen "
        f'before JAX computes anything, or set XLA_FLAGS="--{FLAG}={_NO_REDUCTIONS}" before Python starts.',
        stacklevel=2,
    )
    return False


def check_once() -> None:
    """`check` at the first call of a process, outside of traces; to be called where devices are in use anyway."""
    import jax.numpy as jnp
    from jax.core import Tracer

    if not _checked and is_on() and not isinstance(jnp.zeros(()), Tracer):
        _checked.append(True)
        check()


_checked: list[bool] = []


def options(backend: str | None = None) -> dict[str, str]:
    """Compiler options for a program on "cpu", "gpu" or "tpu" (default: JAX's own); {} where none are needed.

    None where XLA_FLAGS does the same, and none where this jaxlib does not know the option.
    """
    import jax

    if (backend or jax.default_backend()) != "cpu" or not is_on() or not _fuses_by_default():
        return {}
    return {FLAG: fusion_list()} if _is_known(FLAG, fusion_list()) else {}


def fusions_in_force() -> str | None:
    """What programs of the engine are compiled with on this CPU: the values of the flag or option; None: XLA's default.

    Opens the devices.
    """
    if value := options("cpu").get(FLAG):
        return value
    values = _values(_read_flags(os.environ.get("XLA_FLAGS", "")))
    return " ".join(values) if values and _fuses_by_default() == fuses_reductions(values) else None


def with_options(function: Any, *args: Any, backend: str | None = None) -> Callable[..., Any]:
    """`function`, from jit or pmap, as it should be called with such arguments: itself, or compiled with `options`.

    Itself with several processes: there a pmap compiled with options would not accept a process's own arrays.
    """
    import jax

    chosen = options(backend)
    if not chosen or jax.process_count() > 1:
        return function
    return function.lower(*args).compile(compiler_options=chosen)


def compile_per_shape(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, a function of trees of arrays, compiled once for each set of shapes, with `options`."""
    import jax
    import numpy as np

    jitted, compiled = jax.jit(function), {}

    def call(*args: Any) -> Any:
        leaves, structure = jax.tree.flatten(args)
        shapes = (structure, *((np.shape(x), x.dtype, getattr(x, "sharding", None)) for x in leaves))
        if shapes not in compiled:
            compiled[shapes] = with_options(jitted, *args)
        return compiled[shapes](*args)

    return call


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
    lines = [re.search(rf"^{name}\s*:\s*(.*)$", _cpu_info(), re.MULTILINE) for name in _MODEL]
    return " ".join(line[1] for line in lines if line)


@functools.cache
def _cpu_info() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def _jaxlib_version() -> str:
    try:
        return metadata.version("jaxlib")
    except metadata.PackageNotFoundError:
        return ""


def _read_flags(text: str) -> str:
    """The flags themselves: XLA_FLAGS that do not begin with "-" name a file of flags."""
    if not text.strip() or text.lstrip().startswith("-"):
        return text
    try:
        return " ".join(Path(text).read_text().split())
    except (OSError, ValueError):
        return ""  # XLA ignores a file that it cannot read.


def _values(flags: str) -> list[str]:
    found = re.findall(rf"--{FLAG}=('[^']*'|\"[^\"]*\"|\S*)", flags)
    return [value.strip("'\"") for value in found]


def _names(value: str) -> list[str]:
    return [re.sub(r"LIBRARY_FUSION_TYPE_", "", name.strip().upper()) for name in value.split(",")]


def _names_reductions(value: str) -> bool:
    return not {"REDUCE", "+REDUCE"}.isdisjoint(_names(value))


def _wrong_sums() -> list[str]:
    """Which of the two patterns come out wrong, in programs compiled without options."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    e = (np.arange(16 * 20 * 20) % 7 - 3.0).astype(np.float32).reshape(16, 20, 20)
    rows = np.zeros((32_769, 3), np.float32)
    rows[:, 0] = np.arange(len(rows)) % 1000
    patterns = {
        "product": (lambda x: jnp.sum((x @ jnp.full((20, 20), 0.5, x.dtype)) * x, -1), e, 0.5 * e.sum(-1) ** 2),
        "rows": (jax.vmap(lambda r: jnp.sum((jnp.eye(3, dtype=r.dtype) @ r) ** 2)), rows, rows[:, 0] ** 2),
    }
    computed = {name: jax.device_get(jax.jit(f)(jax.device_put(x))) for name, (f, x, _) in patterns.items()}
    return [name for name, (_, _, right) in patterns.items() if not np.allclose(computed[name], right, rtol=1e-3)]


@functools.cache
def _fuses_by_default() -> bool:
    """Whether this process fuses a reduction in a program compiled without options; XLA reads its flags once."""
    import jax
    import jax.numpy as jnp

    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        program = jax.jit(lambda x: jnp.sum(x * x, -1)).lower(jax.ShapeDtypeStruct((64, 784), jnp.float32)).compile()
    return "ynn_fusion" in (program.as_text() or "")


@functools.cache
def _is_known(name: str, value: str) -> bool:
    """Whether this jaxlib takes the option."""
    import jax
    import jax.numpy as jnp

    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        probe = jax.jit(jnp.negative).lower(jax.ShapeDtypeStruct((), jnp.float32))
    try:
        probe.compile(compiler_options={name: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True
