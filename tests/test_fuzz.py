"""Damaged files of every reader, and what the harness itself finds."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from tests import fuzz


def run(tmp_path, count, seed):
    """All readers in one child, so that the end of the process is a fault that is reported."""
    progress = tmp_path / "progress"
    command = [sys.executable, "-m", "tests.fuzz", f"--count={count}", f"--seed={seed}", f"--progress={progress}"]
    done = subprocess.run(command, capture_output=True, text=True)
    at = progress.read_text() if progress.exists() else "the start"
    assert done.returncode == 0, f"status {done.returncode} at {at}:\n{done.stdout}\n{done.stderr}"
    return [line.split(" | ") for line in done.stdout.splitlines()[2:]]


def test_200_damaged_files_of_every_reader_are_refused_by_name_or_read_the_same(tmp_path):
    rows = run(tmp_path, 200, 0)
    assert [row[0].removeprefix("| ") for row in rows] == list(fuzz.READERS)
    # The damage reaches every reader: some files are refused.
    assert all(int(row[3]) > 20 for row in rows)


@pytest.mark.slow
def test_1000_damaged_files_of_every_reader_are_refused_by_name_or_read_the_same(tmp_path):
    run(tmp_path, 1000, 1)


def test_damage_is_the_same_for_the_same_seed_and_changes_files():
    data = bytes(range(200))
    damaged = [fuzz.damage(data, np.random.default_rng(seed)) for seed in range(40)]
    assert damaged == [fuzz.damage(data, np.random.default_rng(seed)) for seed in range(40)]
    assert len(set(damaged)) > 30 and sum(found != data for found in damaged) > 35


def faults(monkeypatch, read, checked=False):
    write = fuzz._writer("a", lambda: bytes(range(100)))
    monkeypatch.setitem(fuzz.READERS, "fake", fuzz.Reader(write, read, checked))
    return fuzz.fuzz("fake", 20, 0).faults


def test_every_kind_of_fault_is_found(monkeypatch):
    def damaged(path):
        return path.read_bytes() != bytes(range(100))

    def unnamed(folder):
        if damaged(folder / "a"):
            raise ValueError("damaged")

    def crash(folder):
        if damaged(folder / "a"):
            raise KeyError(str(folder))

    def slow(folder):
        if damaged(folder / "a"):
            end = time.process_time() + 0.02
            while time.process_time() < end:
                pass

    def large(folder):
        if damaged(folder / "a"):
            np.ones(40 << 20, np.uint8)

    def named(folder):
        if damaged(folder / "a"):
            raise ValueError(f"{folder / 'a'} is damaged")

    assert "without the file's name" in faults(monkeypatch, unnamed)[0]
    assert "KeyError" in faults(monkeypatch, crash)[0]
    assert "other data" in faults(monkeypatch, lambda folder: (folder / "a").read_bytes(), checked=True)[0]
    assert not faults(monkeypatch, lambda folder: (folder / "a").read_bytes()) and not faults(monkeypatch, named)
    monkeypatch.setattr(fuzz, "SECONDS", 0.01)
    assert " s, " in faults(monkeypatch, slow)[0]
    monkeypatch.setattr(fuzz, "SECONDS", 100)
    monkeypatch.setattr(fuzz, "MEMORY", 20 << 20)
    assert " bytes" in faults(monkeypatch, large)[0]


def test_the_end_of_the_process_is_reported_with_the_file(tmp_path, monkeypatch):
    ended = [sys.executable, "-c", f"open({str(tmp_path / 'progress')!r}, 'w').write('npy 7'); import os; os.abort()"]
    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, **options: real(ended, **options))
    with pytest.raises(AssertionError, match="status -6 at npy 7"):
        run(tmp_path, 1, 0)
    assert os.path.exists(tmp_path / "progress")
