"""Budgets, and what files are."""

import os

import pytest

from jaxgen import files


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html>\n<html>", "web page"),
        (b"\n <html>", "web page"),
        (b'<?xml version="1.0"?><Error>', "XML, as servers send for an error"),
        (b"\x1f\x8b\x08", "gzip.*unpack it first"),
        (b"PK\3\4", "zip archive"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"", "an empty file"),
        (b"hello, world, hello, world", "begins with b'hello, world, he'"),
    ],
)
def test_a_file_is_described_by_its_first_bytes(start, kind):
    import re

    assert re.search(kind, files.describe(start))


def test_expansion_is_limited_by_the_size_of_the_file():
    files.check_expansion(64 << 20, 100)
    files.check_expansion(16 << 30, 1 << 30)
    with pytest.raises(ValueError, match="100 compressed bytes are declared to unpack to 67,108,865"):
        files.check_expansion((64 << 20) + 1, 100)


def test_a_budget_ends():
    budget = files.Budget(1000)
    budget.spend(objects=100_010, size=(64 << 20) + 1000)
    with pytest.raises(ValueError, match="more objects"):
        budget.spend(objects=1)
    with pytest.raises(ValueError, match="much more data"):
        files.Budget(0).spend(size=(64 << 20) + 1)
    files.Budget(1000).spend(shared=(64 << 20) + 16_000)
    with pytest.raises(ValueError, match="much more data"):
        files.Budget(1000).spend(shared=(64 << 20) + 16_001)


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(ValueError, match="no regular file"):
        files.read_npy(tmp_path / "a.npy")
    with pytest.raises(FileNotFoundError):
        files.read_npy(tmp_path / "b.npy")
