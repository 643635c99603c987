"""NumPy and MATLAB files, and the face data sets in them."""

import os

import ml_dtypes
import numpy as np
import pytest
import scipy.io

from jaxgen.data import images_from_arrays, load, read_mat, read_npy

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


def test_npy_reads_floats_and_flat_images(tmp_path):
    image, label = random_bytes(5, 7, 7), np.array([3, 1, 4, 1, 5])
    np.save(tmp_path / "train.npy", (image / 255).reshape(5, 49))
    np.save(tmp_path / "train_labels.npy", np.eye(6)[label])
    found = load("npy", "train", tmp_path)
    np.testing.assert_array_equal(found["image"][..., 0], image)
    np.testing.assert_array_equal(found["label"], label)
    np.save(tmp_path / "train.npy", np.full((2, 4, 4), -0.5))
    with pytest.raises(ValueError, match="train.npy.*float64 values from -0.5 to -0.5.*uint8"):
        load("npy", "train", tmp_path)


COLOURS = random_bytes(6, 4, 5, 3)
GREYS = random_bytes(6, 4, 5)


@pytest.mark.parametrize(
    ("stored", "options"),
    [
        (COLOURS, {}),
        (COLOURS, {"layout": "NHWC"}),
        (COLOURS.transpose(1, 2, 3, 0), {"layout": "HWCN"}),
        (COLOURS.transpose(0, 3, 1, 2), {"layout": "NCHW"}),
        (COLOURS.reshape(6, 60), {"shape": (4, 5, 3)}),
        (COLOURS.transpose(0, 3, 2, 1).reshape(6, 60), {"layout": "NCWH", "shape": (3, 5, 4)}),
        (COLOURS.transpose(3, 2, 1, 0).reshape(60, 6), {"layout": "CWHN", "shape": (3, 5, 4)}),
        (GREYS, {}),
        (GREYS.transpose(1, 2, 0), {"layout": "HWN"}),
        (GREYS.transpose(0, 2, 1), {"layout": "NWH"}),
        (GREYS.reshape(6, 20), {"shape": (4, 5)}),
    ],
)
def test_orders_of_axes(stored, options):
    found = images_from_arrays(stored, **options)
    np.testing.assert_array_equal(found.image, COLOURS if stored.size == COLOURS.size else GREYS[..., None])
    assert found.fingerprint == images_from_arrays(found.image).fingerprint and found.label is None


def test_flat_images_without_a_shape_are_square():
    image = random_bytes(6, 5, 5)
    np.testing.assert_array_equal(images_from_arrays(image.reshape(6, 25)).image[..., 0], image)
    columns = image.transpose(2, 1, 0).reshape(25, 6)  # as MATLAB's reshape(image, 25, []) of [H, W, N]
    np.testing.assert_array_equal(images_from_arrays(columns, layout="WHN").image[..., 0], image)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((6, 6, 50), {}, r"may be HWN; set layout='HWN' \(--data.layout\) if it is, or 'NHW' if it is 6 images"),
        ((6, 5, 50), {}, "may be HWN"),
        ((6, 7, 20), {"label": np.zeros(20, int)}, "may be HWN"),
        ((8, 8, 3, 4), {}, "may be HWCN"),
        ((9, 3, 8, 8), {}, "may be NCHW"),
        ((8, 8, 3, 73), {}, "may be HWCN"),
        ((8, 24), {}, r"flat images, shape \(8, 24\), and shape not given; expected shape=.*product of 24"),
        ((8, 25), {"shape": (4, 6)}, "product of 25"),
        ((8, 25), {"layout": "HNW"}, "N must be its first or last letter"),
        ((8, 5, 5), {"shape": (5, 5)}, "is for flat images"),
        ((8, 5, 5), {"layout": "NHWC"}, "found 3 axes, shape .* names 4"),
        ((8, 5, 5), {"layout": "NHH"}, "layout is 'NHH'; expected the letters N, H, W"),
        ((8,), {}, "found images of shape"),
        ((2, 3, 8, 8, 1), {}, "found images of shape"),
    ],
)
def test_an_order_that_is_not_said_is_never_guessed(shape, options, message):
    with pytest.raises(ValueError, match=message):
        images_from_arrays(np.full(shape, 3, np.uint8), **options)


def test_labels_tell_images_from_rows():
    image = random_bytes(6, 6, 50)
    assert images_from_arrays(image, np.arange(6)).image.shape == (6, 6, 50, 1)
    assert images_from_arrays(image, layout="NHW").image.shape == (6, 6, 50, 1)


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


def test_mat_reads_logical_and_fractional_images_and_its_own_order(tmp_path):
    logical = random_bytes(5, 6, 7) > 127
    scipy.io.savemat(tmp_path / "train.mat", {"image": logical.transpose(1, 2, 0), "label": np.eye(5)[::-1]})
    scipy.io.savemat(tmp_path / "test.mat", {"image": np.full((7, 6, 2), 0.5), "label": np.array([[4.0, 0.0]])})
    train, test = load("mat", "train", tmp_path, layout="HWN"), load("mat", "test", tmp_path, layout="HWN")
    np.testing.assert_array_equal(train["image"][..., 0], logical * 255)
    np.testing.assert_array_equal(train["label"], [4, 3, 2, 1, 0])
    np.testing.assert_array_equal(test["image"], np.full((2, 7, 6, 1), 128))
    np.testing.assert_array_equal(test["label"], [4, 0])


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


IMAGES = random_bytes(4, 6, 6)


@pytest.mark.parametrize(
    ("image", "label", "options", "message"),
    [
        (np.ma.array(IMAGES, mask=IMAGES > 9), None, {}, "image is a masked array; .*image.filled"),
        (IMAGES, np.ma.array([0, 1, 0, 1], mask=[True, False, False, False]), {}, "label is a masked array"),
        ([IMAGES[0], IMAGES[1, :3]], None, {}, "image is a list that makes no array"),
        (IMAGES, [[0], [1, 1], [0], [1]], {}, "label is a list that makes no array"),
        (IMAGES.reshape(4, 36), None, {"shape": 6}, "shape is 6; expected positive whole numbers"),
        (IMAGES.reshape(4, 36), None, {"shape": (-6, -6)}, r"shape is \(-6, -6\); expected positive"),
        (IMAGES, None, {"layout": 3}, "layout is 3; expected text"),
        (IMAGES, np.full(4, np.inf, np.float16), {}, "labels from inf to inf"),
    ],
)
def test_arrays_that_are_no_plain_images_are_named(image, label, options, message):
    with pytest.raises(ValueError, match=message):
        images_from_arrays(image, label, **options)


def test_short_floating_types_are_read():
    unit = (IMAGES / 255).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(
        images_from_arrays(unit).image[..., 0], np.rint(unit.astype(np.float32) * 255).astype(np.uint8)
    )
    label = np.array([0, 2048, 3, 4], np.float16)
    np.testing.assert_array_equal(images_from_arrays(IMAGES, label).label, [0, 2048, 3, 4])


def test_the_file_of_wrong_labels_is_named(tmp_path):
    np.save(tmp_path / "train.npy", IMAGES)
    np.save(tmp_path / "train_labels.npy", np.array([0, 1, -1, 2]))
    with pytest.raises(ValueError, match=r"train_labels\.npy: found labels from -1 to 2"):
        load("npy", "train", tmp_path)
