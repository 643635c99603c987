"""Images of a given list of formats, whatever else Pillow opens, and of no more pixels than their files can hold."""

import io
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxgen.files.limits import describe, regular_file_size

if TYPE_CHECKING:
    from PIL import Image

_PIXELS = 16_000_000
"""Pixels that any image may have."""
_RATIO = 64
"""How many times the size of its file a larger image may be, at three bytes a pixel."""
_SCANS = 16
"""Scans that any JPEG may have: a progressive one has about ten."""
_SCANNED = 100_000_000
"""Pixels times scans of a JPEG with more of them."""
_STARTS = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff", "WEBP": b"RIFF", "BMP": b"BM"}


def open_image(path: str | os.PathLike, formats: Sequence[str] = ("PNG", "JPEG")) -> "Image.Image":
    """An image as Pillow opens it, not decoded yet; its file is read and closed.

    Args:
        path: of the file, whatever its name.
        formats: "PNG", "JPEG", "WEBP" or "BMP": no other decoder is started.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is of another format, damaged, or has more pixels than its file can honestly hold; the message
            does not name the file.
    """
    from PIL import Image

    regular_file_size(path)
    data = Path(path).read_bytes()
    known = [name for name in formats if data.startswith(_STARTS[name])]
    if not known:
        raise ValueError(f"it is {describe(data[:64])}")
    if known == ["PNG"]:
        _check_png(data)
    try:
        image = Image.open(io.BytesIO(data), formats=known)
    except Exception as error:  # Pillow's readers fail in many ways on a damaged file.
        # Of a stream, Pillow names no more than its place in memory.
        text = f"it begins as {known[0]} and goes on otherwise" if "cannot identify" in str(error) else str(error)
        raise ValueError(text) from error
    pixels, scans = image.width * image.height, data.count(b"\xff\xda") if known == ["JPEG"] else 1
    if pixels > _PIXELS and 3 * pixels > _RATIO * len(data):
        raise ValueError(f"{image.width} x {image.height} pixels in a file of {len(data):,} bytes")
    if scans > _SCANS and scans * pixels > _SCANNED:
        raise ValueError(f"a JPEG of {pixels:,} pixels in {scans:,} scans")
    return image


def read_image(
    path: str | os.PathLike, formats: Sequence[str] = ("PNG", "JPEG"), *, upright: bool = False
) -> "Image.Image":
    """A decoded image as a Pillow image.

    Args:
        path: of the file, whatever its name.
        formats: as in `open_image`.
        upright: turns it as its metadata says.

    Raises:
        OSError: it cannot be opened.
        ValueError: as `open_image`, or it cannot be decoded; the message names the file.
    """
    from PIL import ImageOps

    try:
        with open_image(path, formats) as image:
            image.load()
            return ImageOps.exif_transpose(image) if upright else image
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise ValueError(
            f"{path}: cannot be decoded ({error}); expected a whole {' or '.join(formats)} image: replace or remove it"
        ) from error


def _check_png(data: bytes) -> None:
    """Compares the checksums of all chunks, of which Pillow leaves some out."""
    view, position = memoryview(data), 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        kind, end = data[position + 4 : position + 8], position + 8 + length
        if zlib.crc32(view[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise ValueError(f"the checksum of the chunk {kind!r} is another one")
        if kind == b"IEND":
            return
        position = end + 4
    raise ValueError("it ends early")
