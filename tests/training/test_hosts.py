"""Several hosts: real processes on this machine, joined by gloo."""

import dataclasses
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxgen import training, weights
from jaxgen.training import hosts, keys
from tests.training.engine_toy import BATCH, BATCHES, Config, run_steps, state, update

pytestmark = pytest.mark.optimized

HERE = Path(__file__).parent


def start(workdir, number, *events, devices=2):
    """The joined processes, with so many devices each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    paths = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": paths}
    return [
        subprocess.Popen(
            [sys.executable, str(HERE / "one_host.py"), str(workdir), f"localhost:{port},{number},{index}", *events],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(number)
    ]


def ends(processes):
    """(output, exit code) of each."""
    return [(process.communicate(timeout=900)[0], process.returncode) for process in processes]


def reads(said):
    """{step: examples read} of one process."""
    return {int(step): json.loads(chosen) for step, chosen in re.findall(r"reads (\d+) (\[.*\])", said)}


def tells_of_a_lost_host(said):
    """In our words, or in JAX's own, where XLA waits for the dead host's part until the heartbeats are missed."""
    ours = "HostLost: another host of this run has stopped" in said and "same command again on all hosts" in said
    return ours or "This most likely indicates that another task died" in said


def test_a_signal_to_one_of_two_hosts_stops_both_and_this_process_goes_on(tmp_path):
    """The hosts read the data, each its half of a batch; the end has the bits of one device."""
    both = ends(start(tmp_path / "run", 2, "fed", "SIGTERM", devices=1))
    assert [code for _, code in both] == [143, 143], both
    stopped = [re.search(r"Stopped at step (\d+) of 20; saved (\w+)", said) for said, _ in both]
    assert stopped[0] and stopped[1] and stopped[0][1] == stopped[1][1]
    assert (stopped[0][2], stopped[1][2]) == ("in", "by")
    assert 6 <= int(stopped[0][1]) < 20
    first, second = (reads(said) for said, _ in both)
    visited = [i for step in range(6) for i in first[step] + second[step]]
    assert sorted(visited[:50]) == list(range(50)) and all(len(first[step]) == BATCH // 2 for step in range(6))
    settings = dataclasses.replace(Config().train, exact_shards=4, num_steps=20, devices=1)
    config = dataclasses.replace(Config(), train=settings)
    with pytest.warns(UserWarning, match="process_count: 2 -> 1"):
        run = training.Run(tmp_path / "run", config, experiment="toy", quiet=True)
    with run:
        end = training.fit(run, settings, update=update(), state=state(), batches=BATCHES, key=keys.root(0))
    assert training.tree_digest(end) == training.tree_digest(run_steps([20], exact_shards=4)[0])
    metrics = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert metrics == [4, 8, 12, 16, 20]


@pytest.mark.slow
def test_stopped_on_two_hosts_and_resumed_on_one(tmp_path):
    """The hosts read the data. The SIGTERM comes to process 1 alone, and both stop at the same step."""
    both = ends(start(tmp_path / "run", 2, "fed", "SIGTERM"))
    assert [code for _, code in both] == [143, 143], both
    stopped = [re.search(r"Stopped at step (\d+) of 20; saved (\w+)", said) for said, _ in both]
    assert stopped[0] and stopped[1] and stopped[0][1] == stopped[1][1]
    assert (stopped[0][2], stopped[1][2]) == ("in", "by")
    ((said, code),) = ends(start(tmp_path / "run", 1, "fed"))
    assert code == 0, said
    # The bits of a run in this process on one device.
    expected = training.tree_digest(run_steps([20], exact_shards=4)[0])
    assert f"end {expected} measured by 0.0" in said
    # Only process 0 wrote.
    metrics = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert metrics == [4, 8, 12, 16, 20]
    # 20 batches of 16 visit 50 examples: six whole epochs, then 20 examples of the seventh, once each.
    last, (first, second) = reads(said), (reads(said) for said, _ in both)
    stop = int(stopped[0][1])
    assert min(last) == 0 and sorted(last)[1] == stop  # step 0 is made once more for its shapes
    visited = [i for step in range(20) for i in (first[step] + second[step] if step < stop else last[step])]
    assert all(sorted(visited[e * 50 : (e + 1) * 50]) == list(range(50)) for e in range(6))
    assert len(visited) == 20 * BATCH and len(set(visited[300:])) == 20


@pytest.mark.slow
@pytest.mark.parametrize("rows", [2, 4])
def test_devices_of_several_hosts_share_a_model(tmp_path, rows):
    """A row of 4 lies on both hosts. What process 0 alone saves is whole: one host goes on, and ends as one device."""
    workdir = tmp_path / "run"
    both = ends(start(workdir, 2, "fed", "SIGTERM", f"rows of {rows}"))
    assert [code for _, code in both] == [143, 143], both
    with training.Checkpoints(workdir / "checkpoints") as checkpoints:
        stopped = checkpoints.steps()[-1]
        saved = checkpoints.arrays(stopped)
    straight = weights.flatten(run_steps([stopped])[0])
    assert 6 <= stopped < 20 and max(np.abs(saved[f"state/{n}"] - x).max() for n, x in straight.items()) < 1e-6
    ((said, code),) = ends(start(workdir, 1, "fed", "rows of 2"))
    assert code == 0, said
    with training.Checkpoints(workdir / "checkpoints") as checkpoints:
        end = checkpoints.arrays(20)
    straight = weights.flatten(run_steps([20])[0])
    assert max(np.abs(end[f"state/{name}"] - x).max() for name, x in straight.items()) < 1e-6
    # A host reads the examples of its rows: half a batch each, or the same batch both.
    first, second = (reads(said) for said, _ in both)
    assert all(len(first[step]) == BATCH * rows // 4 for step in range(stopped))
    assert all(first[step] == second[step] for step in range(stopped)) == (rows == 4)


@pytest.mark.slow
def test_a_host_that_dies_stops_the_other(tmp_path):
    first, second = ends(start(tmp_path / "run", 2, "SIGKILL"))
    assert second[1] == -9
    assert first[1] not in (0, None)
    assert tells_of_a_lost_host(first[0])
    if "HostLost" in first[0]:
        assert "The last good checkpoint is step 4" in first[0] and "another number of them" in first[0]


@pytest.mark.slow
def test_when_process_0_dies_the_other_stops_and_one_host_goes_on(tmp_path):
    """Process 0 also holds the meeting point of all."""
    first, second = ends(start(tmp_path / "run", 2, "SIGKILL", "first"))
    assert first[1] == -9
    assert second[1] not in (0, None)
    assert tells_of_a_lost_host(second[0])
    ((said, code),) = ends(start(tmp_path / "run", 1))
    assert code == 0, said
    assert f"end {training.tree_digest(run_steps([20], exact_shards=4)[0])}" in said


def test_hosts_with_different_configs_are_refused(tmp_path, monkeypatch):
    theirs = ["toy", {**training.to_dict(Config()), "seed": 1}]
    monkeypatch.setattr(hosts, "broadcast_from_primary", lambda value: theirs if isinstance(value, list) else value)
    with pytest.raises(training.RunRefused, match="(?s)do not have the same config; .*seed: 1 -> 0"):
        training.Run(tmp_path, Config(), experiment="toy", quiet=True)


def test_hosts_with_different_data_are_refused(tmp_path, monkeypatch):
    with training.Run(tmp_path, Config(), experiment="toy", quiet=True) as run:
        monkeypatch.setattr(hosts, "broadcast_from_primary", lambda value: "aaaa")
        with pytest.raises(ValueError, match="do not have the same data digits; here it is 'bbbb'"):
            run.record_dataset("digits", "bbbb")


@pytest.mark.parametrize(
    "address", ["node0", "node0:1234", "node0:1234,2", "node0:x,2,0", ":1234,2,0", "n:1,2,2", "n:0,2,0"]
)
def test_addresses_that_are_none(address):
    with pytest.raises(ValueError, match="expected auto, or host:port,processes,index"):
        hosts.join(address)


def test_one_process_needs_nobody():
    hosts.join("")
    assert hosts.is_primary() and not hosts.is_multihost()
    assert hosts.broadcast_from_primary({"x": 1.5}) == {"x": 1.5} and hosts.largest(3) == 3
    hosts.check_same("data", [1])
