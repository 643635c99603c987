"""The three layouts of CIFAR-10, written here as they are published, and the guarded unpickler."""

import logging
import os
import pickle
import struct

import numpy as np
import pytest

from jaxgen.data import load
from jaxgen.data.cifar10 import read_arrays_pickle

REAL = os.environ.get("JAXGEN_DATA")
needs_data = pytest.mark.skipif(REAL is None, reason="JAXGEN_DATA is not set to the folder of the original data sets")
BATCHES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]


def examples(num=18):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (num, 32, 32, 3), dtype=np.uint8)
    return image, rng.integers(0, 10, num)


def planes(image):
    """1,024 red values, then green, then blue, each row by row."""
    return np.stack([np.concatenate([image[..., c].reshape(-1) for c in range(3)]) for image in image])


def check(folder):
    """Five training files of three images each and a test file of three."""
    image, label = examples()
    train, test = load("cifar10", "train", folder), load("cifar10", "test", folder)
    np.testing.assert_array_equal(train["image"], image[:15])
    np.testing.assert_array_equal(train["label"], label[:15])
    np.testing.assert_array_equal(test["image"], image[15:])
    np.testing.assert_array_equal(test["label"], label[15:])
    assert train["image"].flags.c_contiguous and train["label"].dtype == np.int32


def write_binary(folder):
    image, label = examples()
    for k, name in enumerate(BATCHES):
        rows = range(3 * k, 3 * k + 3)
        raw = b"".join(bytes([label[i]]) + planes(image)[i].tobytes() for i in rows)
        (folder / f"{name}.bin").write_bytes(raw)


def test_binary(tmp_path):
    write_binary(tmp_path)
    check(tmp_path)


def test_binary_truncated(tmp_path):
    write_binary(tmp_path)
    path = tmp_path / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"data_batch_3.bin: found 9,218 bytes.*multiple of 3073"):
        load("cifar10", "train", tmp_path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"data_batch_3.bin: found 0 bytes"):
        load("cifar10", "train", tmp_path)


def test_binary_missing_batch(tmp_path):
    write_binary(tmp_path)
    (tmp_path / "data_batch_4.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"no data_batch_4.bin in .*holds data_batch_1.bin"):
        load("cifar10", "train", tmp_path)


def test_labels_out_of_range(tmp_path):
    """CIFAR-100's records hold two labels; read as CIFAR-10 they shift."""
    write_binary(tmp_path)
    path = tmp_path / "test_batch.bin"
    path.write_bytes(b"\x63" + path.read_bytes()[1:])
    with pytest.raises(ValueError, match=r"labels from . to 99; expected 0 to 9"):
        load("cifar10", "test", tmp_path)


def python2_pickle(data, labels):
    """The bytes that Python 2 and the numpy of 2009 wrote: protocol 2, str for bytes."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    def number(value):
        return b"J" + struct.pack("<i", value)

    reconstruct = b"cnumpy.core.multiarray\n_reconstruct\n"
    array = (
        reconstruct + b"cnumpy\nndarray\n" + number(0) + b"\x85" + text(b"b") + b"\x87R"
        + b"(" + number(1) + number(data.shape[0]) + number(data.shape[1]) + b"\x86"
        + b"cnumpy\ndtype\n" + text(b"u1") + number(0) + number(1) + b"\x87R"
        + b"(" + number(3) + text(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
        + b"\x89" + b"T" + struct.pack("<i", data.size) + data.tobytes() + b"tb"
    )  # fmt: skip
    items = text(b"data") + array + text(b"labels") + b"](" + b"".join(map(number, labels)) + b"e"
    items += text(b"batch_label") + text(b"training batch 1 of 5")
    return b"\x80\x02}(" + items + b"u."


def write_python(folder, dump):
    image, label = examples()
    for k, name in enumerate(BATCHES):
        rows = slice(3 * k, 3 * k + 3)
        (folder / name).write_bytes(dump(planes(image)[rows], label[rows].tolist()))


def test_python_version_as_python_2_wrote_it(tmp_path):
    write_python(tmp_path, python2_pickle)
    check(tmp_path)
    # The oracle of the oracle: the ordinary unpickler reads the same.
    with open(tmp_path / "test_batch", "rb") as file:
        batch = pickle.load(file, encoding="bytes")
    np.testing.assert_array_equal(batch[b"data"], planes(examples()[0][15:]))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("old_path", [False, True])
@pytest.mark.parametrize("fortran", [False, True])
def test_python_version_as_python_3_writes_it(tmp_path, protocol, old_path, fortran):
    def dump(data, labels):
        data = np.asfortranarray(data) if fortran else data
        raw = pickle.dumps({b"data": data, "labels": np.array(labels)}, protocol=protocol)
        if old_path:  # numpy 1: the module's name is one byte shorter
            for module in (b"numpy._core.multiarray", b"numpy._core.numeric"):
                old = module.replace(b"_core", b"core")
                raw = raw.replace(b"c" + module + b"\n", b"c" + old + b"\n")
                raw = raw.replace(bytes([len(module)]) + module, bytes([len(old)]) + old)
            # Frames state their length; without them the stream is as valid.
            if protocol >= 4 and raw[2:3] == b"\x95":
                raw = raw[:2] + raw[11:]
        return raw

    write_python(tmp_path, dump)
    check(tmp_path)


def test_big_endian_labels_keep_their_values(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(pickle.dumps({"a": np.array([1, 258], ">i4")}, protocol=2))
    np.testing.assert_array_equal(read_arrays_pickle(path)["a"], [1, 258])


def _import_it(name):
    return __import__(name)


class Runs:
    def __init__(self, function, *args):
        self.call = function, tuple(args)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "args", "name"),
    [
        (os.system, ("touch {}",), r"(posix|nt)\.system"),
        (eval, ("open('{}', 'w')",), r"builtins\.eval|__builtin__\.eval"),
        (np.load, ("{}",), r"numpy\.load"),
        (np.fromfile, ("{}",), r"numpy.*\.fromfile"),
        (_import_it, ("{}",), r"tests\.data\.test_cifar10\._import_it"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_anything_else_is_refused_by_name_and_not_run(tmp_path, function, args, name, protocol):
    mark = tmp_path / "was_run"
    args = [a.format(mark) for a in args]
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({"data": Runs(function, *args)}, protocol=protocol))
    with pytest.raises(ValueError, match=rf"data_batch_1: .*({name}), which is refused"):
        load("cifar10", "train", tmp_path)
    assert not mark.exists()


@pytest.mark.parametrize("array", [np.array([{}, 1], object), np.array(["text"]), np.zeros(2, "V8")])
def test_arrays_of_anything_but_numbers_are_refused(tmp_path, array):
    path = tmp_path / "a"
    path.write_bytes(pickle.dumps({"data": array}, protocol=2))
    with pytest.raises(ValueError, match="an array of dtype .* is refused"):
        read_arrays_pickle(path)


def test_bytes_in_another_codec_are_refused(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"\x80\x02c_codecs\nencode\nX\x01\0\0\0aX\x03\0\0\0bz2\x86R.")
    with pytest.raises(ValueError, match="bytes encoded as b?'bz2' are refused"):
        read_arrays_pickle(path)


def test_damaged_pickles(tmp_path):
    whole = python2_pickle(np.zeros((2, 3072), np.uint8), [1, 2])
    path = tmp_path / "test_batch"
    for raw in (whole[:-1], whole[:100], b"", b"<html>", whole.replace(b"|", b"!")):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match="test_batch: cannot be read as a pickle of arrays"):
            load("cifar10", "test", tmp_path)
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ValueError, match="test_batch: found a pickled list; expected a dict"):
        load("cifar10", "test", tmp_path)


def shared_lists(depth):
    """Of 2 ** depth numbers, in `depth` lists."""
    found = [1, 2]
    for _ in range(depth):
        found = [found, found]
    return found


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [1, 2]}, "keys .*fine_labels"),
        ({"data": np.zeros((2, 784), np.uint8), "labels": [1, 2]}, r"data uint8 \(2, 784\); expec"),
        ({"data": np.zeros((2, 3072)), "labels": [1, 2]}, r"data float64 \(2, 3072\); expected u"),
        ({"data": [1, 2], "labels": [1, 2]}, "data list; expected uint8"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, r"labels \(1,\); expected 2"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0.5, 1.0]}, "float64 labels"),
        (
            {"data": np.zeros((2, 3072), np.uint8), "labels": [1, 2**40]},
            "labels from 1 to 1099511627776; expected 0 to 9",
        ),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1, -1]}, "labels from -1 to 1"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": shared_lists(40)}, "labels that are no list of numbers"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": np.array(3)}, r"labels \(\); expected 2"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": {}}, "labels that are no list of numbers"),
    ],
)
def test_wrong_contents(tmp_path, batch, message):
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(ValueError, match=f"test_batch: found .*{message}"):
        load("cifar10", "test", tmp_path)


def write_strips(folder, numbers, num_labels=51_000):
    from PIL import Image

    strips = {}
    for i in numbers:
        strips[i] = np.random.default_rng(i).integers(0, 256, (1000, 1024, 3), dtype=np.uint8)
        Image.fromarray(strips[i]).save(folder / f"cifar10_batch_{i}.png", compress_level=0)
    label = (np.arange(num_labels) * 7 + np.arange(num_labels) // 1000) % 10
    (folder / "cifar10_labels.js").write_text(f"var labels={label.tolist()};\n")
    return strips, label


def test_strips(tmp_path, caplog):
    strips, label = write_strips(tmp_path, [0, 1, 10, 50])
    with caplog.at_level(logging.WARNING):
        train = load("cifar10", "train", tmp_path)
    assert "strips 0-1, 10 are there: 3,000 of the 50,000 training images" in caplog.text
    for k, i in enumerate((0, 1, 10)):
        rows = slice(1000 * k, 1000 * (k + 1))
        np.testing.assert_array_equal(train["image"][rows], strips[i].reshape(-1, 32, 32, 3))
        np.testing.assert_array_equal(train["label"][rows], label[1000 * i : 1000 * (i + 1)])
    caplog.clear()
    test = load("cifar10", "test", tmp_path)
    assert not caplog.records
    np.testing.assert_array_equal(test["image"], strips[50].reshape(-1, 32, 32, 3))
    np.testing.assert_array_equal(test["label"], label[50_000:])


def test_strips_bad(tmp_path):
    from PIL import Image

    write_strips(tmp_path, [0])
    with pytest.raises(FileNotFoundError, match="no cifar10_batch_50.png in"):
        load("cifar10", "test", tmp_path)
    path = tmp_path / "cifar10_batch_0.png"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cifar10_batch_0.png: cannot be decoded.*replace or remove it"):
        load("cifar10", "train", tmp_path)
    Image.fromarray(np.zeros((10, 1024, 3), np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"_0.png: found uint8 \(10, 1024, 3\); expected .*1000"):
        load("cifar10", "train", tmp_path)
    (tmp_path / "cifar10_labels.js").write_text("var labels=[1, 2, 3];")
    with pytest.raises(ValueError, match="labels.js: found 3 labels; expected 51,000"):
        load("cifar10", "train", tmp_path)
    (tmp_path / "cifar10_labels.js").write_text("var labels=[1,, 3];")
    with pytest.raises(ValueError, match="labels.js: not a list of labels"):
        load("cifar10", "train", tmp_path)
    (tmp_path / "cifar10_labels.js").write_text(f"var labels=[99999999999{', 0' * 50_999}];")
    with pytest.raises(ValueError, match="labels.js: .*labels from 0 to 99999999999; expected 0 to 9"):
        load("cifar10", "train", tmp_path)
    (tmp_path / "cifar10_labels.js").write_text(f"var labels=[{'9' * 400}];")
    with pytest.raises(ValueError, match="labels.js: not a list of labels"):
        load("cifar10", "train", tmp_path)
    (tmp_path / "cifar10_labels.js").unlink()
    with pytest.raises(FileNotFoundError, match="no cifar10_labels.js"):
        load("cifar10", "train", tmp_path)


@needs_data
@pytest.mark.real_data
def test_cifar10():
    train, test = (load("cifar10", split, f"{REAL}/cifar10") for split in ("train", "test"))
    assert train["image"].shape[1:] == test["image"].shape[1:] == (32, 32, 3)
    assert len(train["image"]) % 1000 == 0 and len(test["image"]) in (1000, 10_000)
    # The first labels of data_batch_1 and test_batch: frog, truck, truck, deer, automobile, ...
    assert train["label"][:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert test["label"][:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    counts = np.bincount(train["label"][:10_000])
    np.testing.assert_array_equal(counts, [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981])
    # The first pixel of the first training image, in R, G, B.
    assert train["image"][0, 0, 0].tolist() == [59, 62, 63]
    # Neighbours within a row differ far less than pixels of different images.
    image = train["image"][:1000].astype(np.float64)
    assert np.abs(np.diff(image, axis=2)).mean() < 0.3 * np.abs(np.diff(image, axis=0)).mean()


def test_labels_may_be_scalars_of_numpy_and_data_empty(tmp_path):
    batch = {"data": np.zeros((2, 3072), np.uint8), "labels": [np.int64(3), np.int64(7)]}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch, protocol=2))
    np.testing.assert_array_equal(load("cifar10", "test", tmp_path)["label"], [3, 7])
    empty = {"data": np.zeros((0, 3072), np.uint8), "labels": []}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(empty, protocol=2))
    with pytest.raises(ValueError, match=r"found float64 labels \(0,\)"):
        load("cifar10", "test", tmp_path)
