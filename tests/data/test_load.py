"""Names, splits, the embedded digits and the fingerprint."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxgen.data
from jaxgen.data import NAMES, fingerprint, kind_of_folder, load
from jaxgen.data.checks import as_dataset


def test_digits_are_scikit_learns_scaled_to_bytes():
    from sklearn.datasets import load_digits

    original: Any = load_digits()
    train, test = load("digits"), load("digits", "test")
    image = np.concatenate([train["image"], test["image"]])
    assert (len(train["image"]), len(test["image"])) == (1437, 360)
    assert image.dtype == np.uint8 and image.shape[1:] == (8, 8, 1)
    # 8 * 255 / 16 is 127.5: round to even.
    table = [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255]
    scaled = np.array(table)[original.images.astype(int)]
    np.testing.assert_array_equal(image[..., 0], scaled)
    np.testing.assert_array_equal(np.concatenate([train["label"], test["label"]]), original.target)
    assert train["label"].dtype == np.int32
    for dataset in (train, test):
        assert all(array.flags.c_contiguous for array in dataset.values())
        counts = np.bincount(dataset["label"])
        assert counts.min() > 0.09 * counts.sum() and counts.max() < 0.11 * counts.sum()


def test_unknown_name_names_the_nearest_and_all():
    with pytest.raises(ValueError, match="unknown data set 'minst'; nearest: 'mnist'") as info:
        load("minst")
    assert all(name in str(info.value) for name in NAMES)
    with pytest.raises(ValueError, match="'Fashion-MNIST'; nearest: 'fashion_mnist'"):
        load("Fashion-MNIST")
    with pytest.raises(ValueError, match="'CIFAR-10'; nearest: 'cifar10'"):
        load("CIFAR-10")


@pytest.mark.parametrize("name", ["digits", "curves", "mnist", "cifar10", "images", "npy"])
def test_unknown_or_empty_split(name, tmp_path):
    with pytest.raises(ValueError, match="split 'tset'; expected 'train' or 'test'.*'test'"):
        load(name, "tset", tmp_path)
    with pytest.raises(ValueError, match="split ''; expected 'train' or 'test'"):
        load(name, "", tmp_path)


FILES = {
    "mnist": "train-images|https://",
    "fashion_mnist": "train-images|https://",
    "cifar10": "data_batch|https://",
    "frey_faces": "frey_rawface.mat|https://",
    "olivetti": "olivettifaces.mat|https://",
    "npy": "train.npy|your own",
    "mat": "train.mat|your own",
    "images": ".png|your own",
}


@pytest.mark.parametrize("name", FILES)
def test_real_data_asks_for_its_folder(name, tmp_path):
    what, where = FILES[name].split("|")
    with pytest.raises(ValueError, match="--data.dir") as info:
        load(name)
    assert what in str(info.value) and where in str(info.value)
    missing = tmp_path / "nowhere"
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere.*--data.dir") as info:
        load(name, directory=missing)
    assert what in str(info.value) and where in str(info.value)
    with pytest.raises(FileNotFoundError, match="holds nothing; expected"):
        load(name, directory=tmp_path)
    file = tmp_path / "a_file"
    file.touch()
    with pytest.raises(ValueError, match="a_file is a file.*must be a folder"):
        load(name, directory=file)


def test_every_name_has_a_test_for_its_folder():
    assert {*FILES, "digits", "curves", "tfds:<name>"} == set(NAMES)


def test_size_is_for_images_and_layout_for_arrays_only(tmp_path):
    with pytest.raises(ValueError, match="size is 8 for 'digits'; only 'images'"):
        load("digits", size=8)
    options: Any
    for options in ({"layout": "HWN"}, {"shape": (8, 8)}):
        with pytest.raises(ValueError, match="for 'images'; only 'npy' and 'mat' take them"):
            load("images", directory=tmp_path, **options)


def test_fingerprint_is_the_hash_of_names_types_shapes_and_bytes():
    image = np.arange(12, dtype=np.uint8).reshape(3, 2, 2, 1)
    label = np.array([1, 2, 3], np.int32)
    expected = hashlib.sha256(
        b"('image', '|u1', (3, 2, 2, 1))" + bytes(range(12)) + b"('label', '<i4', (3,))" + b"\1\0\0\0\2\0\0\0\3\0\0\0"
    ).hexdigest()
    assert fingerprint({"image": image, "label": label}) == expected
    assert fingerprint({"label": label, "image": image}) == expected
    assert fingerprint({"image": image[::-1][::-1], "label": label}) == expected
    others = [
        {"image": image},
        {"images": image, "label": label},
        {"image": image.reshape(3, 4, 1, 1), "label": label},
        {"image": image, "label": label.astype(np.int64)},
        {"image": image, "label": label[::-1]},
        {"image": image.view(np.int8), "label": label},
    ]
    assert len({expected, *map(fingerprint, others)}) == 1 + len(others)


def test_digits_are_always_the_same_bytes():
    assert fingerprint(load("digits")) == ("dd86b70d8bed6a5c488d182f6d1c4ee22e47800fc8f5e441c18d2ff3c3de6230")
    assert fingerprint(load("digits", "test")) == ("6c84fc6bd1818616c383be180f30929bd51dde1320ed8e98aa881859142fd8aa")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((2, 4, 4), -0.5), "float64 values from -0.5 to -0.5; expected uint8.*x / 2"),
        (np.full((2, 4, 4), 2.5), "float64 values from 2.5 to 2.5.*round"),
        (np.full((2, 4, 4), 256), "int64 values from 256 to 256; expected uint8"),
        (np.full((2, 4, 4), -1, np.int8), "int8 values from -1 to -1"),
        (np.full((2, 4, 4), np.nan, np.float32), "float32 values that are not finite"),
        (np.full((2, 4, 4), 1j), "complex128 values; expected numbers"),
        (np.zeros((2, 16), np.uint8), r"shape \(2, 16\); expected \[N, H, W\].*reshape"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"last axis holds 8.*transpose\(0, 2, 3, 1\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), "split is empty"),
        (np.zeros((2, 0, 8, 3), np.uint8), r"shape \(2, 0, 8, 3\)"),
    ],
)
def test_unfit_images(image, message):
    with pytest.raises(ValueError, match=f"here: .*{message}"):
        as_dataset(image, where="here")


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.zeros(3, np.int32), r"labels int32 \(3,\) for 2 images; expected one integer.*different files"),
        (np.array([0.5, 1.0]), "float64 .*with fractions or NaN"),
        (np.array([0.0, np.nan]), "with fractions or NaN"),
        (np.array([[0, 1], [1, 1]]), "rows are not one-hot.*argmax"),
        (np.array([[0.2, 0.8], [0.0, 1.0]]), "rows are not one-hot"),
        (np.array([-1, 1]), "labels from -1 to 1; expected classes from 0.*np.unique"),
        (np.array([0, 2**32 + 1]), "labels from 0 to 4294967297; expected classes from 0 to 99999"),
        (np.array([np.inf, 0]), "labels from 0.0 to inf"),
        (np.array(["cat", "dog"]), "labels <U3 .*number the classes"),
        (np.zeros((2, 1, 1), int), r"labels int64 \(2, 1, 1\)"),
    ],
)
def test_unfit_labels(label, message):
    with pytest.raises(ValueError, match=f"here: found .*{message}"):
        as_dataset(np.zeros((2, 4, 4), np.uint8), label, where="here")


def test_labels_of_every_natural_form():
    image, classes = np.zeros((4, 2, 2), np.uint8), np.array([2, 0, 1, 2])
    forms = [classes, classes[:, None], classes[None], classes.astype(np.float64), classes.astype(np.uint8)]
    forms += [np.eye(3)[classes], np.eye(3, dtype=bool)[classes], np.eye(3, dtype=np.int8)[classes]]
    for form in forms:
        label = as_dataset(image, form, where="here")["label"]
        np.testing.assert_array_equal(label, classes)
        assert label.dtype == np.int32
    one = as_dataset(image[:1], np.array([[0, 0, 1]]), where="here")["label"]
    np.testing.assert_array_equal(one, [2])


BINARY = np.random.default_rng(0).integers(0, 2, (3, 4, 5))
BYTES = np.random.default_rng(1).integers(0, 256, (3, 4, 5))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.int64, np.uint16, np.float16, np.float32, np.float64])
def test_zeros_and_ones_of_any_type_are_black_and_white(dtype):
    found = as_dataset(BINARY.astype(dtype), where="here")["image"]
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[..., 0], BINARY * 255)
    as_they_are = as_dataset(BINARY.astype(np.uint8), where="here", rescale=False)["image"]
    np.testing.assert_array_equal(as_they_are[..., 0], BINARY)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint16, np.float32, np.float64, ">i4"])
def test_whole_numbers_up_to_255_are_themselves(dtype):
    np.testing.assert_array_equal(as_dataset(BYTES.astype(dtype), where="here")["image"][..., 0], BYTES)
    np.testing.assert_array_equal(as_dataset(0 * BYTES.astype(dtype), where="here")["image"], 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_up_to_one_have_the_nearest_of_256_levels(dtype):
    np.testing.assert_array_equal(as_dataset((BYTES / 255).astype(dtype), where="here")["image"][..., 0], BYTES)
    values = np.array([0, 0.001, 0.002, 0.3, 0.5, 0.998, 0.9981, 1 + 5e-6, -5e-6], dtype).reshape(1, 3, 3)
    expected = [0, 0, 1, 76, 128, 254, 255, 255, 0]
    np.testing.assert_array_equal(as_dataset(values, where="here")["image"].reshape(-1), expected)


def test_kind_of_folder(tmp_path):
    for name, file in {
        "mnist": "train-images-idx3-ubyte.gz", "cifar10": "data_batch_1", "npy": "train.npy", "mat": "train.mat",
        "olivetti": "olivettifaces.mat", "images": "train/cat/1.JPG", "frey_faces": "freyfaces.npy",
    }.items():  # fmt: skip
        path = tmp_path / name / file
        path.parent.mkdir(parents=True)
        path.touch()
        assert kind_of_folder(tmp_path / name) == name
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a.txt").touch()
    assert kind_of_folder(tmp_path / "notes") is kind_of_folder(tmp_path / "nowhere") is None


def test_digits_need_no_other_package():
    """They are package data, and the package names their licence."""
    code = (
        "import sys; sys.modules['sklearn'] = None; from jaxgen import data; print(data.load('digits')['image'].sum())"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout.strip() == str(load("digits")["image"].sum()), done.stderr
    folder = Path(jaxgen.data.__file__).parent
    assert "CC BY 4.0" in (folder / "DIGITS.md").read_text()
    settings = (folder.parents[1] / "setup.cfg").read_text()
    assert "data/digits.npz" in settings and "data/DIGITS.md" in settings


def test_a_strided_array_becomes_contiguous():
    image = np.arange(48, dtype=np.uint8).reshape(2, 3, 2, 4).transpose(0, 3, 2, 1)
    dataset = as_dataset(image, where="here")
    assert dataset["image"].flags.c_contiguous
    np.testing.assert_array_equal(dataset["image"], image)


def test_importing_the_readers_is_light():
    """No library that only one reader needs comes with the import."""
    code = (
        "import sys; import jaxgen.data; heavy = {'sklearn', 'PIL', 'tensorflow_datasets', "
        "'tensorflow', 'scipy.io', 'matplotlib'} & set(sys.modules); sys.exit(str(heavy or ''))"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert not done.stderr.strip(), done.stderr
