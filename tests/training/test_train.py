"""Training without a run directory takes the engine's steps, bit for bit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import training
from tests.training.engine_toy import (
    BATCH,
    BATCHES,
    DATA,
    DECAY,
    OPTIMIZER,
    objective,
    parameters,
    run_steps,
    state,
    take,
    take_on_host,
    update,
)

pytestmark = pytest.mark.optimized

KNOWN = training.DeviceBatches(take, DATA, BATCH)


def train(num_steps, batches=KNOWN, params=None, **options):
    options = {"optimizer": OPTIMIZER, "ema_decay": DECAY, "log_every": 0, **options}
    return training.train(objective, params or parameters(), batches, num_steps, **options)


def train_state(begin, num_steps, batches: Any = KNOWN, **options):
    options = {"devices": jax.devices()[:1], "log_every": 0, **options}
    return training.train_state(update(), begin, batches, num_steps, **options)


def bits(trained):
    return training.tree_digest(trained)


def test_it_takes_the_steps_of_the_engine_on_all_devices():
    assert bits(train(6)) == bits(run_steps([6], devices=8)[0])


def test_one_device_logs_callbacks_and_a_start_in_the_middle(capsys):
    calls = []
    begin = run_steps([4], seed=3)[0]
    follow = lambda step, state: calls.append((step, int(state.step)))
    trained = train_state(begin, 9, BATCHES, batch_size=BATCH, seed=3, log_every=4, callbacks=[(3, follow)])
    assert bits(trained) == bits(run_steps([9], seed=3)[0])
    assert calls == [(6, 6), (9, 9)]
    totals = {n: run_steps([n], seed=3)[1].totals["loss"] for n in (4, 8, 9)}
    shown = [line.split() for line in capsys.readouterr().err.splitlines()]
    assert [line[:2] for line in shown] == [["step", "8/9"], ["step", "9/9"]]
    means = [float(line[line.index("loss") + 1]) for line in shown]
    np.testing.assert_allclose(means, [(totals[8] - totals[4]) / 4, totals[9] - totals[8]], rtol=1e-3)


def test_batches_of_the_host_give_the_same_bits():
    batches = training.HostBatches(take_on_host, batch_size=BATCH)
    assert bits(train_state(state(), 5, batches)) == bits(run_steps([5])[0])


def test_the_parameters_that_were_given_are_still_there():
    params = jax.tree.map(jnp.asarray, parameters())
    before = training.tree_digest(params)
    train(2, params=params)
    assert training.tree_digest(params) == before


def test_a_state_at_its_end_is_returned():
    begin = run_steps([4])[0]
    assert bits(train_state(begin, 4)) == bits(begin)


def test_another_seed_is_another_training():
    assert bits(train_state(state(), 2)) != bits(train_state(state(), 2, seed=1))


def test_an_unknown_or_wrong_batch_size_is_refused():
    with pytest.raises(ValueError, match="the batches do not know their size: give batch_size"):
        train(2, BATCHES)
    with pytest.raises(ValueError, match="batches are of 16 examples, and batch_size is 8"):
        train(2, batch_size=8)
    with pytest.raises(ValueError, match="a batch of 16 does not divide into 3 devices x accumulate 1; 18 would"):
        train_state(state(), 2, devices=jax.devices()[:3])


@pytest.mark.parametrize("on_host", [False, True])
def test_what_is_not_finite_ends_it_naming_the_step_and_the_metric(on_host):
    def make(key, x, step, positions):
        numpy = np if on_host else jnp
        return {"x": numpy.where(step == 3, np.float32("nan"), x[positions])}

    batches = training.DeviceBatches(make, DATA, BATCH)
    if on_host:
        batches = training.HostBatches(lambda *args: make(args[0], DATA, *args[1:]), batch_size=BATCH)
    with pytest.raises(training.NonFiniteLoss, match="hidden, loss not finite at step 3"):
        train_state(state(), 6, batches)
