import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen import training
from jaxgen.training import keys
from tests.training.engine_toy import BATCH, BATCHES, DATA, compiled, run_steps, state, take_on_host, update

pytestmark = pytest.mark.optimized


@pytest.mark.parametrize("exact_shards, accumulate, devices", [(0, 1, 2), (0, 2, 2), (4, 1, 2)])
def test_mean_and_gather_against_numpy(exact_shards, accumulate, devices):
    """An update sees the true mean and, gathered, every example in global order."""

    def spy(state, batch, keys_per_example, mean):
        both = lambda batch, keys_per_example: ({"mean": jnp.mean(batch["x"])}, {"row": batch["x"] * 2.0})
        averages, rows = mean(both, batch, keys_per_example, has_aux=True)
        return state.replace(step=state.step + 1, params=mean.gather(rows)["row"]), averages

    order = training.DeviceBatches(lambda key, arrays, step, positions: {"x": arrays[positions]}, DATA)
    parallel = training.ParallelUpdate(
        spy, order, batch_size=BATCH, devices=jax.devices()[:devices], accumulate=accumulate, exact_shards=exact_shards
    )
    begin = training.create_state(np.zeros_like(DATA[:BATCH]), optax.identity())
    sums = parallel.empty_sums(begin, keys.root(0))
    end, sums = parallel(parallel.replicate(begin), sums, keys.root(0), None, 1)
    np.testing.assert_array_equal(end.params, 2 * DATA[:BATCH])
    np.testing.assert_allclose(sums.totals["mean"], DATA[:BATCH].mean(), rtol=1e-6)


@pytest.mark.parametrize("backend", ["pmap", "shard_map"])
def test_every_output_is_replicated(backend):
    """check_vma=False does not notice a forgotten average: the copies on the devices must be compared."""
    parallel = compiled(devices=2, options=(("backend", backend),))
    begin = state()
    sums = parallel.empty_sums(begin, keys.root(0))
    end, sums = parallel(parallel.replicate(begin), sums, keys.root(0), None, 3)
    for leaf in jax.tree.leaves((end, sums)):
        copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(copies) == 2 and copies[0].shape == leaf.shape
        assert np.array_equal(copies[0], copies[1])


def test_the_state_is_given_away_and_the_callers_lives_on():
    parallel = compiled()
    begin = state()
    placed = parallel.replicate(begin)
    parallel(placed, parallel.empty_sums(begin, keys.root(0)), keys.root(0), None, 1)
    assert jax.tree.leaves(placed.params)[0].is_deleted()
    assert np.isfinite(jax.tree.leaves(begin.params)[0]).all()
    assert not jax.tree.leaves(begin.opt_state)[0].is_deleted()


def test_first_bad_step_is_the_first():
    def poisoned(state, batch, keys_per_example, mean):
        loss = jnp.where((state.step == 3) | (state.step == 5), jnp.nan, 1.0)
        return state.replace(step=state.step + 1), {"loss": loss}

    parallel = training.ParallelUpdate(poisoned, BATCHES, batch_size=BATCH, devices=jax.devices()[:1])
    begin = training.create_state({}, optax.identity())
    _, sums = parallel(parallel.replicate(begin), parallel.empty_sums(begin, keys.root(0)), keys.root(0), None, 8)
    assert int(sums.first_bad_step) == 3


def test_host_batches_equal_device_batches():
    """The same order and the same bits, whether the host or the device gathers."""
    parallel = training.ParallelUpdate(
        update(), training.HostBatches(take_on_host), batch_size=BATCH, devices=jax.devices()[:2]
    )
    root, begin = keys.root(0), state()
    current, sums = parallel.replicate(begin), parallel.empty_sums(begin, root)
    for step in range(4):
        batch = take_on_host(keys.stream(root, "order"), step, parallel.local_positions)
        current, sums = parallel(current, sums, root, batch, 1)
    expected = run_steps([4], devices=2)
    assert training.tree_digest((current, sums)) == training.tree_digest(expected)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((10, 4), "a batch of 10 does not divide into 4 devices x accumulate 1; 12 would"),
        ((16, 2, 3), "16 does not divide into 2 devices x accumulate 3; 18 would"),
        ((16, 4, 1, 6), "exact_shards is 6, not divisible by 4 devices; 8 is"),
        ((20, 4, 1, 8), "20 does not divide into exact_shards = 8; 24 would"),
        ((16, 1, 2, 4), "leave accumulate at 1"),
        ((0, 1), "must be at least 1"),
    ],
)
def test_impossible_splits(arguments, message):
    with pytest.raises(ValueError, match=message):
        training.check_split(*arguments)


def test_a_metric_that_is_not_one_number():
    vector = lambda state, batch, keys_per_example, mean: (state, {"row": batch["x"][0]})
    parallel = training.ParallelUpdate(vector, BATCHES, batch_size=BATCH, devices=jax.devices()[:1])
    with pytest.raises(ValueError, match=r"metric 'row' has shape \(6,\)"):
        parallel.empty_sums(state(), keys.root(0))


def test_exact_shards_warn_where_the_pool_is_not_fixed(monkeypatch):
    from jaxgen.training.parallel import warn_if_pool_unset

    warn_if_pool_unset(4)
    monkeypatch.delenv("NPROC")
    warn_if_pool_unset(0)
    with pytest.warns(UserWarning, match="NPROC is not set"):
        warn_if_pool_unset(4)
