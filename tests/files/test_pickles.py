"""The interpreter of pickles against Python's own, and programs that are no data."""

import collections
import io
import os
import pickle
import struct
import time

import ml_dtypes
import numpy as np
import pytest

from jaxgen import files

P2 = b"\x80\x02"


def read(data, names=None, persistent=None):
    budget = files.Budget(len(data))
    names = files.numpy_names(budget, objects=True) if names is None else names
    return files.read_pickle(io.BytesIO(data), names, budget, len(data), persistent)


PLAIN = {
    "none": None, "truth": [True, False], "text": "ä€" * 3, "bytes": b"\0\xff", "long bytes": bytes(300),
    "numbers": [0, 255, 256, 65535, 65536, -1, 2**31, -(2**31), 2**63, -(2**80), 1.5, -0.0, float("inf")],
    "nested": {"a": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)], 3: {}, None: "", b"k": 0.5},
    "many": list(range(3000)),
}  # fmt: skip


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_is_what_python_reads(protocol):
    shared = [1, 2]
    value = {**PLAIN, "shared": [shared, shared]}
    data = pickle.dumps(value, protocol)
    names = files.numpy_names(files.Budget(0))
    found = read(data, names)
    assert found == pickle.loads(data) == value and found["shared"][0] is found["shared"][1]
    assert read(pickle.dumps({1, 2}, 4)) == [1, 2] and read(pickle.dumps(bytearray(b"ab"), 5)) == b"ab"


def test_protocol_0_is_read():
    value = {"a": [1, -2, 1.5, None, True, (1, 2)], "b": "text"}
    assert read(pickle.dumps(value, 0)) == value
    assert read(b"(lp0\nI01\naL12345678901234567890L\naS'old'\na.") == [True, 12345678901234567890, "old"]
    with pytest.raises(ValueError, match="escapes"):
        read(pickle.dumps("a\nb", 0))


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("dtype", ["<f4", ">i8", "|u1", "<f2", "|b1", "<c8"])
def test_arrays_are_what_numpy_pickled(protocol, dtype):
    for array in (
        np.arange(6).reshape(2, 3).astype(dtype),
        np.asfortranarray(np.ones((2, 3), dtype)),
        np.ones((), dtype),
    ):
        found = read(pickle.dumps(array, protocol)).value
        np.testing.assert_array_equal(found, array, strict=True)
    np.testing.assert_array_equal(read(pickle.dumps(np.float32(2.5), protocol)).value, np.float32(2.5), strict=True)


class Runs:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


def test_names_in_messages_are_printable():
    with pytest.raises(files.RefusedNameError) as error:
        read(P2 + b"c\x1b[2Jos\nsystem\n.")
    assert str(error.value).startswith("it asks for ?[2Jos.system, which is refused")


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_names_are_refused_and_not_run(tmp_path, protocol):
    for call in ((os.system, f"touch {tmp_path}/x"), (eval, "1"), (np.fromfile, "x"), (collections.deque,)):
        with pytest.raises(files.RefusedNameError, match="which is refused; nothing of it was run"):
            read(pickle.dumps(Runs(*call), protocol))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"cnumpy\nndarray\n(tR.", "calls numpy.ndarray"),
        (b"K\x01(tR.", "calls a int"),
        (b"cnumpy\ndtype\nU\x02f4\x85Rcnumpy\ndtype\n\x85b.", "byte order"),
        (b"cnumpy\ndtype\n}b.", "sets attributes of a Name"),
        (b"]}b.", "sets attributes of a list"),
        (b"K\x01(K\x02e.", "appends to a int"),
        (b"](K\x01u.", "sets items of a list"),
        (b"}(K\x01u.", "sets items of a dict"),
        (b"}]K\x01s.", "key that is a list"),
        (b"0.", "more from its stack"),
        (b"(.", "within a container"),
        (b"K\x01K\x02.", "within a container"),
        (b"e.", "has not opened"),
        (b"h\x05.", "has not made"),
        (b"K", "ends early"),
        (b"", "ends early"),
        (b"\x82\x01.", "opcode"),
        (b"(icollections\nOrderedDict\n.", "opcode"),
        (b"\x8e" + struct.pack("<Q", 1 << 40) + b"x", "declares 1,099,511,627,776 bytes"),
        (b"\x8b" + struct.pack("<I", 100) + bytes(100) + b".", "integer of 100 bytes"),
        (b"L" + b"1" * 200 + b"L\n.", "integer of 200 digits"),
        (b"NQ.", "data outside"),
    ],
)
def test_programs_that_are_no_data_are_refused(program, message):
    with pytest.raises(ValueError, match=message):
        read(P2 + program)


def text(data):
    return b"X" + struct.pack("<I", len(data)) + data


def attack(name):
    """Programs of at most 2 MB that are made to take time or memory."""
    numbers = b"".join(b"\x8a\x08" + struct.pack("<q", i * (2**61 - 1)) + b"N" for i in range(2, 4))
    pairs = b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60))
    encode = b"c_codecs\nencode\nh\0U\x06latin1\x86R"
    return {
        "a key of nested tuples": b"(K\x01\x85q\0" + pairs + b"}h\x3cNsl.",
        "keys of one hash": b"}(" + numbers + b"u.",
        "a huge place in the memo": b"Nr\xff\xff\xff\xff.",
        "a million objects": b"(" + b"N" * 1_000_000 + b"l.",
        "a million marks": b"(" * 1_000_000 + b".",
        "a text encoded often": b"(" + text(b"k" * 1_000_000) + b"q\0" + encode * 20_000 + b"l.",
        "many arguments": b"((" + b"N" * 90_000 + b"tq\0" + b"cnumpy\ndtype\nh\0R" * 20_000 + b"l.",
        "wide characters": text("𝄞".encode() + b"a" * 1_000_000) + b".",
        "an array of a text": b"(" + text(b"k" * 1_000_000) + b"q\0"
        + (b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01J" + struct.pack("<i", 1_000_000)
           + b"\x85cnumpy\ndtype\nU\x02u1\x85R\x89h\0tb") * 10_000 + b"l.",
    }[name]  # fmt: skip


ATTACKS = [
    "a key of nested tuples", "keys of one hash", "a huge place in the memo", "a million objects", "a million marks",
    "a text encoded often", "many arguments", "wide characters", "an array of a text",
]  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_time_and_memory_are_bounded(name):
    data = P2 + attack(name)
    start = time.process_time()
    if name == "a huge place in the memo":
        assert read(data) is None
    else:
        with pytest.raises(ValueError, match="key|objects|much more data|arguments|a text of"):
            read(data)
    assert time.process_time() - start < 2


def test_nothing_of_this_process_is_reached():
    """BUILD sets state on stand-ins of this file alone: the dtype of NumPy and Python's types stay as they are."""
    before = np.dtype(ml_dtypes.bfloat16).name, np.dtype("f4").byteorder
    state = b"(K\x03U\x01>NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    found = read(P2 + b"cnumpy\ndtype\nU\x02f4\x85R" + state + b".")
    assert found.order == ">" and (np.dtype(ml_dtypes.bfloat16).name, np.dtype("f4").byteorder) == before


def test_arrays_without_bytes_are_read():
    for protocol in range(2, 6):
        found = read(pickle.dumps(np.zeros((0, 3), np.float32), protocol)).value
        assert found.shape == (0, 3) and found.dtype == np.float32
    with pytest.raises(ValueError, match="calls builtins.bytes with wrong arguments"):
        read(P2 + b"c__builtin__\nbytes\nJ\xff\xff\xff\x7f\x85R.")
