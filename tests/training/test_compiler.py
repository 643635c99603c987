"""Compiler options: probed, recorded, only for programs that convolve; and the promises of bits hold with them."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen import nn, training
from jaxgen.data.order import shuffled_index
from jaxgen.training import compiler, environment, keys

BATCH, EXAMPLES = 16, 40
IMAGES = np.random.default_rng(0).normal(size=(EXAMPLES, 16, 16, 2)).astype(np.float32)
UNKNOWN = {"xla_no_such_option": "LIBRARY_FUSION_TYPE_DOT"}
ON_CPU = pytest.mark.skipif(
    jax.default_backend() != "cpu" or compiler.known(compiler.EIGEN_CONVOLUTION) == {}, reason="no option to test"
)


@pytest.fixture(autouse=True)
def processor(monkeypatch, request):
    """The options are on, whatever machine the tests run on, unless a test asks for another processor's flags."""
    flags = getattr(request, "param", "avx2")
    monkeypatch.setattr(compiler, "_cpu_info", lambda: f"flags\t\t: {flags}")
    return flags


WITH_AND_WITHOUT = pytest.mark.parametrize("processor", ["avx2", "avx2 avx512f"], indirect=True)


@pytest.mark.parametrize(
    "flags, expected", [("avx avx2 fma", True), ("avx avx2 avx512f", False), ("avx", False), (None, False)]
)
def test_only_processors_with_avx2_alone(flags, expected):
    info = "processor : 0\n" + (f"flags\t\t: {flags}\nbugs\t\t: avx512f\n" if flags else "Features : asimd\n")
    assert compiler.prefers_eigen(info) == expected


def test_an_unknown_option_is_left_out():
    assert compiler.known(UNKNOWN) == {}
    assert compiler.known({"xla_cpu_experimental_ynn_fusion_type": "NO_SUCH_FUSION"}) == {}
    assert compiler.known(UNKNOWN | compiler.EIGEN_CONVOLUTION) == compiler.known(compiler.EIGEN_CONVOLUTION)


def test_no_options_where_they_are_not_for(monkeypatch):
    assert compiler.compiler_options("gpu") == compiler.compiler_options("tpu") == {}
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert compiler.compiler_options("cpu") == {}


@ON_CPU
def test_the_options_are_recorded(monkeypatch):
    before = environment.describe()
    assert before["convolution_compiler_options"] == compiler.EIGEN_CONVOLUTION
    monkeypatch.setattr(compiler, "EIGEN_CONVOLUTION", UNKNOWN)
    after = environment.describe()
    assert after["convolution_compiler_options"] == {}
    assert len(environment.differences(before, after)) == 1


LARGE_ENOUGH = jnp.ones((16, 28, 28, 32)), jnp.ones((3, 3, 32, 32))
"""XLA leaves smaller convolutions to Eigen anyway."""


@ON_CPU
def test_only_programs_that_convolve_are_compiled_with_options(monkeypatch):
    dense = jax.jit(jnp.matmul)
    assert compiler.with_options(dense, jnp.ones((4, 4)), jnp.ones((4, 4))) is dense
    function = jax.jit(nn.conv)
    compiled = compiler.with_options(function, *LARGE_ENOUGH)
    assert "ynn_fusion" in function.lower(*LARGE_ENOUGH).compile().as_text()
    assert "ynn_fusion" not in compiled.as_text()
    np.testing.assert_allclose(compiled(*LARGE_ENOUGH), function(*LARGE_ENOUGH), rtol=1e-5)
    monkeypatch.setattr(compiler, "EIGEN_CONVOLUTION", UNKNOWN)
    assert compiler.with_options(function, *LARGE_ENOUGH) is function


@ON_CPU
def test_dots_and_reductions_compile_as_without():
    """The options name what XLA does by default, less convolutions."""
    normalise = lambda x, w: jnp.tanh(x @ w) / jnp.sqrt(1 + jnp.mean(jnp.square(x), axis=0, keepdims=True))
    lowered = jax.jit(normalise).lower(jnp.ones((512, 256)), jnp.ones((256, 256)))
    plain, with_options = (
        re.sub(r"metadata=\{[^}]*\}", "", "".join(re.findall(r"^  .*\n", lowered.compile(options).as_text(), re.M)))
        for options in (None, compiler.EIGEN_CONVOLUTION)
    )
    assert plain == with_options and "ynn_fusion" in plain


# A small network that the engine trains


def objective(params, batch, example_keys, context):
    x = batch["x"] + 0.1 * jax.vmap(lambda k: jax.random.normal(k, IMAGES.shape[1:]))(example_keys)
    hidden = jnp.tanh(nn.conv(x, params["in"]))
    # 32 channels: by default YNNPACK's.
    hidden = jnp.tanh(nn.conv(hidden, params["middle"], padding=1))
    hidden = jnp.tanh(nn.conv(hidden, params["down"], stride=2))
    losses = jnp.mean(jnp.square(nn.conv_transpose(hidden, params["out"]) - batch["x"]), axis=(1, 2, 3))
    return losses, {"hidden": jnp.mean(jnp.square(hidden), axis=(1, 2, 3))}


def take(key, arrays, step, positions):
    return {"x": arrays[shuffled_index(key, step, positions, BATCH, EXAMPLES)]}


BATCHES = training.DeviceBatches(take, IMAGES)
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-2))


def state():
    shapes = {"in": (3, 3, 2, 32), "middle": (3, 3, 32, 32), "down": (4, 4, 32, 8), "out": (4, 4, 8, 2)}
    each = zip(shapes, jax.random.split(keys.stream(keys.root(0), "params"), len(shapes)), strict=True)
    params = {name: 0.1 * jax.random.normal(key, shapes[name]) for name, key in each}
    return training.create_state(params, OPTIMIZER)


@functools.cache
def parallel_update(processor, devices, options):
    update = training.update_from_objective(objective, OPTIMIZER)
    return training.ParallelUpdate(
        update, BATCHES, batch_size=BATCH, devices=jax.devices()[:devices], **dict(options)
    )


def run_steps(processor, calls, devices=1, start=None, **options):
    """The final (state, tally) on the host after calls of the given numbers of steps."""
    parallel = parallel_update(processor, devices, tuple(options.items()))
    key, begin = keys.root(0), state()
    current, tally = map(parallel.replicate, start or (begin, parallel.empty_tally(begin, key)))
    for number in calls:
        current, tally = parallel(current, tally, key, None, number)
    (program,) = parallel._compiled.values()
    assert isinstance(program, jax.stages.Compiled) == bool(compiler.compiler_options())
    final = jax.device_get((current, tally))
    assert np.isfinite(final[1].totals["loss"]) and final[1].count == final[0].step
    return final


def digest(*args, **options):
    return training.tree_digest(run_steps(*args, **options))


@WITH_AND_WITHOUT
def test_rerun_resume_and_steps_per_call(processor):
    straight = digest(processor, [6])
    assert all(digest(processor, calls) == straight for calls in ([6], [1] * 6, [2, 4]))
    assert digest(processor, [4], start=run_steps(processor, [2])) == straight


def test_pmap_and_shard_map(processor):
    assert digest(processor, [3], 2) == digest(processor, [3], 2, backend="shard_map")


@pytest.mark.slow
@WITH_AND_WITHOUT
def test_exact_shards_on_1_2_and_4_devices(processor):
    assert len({digest(processor, [5], devices, exact_shards=4) for devices in (1, 2, 4)}) == 1
