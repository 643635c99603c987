"""The IDX reader against bytes written here by the format's own description, and on MNIST."""

import gzip
import hashlib
import os
import struct
import time
import zlib

import numpy as np
import pytest

from jaxgen.data import load, read_idx, read_mnist

REAL = os.environ.get("JAXGEN_DATA")
needs_data = pytest.mark.skipif(REAL is None, reason="JAXGEN_DATA is not set to the folder of the original data sets")


def idx(array, type_code=8):
    shape = array.shape
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, type_code, len(shape), *shape) + array.tobytes()


def example(num=5):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (num, 28, 28), dtype=np.uint8)
    return image, (np.arange(num) % 10).astype(np.uint8)


def write(folder, images, labels, prefix="train", end="", sep="-"):
    pack = gzip.compress if end else bytes
    (folder / f"{prefix}-images{sep}idx3-ubyte{end}").write_bytes(pack(idx(images)))
    (folder / f"{prefix}-labels{sep}idx1-ubyte{end}").write_bytes(pack(idx(labels)))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize(("end", "sep"), [("", "-"), (".gz", "-"), ("", "."), (".gz", ".")])
def test_every_value_is_read(tmp_path, name, end, sep):
    image, label = example()
    write(tmp_path, image, label, end=end, sep=sep)
    write(tmp_path, image[:2, ::-1], label[:2] + 3, prefix="t10k", end=end, sep=sep)
    train, test = load(name, "train", tmp_path), load(name, "test", tmp_path)
    np.testing.assert_array_equal(train["image"], image[..., None])
    np.testing.assert_array_equal(train["label"], label)
    np.testing.assert_array_equal(test["image"], image[:2, ::-1, :, None])
    np.testing.assert_array_equal(test["label"], [3, 4])
    assert train["image"].dtype == np.uint8 and train["label"].dtype == np.int32
    assert train["image"].flags.c_contiguous and train["image"].flags.writeable


def test_a_gz_name_on_an_unpacked_file_is_read(tmp_path):
    image, _ = example()
    path = tmp_path / "images.gz"
    path.write_bytes(idx(image))
    np.testing.assert_array_equal(read_idx(path, 3), image)


def test_wrong_magic_number(tmp_path):
    image, label = example()
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(idx(label))
    with pytest.raises(ValueError, match=r"train-images.*magic number 0x00000801.*0x00000803"):
        read_idx(path, 3)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match=r"magic number .*<htm.*web page.*fashion-mnist"):
        read_idx(path, 3)
    path.write_bytes(idx(image, type_code=0x0D))
    with pytest.raises(ValueError, match=r"0x00000d03.*expected 0x00000803"):
        read_idx(path, 3)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"magic number 0x .*expected 0x00000803"):
        read_idx(path, 3)


@pytest.mark.parametrize("keep", [3, 12, 200, -1, -9])
def test_truncated_gzip(tmp_path, keep):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(example()[0]))[:keep])
    with pytest.raises(ValueError, match=r"train-images.*truncated gzip.*download it again"):
        read_idx(path, 3)


@pytest.mark.parametrize("at", [2, 30, 1000, -6])  # method, stream, stream, checksum
def test_corrupted_gzip(tmp_path, at):
    raw = bytearray(gzip.compress(idx(example()[0])))
    raw[at] ^= 0xFF
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"train-images.*damaged.*gzip.*download it again"):
        read_idx(path, 3)


def test_gzip_of_an_unknown_kind_of_block(tmp_path):
    raw = bytearray(gzip.compress(idx(example()[0])))
    raw[10] |= 0b110  # the first byte after the header: block type 3 does not exist
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"damaged.*gzip.*invalid block type.*download it again"):
        read_idx(path, 3)


def test_gzip_is_read_as_far_as_its_header_asks(tmp_path):
    path = tmp_path / "images.gz"
    pack = zlib.compressobj(1, wbits=31)
    zeros = b"".join(pack.compress(bytes(1 << 20)) for _ in range(70)) + pack.flush()
    for shape, message in {
        (70, 1024, 1024): "at most 67,108,864 or 16 times the file's size are unpacked",
        (1, 28, 28): "found 785 or more bytes of values; expected 784",
        (2**32 - 1,) * 3: "declared to unpack to 79,228,162,458,924,105,385,300,197,375",
    }.items():
        pack = zlib.compressobj(1, wbits=31)
        path.write_bytes(pack.compress(struct.pack(">4I", 0x803, *shape)) + pack.flush() + zeros)
        start = time.process_time()
        with pytest.raises(ValueError, match=f"images.gz: .*{message}"):
            read_idx(path, 3)
        assert time.process_time() - start < 0.2


@pytest.mark.parametrize("change", [-1, 1])
def test_wrong_length(tmp_path, change):
    raw = idx(example()[0])
    path = tmp_path / "images"
    path.write_bytes(raw[:-1] if change < 0 else raw + b"\0")
    with pytest.raises(ValueError, match=rf"found {3920 + change:,} bytes.*expected 3,920.*\(5, "):
        read_idx(path, 3)


def test_truncated_header(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(idx(example()[0])[:9])
    with pytest.raises(ValueError, match="truncated after 9 bytes.*header of 16"):
        read_idx(path, 3)


def test_missing_file_lists_what_is_there(tmp_path):
    (tmp_path / "train-images.zip").touch()
    with pytest.raises(FileNotFoundError, match=r"no t10k-images-idx3-ubyte .*holds train-images.zip; expected"):
        read_mnist(tmp_path, "test")


def test_images_and_labels_must_agree(tmp_path):
    image, label = example()
    write(tmp_path, image, label[:-1])
    with pytest.raises(ValueError, match=r"labels uint8 \(4,\) for 5 images"):
        read_mnist(tmp_path)


def test_empty_split(tmp_path):
    image, label = example()
    write(tmp_path, image[:0], label[:0])
    with pytest.raises(ValueError, match="split is empty.*choose another"):
        read_mnist(tmp_path)


@needs_data
@pytest.mark.real_data
def test_mnist():
    train, test = (load("mnist", split, f"{REAL}/mnist") for split in ("train", "test"))
    assert train["image"].shape == (60_000, 28, 28, 1)
    assert test["image"].shape == (10_000, 28, 28, 1)
    # The published file is this header and the pixels.
    published = struct.pack(">4I", 0x803, 60_000, 28, 28) + train["image"].tobytes()
    assert hashlib.md5(published).hexdigest() == "6bbc9ace898e44ae57da46a324031adb"
    np.testing.assert_array_equal(
        np.bincount(train["label"]), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    )
    np.testing.assert_array_equal(np.bincount(test["label"]), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
    assert test["label"][:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_sizes_beside_a_zero_and_many_members_name_the_file(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(struct.pack(">4I", 0x803, 0, 2**32 - 1, 2**32 - 1))
    with pytest.raises(ValueError, match="idx3-ubyte: the shape in its header is .0, 4294967295, 4294967295"):
        read_idx(path, 3)
    path.write_bytes(gzip.compress(idx(example()[0])) + gzip.compress(b"") * 10_001)
    with pytest.raises(ValueError, match="idx3-ubyte: damaged .*more than 10,000 members"):
        read_idx(path, 3)
