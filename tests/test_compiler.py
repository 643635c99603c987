"""XLA's reduction fusion on CPU: off wherever a program of jaxgen is compiled, and seen where it is on."""

import functools
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import strategies

from jaxgen import compiler, nn, training
from jaxgen.training import environment, keys

pytestmark = pytest.mark.optimized
ROOT = Path(__file__).resolve().parents[1]
ON_CPU = pytest.mark.skipif(jax.default_backend() != "cpu", reason="about XLA on CPU")
AVX2, AVX512 = "flags\t\t: avx avx2 fma\n", "flags\t\t: avx avx2 avx512f\n"
DOTS, NO_REDUCTIONS = "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT", "-LIBRARY_FUSION_TYPE_REDUCE"
BOTH = f"{DOTS},LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"


# The flag


def flags_after(monkeypatch, before="", jaxlib="0.10.2", cpu_info=AVX512, **environ):
    monkeypatch.setattr(compiler, "_jaxlib_version", lambda: jaxlib)
    monkeypatch.setattr(compiler, "_cpu_info", lambda: cpu_info)
    environ |= {"XLA_FLAGS": before} if before else {}
    compiler.add_flag(environ)
    return environ.get("XLA_FLAGS", "")


@pytest.mark.parametrize(
    "jaxlib, cpu_info, expected",
    [
        ("0.10.2", AVX512, DOTS),
        ("0.10.2", AVX2, DOTS),
        ("0.10.2", "flags : avx\nbugs : avx2\n", BOTH),
        ("0.12.0.1", AVX512, BOTH),
        ("0.12.0.1", AVX2, DOTS),
        ("0.12.0.1", "Features : asimd\n", BOTH),
    ],
)
def test_the_flag_by_version_and_processor(monkeypatch, jaxlib, cpu_info, expected):
    assert flags_after(monkeypatch, jaxlib=jaxlib, cpu_info=cpu_info) == f"--{compiler.FLAG}={expected}"
    assert not compiler.fuses_reductions([expected])


def test_flags_of_the_user_stay(monkeypatch, tmp_path):
    one, fusion = "--xla_cpu_enable_fast_math=false", f"--{compiler.FLAG}"
    assert flags_after(monkeypatch, one) == f"{one} {fusion}={DOTS}"
    for harmless in (
        f"{fusion}={DOTS}", f"{fusion}=", f"{fusion}=-reduce", f"{fusion}=individual_convolution {one}",
        f"{fusion}=-REDUCE,-INDIVIDUAL_DOT", f'{fusion}="{DOTS}, LIBRARY_FUSION_TYPE_DOT"',
        f"{fusion}=-reduce {fusion}=+dot",
    ):  # fmt: skip
        assert flags_after(monkeypatch, harmless) == harmless
    # Reductions are still there, though the flag does not name them.
    assert flags_after(monkeypatch, f"{fusion}=-dot") == f"{fusion}=-dot {fusion}={NO_REDUCTIONS}"
    (tmp_path / "flags").write_text(f"{one}\n{fusion}=dot\n")
    assert flags_after(monkeypatch, str(tmp_path / "flags")) == str(tmp_path / "flags")
    (tmp_path / "flags").write_text(f"{one}\n")
    assert flags_after(monkeypatch, str(tmp_path / "flags")) == f"{one} {fusion}={DOTS}"
    assert flags_after(monkeypatch, str(tmp_path / "none")) == f"{fusion}={DOTS}"


@pytest.mark.parametrize("value", ["LIBRARY_FUSION_TYPE_REDUCE", "reduce", "individual_dot,REDUCE", "+reduce"])
def test_a_flag_that_asks_for_reductions_is_overruled_with_a_warning(monkeypatch, value):
    with pytest.warns(UserWarning, match=f"computes some sums wrong.*{compiler.SWITCH}=0"):
        after = flags_after(monkeypatch, f"--{compiler.FLAG}={value}")
    assert after == f"--{compiler.FLAG}={value} --{compiler.FLAG}={NO_REDUCTIONS}"


def test_nothing_is_added_for_an_unknown_jaxlib_or_where_it_is_switched_off(monkeypatch):
    assert flags_after(monkeypatch, jaxlib="99.0") == "" == flags_after(monkeypatch, **{compiler.SWITCH: "0"})
    assert compiler.options("gpu") == compiler.options("tpu") == {}
    monkeypatch.setenv(compiler.SWITCH, "0")
    monkeypatch.setattr(compiler, "_fuses_by_default", lambda: True)
    monkeypatch.setattr(compiler, "_checked", [])
    monkeypatch.setattr(compiler, "_wrong_sums", lambda: ["product"])
    compiler.check_once()
    assert compiler.options("cpu") == {}


@ON_CPU
def test_the_check_finds_each_wrong_sum(monkeypatch):
    given = []

    def wrong(f):
        return lambda x: (given.append(np.asarray(x)), f(x) * 1.01)[1]

    monkeypatch.setattr(jax, "jit", wrong)
    assert compiler._wrong_sums() == ["product", "rows"]
    # Terms of both signs, so that a sum is far smaller than its terms.
    assert np.abs(given[0].sum(axis=-1)).max() < np.abs(given[0]).sum(axis=-1).min() / 2


@ON_CPU
def test_the_check_warns_once_and_outside_of_traces(monkeypatch):
    monkeypatch.setattr(compiler, "_checked", [])
    monkeypatch.setattr(compiler, "_wrong_sums", lambda: ["product"])
    traced = jax.make_jaxpr(lambda x: (compiler.check_once(), x + 1)[1])(1.0)
    assert len(traced.eqns) == 1 and not compiler._checked
    with pytest.warns(UserWarning, match="Import jaxgen before"):
        compiler.check_once()
    compiler.check_once()


@ON_CPU
def test_the_fusions_in_force_are_recorded(monkeypatch):
    before = environment.describe()
    assert f"={before['cpu_fusions'].split()[-1]}" in os.environ["XLA_FLAGS"]
    monkeypatch.setattr(compiler, "_fuses_by_default", lambda: True)
    assert compiler.fusions_in_force() == compiler.fusion_list()
    monkeypatch.setattr(compiler, "fusion_list", lambda: "NO_SUCH_FUSION")
    assert compiler.options("cpu") == {} and compiler.fusions_in_force() is None
    assert [line.split(":")[0] for line in environment.differences(before, environment.describe())] == ["cpu_fusions"]


# A new process where the flag comes too late: an unknown jaxlib, or a program that was compiled before

LATE = """
import importlib.metadata, os, sys, warnings
os.environ.pop("XLA_FLAGS", None)
if sys.argv[1] == "unknown":
    version = importlib.metadata.version
    importlib.metadata.version = lambda name: "99.0" if name == "jaxlib" else version(name)
else:
    import jax
    jax.numpy.ones(3) + 1
import jaxgen
assert ("XLA_FLAGS" in os.environ) == (sys.argv[1] != "unknown")
from jaxgen import compiler
from tests import test_compiler
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    if compiler._fuses_by_default():
        assert compiler.options("cpu") == {compiler.FLAG: compiler.fusions_in_force()}
    test_compiler.check_engine()
    said = [str(w.message) for w in caught if "computes some sums wrong" in str(w.message)]
    assert len(said) == bool(compiler._wrong_sums()), said
    assert not compiler.fuses_reductions([compiler.fusions_in_force() or compiler.fusion_list()])
"""


@ON_CPU
@pytest.mark.parametrize("why", [pytest.param("unknown", marks=pytest.mark.slow), "late"])
def test_the_engine_is_right_where_the_flag_comes_too_late(why):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(LATE), why], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


IN_TIME = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=3"
import jax
import jaxgen
assert jax.device_count() == 3
assert jaxgen.compiler.check() and jaxgen.compiler.options() == {}
"""


@ON_CPU
def test_the_flag_is_in_time_after_jax_is_imported():
    done = subprocess.run([sys.executable, "-W", "error", "-c", IN_TIME], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# Canaries: two patterns that come out wrong where the fusion is on

SHAPES = ((16, 20, 20), (64, 100), (8, 64, 64), (320, 20))


def integers(shape, dtype=np.float32):
    """Integers -3 to 3, whose sums are exact."""
    return np.random.default_rng(0).integers(-3, 4, shape).astype(dtype)


def product_sum(x):
    """sum_ij x_i C_ij x_j for the constant matrix C = 1/2: [..., d] -> [...]."""
    return jnp.sum((x @ jnp.full((x.shape[-1],) * 2, 0.5, x.dtype)) * x, -1)


def right_product_sum(x):
    return 0.5 * x.astype(np.float64).sum(-1) ** 2


def row_squares(x):
    """sum (I x)^2 of each row: [N, 3] -> [N]."""
    return jax.vmap(lambda row: jnp.sum((jnp.eye(3, dtype=x.dtype) @ row) ** 2))(x)


def rows(number, dtype=np.float32):
    return (np.arange(3 * number) % 1000).astype(dtype).reshape(number, 3)


def in_scan(function):
    twice = lambda tree: jax.tree.map(lambda x: jnp.stack([x, x]), tree)
    return lambda x: second(jax.lax.scan(lambda carry, one: (carry, function(one)), 0, twice(x))[1])


def beside_a_convolution(function):
    def both(x):
        dtype = jax.tree.leaves(x)[0].dtype
        image = jnp.ones((2, 16, 16, 32), dtype)
        return function(x), jnp.sum(nn.conv(image, jnp.ones((3, 3, 32, 32), dtype)))

    return lambda x: jax.jit(both)(x)[0]


added = functools.partial(jax.tree.map, lambda x: x[None])
first = functools.partial(jax.tree.map, lambda x: x[0])
second = functools.partial(jax.tree.map, lambda x: x[1])
COMPILED = {
    "jit": jax.jit,
    "vmap": lambda f: jax.jit(lambda x: first(jax.vmap(f)(added(x)))),
    "scan": lambda f: jax.jit(in_scan(f)),
    "pmap": lambda f: lambda x: first(jax.device_get(jax.pmap(f)(added(x)))),
    "convolution": beside_a_convolution,
}


@ON_CPU
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("how", COMPILED)
def test_canary(how, dtype):
    """All sums in one program. XLA would not fuse two products with the same constant, so (320, 20) is left out."""
    x = {str(shape): integers(shape, dtype) for shape in SHAPES if shape != (320, 20)}
    right = {name: right_product_sum(array) for name, array in x.items()}
    x["rows"] = rows(32_769 if dtype == np.float32 else 16_385, dtype)
    everything = lambda x: {name: (row_squares if name == "rows" else product_sum)(x[name]) for name in x}
    with jax.enable_x64(dtype == np.float64):
        found = jax.device_get(COMPILED[how](everything)(x))
    squares = np.sum(x["rows"].astype(np.float64) ** 2, -1)
    np.testing.assert_allclose(found.pop("rows"), squares, rtol=1e-6)
    for name in right:
        np.testing.assert_array_equal(found[name], right[name], err_msg=name)


@ON_CPU
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("how", COMPILED)
def test_canary_alone(how, dtype):
    """Each sum in a program of its own."""
    with jax.enable_x64(dtype == np.float64):
        for shape in SHAPES:
            x = integers(shape, dtype)
            np.testing.assert_array_equal(COMPILED[how](product_sum)(x), right_product_sum(x))
        x = rows(32_769 if dtype == np.float32 else 16_385, dtype)
        right = np.sum(x.astype(np.float64) ** 2, -1)
        np.testing.assert_allclose(COMPILED[how](row_squares)(x), right, rtol=1e-6)


def check_engine():
    """The engine's losses, under pmap and shard_map, and ParallelSampler's samples are right."""
    x = integers((64, 100))

    def loss(params, batch, keys_per_example, context):
        return params["scale"] * product_sum(batch), {}

    for backend in ("pmap", "shard_map"):
        optimizer = optax.sgd(0.0)
        parallel = training.ParallelUpdate(
            training.update_from_objective(loss, optimizer),
            training.DeviceBatches(lambda key, arrays, step, positions: arrays[positions], x),
            batch_size=len(x),
            devices=jax.devices()[:1],
            backend=backend,
        )
        key, state = keys.root(0), training.create_state({"scale": np.float32(1)}, optimizer)
        state, sums = parallel(parallel.replicate(state), parallel.empty_sums(state, key), key, None, 2)
        np.testing.assert_allclose(float(sums.totals["loss"]) / 2, right_product_sum(x).mean(), rtol=1e-6)
    sums_of = lambda params, keys, numbers: product_sum(params[numbers])
    draw = training.ParallelSampler(sums_of, devices=jax.devices()[:1])
    np.testing.assert_allclose(draw(x, keys.root(0), np.arange(64)), right_product_sum(x), rtol=1e-6)


@ON_CPU
def test_canary_in_the_engine():
    check_engine()


# Random programs of dots, broadcasts, products and reductions against NumPy in float64


@strategies.composite
def programs(draw):
    """(shape of x, operations): each operation works with NumPy and with jnp, and keeps numbers near 1."""
    rank = draw(strategies.integers(1, 4))
    sizes = strategies.sampled_from([1, 2, 3, 8, 20, 33, 64, 100, 257])
    shape = tuple(draw(strategies.lists(sizes, min_size=rank, max_size=rank)))
    hypothesis.assume(np.prod(shape) <= 200_000)
    names = ["dot", "dot_constant", "times", "square", "plus_row", "mean", "max", "swap", "tanh"]
    operation = strategies.tuples(strategies.sampled_from(names), strategies.integers(0, 3))
    chosen = draw(strategies.lists(operation, min_size=2, max_size=6))
    return shape, chosen


def run_program(np_or_jnp, x, operations):
    first = x
    for name, axis in operations:
        axis = axis % x.ndim if x.ndim else 0
        width = x.shape[-1] if x.ndim else 1
        matrix = np.cos(np.arange(width * 8).reshape(width, 8)).astype(x.dtype) / width
        match name:
            case "dot" if x.ndim:
                x = x @ np_or_jnp.asarray(matrix)
            case "dot_constant" if x.ndim:
                x = x @ np_or_jnp.full((width, width), x.dtype.type(0.5 / width))
            case "times" if x.shape == first.shape:
                x = x * first
            case "square":
                x = x * x
            case "plus_row" if x.ndim:
                x = x + np_or_jnp.asarray(matrix[:, 0]).reshape((1,) * (x.ndim - 1) + (width,))
            case "mean" if x.ndim:
                x = np_or_jnp.sum(x, axis) / x.dtype.type(x.shape[axis])
            case "max" if x.ndim:
                x = np_or_jnp.max(x, axis)
            case "swap" if x.ndim:
                x = np_or_jnp.swapaxes(x, axis, -1)
            case "tanh":
                x = np_or_jnp.tanh(x)
    return x


@ON_CPU
@pytest.mark.slow
@hypothesis.given(programs())
@hypothesis.settings(max_examples=400, deadline=None, derandomize=True, database=None)
def test_random_programs(program):
    shape, operations = program
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    right = run_program(np, x.astype(np.float64), operations)
    got = jax.jit(lambda x: run_program(jnp, x, operations))(x)
    np.testing.assert_allclose(got, right, rtol=1e-3, atol=1e-4 * max(1.0, float(np.max(np.abs(right)))))


# The promises of bits hold for programs that are compiled with the option instead of the flag

BATCH, EXAMPLES = 16, 40
IMAGES = np.random.default_rng(0).normal(size=(EXAMPLES, 8, 8, 2)).astype(np.float32)
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))
BATCHES = training.DeviceBatches(
    lambda key, arrays, step, positions: arrays[(step * BATCH + positions) % EXAMPLES], IMAGES
)


def convolve(params, batch, keys_per_example, context):
    uniform = (jax.random.key_data(keys_per_example) >> 8).astype(jnp.float32) * 2**-24
    x = batch + 0.1 * jnp.sin(40.0 * uniform[:, :1, None, None] * batch + 6.0 * uniform[:, 1:, None, None])
    # With 32 channels, the convolutions are handed to YNNPACK.
    hidden = jnp.tanh(nn.conv(jnp.tanh(nn.conv(x, params["in"])), params["down"], stride=2))
    losses = jnp.mean(jnp.square(nn.conv_transpose(hidden, params["out"]) - batch), axis=(1, 2, 3))
    return losses, {"hidden": jnp.mean(jnp.square(hidden), axis=(1, 2, 3))}


@pytest.fixture(scope="module")
def run_steps():
    """The digest of the end of calls with these numbers of steps, compiled with the option; and the state."""
    shapes = {"in": (3, 3, 2, 32), "down": (4, 4, 32, 8), "out": (4, 4, 8, 2)}
    rng = np.random.default_rng(1)
    params = {name: (0.1 * rng.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}
    begin, key, parallels = training.create_state(params, OPTIMIZER), keys.root(0), {}

    def run(calls, devices=1, start=None, **options):
        name = (devices, *options.items())
        if name not in parallels:
            parallels[name] = training.ParallelUpdate(
                training.update_from_objective(convolve, OPTIMIZER),
                BATCHES,
                batch_size=BATCH,
                devices=jax.devices()[:devices],
                **options,
            )
        parallel = parallels[name]
        state, sums = map(parallel.replicate, start or (begin, parallel.empty_sums(begin, key)))
        for number in calls:
            state, sums = parallel(state, sums, key, None, number)
        assert all(isinstance(program, jax.stages.Compiled) for program in parallel._compiled.values())
        end = jax.device_get((state, sums))
        assert np.isfinite(end[1].totals["loss"]) and end[1].count == end[0].step
        return training.tree_digest(end), end

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "options", lambda backend=None: {compiler.FLAG: BOTH})
        yield run


@ON_CPU
def test_bits_of_programs_with_the_option(run_steps):
    straight, _ = run_steps([6])
    assert {run_steps(calls)[0] for calls in ([6], [1] * 6, [2, 4])} == {straight}
    assert run_steps([4], start=run_steps([2])[1])[0] == straight
    assert run_steps([6], backend="shard_map")[0] == straight


@ON_CPU
@pytest.mark.slow
def test_exact_shards_of_programs_with_the_option(run_steps):
    assert len({run_steps([5], devices, exact_shards=4)[0] for devices in (1, 2, 4)}) == 1
