"""Images: PNG and JPEG and no other format, whatever Pillow could open."""

import io
import os
import zlib
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


def open_image(path: str | os.PathLike, *, upright: bool = False) -> "Image.Image":
    """A decoded PNG or JPEG, of whatever name, as a Pillow image.

    Args:
        path: of the file.
        upright: turns it as its metadata says.

    Raises:
        OSError: it cannot be opened.
        ValueError: another format, a damaged image, or one of more pixels than its file can honestly hold.
    """
    regular_file_size(path)
    from PIL import Image, ImageOps

    data = Path(path).read_bytes()
    is_png, is_jpeg = data.startswith(b"\x89PNG\r\n\x1a\n"), data.startswith(b"\xff\xd8\xff")
    if not (is_png or is_jpeg):
        raise ValueError(
            f"{path}: cannot be decoded (it is {describe(data[:64])}); expected a whole PNG or JPEG image: replace or "
            "remove it"
        )
    try:
        if is_png:
            _check_png(data)
        scans = data.count(b"\xff\xda") if is_jpeg else 1
        with Image.open(io.BytesIO(data), formats=["PNG" if is_png else "JPEG"]) as image:
            pixels = image.width * image.height
            if pixels > _PIXELS and 3 * pixels > _RATIO * len(data):
                raise ValueError(f"{image.width} x {image.height} pixels in a file of {len(data):,} bytes")
            if scans > _SCANS and scans * pixels > _SCANNED:
                raise ValueError(f"a JPEG of {pixels:,} pixels in {scans:,} scans")
            image.load()
            return ImageOps.exif_transpose(image) if upright else image
    except Exception as error:  # Pillow's decoders fail in many ways on a damaged file.
        raise ValueError(
            f"{path}: cannot be decoded ({error}); expected a whole PNG or JPEG image: replace or remove it"
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
