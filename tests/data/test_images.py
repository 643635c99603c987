"""A folder of images: order, classes, splits, cropping, and errors that name the file."""

import numpy as np
import pytest
from PIL import Image

from jaxgen.data import load, read_images, stored


def pixels(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return array


def test_a_flat_folder_is_sorted_by_name_and_every_tenth_is_test(tmp_path):
    names = [f"{i}.png" for i in range(21)]
    images = {name: save(tmp_path / name, pixels(i, 4, 6, 3)) for i, name in enumerate(names)}
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".hidden.png").touch()
    order = sorted(names)
    assert order[2] == "10.png"
    train, test = load("images", "train", tmp_path), load("images", "test", tmp_path)
    expected = [images[n] for i, n in enumerate(order) if i % 10 != 9]
    np.testing.assert_array_equal(train["image"], expected)
    np.testing.assert_array_equal(test["image"], [images[order[9]], images[order[19]]])
    assert set(train) == set(test) == {"image"}
    assert train["image"].flags.c_contiguous


def test_class_folders_are_numbered_over_both_splits(tmp_path):
    train, test = {}, {}
    for k, name in enumerate(["ant", "bee", "cat"]):
        for i in range(2):
            train[name, i] = save(tmp_path / f"train/{name}/{i}.png", pixels(10 * k + i, 3, 3))
        if name != "bee":
            test[name] = save(tmp_path / f"test/{name}/0.PNG", pixels(100 + k, 3, 3))
    a, b = load("images", "train", tmp_path), load("images", "test", tmp_path)
    np.testing.assert_array_equal(a["image"][..., 0], list(train.values()))
    np.testing.assert_array_equal(a["label"], [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(b["image"][..., 0], list(test.values()))
    np.testing.assert_array_equal(b["label"], [0, 2])
    assert a["label"].dtype == np.int32


def test_class_folders_without_splits(tmp_path):
    images = [
        save(tmp_path / name / f"{i}.png", pixels(10 * k + i, 3, 3)) for k, name in enumerate("ab") for i in range(6)
    ]
    train, test = load("images", "train", tmp_path), load("images", "test", tmp_path)
    np.testing.assert_array_equal(train["label"], [0] * 6 + [1] * 5)
    np.testing.assert_array_equal(test["label"], [1])
    np.testing.assert_array_equal(test["image"][0, ..., 0], images[9])


def test_size_crops_the_centre(tmp_path):
    wide = np.zeros((4, 10, 3), np.uint8)
    wide[:, 3:7] = pixels(0, 4, 4, 3)
    wide[:, :3], wide[:, 7:] = 255, 255
    save(tmp_path / "a.png", wide)
    save(tmp_path / "b.png", wide.transpose(1, 0, 2))
    dataset = load("images", "train", tmp_path, size=4)
    np.testing.assert_array_equal(dataset["image"][0], wide[:, 3:7])
    np.testing.assert_array_equal(dataset["image"][1], wide[:, 3:7].transpose(1, 0, 2))


def test_size_averages_when_it_shrinks(tmp_path):
    """Antialiased: a fine checkerboard becomes grey, where picking pixels would keep 0 or 255."""
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    save(tmp_path / "a.png", board)
    image = read_images(tmp_path, size=8)["image"]
    assert image.shape == (1, 8, 8, 1)
    assert np.abs(image.astype(int) - 127.5).max() < 3


def test_jpeg_and_its_orientation(tmp_path):
    picture = np.zeros((8, 16, 3), np.uint8)
    picture[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the picture must turn by 90 degrees clockwise
    save(tmp_path / "a.JPG", picture, quality=95, exif=exif)
    image = read_images(tmp_path)["image"][0]
    assert image.shape == (16, 8, 3)
    np.testing.assert_allclose(image, np.rot90(picture, -1), atol=2)


def test_grey_pictures_have_one_channel_and_palettes_three(tmp_path):
    save(tmp_path / "grey/a.png", pixels(0, 3, 3))
    colours = pixels(1, 3, 3, 3)
    (tmp_path / "palette").mkdir()
    Image.fromarray(colours).quantize(16).save(tmp_path / "palette/a.png")
    assert read_images(tmp_path / "grey")["image"].shape == (1, 3, 3, 1)
    np.testing.assert_array_equal(read_images(tmp_path / "palette")["image"][0], colours)


def test_different_sizes_name_both_files(tmp_path):
    save(tmp_path / "a.png", pixels(0, 3, 3))
    save(tmp_path / "b.png", pixels(0, 3, 4))
    with pytest.raises(ValueError, match=r"b.png: found .*\(3, 4, 1\); expected \(3, 3, 1\).*a.p"):
        read_images(tmp_path)
    save(tmp_path / "b.png", pixels(0, 3, 3, 3))
    with pytest.raises(ValueError, match=r"b.png: found .*\(3, 3, 3\).*size=.*grey and colour"):
        read_images(tmp_path)


def test_damaged_image(tmp_path):
    path = tmp_path / "a.png"
    save(path, pixels(0, 30, 30, 3))
    whole = path.read_bytes()
    for raw in (whole[: len(whole) // 2], whole[:-60], b"", b"<html>"):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match="a.png: cannot be decoded.*replace or remove"):
            read_images(tmp_path)


def test_transparency_and_deep_values_are_refused(tmp_path):
    save(tmp_path / "a.png", pixels(0, 3, 3, 4))
    with pytest.raises(ValueError, match=r"a.png: found transparency \(mode RGBA\)"):
        read_images(tmp_path)
    save(tmp_path / "a.png", pixels(0, 3, 3).astype(np.uint16) * 100)
    with pytest.raises(ValueError, match="a.png: found mode I;16, more than 8 bits"):
        read_images(tmp_path)


def test_structure_that_is_not_understood(tmp_path):
    save(tmp_path / "a/1.png", pixels(0, 3, 3))
    save(tmp_path / "2.png", pixels(0, 3, 3))
    with pytest.raises(ValueError, match="2.png: found an image beside the class folders a"):
        read_images(tmp_path)
    (tmp_path / "2.png").unlink()
    (tmp_path / "a/deeper").mkdir()
    with pytest.raises(ValueError, match="deeper: found a folder inside a class folder"):
        read_images(tmp_path)


def test_nothing_to_read(tmp_path):
    (tmp_path / "film.webp").touch()
    with pytest.raises(FileNotFoundError, match="no image in .*holds film.webp; expected .*.png"):
        read_images(tmp_path)
    save(tmp_path / "a.png", pixels(0, 3, 3))
    with pytest.raises(ValueError, match="the split 'test' is empty.*add images"):
        read_images(tmp_path, "test")
    with pytest.raises(ValueError, match="found size 0; expected"):
        read_images(tmp_path, size=0)
    save(tmp_path / "train/a.png", pixels(0, 3, 3))
    with pytest.raises(FileNotFoundError, match="no folder .*test"):
        read_images(tmp_path, "test")


def test_images_read_by_number_are_those_in_memory(tmp_path):
    for i in range(12):
        save(tmp_path / f"{'ant' if i % 3 else 'bee'}/{i}.png", pixels(i, 5, 7 + i % 2, 3))
    images, whole = stored("images", "train", tmp_path, size=4), load("images", "train", tmp_path, size=4)
    assert (images.number, images.shape) == (11, (4, 4, 3))
    batch = images.read(np.array([10, 0, 3]))
    np.testing.assert_array_equal(batch["image"], whole["image"][[10, 0, 3]])
    np.testing.assert_array_equal(batch["label"], whole["label"][[10, 0, 3]])
    with pytest.raises(ValueError, match="found an image of shape .*expected .*give size="):
        stored("images", "train", tmp_path).read(range(11))
    before = images.fingerprint
    save(tmp_path / "bee/0.png", pixels(99, 50, 50, 3))
    assert stored("images", "train", tmp_path, size=4).fingerprint != before
