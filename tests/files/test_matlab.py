"""MATLAB's files against what scipy writes, and damaged ones, which end the process in scipy."""

import io
import struct
import zlib

import numpy as np
import pytest
import scipy.io

from jaxgen import files

VALUES = {
    "bytes": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "doubles": np.arange(6.0).reshape(2, 3) / 7,
    "singles": np.ones((3, 1), np.float32),
    "signed": np.array([[-5, 300]], np.int16),
    "long": np.array([[2**40, -1]], np.int64),
    "truth": np.array([[True, False, True]]),
    "one": np.array([[7.0]]),
}


@pytest.mark.parametrize("compressed", [False, True])
def test_level_5_is_what_scipy_reads(tmp_path, compressed):
    path = tmp_path / "a.mat"
    others = {"text": "abc", "cell": np.array([1, "a"], object), "struct": {"a": 1}, "complex": np.array([[1j]])}
    scipy.io.savemat(path, {**VALUES, **others}, do_compression=compressed)
    about, expected = files.read_mat_variables(path), scipy.io.loadmat(path)
    assert list(about) == [*VALUES, *others]
    for name in VALUES:
        np.testing.assert_array_equal(files.read_mat(path, name), expected[name], strict=True)
        assert about[name].shape == expected[name].shape and about[name].numbers
    kinds = {
        "bytes": "uint8",
        "doubles": "double",
        "truth": "logical",
        "text": "char",
        "cell": "cell",
        "struct": "struct",
    }
    assert {name: about[name].kind for name in kinds} == kinds
    for name in others:
        assert not about[name].numbers
        with pytest.raises(ValueError, match=f"'{name}' is .*expected an array of real numbers"):
            files.read_mat(path, name)


def test_level_4_is_what_scipy_reads(tmp_path):
    path = tmp_path / "a.mat"
    values = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.arange(4, dtype=np.uint8)[None],
        "c": np.array([[1.5]], np.float32),
    }
    scipy.io.savemat(path, {**values, "text": "abc"}, format="4")
    expected = scipy.io.loadmat(path)
    for name in values:
        np.testing.assert_array_equal(files.read_mat(path, name), expected[name], strict=True)
    assert files.read_mat_variables(path)["text"].kind == "char"


def test_big_endian_files_are_read(tmp_path):
    """As MATLAB on other processors wrote them, element by element."""

    def element(kind, data):
        return struct.pack(">2I", kind, len(data)) + data + bytes(-len(data) % 8)

    numbers = np.arange(6, dtype=">i2").reshape(3, 2)
    body = element(6, struct.pack(">2I", 10, 0)) + element(5, struct.pack(">2i", 2, 3))
    body += struct.pack(">2H", 1, 1) + b"x\0\0\0" + element(3, numbers.tobytes())
    path = tmp_path / "a.mat"
    path.write_bytes(b"MATLAB 5.0".ljust(124) + b"\1\0MI" + element(14, body))
    np.testing.assert_array_equal(files.read_mat(path, "x"), np.arange(6, dtype=np.int16).reshape(3, 2).T, strict=True)
    np.testing.assert_array_equal(scipy.io.loadmat(path)["x"], files.read_mat(path, "x"))


def whole(**options):
    file = io.BytesIO()
    scipy.io.savemat(file, {"image": np.arange(60, dtype=np.uint8).reshape(6, 10)}, **options)
    return file.getvalue()


def test_damage_is_refused_by_name(tmp_path):
    path, plain, packed = tmp_path / "a.mat", whole(), whole(do_compression=True)
    at = plain.index(b"image") + 8
    cases = {
        plain[:at] + b"\x02\x7f" + plain[at + 2 :]: "stored as type 32514",  # which ends the process in scipy
        plain[:at] + b"\x07\0" + plain[at + 2 :]: "bytes of float32 for the shape",
        plain[: at + 4] + b"\xff\xff\xff\x7f" + plain[at + 8 :]: "",
        plain[:-8]: "ends within an element",
        packed[:-8]: "ends within an element",
        packed[:-4] + bytes(4): "",
        b"\x89HDF" + bytes(200): "HDF5",
        b"MATLAB 7.3".ljust(124) + b"\0\2IM": "version 2, HDF5",
        b"<html>": "web page",
        b"": "empty",
    }
    for data, message in cases.items():
        path.write_bytes(data)
        with pytest.raises(ValueError, match=rf"a\.mat: not a whole MATLAB file.*{message}.*version 5 to 7"):
            files.read_mat(path, "image")


def test_a_compressed_array_is_not_unpacked_beyond_the_limit(tmp_path):
    size = 65 << 20
    body = struct.pack("<8I", 6, 8, 9, 0, 5, 8, 65 << 10, 1 << 10) + struct.pack("<2I", 1, 5) + b"image\0\0\0"
    body += struct.pack("<2I", 2, size)
    pack = zlib.compressobj(1)
    data = pack.compress(struct.pack("<2I", 14, len(body) + size) + body)
    data += b"".join(pack.compress(bytes(1 << 20)) for _ in range(65)) + pack.flush()
    path = tmp_path / "a.mat"
    path.write_bytes(b"MATLAB 5.0".ljust(124) + b"\0\1IM" + struct.pack("<2I", 15, len(data)) + data)
    with pytest.raises(ValueError, match="declared to unpack to 68,157,"):
        files.read_mat(path, "image")
    path.write_bytes(b"MATLAB 5.0".ljust(124) + b"\0\1IM" + struct.pack("<2I", 14, 0) * 20_000)
    with pytest.raises(ValueError, match="more than 10,000 variables"):
        files.read_mat_variables(path)
