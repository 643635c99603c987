"""A folder of images: order, classes, splits, cropping, and errors that name the file."""

import os

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


def read_all(name, split, folder):
    """All images of a split that stays on disk."""
    found = stored(name, split, folder)
    batch = found.read(np.arange(found.number))
    assert batch["image"].shape[1:] == found.shape
    return batch


READERS = (load, read_all)


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
    save(tmp_path / "c.png", pixels(0, 5, 3))
    for read in READERS:
        with pytest.raises(
            ValueError, match=r"b.png: found .* 3 x 4 pixels and 1 more.*; expected 3 x 3.*a.png: give size="
        ):
            read("images", "train", tmp_path)


def test_damaged_image(tmp_path):
    path = tmp_path / "a.png"
    save(path, pixels(0, 30, 30, 3))
    whole = path.read_bytes()
    for raw in (whole[: len(whole) // 2], whole[:-60], b"", b"<html>"):
        path.write_bytes(raw)
        for read in READERS:
            with pytest.raises(ValueError, match="a.png: cannot be decoded.*replace or remove"):
                read("images", "train", tmp_path)


@pytest.mark.parametrize("suffix", ["jpg", "webp", "bmp"])
def test_a_file_without_its_end_is_found_before_it_is_decoded(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    save(path, pixels(0, 40, 40, 3))
    assert stored("images", "train", tmp_path).shape == (40, 40, 3)
    path.write_bytes(path.read_bytes()[:-200])
    for read in READERS:
        with pytest.raises(ValueError, match=f"a.{suffix}: cannot be decoded"):
            read("images", "train", tmp_path)


def test_trailing_bytes_are_no_damage(tmp_path):
    image = save(tmp_path / "a.png", pixels(0, 5, 5, 3))
    with open(tmp_path / "a.png", "ab") as file:
        file.write(b"\0" * 100)
    np.testing.assert_array_equal(stored("images", "train", tmp_path).read([0])["image"], [image])


def test_webp_and_bmp(tmp_path):
    colours = pixels(0, 6, 5, 3)
    save(tmp_path / "a.webp", colours, lossless=True)
    save(tmp_path / "b.bmp", colours[::-1])
    save(tmp_path / "c.bmp", colours[..., 0])
    expected = [colours, colours[::-1], np.repeat(colours[..., :1], 3, axis=2)]
    for read in READERS:
        np.testing.assert_array_equal(read("images", "train", tmp_path)["image"], expected)


def test_grey_among_colour_is_repeated(tmp_path):
    """Also where the only colour is in the other split, so that both splits have the same channels."""
    images = [save(tmp_path / f"{i:02}.png", pixels(i, 4, 4)) for i in range(12)]
    for read in READERS:
        assert read("images", "train", tmp_path)["image"].shape == (11, 4, 4, 1)
    for number in (3, 9):
        colours = save(tmp_path / f"{number:02}.png", pixels(50, 4, 4, 3))
        for read in READERS:
            train, test = (read("images", split, tmp_path)["image"] for split in ("train", "test"))
            assert train.shape == (11, 4, 4, 3) and test.shape == (1, 4, 4, 3)
            whole = np.insert(train, 9, test, axis=0)
            np.testing.assert_array_equal(whole[number], colours)
            np.testing.assert_array_equal(whole[5], np.repeat(images[5][..., None], 3, axis=2))
        save(tmp_path / f"{number:02}.png", images[number])


def test_values_of_alpha_decide_about_transparency(tmp_path):
    for name, channels in (("rgba", 4), ("la", 2)):
        image = pixels(0, 3, 3, channels)
        image[..., -1] = 255
        path = tmp_path / name / "a.png"
        save(path, image)
        for read in READERS:
            found = read("images", "train", tmp_path / name)["image"][0]
            np.testing.assert_array_equal(found, image[..., :-1])
        image[1, 1, -1] = 254
        save(path, image)
        for read in READERS:
            with pytest.raises(ValueError, match=f"a.png: found transparency \\(mode {name.upper()}\\)"):
                read("images", "train", tmp_path / name)
    colours = pixels(1, 3, 3, 3)
    palette = Image.fromarray(colours).quantize(16)
    (tmp_path / "palette").mkdir()
    palette.save(tmp_path / "palette/a.png", transparency=bytes([255] * 16))
    np.testing.assert_array_equal(read_images(tmp_path / "palette")["image"][0], colours)
    palette.save(tmp_path / "palette/a.png", transparency=bytes([254] * 16))
    with pytest.raises(ValueError, match="a.png: found transparency"):
        read_images(tmp_path / "palette")


def test_deep_values_and_several_frames_are_refused(tmp_path):
    save(tmp_path / "a.png", pixels(0, 3, 3).astype(np.uint16) * 100)
    frames = [Image.fromarray(pixels(i, 5, 5, 3)) for i in range(2)]
    frames[0].save(tmp_path / "b.png", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "c.webp", save_all=True, append_images=frames[1:])
    for read in READERS:
        with pytest.raises(ValueError) as refused:
            read("images", "train", tmp_path)
        lines = str(refused.value).splitlines()
        assert len(lines) == 3 and "a.png: found mode I;16, more than 8 bits" in lines[0]
        assert "b.png: found 2 frames" in lines[1] and "c.webp: found 2 frames" in lines[2]


def test_all_problems_are_counted(tmp_path):
    for i in range(9):
        (tmp_path / f"{i}.jpg").write_text("not an image")
    with pytest.raises(ValueError, match=r"(?s)0.jpg.*4.jpg.*\.\.\. and 4 more$"):
        read_images(tmp_path)


def test_structure_that_is_not_understood(tmp_path):
    save(tmp_path / "a/1.png", pixels(0, 3, 3))
    save(tmp_path / "2.png", pixels(0, 3, 3))
    with pytest.raises(ValueError, match="2.png: found an image beside the class folders a"):
        read_images(tmp_path)
    (tmp_path / "2.png").unlink()
    save(tmp_path / "a/deeper/1.png", pixels(0, 3, 3))
    with pytest.raises(ValueError, match="deeper: found a folder of images inside a class folder.*data.dir.*a$"):
        read_images(tmp_path)


JUNK = [
    "__MACOSX/cat/._1.png", "__MACOSX/1.png", "@eaDir/1.png/thumb.jpg", ".git/1.png", "$RECYCLE.BIN/1.png",
    "empty/notes.txt", "cat/@eaDir/1.jpg", "cat/.DS_Store", "Thumbs.db", "cat/._2.png",
]  # fmt: skip


@pytest.mark.parametrize("junk", JUNK)
def test_what_systems_leave_behind_is_no_class(junk, tmp_path):
    for name in ("cat", "zebra"):
        for i in range(2):
            save(tmp_path / name / f"{i}.png", pixels(i, 3, 3))
    path = tmp_path / junk
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"junk")
    for read in READERS:
        np.testing.assert_array_equal(read("images", "train", tmp_path)["label"], [0, 0, 1, 1])


HELD_OUT = ["test", "val", "validation", "valid", "Testing"]


@pytest.mark.parametrize("name", HELD_OUT)
def test_held_out_folders(name, tmp_path):
    for folder, classes in (("Training" if name == "Testing" else "train", "ab"), (name, "bc")):
        for k, c in enumerate(classes):
            save(tmp_path / folder / c / "0.png", pixels(k, 3, 3))
    (tmp_path / "annotations").mkdir()
    for read in READERS:
        np.testing.assert_array_equal(read("images", "train", tmp_path)["label"], [0, 1])
        np.testing.assert_array_equal(read("images", "test", tmp_path)["label"], [1, 2])


def test_test_comes_before_val(tmp_path):
    for i, name in enumerate(("train", "val", "test")):
        save(tmp_path / name / "0.png", np.full((2, 2), i, np.uint8))
    assert read_images(tmp_path, "test")["image"].max() == 2
    save(tmp_path / "extra/0.png", pixels(0, 2, 2))
    with pytest.raises(ValueError, match="found images in extra beside train/ and test/"):
        read_images(tmp_path)


def test_a_class_may_be_called_train(tmp_path):
    for k, name in enumerate(("bus", "train", "valid")):
        for i in range(4):
            save(tmp_path / name / f"{i}.png", np.full((2, 2), 10 * k + i, np.uint8))
    (tmp_path / "valid").rename(tmp_path / "tram")
    for read in READERS:
        train, test = read("images", "train", tmp_path), read("images", "test", tmp_path)
        np.testing.assert_array_equal(train["label"], [0] * 4 + [1] * 4 + [2] * 3)
        np.testing.assert_array_equal(train["image"][:, 0, 0, 0] // 10, train["label"])
        np.testing.assert_array_equal(test["label"], [2])


def test_one_split_is_read_without_the_other(tmp_path):
    for i in range(3):
        save(tmp_path / f"train/{i}.png", pixels(i, 3, 3))
    for read in READERS:
        assert len(read("images", "train", tmp_path)["image"]) == 3
        with pytest.raises(FileNotFoundError, match="no folder test or testing or val.*with images in .*holds train"):
            read("images", "test", tmp_path)
    (tmp_path / "train").rename(tmp_path / "val")
    assert len(read_images(tmp_path, "test")["image"]) == 3
    with pytest.raises(FileNotFoundError, match="no folder train or training"):
        read_images(tmp_path, "train")


def test_pictures_of_other_kinds_are_not_left_out_silently(tmp_path):
    save(tmp_path / "cat/0.png", pixels(0, 3, 3))
    for i in range(3):
        save(tmp_path / f"dog/{i}.gif", pixels(i, 3, 3))
    (tmp_path / "dog/notes.txt").touch()
    for read in READERS:
        with pytest.raises(ValueError, match="0.gif: found 3 pictures of the kinds .gif, which are not read.*convert"):
            read("images", "train", tmp_path)
    with pytest.raises(ValueError, match="found 3 pictures of the kinds .gif"):
        read_images(tmp_path / "dog")


def test_nothing_to_read(tmp_path):
    (tmp_path / "film.mp4").touch()
    with pytest.raises(FileNotFoundError, match="no image in .*holds film.mp4; expected .*.png"):
        read_images(tmp_path)
    save(tmp_path / "a.png", pixels(0, 3, 3))
    with pytest.raises(ValueError, match="the split 'test' is empty.*add images"):
        read_images(tmp_path, "test")
    with pytest.raises(ValueError, match="found size 0; expected"):
        read_images(tmp_path, size=0)


def test_images_read_by_number_are_those_in_memory(tmp_path):
    for i in range(12):
        save(tmp_path / f"{'ant' if i % 3 else 'bee'}/{i}.png", pixels(i, 5, 7 + i % 2, 3))
    images, whole = stored("images", "train", tmp_path, size=4), load("images", "train", tmp_path, size=4)
    assert (images.number, images.shape) == (11, (4, 4, 3))
    batch = images.read(np.array([10, 0, 3]))
    np.testing.assert_array_equal(batch["image"], whole["image"][[10, 0, 3]])
    np.testing.assert_array_equal(batch["label"], whole["label"][[10, 0, 3]])
    assert images.num_classes == 2
    before = images.fingerprint
    save(tmp_path / "bee/0.png", pixels(99, 50, 50, 3))
    assert stored("images", "train", tmp_path, size=4).fingerprint != before


def test_a_name_that_is_no_file_is_not_left_out_silently(tmp_path):
    for i in range(4):
        save(tmp_path / f"{i}.png", pixels(i, 4, 4))
    for make in (lambda path: path.symlink_to("absent.png"), os.mkfifo):
        make(tmp_path / "a.png")
        with pytest.raises(ValueError, match=r"a\.png: found a link without its file, a pipe"):
            load("images", "train", tmp_path)
        (tmp_path / "a.png").unlink()
    assert len(load("images", "train", tmp_path)["image"]) == 4


def test_another_file_behind_the_first_bytes_of_an_image_is_described(tmp_path):
    for name, data, kind in (("a.webp", b"RIFF\x10\0\0\0AVI " + bytes(64), "WEBP"), ("a.bmp", b"BM" + bytes(9), "BMP")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=rf"{name}: cannot be decoded \(it begins as {kind} and goes on otherwise"):
            load("images", "train", tmp_path)
        (tmp_path / name).unlink()
