"""Cost of a compiled program, seconds a step, and this machine's peak rates, for comparison with each other.

Work is counted by XLA in the program of one single step, because a loop's body counts once: a multiplication and an
addition are 2 operations, elementwise arithmetic 1, products with the zeros of a padding none. On CPU the compiled
program is analyzed, in which equal computations are merged; elsewhere the program before compilation, because the
library calls of the compiled one count as nothing. Bytes are what the compiled program's kernels read and write; some
of that comes from caches, so the share of the copy rate may exceed one.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen import compiler

SECONDS = 1.0
"""approximate duration of one measurement"""


class Work(NamedTuple):
    """Work of a program.

    Attributes:
        flops: floating-point operations.
        bytes: read and written.
        memory: bytes of arguments, results and temporary arrays.
        compile_seconds: time of the compilation.
    """

    flops: float
    bytes: float
    memory: float
    compile_seconds: float


def compile_with_work(step: Callable, *args: Any, donate: tuple[int, ...] = ()) -> tuple[Callable, Work]:
    """The step as a program for such arguments, and its work.

    Args:
        step: a function that `jax.jit` can compile.
        args: its arguments, trees of arrays.
        donate: positions of arguments whose memory the results take.
    """
    lowered = jax.jit(step, donate_argnums=donate).lower(*args)
    began = time.perf_counter()
    program = lowered.compile(compiler_options={**compiler.options()} or None)
    seconds = time.perf_counter() - began
    cost: Any = program.cost_analysis()
    flops = cost["flops"] if jax.default_backend() == "cpu" else operations_before_compilation(step, *args)
    need: Any = program.memory_analysis()
    arguments_and_results = need.argument_size_in_bytes + need.output_size_in_bytes - need.alias_size_in_bytes
    return program, Work(flops, cost["bytes accessed"], need.temp_size_in_bytes + arguments_and_results, seconds)


def operations_before_compilation(step: Callable, *args: Any) -> float:
    """Floating-point operations of a step, lowered for the CPU: elsewhere XLA counts in compiled programs alone.

    Raises:
        ValueError: JAX_PLATFORMS leaves the CPU out.
    """
    platforms: Any = jax.config
    if platforms.jax_platforms and "cpu" not in platforms.jax_platforms:
        raise ValueError(f"JAX_PLATFORMS is {platforms.jax_platforms}; add ',cpu', on which operations are counted")
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args)
    with jax.default_device(jax.devices("cpu")[0]):
        cost: Any = jax.jit(step).lower(*shapes).cost_analysis()
    return cost["flops"]


def seconds_per_step(run: Callable[[int], None], seconds: float = SECONDS) -> Callable[[], float]:
    """Warms up, chooses the number of steps that takes about so long, and returns a measurement of seconds a step.

    Args:
        run: `run(n)` does n steps and waits for their end.
        seconds: approximate duration of one measurement.
    """

    def measure(number: int) -> float:
        began = time.perf_counter()
        run(number)
        return (time.perf_counter() - began) / number

    run(2)
    number = 1
    while number * measure(number) < seconds / 4:
        number *= 4
    number = max(1, round(seconds / measure(number)))
    return lambda: measure(number)


def product_rate(precision: str = "float32") -> float:
    """Floating-point operations a second of a square matrix product of default precision."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    # Random, because zeros and ones take a GPU less power, and so less time.
    a = jax.random.normal(jax.random.key(0), (size, size), precision)
    return 2 * size**3 / _fastest(jax.jit(lambda a: a @ a), a)


def copy_rate() -> float:
    """Bytes a second, read and written, of adding 1 to an array of 256 MiB.

    In place: a result in fresh memory measures the system's page faults instead (Linux, AVX-512: 8 GB/s, not 70).
    """
    add = jax.jit(lambda a: a + 1, donate_argnums=0)
    array = [add(jnp.zeros(2**26, jnp.float32))]

    def again(_: Any) -> list:
        array[:] = [add(array[0])]
        return array

    return 2 * array[0].nbytes / _fastest(again, None)


def _fastest(function: Callable, x: Any, times: int = 5) -> float:
    """Seconds of the fastest call, because a peak rate is the largest that can be reached."""
    jax.block_until_ready(function(x))
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        jax.block_until_ready(function(x))
        seconds.append(time.perf_counter() - began)
    return min(seconds)
