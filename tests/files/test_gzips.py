"""gzip as far as it is asked for."""

import gzip
import zlib

import numpy as np
import pytest

from jaxgen import files


def read_all(path, piece=1000):
    file, stream, packed = files.open_unpacked(path)
    parts = []
    with file:
        while part := stream.read(piece):
            parts.append(part)
    return b"".join(parts), packed


def test_members_are_joined_and_plain_files_are_read(tmp_path):
    data = np.random.default_rng(0).integers(0, 9, 300_000, dtype=np.uint8).tobytes()
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(data[:70_000]) + gzip.compress(data[70_000:]) + b"\0" * 40)
    assert read_all(path) == (data, True)
    assert read_all(path, 1 << 30) == (data, True)
    path.write_bytes(data)
    assert read_all(path) == (data, False)


@pytest.mark.parametrize("change", [lambda raw: raw[:-1], lambda raw: raw[:-8] + b"abcd" + raw[-4:]])
def test_a_cut_file_and_a_wrong_checksum_are_found_at_the_end(tmp_path, change):
    (tmp_path / "a").write_bytes(change(gzip.compress(bytes(5000))))
    with pytest.raises((EOFError, zlib.error)):
        read_all(tmp_path / "a")


def test_only_what_is_asked_for_is_unpacked(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(bytes(100)) + b"\x1f\x8bdamaged")
    file, stream, _ = files.open_unpacked(path)
    with file:
        assert stream.read(100) == bytes(100)
        with pytest.raises(zlib.error):
            stream.read(1)


def test_empty_members_end(tmp_path):
    (tmp_path / "a").write_bytes(gzip.compress(b"") * 10_002)
    with pytest.raises(zlib.error, match="more than 10,000 members"):
        read_all(tmp_path / "a")
