"""The loop: resume, logs, stops. Each run here is a real one in a directory of its own."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen import training
from jaxgen.training import keys
from tests.training.engine_toy import BATCHES, DATA, Config, run_steps, state, take_on_host, update

pytestmark = pytest.mark.optimized


def train(path, *, make=None, begin=None, batches: Any = BATCHES, callbacks=(), stage="", **changes):
    config = Config()
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, **{"devices": 1, **changes}))
    with training.Run(path, config, experiment="toy", quiet=True, extendable_fields=("train.num_steps",)) as run:
        return training.fit(
            run,
            config.train,
            update=make or update(),
            state=begin or state(),
            batches=batches,
            key=keys.root(config.seed),
            stage=stage,
            callbacks=callbacks,
        )


def limited(path, limits, callbacks=()):
    """The states of two trainings of one run, with limits."""
    config = dataclasses.replace(Config(), train=dataclasses.replace(Config().train, devices=1))
    with training.Run(path, config, experiment="toy", quiet=True, limits=limits) as run:
        for stage in ("one", "two"):
            yield training.fit(
                run, config.train, update=update(), state=state(), batches=BATCHES, key=keys.root(0), stage=stage,
                callbacks=callbacks,
            )  # fmt: skip


def lines(path, name="metrics.jsonl"):
    return [json.loads(line) for line in (path / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    path = tmp_path_factory.mktemp("straight")
    return train(path), path


def test_it_is_the_bare_steps(straight):
    assert training.tree_digest(straight[0]) == training.tree_digest(run_steps([12])[0])


def test_limits_end_a_run_early_and_replace_callbacks(tmp_path):
    own, limits = [], []
    note = lambda seen: [(2, lambda step, state: seen.append(step))]
    trained = limited(tmp_path, training.Limits(5, 1, note(limits)), note(own))
    with pytest.raises(training.StoppedEarly, match="1 trainings"):
        next(trained)
    assert limits == [2, 4, 5] and not own
    # Then the same run goes on to its end, as if it had not been stopped.
    ends = list(limited(tmp_path, training.Limits(), note(own)))
    assert {training.tree_digest(end) for end in ends} == {training.tree_digest(run_steps([12])[0])}
    assert own == [6, 8, 10, 12, 2, 4, 6, 8, 10, 12] and limits == [2, 4, 5]


def test_metrics_are_means_over_the_interval(straight):
    got = lines(straight[1])
    assert [line["step"] for line in got] == [4, 8, 12]
    totals = [run_steps([n])[1].totals for n in (4, 8)]
    expected = (float(totals[1]["loss"]) - float(totals[0]["loss"])) / 4
    np.testing.assert_allclose(got[1]["loss"], expected, rtol=1e-5)
    assert got[0].keys() == {"step", "loss", "hidden", "gradient_norm"}


def test_times_are_kept_apart(straight):
    assert lines(straight[1], "timing.jsonl")[0].keys() == {"step", "session", "seconds", "steps_per_second"}


def test_tensorboard_events(straight):
    assert list((straight[1] / "tensorboard").glob("events*"))


def test_a_run_that_grew_equals_one_that_was_long_from_the_start(straight, tmp_path):
    train(tmp_path, num_steps=8)
    end = train(tmp_path)
    assert training.tree_digest(end) == training.tree_digest(straight[0])
    assert (tmp_path / "metrics.jsonl").read_bytes() == (straight[1] / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("steps_per_call, backend", [(1, "pmap"), (3, "shard_map")])
def test_calls_and_compilers_leave_the_same_files(steps_per_call, backend, straight, tmp_path):
    end = train(tmp_path, steps_per_call=steps_per_call, backend=backend)
    assert training.tree_digest(end) == training.tree_digest(straight[0])
    assert (tmp_path / "metrics.jsonl").read_bytes() == (straight[1] / "metrics.jsonl").read_bytes()


def test_host_batches_with_prefetch(tmp_path):
    """Any prefetch, any number of threads, and the host or the device: the same bits."""

    def make(key, step, positions):
        time.sleep(0.01 * (step % 3 == 0))  # so that threads overtake one another
        return take_on_host(key, step, positions)

    for prefetch, workers in ((0, 1), (2, 3)):
        batches = training.HostBatches(make, prefetch, workers)
        end = train(tmp_path / f"{prefetch}-{workers}", batches=batches, devices=2)
        assert training.tree_digest(end) == training.tree_digest(run_steps([12], devices=2)[0])


def test_an_error_in_the_host_feed_reaches_the_caller(tmp_path):
    def broken(key, step, positions):
        if step == 2:
            raise OSError("disk on fire")
        return {"x": DATA[: len(positions)]}

    with pytest.raises(OSError, match="disk on fire"):
        train(tmp_path, batches=training.HostBatches(broken), devices=2)


def test_finished_runs_return_at_once(straight):
    before = (straight[1] / "metrics.jsonl").read_bytes()
    assert training.tree_digest(train(straight[1])) == training.tree_digest(straight[0])
    assert (straight[1] / "metrics.jsonl").read_bytes() == before


def test_half_written_last_line_after_a_kill(straight, tmp_path):
    """Lines after the restored step go, also one that was cut off."""
    train(tmp_path, num_steps=8)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 12, "loss": 99.0}\n{"step": 16, "lo')
    with pytest.warns(UserWarning, match="line 4 is damaged"):
        train(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (straight[1] / "metrics.jsonl").read_bytes()


def test_ctrl_c_saves_and_the_next_run_goes_on(straight, tmp_path, capsys):
    """At a step that is no multiple of anything; the running mean of the metrics is saved too."""
    interrupt = (5, lambda step, state: step == 5 and signal.raise_signal(signal.SIGINT))
    with pytest.raises(training.Interrupted, match="130") as stopped:
        train(tmp_path, callbacks=[interrupt], steps_per_call=1)
    assert "Stopped at step 5 of 12" in stopped.value.message
    assert "then saving" in capsys.readouterr().err
    end = train(tmp_path)
    assert training.tree_digest(end) == training.tree_digest(straight[0])
    assert (tmp_path / "metrics.jsonl").read_bytes() == (straight[1] / "metrics.jsonl").read_bytes()


def test_ctrl_c_in_the_last_step_or_on_a_finished_stage_does_not_go_on(tmp_path, monkeypatch):
    """Several stages follow one another in a run: a stop must stop all of them."""
    interrupt = (12, lambda step, state: signal.raise_signal(signal.SIGINT))
    with pytest.raises(training.Interrupted) as stopped:
        train(tmp_path, callbacks=[interrupt])
    assert "Stopped at step 12 of 12" in stopped.value.message
    restore = training.Checkpoints.restore

    def interrupted(self, target):
        signal.raise_signal(signal.SIGINT)
        return restore(self, target)

    monkeypatch.setattr(training.Checkpoints, "restore", interrupted)
    with pytest.raises(training.Interrupted):
        train(tmp_path)


def test_metrics_are_fetched_only_where_they_are_needed(tmp_path, monkeypatch):
    fetched, get = [], jax.device_get
    monkeypatch.setattr(
        jax, "device_get", lambda tree: (isinstance(tree, training.MetricSums) and fetched.append(1), get(tree))[1]
    )
    train(tmp_path, steps_per_call=1, log_every=6, save_every=12)
    assert len(fetched) == 2


def poisoned(state, batch, keys_per_example, mean):
    """From step 7 on the parameters are not finite; where they begin above 1, a metric is not finite at step 6."""
    loss = jnp.where((state.step == 6) & (state.params > 1), jnp.inf, 1.0)
    params = jnp.where(state.step == 7, jnp.nan, state.params)
    return state.replace(step=state.step + 1, params=params), {"loss": jnp.float32(1), "hidden": loss}


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(training.NonFiniteLoss, match="hidden not finite at step 6. The last good checkpoint is step 4"):
        train(tmp_path, make=poisoned, begin=training.create_state(np.float32(2), optax.identity()))


def test_parameters_that_are_not_finite_are_not_saved(tmp_path):
    with pytest.raises(training.NonFiniteState, match="step 8 is not finite in state/params"):
        train(tmp_path, make=poisoned, begin=training.create_state(np.float32(0), optax.identity()))


def test_stages_do_not_mix(tmp_path, straight):
    train(tmp_path, stage="first")
    train(tmp_path, stage="second")
    got = lines(tmp_path)
    assert [line["stage"] for line in got] == ["first"] * 3 + ["second"] * 3
    assert training.tree_digest(train(tmp_path, stage="first")) == training.tree_digest(straight[0])
    assert lines(tmp_path) == got


def test_a_checkpoint_saved_on_one_device_goes_on_on_two(tmp_path):
    """With exact shards, through the checkpoint on disk: the same bits as one device all the way."""
    train(tmp_path, num_steps=8, exact_shards=4)
    moved = train(tmp_path, exact_shards=4, devices=2)
    assert training.tree_digest(moved) == training.tree_digest(run_steps([12], exact_shards=4)[0])


def test_previews_see_their_step(tmp_path):
    seen = []
    train(tmp_path, callbacks=[(5, lambda step, state: seen.append((step, int(state.step))))])
    assert seen == [(5, 5), (10, 10), (12, 12)]


def test_too_many_devices(tmp_path):
    with pytest.raises(ValueError, match="99 devices asked for, 8 found"):
        training.pick_devices(99)


def test_what_a_kill_leaves_in_the_middle_of_a_save(tmp_path, straight, monkeypatch):
    """Copies of the run's files just before the checkpoint of step 8 is renamed into place: whole, and cut in half."""
    rename, copies = os.rename, [tmp_path / "complete", tmp_path / "half"]

    def copying(source, target, *args, **kwargs):
        if os.path.basename(target) == "8" and not copies[0].exists():
            for copy in copies:
                shutil.copytree(tmp_path / "run", copy)
        rename(source, target, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", copying)
        assert training.tree_digest(train(tmp_path / "run")) == training.tree_digest(straight[0])
    for copy in copies:
        saved = sorted(p.name for p in (copy / "checkpoints").iterdir())
        assert len(saved) == 2 and saved[0] == "4" and saved[1].startswith("8.orbax-checkpoint-tmp")
        for file in (copy / "checkpoints" / saved[1]).rglob("*") if copy.name == "half" else ():
            if file.is_file():
                os.truncate(file, file.stat().st_size // 2)
        assert training.tree_digest(train(copy)) == training.tree_digest(straight[0])
        assert (copy / "metrics.jsonl").read_bytes() == (straight[1] / "metrics.jsonl").read_bytes()


KILLED = """
import sys, time
from tests.training.engine_toy import Config, update, state, BATCHES
import dataclasses, jax
from jaxgen import training
from jaxgen.training import keys, checkpoints
if sys.argv[2] == "slow":  # so that the kill falls into the middle of a save
    write = checkpoints.Checkpoints._write
    def slow(self, step, arrays):
        import orbax.checkpoint as ocp, os
        big = {**arrays, "pad": __import__("numpy").random.default_rng(0).normal(size=40_000_000)}
        print("saving", flush=True)
        write(self, step, big if step == 8 else arrays)
    checkpoints.Checkpoints._write = slow
config = Config()
config = dataclasses.replace(config, train=dataclasses.replace(config.train, devices=1))
with training.Run(sys.argv[1], config, experiment="toy", quiet=True, extendable_fields=("train.num_steps",)) as run:
    end = training.fit(run, config.train, update=update(), state=state(), batches=BATCHES, key=keys.root(0))
print(training.tree_digest(end))
"""


@pytest.mark.slow
def test_kill_9_in_the_middle_of_a_save(tmp_path, straight):
    here = os.path.dirname(__file__)
    paths = os.pathsep.join([here, os.path.dirname(os.path.dirname(here))])
    environment = {**os.environ, "PYTHONPATH": paths}
    program = [sys.executable, "-c", KILLED, str(tmp_path)]
    environment["JAX_NUM_CPU_DEVICES"] = str(jax.device_count())
    process = subprocess.Popen([*program, "slow"], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "saving\n"  # step 4
    assert process.stdout.readline() == "saving\n"  # step 8, large
    folder = tmp_path / "checkpoints"
    deadline = time.monotonic() + 60
    while not any(".orbax-checkpoint-tmp" in p.name for p in folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.001)
    half_written = sorted(p.name for p in folder.iterdir())
    process.kill()
    process.wait()
    process.stdout.close()
    assert "4" in half_written and "8" not in half_written and len(half_written) == 2
    end = train(tmp_path)
    assert training.tree_digest(end) == training.tree_digest(straight[0])
    assert (tmp_path / "metrics.jsonl").read_bytes() == (straight[1] / "metrics.jsonl").read_bytes()


def test_it_works_outside_the_main_thread(tmp_path, straight):
    ends = []
    thread = threading.Thread(target=lambda: ends.append(train(tmp_path)))
    thread.start()
    thread.join()
    assert training.tree_digest(ends[0]) == training.tree_digest(straight[0])
