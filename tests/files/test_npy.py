"""NumPy's files: whatever numpy.save writes is read, and headers cannot declare more than the file has."""

import io
import struct
import zipfile

import numpy as np
import pytest

from jaxgen import files


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(5, dtype=">i4"),
        np.array([True, False]),
        np.float32(2.5),
        np.zeros((0, 3), np.float16),
        np.array(["ab", "c"]),
        np.arange(3) * 1j,
        np.zeros((1,) * 32),
    ],
    ids=lambda array: f"{array.dtype}{array.ndim}",
)
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_what_numpy_writes_is_read(tmp_path, array, version):
    path = tmp_path / "a.npy"
    with open(path, "wb") as file:
        np.lib.format.write_array(file, np.asarray(array), version)
    found = files.read_npy(path)
    np.testing.assert_array_equal(found, np.load(path), strict=True)
    assert found.flags.c_contiguous and found.flags.writeable


@pytest.mark.parametrize(
    "text",
    [
        "{'shape': (2, 3,), 'fortran_order': False, 'descr': '|u1'}",
        "{ 'descr' : '|u1' , 'fortran_order' : False , 'shape' : ( 2 , 3 ) , }\n",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (2L, 3L), }",
        '{"descr": "|u1", "fortran_order": False, "shape": (2, 3)}',
    ],
)
def test_headers_of_other_programs_are_read(tmp_path, text):
    (tmp_path / "a.npy").write_bytes(npy(text, bytes(range(6))))
    np.testing.assert_array_equal(files.read_npy(tmp_path / "a.npy"), np.arange(6).reshape(2, 3))


def npy(text, data=b""):
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode() + data


@pytest.mark.parametrize(
    ("descr", "order", "shape", "message"),
    [
        ("'|u1'", "False", "(1000000000, 100, 100, 3)", "30,000,000,000,000 bytes; 9 follow"),
        ("'|u1'", "False", "(True, 9)", "expected descr, fortran_order and shape"),
        ("'|u1'", "False", "(-9,)", "expected descr"),
        ("'|u1'", "False", "(3,,3)", "declares the shape"),
        ("'|u1'", "False", "(" + "1," * 33 + ")", "declares the shape"),
        ("'|u1'", "False", "(9999999999999999999999,)", "declares the shape"),
        ("'|u1'", "False", "(" + "1" * 9000, "expected descr"),
        ("'|u1'", "0", "(9,)", "expected descr"),
        ("'|u1'", "False", "(8,)", "8 bytes; 9 follow"),
        ("'|S0'", "False", "(1000000000000,)", "values without bytes"),
        ("'<U999999999'", "False", "()", "which NumPy does not have"),
        ("'|O'", "False", "(1,)", "never loaded"),
        ("'<U1'", "False", "(1,)", "4 bytes; 9 follow"),
        ("'|V2'", "False", "(4,)", "bfloat16.*use safetensors"),
        ("'<M8'", "False", "(1,)", "expected numbers"),
        ("[('a', '<i4')]", "False", "(1,)", "array of records"),
        ("__import__('os').abort()", "False", "(9,)", "expected descr"),
        ("(" * 4000, "False", "(9,)", "expected descr"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(tmp_path, descr, order, shape, message):
    path = tmp_path / "a.npy"
    path.write_bytes(npy(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}", bytes(9)))
    with pytest.raises(ValueError, match=rf"a\.npy: not a whole .*{message}.*numpy\.save"):
        files.read_npy(path)


def test_text_of_characters_that_do_not_exist_is_refused(tmp_path):
    path = tmp_path / "a.npy"
    for code, order in (("<U2", "<"), (">U2", ">")):
        good = np.array(["a\U0010ffff"], code)
        np.save(path, good)
        np.testing.assert_array_equal(files.read_npy(path), good)
        path.write_bytes(path.read_bytes()[:-4] + np.array(0x110000, f"{order}u4").tobytes())
        with pytest.raises(ValueError, match="characters that do not exist"):
            files.read_npy(path)


def test_other_files_are_named(tmp_path):
    path = tmp_path / "a.npy"
    np.savez(tmp_path / "a.npz", a=np.ones(2))
    cases = {
        (tmp_path / "a.npz").read_bytes(): "zip archive, such as .npz",
        b"": "an empty file",
        npy("{}")[:9]: "ends in its header",
        b"\x93NUMPY\1\0\xff\xff{": "header is declared to have 65,535 bytes",
        b"\x93NUMPY\7\0": "known version",
    }
    for data, message in cases.items():
        path.write_bytes(data)
        with pytest.raises(ValueError, match=message):
            files.read_npy(path)


def test_an_npz_is_read_as_numpy_reads_it(tmp_path):
    arrays = {"a/kernel": np.eye(2), "file": np.arange(3), "é": np.ones((2, 2), np.int8), "text": np.array("x")}
    for save in (np.savez, np.savez_compressed):
        with open(tmp_path / "a.npz", "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if save is np.savez_compressed else 0) as archive:
                for name, array in arrays.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                        np.lib.format.write_array(entry, array)
        found = files.read_npz(tmp_path / "a.npz")
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array, strict=True)


def packed_zeros(path, declared, real):
    """An .npz whose header declares so many bytes, and that unpacks to `real` zeros."""
    header = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (declared,)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as entry:
        entry.write(header.getvalue())
        for _ in range(real >> 20):
            entry.write(bytes(1 << 20))


def test_a_bomb_is_refused_by_what_it_declares(tmp_path):
    path = tmp_path / "a.npz"
    packed_zeros(path, 65 << 20, 65 << 20)
    with pytest.raises(ValueError, match="declared to unpack to 68,157,"):
        files.read_npz(path)
    packed_zeros(path, 100, 32 << 20)
    with pytest.raises(ValueError, match=r"a\.npy.*100 bytes; 33,554,432 follow"):
        files.read_npz(path)
    packed_zeros(path, 8 << 20, 8 << 20)
    assert files.read_npz(path)["a"].shape == (8 << 20,)


def test_an_archive_that_lies_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, first=np.arange(3), other=np.arange(4))
    whole = path.read_bytes()
    cases = {
        whole[:-30]: "no end: the file is incomplete",
        whole.replace(b"other.npy", b"first.npy"): "two entries named 'first.npy'",
        whole.replace(b"first.npy", b"first.txt"): "is no .npy",
        whole.replace(np.arange(3).tobytes(), np.arange(1, 4).tobytes()): "CRC",
        whole[:-12] + b"\1\0" + whole[-10:]: "declares 1 entries and has 2",
        whole[:-10] + b"\xff\xff\xff\x7f" + whole[-6:]: "directory of 2,147,483,647 bytes",
    }
    for data, message in cases.items():
        path.write_bytes(data)
        with pytest.raises((ValueError, zipfile.BadZipFile), match=message):
            files.read_npz(path)
    with pytest.raises(ValueError, match="it is no .npz, but a file that begins with b'hello'"):
        path.write_bytes(b"hello")
        files.read_npz(path)


def test_entries_that_overlap_are_refused(tmp_path):
    """A directory that names the same bytes many times unpacks to much more than the file."""
    path = tmp_path / "a.npz"
    np.savez(path, **{f"a{i}": np.zeros(2000) for i in range(3)}, allow_pickle=False)
    whole = path.read_bytes()
    second, table = whole.index(b"PK\3\4", 1), bytearray(whole[whole.index(b"PK\1\2") :])
    for i in range(3):
        name = table.index(f"a{i}.npy".encode())
        table[name - 4 : name] = bytes(4)  # the place of its entry: that of the first
    table[-6:-2] = second.to_bytes(4, "little")  # the place of the directory
    path.write_bytes(whole[:second] + table)
    with pytest.raises(ValueError, match="entries of the archive overlap"):
        files.read_npz(path)


def test_truth_values_are_0_or_1_and_times_are_no_records(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(npy("{'descr': '|b1', 'fortran_order': False, 'shape': (2,)}", b"\1\2"))
    with pytest.raises(ValueError, match=r"a\.npy.*truth values, and holds other bytes than 0 and 1"):
        files.read_npy(path)
    np.save(path, np.zeros(2, "M8[s]"))
    with pytest.raises(ValueError, match=r"a\.npy.*its header is .*M8\[s\]"):
        files.read_npy(path)
