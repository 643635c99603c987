"""What the benchmark measures of one case: seconds a step, beside PyTorch's, and what the step has to do.

Work is counted by XLA in the program of one single step, because a loop's body counts once: a multiplication and an
addition are 2 operations, elementwise arithmetic 1, products with the zeros of a padding none. On CPU the compiled
program is read, in which equal computations are merged; elsewhere the program before compilation, because the library
calls of the compiled one count as nothing. Bytes are what the compiled program's kernels read and write; some of that
comes from caches, so the share of the copy rate may exceed one.
"""

import importlib.util
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen import compiler, training

Tree = Any
SECONDS = 1.0
"""how long one measurement should take"""


class Sampling(NamedTuple):
    """One step of drawing a batch from the model.

    Attributes:
        step: (params, key, x) -> x, the next state of the batch; a model that draws at once ignores x.
        start: x before the first step, like what a step returns; leading axis: the batch.
    """

    step: Callable[[Tree, jax.Array, Tree], Tree]
    start: Tree


class TorchSteps(NamedTuple):
    """The same network and steps in PyTorch.

    Attributes:
        num_params: trained numbers; must be those of the case.
        train: trains for so many steps and returns when they are done.
        sample: likewise for drawing, or None.
    """

    num_params: int
    train: Callable[[int], None]
    sample: Callable[[int], None] | None = None


class Case(NamedTuple):
    """A model and its training step.

    Attributes:
        name: with the precision, unique in the table.
        batch_size: of the training step.
        update: as the engine takes it.
        init: makes the state before the first step.
        batches: where the batch comes from.
        sampling: a step of drawing, if there is one.
        torch: makes the same in PyTorch on a device ("cpu", "cuda"), if there is something to compare with.
        precision: of the products, "float32" or "bfloat16"; cases in bfloat16 are left out on CPU.
    """

    name: str
    batch_size: int
    update: training.Update
    init: Callable[[], training.TrainState]
    batches: training.DeviceBatches
    sampling: Sampling | None = None
    torch: Callable[[str], TorchSteps] | None = None
    precision: str = "float32"


class Work(NamedTuple):
    """What one step costs: operations, bytes moved, bytes of memory that its program needs, seconds to compile it."""

    flops: float
    bytes: float
    memory: float
    compile_seconds: float


class Steps(NamedTuple):
    """Two ways to run a step: `in_loop(n)` is one program that runs n of them, `single(n)` is n calls. Both wait."""

    in_loop: Callable[[int], None]
    single: Callable[[int], None]
    work: Work


def single_step(case: Case) -> Callable[..., tuple]:
    """(state, root key, arrays) -> (state, metrics): a training step as the engine runs it, batch and keys included."""

    def step(state, key, arrays):
        positions = jnp.arange(case.batch_size, dtype=jnp.int32)
        batch = case.batches.make(training.keys.stream(key, "order"), arrays, state.step, positions)
        model = training.keys.at_step(training.keys.stream(key, "model"), state.step)
        return case.update(state, batch, training.keys.per_example(model, positions), training.plain_mean)

    return step


def engine_loop(case: Case, exact_shards: int = 0) -> Callable[[int], None]:
    """Trains for so many steps through the engine, on one device, and returns when they are done."""
    parallel = training.ParallelUpdate(
        case.update,
        case.batches,
        batch_size=case.batch_size,
        devices=jax.devices()[:1],
        exact_shards=exact_shards,
    )
    key, state = training.keys.root(0), case.init()
    looped = [parallel.replicate(state), parallel.empty_tally(state, key)]

    def in_loop(number: int) -> None:
        looped[:] = parallel(looped[0], looped[1], key, None, number)
        jax.block_until_ready(looped)

    return in_loop


def training_steps(case: Case) -> Steps:
    """Training, on one device."""
    key, state, in_loop = training.keys.root(0), case.init(), engine_loop(case)
    stepped, arrays = [jax.tree.map(jnp.copy, state)], jax.device_put(case.batches.arrays)
    program, work = compiled(single_step(case), stepped[0], key, arrays, donate=(0,))

    def single(number: int) -> None:
        for _ in range(number):
            stepped[0] = program(stepped[0], key, arrays)[0]
        jax.block_until_ready(stepped)

    return Steps(in_loop, single, work)


def sampling_steps(case: Case) -> Steps:
    """Drawing, on one device."""
    assert case.sampling is not None
    step, start = case.sampling
    params, key = case.init().params, training.keys.root(1)

    def loop(params, key, x, number):
        return jax.lax.fori_loop(0, number, lambda i, x: step(params, jax.random.fold_in(key, i), x), x)

    program, work = compiled(step, params, key, start)
    looped = compiler.with_options(jax.jit(loop), params, key, start, jnp.int32(1))

    def single(number: int) -> None:
        x = start
        for i in range(number):
            x = program(params, jax.random.fold_in(key, i), x)
        jax.block_until_ready(x)

    return Steps(lambda number: jax.block_until_ready(looped(params, key, start, jnp.int32(number))), single, work)


def compiled(step: Callable, *args: Any, donate: tuple[int, ...] = ()) -> tuple[Callable, Work]:
    """The step as a program for such arguments, and its work."""
    lowered = jax.jit(step, donate_argnums=donate).lower(*args)
    began = time.perf_counter()
    program = lowered.compile(compiler_options={**compiler.options()} or None)
    seconds = time.perf_counter() - began
    after: Any = program.cost_analysis()
    flops = after["flops"] if jax.default_backend() == "cpu" else operations_before_compilation(step, *args)
    need: Any = program.memory_analysis()
    arguments_and_results = need.argument_size_in_bytes + need.output_size_in_bytes - need.alias_size_in_bytes
    memory = need.temp_size_in_bytes + arguments_and_results
    return program, Work(flops, after["bytes accessed"], memory, seconds)


def operations_before_compilation(step: Callable, *args: Any) -> float:
    """Floating-point operations of the step, lowered for the CPU: elsewhere XLA counts in compiled programs alone.

    Raises:
        ValueError: JAX was told to leave the CPU out.
    """
    platforms: Any = jax.config
    if platforms.jax_platforms and "cpu" not in platforms.jax_platforms:
        raise ValueError(f"JAX_PLATFORMS is {platforms.jax_platforms}; add ',cpu', on which operations are counted")
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args)
    with jax.default_device(jax.devices("cpu")[0]):
        found: Any = jax.jit(step).lower(*shapes).cost_analysis()
    return found["flops"]


def torch_steps(case: Case) -> TorchSteps | None:
    """The case in PyTorch, where it has that and torch is installed (on GPU: with CUDA).

    Raises:
        ValueError: the twin has another number of parameters.
    """
    if case.torch is None or importlib.util.find_spec("torch") is None:
        return None
    import torch  # pyright: ignore[reportMissingImports]

    on_gpu = jax.default_backend() == "gpu"
    if jax.default_backend() not in ("cpu", "gpu") or (on_gpu and not torch.cuda.is_available()):
        return None
    twin = case.torch("cuda" if on_gpu else "cpu")
    ours = sum(x.size for x in jax.tree.leaves(jax.eval_shape(case.init).params))
    if twin.num_params != ours:
        raise ValueError(f"{case.name}: {ours} parameters here, {twin.num_params} in PyTorch; not the same network")
    return twin


def timed(run: Callable[[int], None], seconds: float = SECONDS) -> Callable[[], float]:
    """Warms up, fixes how many steps take about so many seconds, and returns a measurement of seconds a step."""

    def took(number: int) -> float:
        began = time.perf_counter()
        run(number)
        return (time.perf_counter() - began) / number

    run(2)
    number = 1
    while number * took(number) < seconds / 4:
        number *= 4
    number = max(1, round(seconds / took(number)))
    return lambda: took(number)


def product_rate(precision: str = "float32") -> float:
    """Floating-point operations a second of a square matrix product of default precision."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    # Random, because zeros and ones take a GPU less power, and so less time.
    a = jax.random.normal(jax.random.key(0), (size, size), precision)
    return 2 * size**3 / _best(jax.jit(lambda a: a @ a), a)


def copy_rate() -> float:
    """Bytes a second, read and written, of adding 1 to an array of 256 MiB.

    In place: a result in fresh memory measures the system's page faults instead (Linux, AVX-512: 8 GB/s, not 70).
    """
    a = jnp.zeros(2**26, jnp.float32)
    add = jax.jit(lambda a: a + 1, donate_argnums=0)
    kept = [add(a)]

    def again(_):
        kept[:] = [add(kept[0])]
        return kept

    return 2 * kept[0].nbytes / _best(again, None)


def _best(function: Callable, x: Any, times: int = 5) -> float:
    """Seconds of the fastest call: a ceiling is what can be reached."""
    jax.block_until_ready(function(x))
    found = []
    for _ in range(times):
        began = time.perf_counter()
        jax.block_until_ready(function(x))
        found.append(time.perf_counter() - began)
    return min(found)
