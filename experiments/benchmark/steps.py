"""The benchmark's cases and how their steps are run: here, in a loop and as single calls, and in PyTorch."""

import importlib
import importlib.util
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen import compiler, training
from jaxgen.training import profiling

Tree = Any


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


class Steps(NamedTuple):
    """Two ways to run a step: `in_loop(n)` is one program that runs n of them, `single(n)` is n calls. Both wait."""

    in_loop: Callable[[int], None]
    single: Callable[[int], None]
    work: profiling.Work


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
    looped = [parallel.replicate(state), parallel.empty_sums(state, key)]

    def in_loop(number: int) -> None:
        looped[:] = parallel(looped[0], looped[1], key, None, number)
        jax.block_until_ready(looped)

    return in_loop


def training_steps(case: Case) -> Steps:
    """Training, on one device."""
    key, state, in_loop = training.keys.root(0), case.init(), engine_loop(case)
    stepped, arrays = [jax.tree.map(jnp.copy, state)], jax.device_put(case.batches.arrays)
    program, work = profiling.compile_with_work(single_step(case), stepped[0], key, arrays, donate=(0,))

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

    program, work = profiling.compile_with_work(step, params, key, start)
    looped = compiler.with_options(jax.jit(loop), params, key, start, jnp.int32(1))

    def single(number: int) -> None:
        x = start
        for i in range(number):
            x = program(params, jax.random.fold_in(key, i), x)
        jax.block_until_ready(x)

    return Steps(lambda number: jax.block_until_ready(looped(params, key, start, jnp.int32(number))), single, work)


def in_torch(name: str, *arguments: Any) -> Callable[[str], TorchSteps]:
    """`device -> TorchSteps` of a function "module.function" of experiments.benchmark.pytorch with these arguments.

    The module, and with it torch, is imported when the result is called.
    """

    def make(device: str) -> TorchSteps:
        module, _, function = name.partition(".")
        made_by = importlib.import_module(f"experiments.benchmark.pytorch.{module}")
        return getattr(made_by, function)(*arguments, device)

    return make


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


def configure_torch() -> None:
    """Sets PyTorch up as XLA computes: all cores, and on a GPU tf32 products unless JAX has another precision."""
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(os.cpu_count() or 1)
    if torch.cuda.is_available():
        precision: Any = jax.config
        torch.set_float32_matmul_precision("high" if precision.jax_default_matmul_precision is None else "highest")
        torch.backends.cudnn.benchmark = True
