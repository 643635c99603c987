"""Names, splits, the embedded digits and the fingerprint."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from jaxgen.data import NAMES, fingerprint, load
from jaxgen.data.checks import as_dataset


def test_digits_are_scikit_learns_scaled_to_bytes():
    from sklearn.datasets import load_digits

    original = load_digits()
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


def test_size_is_for_images_only():
    with pytest.raises(ValueError, match="size is 8 for 'digits'; only 'images'"):
        load("digits", size=8)


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
        (np.zeros((2, 4, 4)), "float64 values from 0.0 to 0.0; expected uint8"),
        (np.zeros((2, 4, 4), bool), "bool values.*expected uint8"),
        (np.zeros((2, 16), np.uint8), r"shape \(2, 16\); expected \[N, H, W\].*reshape"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"last axis holds 8.*transpose\(0, 2, 3, 1\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), "split is empty"),
        (np.zeros((2, 0, 8, 3), np.uint8), r"shape \(2, 0, 8, 3\)"),
    ],
)
def test_unfit_images(image, message):
    with pytest.raises(ValueError, match=f"here: .*{message}"):
        as_dataset(image, where="here")


@pytest.mark.parametrize("label", [np.zeros(3, np.int32), np.zeros((2, 1), np.int32), np.zeros(2)])
def test_unfit_labels(label):
    with pytest.raises(ValueError, match="found labels .* for 2 images; expected one integer"):
        as_dataset(np.zeros((2, 4, 4), np.uint8), label, where="here")


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
