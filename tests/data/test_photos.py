"""Images of a scene in one array: sizes, masks, and what is refused before anything is decoded."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from jaxgen.data import photos


def save(path, pixels, **settings):
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **settings)
    return path


@pytest.fixture
def two(tmp_path):
    """A landscape and a portrait of noise."""
    rng = np.random.default_rng(0)
    shapes = (6, 8, 3), (8, 6, 3)
    return [save(tmp_path / f"{i}.png", rng.integers(0, 256, shape)) for i, shape in enumerate(shapes)]


def test_images_of_two_sizes_are_in_the_corner(two):
    found = photos.read_photos(two)
    assert found.image.shape == (2, 8, 8, 3) and found.full.tolist() == found.size.tolist() == [[8, 6], [6, 8]]
    for i, path in enumerate(two):
        width, height = found.size[i]
        np.testing.assert_array_equal(found.image[i, :height, :width], np.asarray(Image.open(path)))
    assert not found.image[0, 6:].any() and not found.image[1, :, 6:].any()


def test_all_images_shrink_by_one_ratio(two):
    found = photos.read_photos(two, width=4)
    assert found.size.tolist() == [[4, 3], [3, 4]]
    assert photos.read_photos(two[1:], width=4, widest=8).size.tolist() == [[3, 4]]
    with pytest.raises(ValueError, match="cannot shrink to 9 x 7"):
        photos.read_photos(two, width=9)


def test_a_mask_keeps_pixels_that_are_free_entirely(two, tmp_path):
    black = np.full((6, 8), 255)
    black[0, 5] = 0
    mask = save(tmp_path / "mask.png", black)
    found = photos.read_photos(two, factor=2, masks=[mask, None])
    expected = np.ones((3, 4), bool)
    expected[0, 2] = False
    assert found.mask is not None
    np.testing.assert_array_equal(found.mask[0, :3, :4], expected)
    assert found.mask[1, :, :3].all() and not found.mask[1, :, 3:].any() and not found.mask[0, 3:].any()
    with pytest.raises(ValueError, match="mask.png: a mask of 8 x 6 pixels for an image of 6 x 8"):
        photos.read_photos(two[1:], masks=[mask])


def test_alpha_that_hides_nothing_is_left_out_where_others_have_none(two, tmp_path):
    opaque = np.full((6, 8, 4), 255)
    path = save(tmp_path / "opaque.png", opaque)
    assert photos.read_photos([two[0], path]).image.shape == (2, 6, 8, 3)
    assert photos.read_photos([path]).image.shape == (1, 6, 8, 4)
    opaque[0, 0, 3] = 254
    save(path, opaque)
    with pytest.raises(ValueError, match="0.png: 8 x 6 pixels without alpha, and opaque.png has 8 x 6 pixels with"):
        photos.read_photos([two[0], path])


def test_more_pixels_than_can_be_counted_are_refused_before_they_are_read(two, monkeypatch):
    monkeypatch.setattr(photos, "read_photo", lambda path: pytest.fail("an image was decoded"))
    huge = [photos.Header(40_000, 30_000, False, 1)] * 2
    with pytest.raises(ValueError, match="2400000000 pixels; at most 2.31 - 1"):
        photos.read_photos(two, headers=huge)


def test_other_formats_and_orientations(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3))
    gif = tmp_path / "named.png"
    Image.fromarray(pixels.astype(np.uint8)).save(gif, format="GIF")
    with pytest.raises(ValueError, match="named.png: cannot be decoded"):
        photos.read_header(gif)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = save(tmp_path / "turned.jpg", pixels, exif=exif)
    assert photos.read_header(turned) == (8, 6, False, 6) and photos.read_photo(turned).shape == (6, 8, 3)
    with pytest.raises(ValueError, match="turned.jpg: 8 x 6 pixels, and it says 6 x 8: .*EXIF rotation .orientation 6"):
        photos.check_size(turned, photos.read_header(turned), (6, 8), "it says", "")
    lossless = save(tmp_path / "a.webp", pixels, lossless=True)
    np.testing.assert_array_equal(photos.read_photo(lossless), pixels)


def test_masks_of_0_and_1_and_masks_with_alpha(tmp_path):
    black = np.zeros((6, 8), np.uint8)
    black[1:3] = 1
    expected = black.astype(bool)
    np.testing.assert_array_equal(photos.read_mask(save(tmp_path / "ones.png", black), (8, 6)), expected)
    np.testing.assert_array_equal(photos.read_mask(save(tmp_path / "m.png", 255 * black), (8, 6)), expected)
    np.testing.assert_array_equal(photos.read_mask(save(tmp_path / "dark.png", 127 * black), (8, 6)), 0 * expected)
    assert not photos.read_mask(save(tmp_path / "zeros.png", 0 * black), (8, 6)).any()
    opaque = np.repeat(255 * black[..., None], 4, axis=-1)
    opaque[..., 3] = 255
    np.testing.assert_array_equal(photos.read_mask(save(tmp_path / "opaque.png", opaque), (8, 6)), expected)
    opaque[..., 3] = 255 * black
    with pytest.raises(ValueError, match="seen.png: a mask with transparent pixels"):
        photos.read_mask(save(tmp_path / "seen.png", opaque), (8, 6))


def write_png(path, header, rows):
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_photographs_that_declare_more_than_they_hold_are_refused(tmp_path):
    """A kilobyte of zeros may stand for a large image; no decoder is started for it."""
    path = tmp_path / "large.png"
    header = struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)
    write_png(path, header, b"x")
    with pytest.raises(ValueError, match=r"large\.png: cannot be decoded \(9000 x 9000 pixels in a file of"):
        photos.read_header(path)


def test_deep_photographs_are_not_shortened(tmp_path):
    path = tmp_path / "deep.png"
    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(range(24))) * 4)
    write_png(path, header, rows)
    with pytest.raises(ValueError, match=r"deep\.png: mode RGB, more than 8 bits"):
        photos.read_photo(path)
