"""Every command of jaxgen 0.1.0 still starts, under its old name, and takes its old flags."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.benchmark import memory
from experiments.verify import __main__ as verify
from experiments.verify import short_runs

ROOT = Path(__file__).parents[3]
# {command of 0.1.0: the module that it is today}
COMMANDS = {
    **{name: name for name in short_runs.experiments()},
    "benchmark": "benchmark",
    "feeding": "benchmark.throughput",
    "kills": "verify.crash_test",
    "plan_memory": "benchmark.memory",
    "recorded": "verify.golden_runs",
    "report": "report",
    "sample_pack": "sample_batches",
    "tour": "tour",
    "verify": "verify",
}
# All in one process, which imports jax once.
HELP = """
import contextlib, io, json, runpy, sys, warnings
warnings.simplefilter("ignore")
found = {}
for name, *arguments in json.loads(sys.argv[1]):
    sys.argv = [name, *arguments, "--help"]
    out, code = io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code
    found[" ".join([name, *arguments])] = code, out.getvalue()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def help_of():
    """{command: (exit code, what `--help` prints)}, of the old and the present names."""
    asked = [*dict.fromkeys([*COMMANDS, *COMMANDS.values()])]
    calls = [[name] for name in asked] + [["verify", "vae", "quick"], ["sample_pack", "evaluate"]]
    done = subprocess.run(
        [sys.executable, "-c", HELP, json.dumps(calls)], cwd=ROOT, env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_all_experiments_are_here():
    assert len(short_runs.experiments()) == 8 and len(COMMANDS) == 17


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_of_0_1_0_prints_its_help(name, help_of):
    code, text = help_of[name]
    # verify takes an experiment first, and without one shows which there are, as it did.
    assert code == (2 if name == "verify" else 0), text
    assert text.startswith("usage: ") and "Traceback" not in text
    assert help_of[COMMANDS[name]] == [code, text]


def test_commands_within_commands_print_theirs(help_of):
    assert help_of["verify vae quick"][0] == 0 and "--train.exact-shards" in help_of["verify vae quick"][1]
    assert help_of["sample_pack evaluate"][0] == 0 and "--inception" in help_of["sample_pack evaluate"][1]


@pytest.mark.parametrize("flag", ["--variants", "--ways"])
def test_verify_reads_the_old_name_of_variants(flag, monkeypatch):
    compared = []
    monkeypatch.setattr(sys, "argv", ["verify", "vae", "quick", flag, "resume", "kill", "--kills", "2"])
    monkeypatch.setattr(verify, "compare", lambda trial, groups, kills, folder: compared.append((groups, kills)) or [])
    # Nothing is compiled, so the caches and devices of this process stay as they are.
    monkeypatch.setattr(verify.jax, "config", type("Config", (), {"update": lambda *_: None})())
    verify.main()
    assert compared == [(("resume", "kill"), 2)]


@pytest.mark.parametrize("flag", ["--model-parallel-size", "--model-devices", "--model_devices"])
def test_the_memory_estimate_reads_the_old_name_of_model_parallel_size(flag, monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "run", asked.append)
    monkeypatch.setattr(sys, "argv", ["memory", flag, "2"])
    memory.main()
    assert asked == [memory.Options(model_parallel_size=2)]
