"""The ways of experiments.verify that need processes of their own: a rerun, SIGKILL."""

import itertools
import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax

from experiments import verify_runs

TIMEOUT = 600.0


def rerun(arguments: list[str], workdir: Path, *, stages: int, kills: int) -> str:
    """Once more from nothing, without compiled programs. Returns a note."""
    process = _start(arguments, workdir, stages, cache=None)
    _finish(process, workdir)
    return ""


def killed(arguments: list[str], workdir: Path, *, stages: int, kills: int) -> str:
    """Kills the training `kills` times and starts it again each time, until it ends. Returns a note.

    A checkpoint is saved after every step. Each kill comes at a moment drawn evenly over the time that a whole training
    took from the opening of its run directory. A training that ends before its kill must have the same end as all
    others; the next kill then comes to a new one.

    Raises:
        ValueError: two ends differ, or a process failed.
    """
    arguments = [*arguments, "--train.save-every", "1"]
    cache = _cache(workdir)
    process = _start(arguments, workdir, stages, cache)
    start = _opened(process, workdir, 1)
    _finish(process, workdir)
    seconds = time.perf_counter() - start
    whole = verify_runs.read_end(workdir)
    done, runs, saved = 0, 0, []
    while done < kills:
        runs += 1
        run = workdir.with_name(f"{workdir.name}-{runs}")
        for times in itertools.count(1):
            process = _start(arguments, run, stages, cache)
            _opened(process, run, times)
            if done < kills and _killed_at(process, seconds * secrets.randbelow(1000) / 1000):
                done += 1
                saved.append(str(verify_runs.steps_saved(run)))
            else:
                _finish(process, run)
                break
        if _bits(verify_runs.read_end(run)) != _bits(whole):
            raise ValueError(f"killed with {', '.join(saved)} steps saved, and the end is another")
    return f"{done} kills of {runs} runs, with {', '.join(saved)} steps saved"


def _opened(process: subprocess.Popen, workdir: Path, times: int) -> float:
    """Waits until the run directory was opened for the `times`-th time, or the process has ended; returns when."""
    log = Path(f"{workdir}.log")
    while process.poll() is None and log.read_text(errors="replace").count(verify_runs.OPENED) < times:
        time.sleep(0.005)
    return time.perf_counter()


def _killed_at(process: subprocess.Popen, seconds: float) -> bool:
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True


def joined(arguments: list[str], workdir: Path, *, stages: int, kills: int) -> str:
    """Two processes of two devices each, joined on this machine. Returns a note."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes, logs = [], []
    for index in range(2):
        joining = ["--train.devices", "0", "--distributed", f"localhost:{port},2,{index}"]
        log = workdir if index == 0 else workdir.with_name(f"{workdir.name}-process{index}")
        processes.append(_start([*arguments, *joining], workdir, stages, _cache(workdir), log, JAX_NUM_CPU_DEVICES="2"))
        logs.append(log)
    try:
        for process, log in zip(processes, logs, strict=True):
            _finish(process, log)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return ""


def _cache(workdir: Path) -> Path:
    return workdir.parent.parent / "cache"


def _bits(end: verify_runs.End):
    from jaxgen import training

    return training.tree_digest(end.arrays), end.metrics


def _start(
    arguments: list[str], workdir: Path, stages: int, cache: Path | None, log: Path | None = None, **variables: str
) -> subprocess.Popen:
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(jax.device_count()), **variables}
    environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    if cache:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(cache)
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        environment["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    alone = ["--alone", str(workdir), "--stages", str(stages)]
    workdir.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{log or workdir}.log", "ab") as written:
        command = [sys.executable, "-m", "experiments.verify", *arguments, *alone]
        return subprocess.Popen(command, env=environment, stdout=written, stderr=written)


def _finish(process: subprocess.Popen, workdir: Path) -> None:
    """Waits for the end of a process.

    Raises:
        ValueError: it failed, or did not end.
    """
    try:
        code = process.wait(TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        code = "none"
    if code != 0:
        said = Path(f"{workdir}.log").read_text(errors="replace").strip().splitlines()
        raise ValueError(f"a process ended with exit code {code}: {' | '.join(said[-3:])}")
