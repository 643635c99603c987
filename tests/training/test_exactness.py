"""Bit-identity: rerun, steps per call, compilers, and with exact shards the number of devices."""

import jax
import numpy as np
import optax
import pytest

from jaxgen.training import tree_digest
from tests.training.engine_toy import run_steps

pytestmark = pytest.mark.optimized


def same(a, b):
    return tree_digest(a) == tree_digest(b)


def largest_difference(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.max(np.abs(x.astype(np.float64) - y))) for x, y in pairs)


def assert_same_to_rounding(a, b):
    """Adam hides a gradient that is too large by the number of devices; the metrics include its norm."""
    (state, sums), (other, other_tally) = a, b
    assert largest_difference(state.params, other.params) < 1e-6
    assert largest_difference(sums.totals, other_tally.totals) < 1e-4


@pytest.fixture(scope="module")
def reference():
    return run_steps([30])


@pytest.fixture(scope="module")
def five_steps():
    return run_steps([5])


def test_rerun(reference):
    assert same(run_steps([30]), reference)


def test_another_seed_is_another_run(reference):
    assert not same(run_steps([30], seed=1), reference)


@pytest.mark.parametrize("calls", [[1] * 30, [10] * 3, [7, 23]])
def test_steps_per_call(calls, reference):
    """1, 10 and 30 steps a call, metrics included."""
    assert same(run_steps(calls), reference)


def test_resume_on_the_host_state_alone(reference):
    halfway = run_steps([13])
    assert same(run_steps([17], start=halfway), reference)


@pytest.mark.parametrize("devices", [1, 2, pytest.param(4, marks=pytest.mark.slow)])
def test_pmap_and_shard_map(devices):
    assert same(*(run_steps([10], devices=devices, backend=backend) for backend in ("pmap", "shard_map")))


@pytest.mark.parametrize("devices", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_the_plain_mean_on_several_devices(devices, five_steps):
    assert_same_to_rounding(run_steps([5], devices=devices), five_steps)


@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_accumulation_equals_the_big_batch(devices, five_steps):
    assert_same_to_rounding(run_steps([5], devices=devices, accumulate=4), five_steps)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"devices": 4}, {"accumulate": 4}, {"devices": 2, "accumulate": 4}])
def test_plain_sgd_on_several_devices_and_accumulated(options):
    """SGD does not hide a gradient that is too large either."""
    sgd = optax.sgd(1e-2)
    assert_same_to_rounding(run_steps([5], optimizer=sgd, **options), run_steps([5], optimizer=sgd))


def test_exact_shards_differ_from_the_plain_mean_only_by_rounding(five_steps):
    assert_same_to_rounding(run_steps([5], exact_shards=4), five_steps)


def test_exact_shards_stopped_on_one_count_resumed_on_another():
    """On 1, 2 and 4 devices; the sum of four values depends on its order."""
    straight = run_steps([20], devices=2, exact_shards=4)
    first = run_steps([9], devices=1, exact_shards=4)
    assert same(run_steps([11], start=first, devices=1, exact_shards=4), straight)
    assert same(run_steps([11], start=first, devices=4, exact_shards=4, backend="shard_map"), straight)


OPTIMIZERS = {
    "adam": optax.adam(1e-2),
    "clipped adamw": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(1e-2, 50))),
    "rmsprop": optax.rmsprop(1e-2),
    "momentum": optax.sgd(1e-2, momentum=0.9),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_exact_shards_with_other_optimizers(name):
    runs = [run_steps([10], optimizer=OPTIMIZERS[name], devices=n, exact_shards=4) for n in (1, 2, 4)]
    assert same(runs[0], runs[1]) and same(runs[0], runs[2])
