"""Images: PNG and JPEG and no other format, whatever Pillow could open."""

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from jaxgen.files.limits import describe, regular_file_size

if TYPE_CHECKING:
    from PIL import Image

_PIXELS = 16_000_000
"""Pixels that any image may have."""
_RATIO = 64
"""How many times the size of its file a larger image may be, at three bytes a pixel."""
_SCANS = 200
"""Scans of the longest JPEG that is decoded: a progressive one has about ten."""


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
        if is_jpeg and (scans := data.count(b"\xff\xda")) > _SCANS:
            raise ValueError(f"a JPEG of {scans:,} scans")
        with Image.open(io.BytesIO(data), formats=["PNG" if is_png else "JPEG"]) as image:
            pixels = image.width * image.height
            if pixels > _PIXELS and 3 * pixels > _RATIO * len(data):
                raise ValueError(f"{image.width} x {image.height} pixels in a file of {len(data):,} bytes")
            image.load()
            return ImageOps.exif_transpose(image) if upright else image
    except Exception as error:  # Pillow's decoders fail in many ways on a damaged file.
        raise ValueError(
            f"{path}: cannot be decoded ({error}); expected a whole PNG or JPEG image: replace or remove it"
        ) from error
