"""NumPy and MATLAB files, and the face data sets in them."""

import os

import numpy as np
import pytest
import scipy.io

from jaxgen.data import load, read_mat, read_npy

REAL = os.environ.get("JAXGEN_DATA")
needs_data = pytest.mark.skipif(REAL is None, reason="JAXGEN_DATA is not set to the folder of the original data sets")


def random_bytes(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_npy_folder(tmp_path):
    image, label = random_bytes(5, 6, 7, 3), np.array([3, 1, 4, 1, 5])
    np.save(tmp_path / "train.npy", np.asfortranarray(image))
    np.save(tmp_path / "train_labels.npy", label)
    np.save(tmp_path / "test.npy", image[:2, ..., 0])
    train, test = load("npy", "train", tmp_path), load("npy", "test", tmp_path)
    np.testing.assert_array_equal(train["image"], image)
    np.testing.assert_array_equal(train["label"], label)
    assert train["image"].flags.c_contiguous and train["label"].dtype == np.int32
    assert set(test) == {"image"}
    np.testing.assert_array_equal(test["image"], image[:2, ..., :1])


def test_npy_refuses_what_is_not_bytes(tmp_path):
    np.save(tmp_path / "train.npy", np.full((2, 4, 4), 0.5))
    with pytest.raises(ValueError, match="train.npy.*float64 values from 0.5 to 0.5.*uint8"):
        load("npy", "train", tmp_path)


def test_npy_never_unpickles(tmp_path):
    path = tmp_path / "train.npy"
    np.save(path, np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="train.npy: not a whole .npy array.*allow_pickle"):
        load("npy", "train", tmp_path)


def test_damaged_npy(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, random_bytes(5, 6, 7))
    whole = path.read_bytes()
    for raw in (whole[:-1], whole[:20], b"", b"PK\3\4" + whole):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match=r"a.npy: not a whole .npy array.*numpy.save"):
            read_npy(path)


def test_mat_folder_with_matlabs_doubles(tmp_path):
    image, label = random_bytes(5, 6, 7), np.array([3, 1, 4, 1, 5])
    columns = {"image": image.astype(np.float64), "label": label.astype(np.float64)[:, None]}
    scipy.io.savemat(tmp_path / "train.mat", columns, do_compression=True)
    scipy.io.savemat(tmp_path / "test.mat", {"image": image[:2]})
    train, test = load("mat", "train", tmp_path), load("mat", "test", tmp_path)
    np.testing.assert_array_equal(train["image"], image[..., None])
    np.testing.assert_array_equal(train["label"], label)
    assert train["image"].dtype == np.uint8 and train["image"].flags.c_contiguous
    assert set(test) == {"image"}
    np.testing.assert_array_equal(test["image"], image[:2, ..., None])


@pytest.mark.parametrize("values", [np.full((2, 3, 3), 0.5), np.ones((2, 3, 3))])
def test_mat_does_not_guess_the_scale(tmp_path, values):
    scipy.io.savemat(tmp_path / "train.mat", {"image": values})
    with pytest.raises(ValueError, match="float64 values from .*expected uint8 from 0 to 255"):
        load("mat", "train", tmp_path)


def test_mat_without_the_array(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"ff": np.eye(2), "other": np.eye(2)})
    with pytest.raises(ValueError, match="a.mat: found the arrays ff, other; expected 'faces'"):
        read_mat(path, "faces")


def test_damaged_mat(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"faces": random_bytes(40, 40)}, do_compression=True)
    whole = path.read_bytes()
    for raw in (whole[:-200], whole[:100], b"", b"not a matrix" * 30):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match="a.mat: not a whole MATLAB file.*version 5 to 7"):
            read_mat(path, "faces")


@pytest.mark.parametrize("kind", ["npy", "mat"])
def test_frey_faces_from_either_file(tmp_path, kind):
    frames = random_bytes(1965, 28, 20)
    if kind == "npy":
        np.save(tmp_path / "freyfaces.npy", frames.reshape(1965, 560))
    else:
        scipy.io.savemat(tmp_path / "frey_rawface.mat", {"ff": frames.reshape(1965, 560).T})
    train, test = load("frey_faces", "train", tmp_path), load("frey_faces", "test", tmp_path)
    expected = [i for i in range(1965) if i % 10 != 9]
    np.testing.assert_array_equal(train["image"], frames[expected][..., None])
    np.testing.assert_array_equal(test["image"], frames[9::10][..., None])
    assert set(train) == {"image"}


def test_frey_faces_of_another_shape(tmp_path):
    np.save(tmp_path / "freyfaces.npy", random_bytes(560, 1965))
    with pytest.raises(ValueError, match=r"shape \(560, 1965\); expected \(1965, 560\).*transp"):
        load("frey_faces", "train", tmp_path)


def test_olivetti_columns_are_images_by_columns(tmp_path):
    faces = random_bytes(400, 64, 64)
    columns = np.stack([face.ravel(order="F") for face in faces], axis=1)
    scipy.io.savemat(tmp_path / "olivettifaces.mat", {"faces": columns})
    train, test = load("olivetti", "train", tmp_path), load("olivetti", "test", tmp_path)
    np.testing.assert_array_equal(train["image"], faces[:300, :, :, None])
    np.testing.assert_array_equal(test["image"], faces[300:, :, :, None])
    np.testing.assert_array_equal(train["label"], np.repeat(np.arange(30), 10))
    np.testing.assert_array_equal(test["label"], np.repeat(np.arange(30, 40), 10))


def test_olivetti_of_another_shape(tmp_path):
    scipy.io.savemat(tmp_path / "olivettifaces.mat", {"faces": random_bytes(400, 4096)})
    with pytest.raises(ValueError, match=r"shape \(400, 4096\); expected \(4096, 400\)"):
        load("olivetti", "train", tmp_path)


def symmetry(image):
    """Mean correlation of each image with its own mirror image."""
    flat = image.reshape(len(image), -1).astype(np.float64)
    mirrored = image[:, :, ::-1].reshape(len(image), -1).astype(np.float64)
    return np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(flat, mirrored, strict=True)])


@needs_data
@pytest.mark.real_data
def test_real_faces_are_upright():
    """A face is nearly its own mirror image about its vertical axis, not about the horizontal."""
    for name, folder, num in (("olivetti", "olivetti", 300), ("frey_faces", "frey_faces", 1769)):
        image = load(name, "train", f"{REAL}/{folder}")["image"]
        assert len(image) == num
        upright, lying = symmetry(image[::10]), symmetry(image[::10].transpose(0, 2, 1, 3))
        assert upright > lying + 0.1, (name, upright, lying)
