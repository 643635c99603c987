"""Several hosts: real processes on this machine, joined by gloo."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from engine_toy import BATCH, run_steps

from jaxgen import training
from jaxgen.training import hosts

HERE = Path(__file__).parent


def start(workdir, number, event=""):
    """The joined processes, with two devices each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    paths = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "2", "PYTHONPATH": paths}
    return [
        subprocess.Popen(
            [sys.executable, str(HERE / "one_host.py"), str(workdir), f"localhost:{port},{number},{index}", event],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(number)
    ]


def ends(processes):
    """(output, exit code) of each."""
    said = [(process.communicate(timeout=900)[0], process.returncode) for process in processes]
    return said


@pytest.mark.slow
def test_stopped_on_two_hosts_and_resumed_on_one(tmp_path):
    """With the data read by the hosts. The SIGTERM comes to process 1 alone, and both stop at the same step."""
    stopped = ends(start(tmp_path / "run", 2, "SIGTERM"))
    steps = [re.search(r"Stopped at step (\d+) of 20; saved (\w+)", said) for said, _ in stopped]
    assert [code for _, code in stopped] == [143, 143], stopped
    assert steps[0] and steps[1] and steps[0][1] == steps[1][1] and int(steps[0][1]) < 20
    assert (steps[0][2], steps[1][2]) == ("in", "by")
    # Only process 0 wrote, and what it wrote has no second copy.
    metrics = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert metrics == sorted(set(metrics))
    ((said, code),) = ends(start(tmp_path / "run", 1))
    assert code == 0, said
    # exact_shards: the bits of this process's run on one device.
    expected = training.tree_digest(run_steps([20], exact_shards=4)[0])
    assert f"end {expected} measured by 0.0" in said


@pytest.mark.slow
def test_every_example_is_read_by_one_host(tmp_path):
    both = ends(start(tmp_path / "run", 2, "fed"))
    assert [code for _, code in both] == [0, 0], both
    expected = training.tree_digest(run_steps([20], exact_shards=4)[0])
    assert all(f"end {expected}" in said for said, _ in both)
    reads = [dict(re.findall(r"reads (\d+) (\[.*\])", said)) for said, _ in both]
    visited = [i for step in map(str, range(20)) for part in reads for i in json.loads(part[step])]
    # 20 batches of 16 visit 50 examples: six whole epochs, then 20 examples of the seventh, once each.
    assert all(sorted(visited[e * 50 : (e + 1) * 50]) == list(range(50)) for e in range(6))
    assert len(visited) == 20 * BATCH and len(set(visited[300:])) == 20


@pytest.mark.slow
def test_a_host_that_dies_stops_the_other(tmp_path):
    first, second = ends(start(tmp_path / "run", 2, "SIGKILL"))
    assert second[1] == -9
    assert first[1] not in (0, None)
    assert "HostLost: another host of this run has stopped" in first[0]
    assert "The last good checkpoint is step 4" in first[0] and "another number of them" in first[0]


@pytest.mark.slow
def test_hosts_with_different_configs_are_refused(tmp_path):
    both = ends(start(tmp_path / "run", 2, "other seed"))
    assert all(code == 1 and "do not have the same config" in said for said, code in both), both
    assert "seed: 0 -> 1" in both[1][0]


@pytest.mark.parametrize(
    "address", ["node0", "node0:1234", "node0:1234,2", "node0:x,2,0", ":1234,2,0", "n:1,2,2", "n:0,2,0"]
)
def test_addresses_that_are_none(address):
    with pytest.raises(ValueError, match="expected auto, or host:port,processes,index"):
        hosts.join(address)


def test_one_process_needs_nobody():
    hosts.join("")
    assert hosts.is_first() and not hosts.are_several()
    assert hosts.from_first({"x": 1.5}) == {"x": 1.5} and hosts.largest(3) == 3
    hosts.check_same("data", [1])
