"""The benchmark's discovery, counts and table; nothing here depends on how long anything takes."""

import functools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.benchmark import speed as benchmark
from experiments.benchmark import steps
from jaxgen import nn, training
from jaxgen.nn.conv import Backward
from jaxgen.training import profiling

BATCH = 16
OPTIMIZER = optax.sgd(1e-3)


def case(params, forward, shape, sampling=None, **options):
    def objective(params, batch, keys, context):
        del keys, context
        axes = tuple(range(1, len(shape) + 1))
        return jnp.mean(jnp.square(forward(params, batch["x"]) - batch["x"]), axis=axes), {}

    take = lambda key, arrays, step, positions: {"x": arrays[positions]}
    batches = training.DeviceBatches(take, np.ones((BATCH, *shape), np.float32))
    update = training.update_from_objective(objective, OPTIMIZER)
    return steps.Case(
        "a", BATCH, update, lambda: training.create_state(params, OPTIMIZER), batches, sampling, **options
    )


def ones(shapes):
    return {name: np.ones(shape, np.float32) for name, shape in shapes.items()}


def dense_case(**options):
    params = ones({"in": (96, 40), "out": (40, 96)})
    return case(params, lambda p, x: jnp.tanh(x @ p["in"]) @ p["out"], (96,), **options)


def conv_case(backward: Backward = "forward_form"):
    params = ones({"in": (3, 3, 24, 24), "down": (4, 4, 24, 32), "up": (4, 4, 32, 24)})

    def forward(p, x):
        x = jax.nn.relu(nn.conv(x, p["in"], backward=backward))
        x = jax.nn.relu(nn.conv(x, p["down"], stride=2, backward=backward))
        return nn.conv_transpose(x, p["up"], backward=backward)

    return case(params, forward, (12, 12, 24))


def inside(size, kernel, stride, before, outputs):
    """How many products of a window's row with a pixel, not with padding, one axis has."""
    return sum(0 <= stride * i + u - before < size for i in range(outputs) for u in range(kernel))


@functools.cache
def counted(make, *args):
    """The work of a step, in the compiled program."""
    chosen = make(*args)
    args = chosen.init(), training.keys.root(0), chosen.batches.arrays
    return profiling.compile_with_work(steps.single_step(chosen), *args)[1]


def test_operations_of_a_dense_network():
    # Forward, and both gradients but that of the pixels: 2 a multiply-add. The loss, metrics and SGD are the rest.
    products = 2 * BATCH * 96 * 40 * (3 + 2)
    assert products < counted(dense_case).flops < 1.15 * products


def test_operations_of_a_convolutional_network():
    """The backward passes in forward form count as what they compute, zeros between the pixels left out."""
    plain, halved = inside(12, 3, 1, 1, 12) ** 2 * 24 * 24, inside(12, 4, 2, 1, 6) ** 2 * 24 * 32
    products = 2 * BATCH * (2 * plain + 3 * halved + 3 * halved)
    assert products < counted(conv_case, "forward_form").flops < 1.05 * products


def before_compilation(chosen):
    args = chosen.init(), training.keys.root(0), chosen.batches.arrays
    return profiling.operations_before_compilation(steps.single_step(chosen), *args)


def test_operations_before_compilation_are_the_same_but_for_what_compilation_merges():
    """A GPU's convolutions are lax's own."""
    cases: list[Any] = [(dense_case,), (conv_case, "forward_form"), (conv_case, "xla")]
    for make, *args in cases:
        assert before_compilation(make(*args)) == pytest.approx(counted(make, *args).flops, rel=0.02)


def test_operations_cannot_be_counted_without_the_cpu():
    before = jax.config.values["jax_platforms"]
    try:
        jax.config.update("jax_platforms", "cuda")
        with pytest.raises(ValueError, match="add ',cpu'"):
            before_compilation(dense_case())
    finally:
        jax.config.update("jax_platforms", before)


def test_a_loop_of_steps_would_count_once():
    step = lambda x: x @ x
    x = np.ones((64, 64), np.float32)
    once = profiling.compile_with_work(step, x)[1].flops
    looped = profiling.compile_with_work(lambda x: jax.lax.fori_loop(0, 10, lambda _, x: step(x), x), x)[1].flops
    assert once == 2 * 64**3 and looped < 2 * once


def test_bytes_are_at_least_those_of_arguments_and_results():
    x = np.ones((256, 256), np.float32)
    work = profiling.compile_with_work(lambda x: x + 1, x)[1]
    assert work.bytes == 2 * x.nbytes and work.memory == 2 * x.nbytes


def test_a_measurement_is_seconds_a_step(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(profiling.time, "perf_counter", lambda: clock[0])
    calls = []

    def run(number):
        calls.append(number)
        clock[0] += 0.01 * number

    assert profiling.seconds_per_step(run, seconds=1.0)() == pytest.approx(0.01)
    assert calls[-1] == 100


ROW = {
    "family": "f", "case": "c", "step": "training", "batch": 4, "precision": "float32",
    "in_loop": [0.1, 0.2, 0.9], "single": [0.2, 0.2, 0.2], "torch": [0.2, 0.1, 0.3],
    "in_loop_cores": [1.0, 1.5, 3.0], "torch_cores": [2.0, 1.9, 1.8],
    "product_rate": [1e9, 3e9, 2e9], "copy_rate": [1e9] * 3,
    "flops": 1e8, "bytes": 4e7, "memory": 2**21, "compile_seconds": 1.0,
}  # fmt: skip


def test_summary_is_medians_and_the_median_of_ratios():
    found = benchmark.summary(ROW)
    assert found["loop ms"] == pytest.approx(200) and found["PyTorch ms"] == pytest.approx(200)
    assert found["loop / PyTorch"] == pytest.approx(2)  # of 0.5, 2 and 3
    assert found["single / PyTorch"] == pytest.approx(1)
    assert found["of product rate"] == pytest.approx(1e8 / 0.2 / 2e9)
    assert found["loop cores"] == 1.5 and found["PyTorch cores"] == 1.9
    assert found["of copy rate"] == pytest.approx(4e7 / 0.2 / 1e9) and found["MiB"] == 2


def test_the_cost_of_exact_shards_is_a_column():
    exact = {**ROW, "exact_shards": 4, "exact": [0.2, 0.2, 0.9]}
    assert benchmark.summary(exact)["exact / loop"] == pytest.approx(1)  # of 2, 1 and 1
    header, first, second = benchmark.table([ROW, exact], markdown=False).splitlines()
    assert header.split()[-3:] == ["exact", "/", "loop"]
    assert first.split()[-3:] == ["-", "-", "-"] and second.split()[-3:] == ["4", "200", "1"]


def test_tables():
    without = {name: value for name, value in ROW.items() if name != "torch"} | {"precision": "bfloat16"}
    markdown = benchmark.table([ROW, without], markdown=True).splitlines()
    assert len(markdown) == 4 and {line.count("|") for line in markdown} == {15}
    assert markdown[2].startswith("| c | training | 4 | 200 | 200 | 200 | 2 | 1 |")
    assert markdown[3].startswith("| c, bfloat16 | training | 4 | 200 | 200 | - | - | - |")
    plain = benchmark.table([ROW, without], markdown=False).splitlines()
    assert len(plain) == 3 and len(set(map(len, plain))) == 1


def test_busy_cores_are_processor_time_over_time(monkeypatch):
    now, used = iter([10.0, 12.0]), iter([3.0, 6.0])
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(now))
    monkeypatch.setattr(benchmark.time, "process_time", lambda: next(used))
    assert benchmark._with_cores(lambda: 0.25) == (0.25, 1.5)


def test_rows_and_the_file(tmp_path, monkeypatch, capsys):
    """The whole way for one small case, with ceilings that cost nothing."""
    draw = lambda params, key, x: jax.random.normal(key, x.shape) @ params["out"].T @ params["in"].T
    sampling = steps.Sampling(draw, np.zeros((3, 96), np.float32))
    small = dense_case(sampling=sampling)
    monkeypatch.setattr(benchmark, "cases", lambda family: [small])
    monkeypatch.setattr(profiling, "product_rate", lambda precision: 1e9)
    monkeypatch.setattr(profiling, "copy_rate", lambda: 1e9)
    path = tmp_path / "speed.json"
    options = benchmark.Options(only=("x",), rounds=2, seconds=0.0, json=str(path), markdown=True, exact_shards=5)
    rows = benchmark.run(options)
    assert [(row["step"], row["batch"]) for row in rows] == [("training", BATCH), ("sampling", 3)]
    written = json.loads(path.read_text())
    assert written["rows"] == rows and written["environment"]["versions"]["jax"] == jax.__version__
    assert all(len(row[name]) == 2 for row in rows for name in ("in_loop", "single", "product_rate", "in_loop_cores"))
    assert capsys.readouterr().out.count("\n| a |") == 2
    # The largest number up to 5 that divides the batch.
    assert [row["exact_shards"] for row in rows] == [4, 0] and BATCH % 4 == 0 and BATCH % 5
    assert len(rows[0]["exact"]) == 2 and "exact" not in rows[1]


def test_a_twin_of_another_size_is_refused(monkeypatch):
    pytest.importorskip("torch")
    other = dense_case(torch=lambda device: steps.TorchSteps(7, lambda number: None))
    with pytest.raises(ValueError, match="7680 parameters here, 7 in PyTorch"):
        steps.torch_steps(other)


def test_unknown_family_and_no_rounds():
    with pytest.raises(ValueError, match="the nearest is 'vae'"):
        benchmark.cases("vea")
    with pytest.raises(ValueError, match="rounds is 0"):
        benchmark.run(benchmark.Options(rounds=0))


def shapes(tree):
    return jax.tree.map(lambda x: (jnp.shape(x), x.dtype), tree)


# The others' networks take seconds to trace.
SMALL = ("gan",)


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[] if name in SMALL else pytest.mark.slow) for name in benchmark.families()]
)
def test_every_family_lists_steps_that_trace(family):
    """A new module of experiments.benchmark.cases is found and checked without being named anywhere."""
    listed = benchmark.cases(family)
    assert listed and len({c.name for c in listed}) == len(listed)
    for c in listed:
        before = jax.eval_shape(c.init)
        after, metrics = jax.eval_shape(steps.single_step(c), before, training.keys.root(0), c.batches.arrays)
        assert shapes(after) == shapes(before) and metrics
        if c.sampling is not None:
            drawn = jax.eval_shape(c.sampling.step, before.params, jax.random.key(0), c.sampling.start)
            assert shapes(drawn) == shapes(c.sampling.start)


@pytest.mark.parametrize("family", benchmark.families())
def test_twins_are_the_same_networks_and_train(family):
    pytest.importorskip("torch")
    for c in benchmark.cases(family):
        twin = steps.torch_steps(c)
        if twin is not None:
            twin.train(1)
