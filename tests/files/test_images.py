"""Images: a list of formats, checksums, and pixels that a file can hold."""

import io
import os
import subprocess

import numpy as np
import pytest
from PIL import Image

from jaxgen import files

PIXELS = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)


def packed(kind, image=None, **options):
    file = io.BytesIO()
    (Image.fromarray(PIXELS) if image is None else image).save(file, kind, **options)
    return file.getvalue()


def test_png_and_jpeg_are_read_whatever_their_names(tmp_path):
    path = tmp_path / "a.gif"
    path.write_bytes(packed("PNG"))
    np.testing.assert_array_equal(np.asarray(files.read_image(path)), PIXELS)
    path.write_bytes(packed("JPEG", quality=100, subsampling=0))
    assert np.abs(np.asarray(files.read_image(path)).astype(int) - PIXELS).max() < 16
    turned = Image.fromarray(PIXELS)
    turned.getexif()[0x0112] = 6
    path.write_bytes(packed("PNG", turned, exif=turned.getexif()))
    np.testing.assert_array_equal(np.asarray(files.read_image(path, upright=True)), np.rot90(PIXELS, -1))
    np.testing.assert_array_equal(np.asarray(files.read_image(path)), PIXELS)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (EPS, "a PostScript file"),
        (packed("GIF"), "a GIF image"),
        (packed("TIFF"), "a TIFF image"),
        (packed("BMP"), "a BMP image"),
        (packed("WEBP"), "a RIFF file, such as WebP"),
        (b"", "an empty file"),
        (b"<!DOCTYPE html>", "a web page"),
    ],
)
def test_other_formats_are_named_and_no_program_is_started(tmp_path, monkeypatch, data, kind):
    def started(*_, **__):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(os, "system", started)
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"a\.png: cannot be decoded \(it is {kind}.*expected a whole PNG or JPEG"):
        files.read_image(path)


def test_further_formats_are_read_when_named(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(packed("BMP"))
    np.testing.assert_array_equal(np.asarray(files.read_image(path, ["PNG", "BMP"])), PIXELS)
    path.write_bytes(packed("WEBP", lossless=True))
    np.testing.assert_array_equal(np.asarray(files.read_image(path, ["WEBP"])), PIXELS)


def test_the_checksum_of_every_chunk_is_compared(tmp_path):
    path, data = tmp_path / "a.png", packed("PNG")
    for at in range(16, len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(ValueError, match=r"a\.png: cannot be decoded"):
            files.read_image(path)


def test_images_of_more_pixels_than_their_files_can_hold_are_not_decoded(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(packed("PNG", Image.new("L", (8000, 8000))))
    with pytest.raises(ValueError, match="8000 x 8000 pixels in a file of"):
        files.read_image(path)
    data = packed("JPEG", Image.new("L", (2000, 2000)), progressive=True)
    last = data.rindex(b"\xff\xda")
    path.write_bytes(data[:last] + data[last:-2] * 30 + data[-2:])
    with pytest.raises(ValueError, match="4,000,000 pixels in 3. scans"):
        files.read_image(path)
