"""What is read by number is known again: an edited image is told, and a copy is the same data."""

import os
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from jaxgen.data import stored
from jaxgen.data.file_digest import APART, PIECE, PIECES, WHOLE, file_digest, file_digests


@pytest.fixture
def folder(tmp_path):
    """40 images of two classes."""
    path = tmp_path / "images"
    for i in range(40):
        file = path / f"{'ant' if i % 2 else 'bee'}/{i:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (6, 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, compress_level=0)
    return path


def fingerprint(folder, **options):
    return stored("images", "train", folder, **options).fingerprint


def test_one_pixel_of_one_image_is_told(folder):
    """The size of the file stays the same, and so does its time."""
    before = fingerprint(folder)
    path = folder / "bee/16.png"
    status = path.stat()
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[2, 3, 1] ^= 1
    Image.fromarray(pixels).save(path, compress_level=0)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert fingerprint(folder) != before


def test_two_images_that_changed_places_are_told(folder):
    before = fingerprint(folder)
    first, second = folder / "ant/01.png", folder / "ant/03.png"
    first.rename(folder / "aside")
    second.rename(first)
    (folder / "aside").rename(second)
    assert fingerprint(folder) != before


def test_a_copy_elsewhere_at_another_time_is_the_same(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    for path in (tmp_path / "elsewhere").rglob("*.png"):
        os.utime(path, (1, time.time() + 1e6))
    assert fingerprint(tmp_path / "elsewhere") == fingerprint(folder)
    assert fingerprint(folder, size=4) != fingerprint(folder)
    assert fingerprint(folder) != stored("images", "test", folder).fingerprint


@pytest.mark.parametrize("size", [0, 1, WHOLE, WHOLE + 1, 110_000, 5 * APART, 80 * APART])
def test_what_is_read_of_a_file(size, tmp_path):
    """All of a small file; of a large one the ends and every so many bytes, and nothing else."""
    path, number = tmp_path / "file", min(max(size // APART, PIECES[0]), PIECES[1])
    path.write_bytes(b"\0" * size)
    before = file_digest(path)

    def told(place):
        with open(path, "r+b") as file:
            file.seek(place)
            file.write(b"x")
            file.flush()
            found = file_digest(path) != before
            file.seek(place)
            file.write(b"\0")
        return found

    ends = {0, size - 1} if size else set()
    gap = (size - PIECE) / (number - 1)
    assert all(told(place) for place in ends | {round(i * gap) + PIECE // 2 for i in range(number) if size > WHOLE})
    if size <= WHOLE:
        assert all(told(place) for place in range(0, size, 997))
    elif gap > PIECE + 2:
        assert not told(round(gap / 2 + PIECE / 2))
    path.write_bytes(b"\0" * (size + 1))
    assert file_digest(path) != before


def test_digests_are_in_the_order_of_the_files(folder):
    paths = sorted(folder.rglob("*.png"))
    assert file_digests(iter(paths)) == [file_digest(path) for path in paths]
    assert len(set(file_digests(paths))) == 40
    with pytest.raises(FileNotFoundError, match="nowhere"):
        file_digests([*paths, folder / "nowhere"])


def test_names_that_are_no_utf_8_have_a_fingerprint(folder):
    before = fingerprint(folder)
    os.rename(folder / "ant", os.fsencode(folder) + b"/\xff")
    assert fingerprint(folder) != before
