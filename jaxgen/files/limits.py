"""How much a file may make of itself, and what a file of another kind is."""

import os
import stat
from pathlib import Path

SMALL = 64 << 20
"""Bytes that any compressed file may unpack to."""
RATIO = 16
"""How many times its size a compressed file may unpack to beyond that."""
OVERHEAD = 64 << 20
"""Bytes that any file may make besides its own."""
OBJECTS = 100_000
"""Objects that any file may make: numbers, texts and containers of a pickle, entries of a table."""
MOST_OBJECTS = 400_000
"""Objects that a large file may make, one for each 100 bytes besides."""

_KINDS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file that it stands for: run git lfs pull"),
    (b"<!doctype html", "a web page, not the file: was the link that of a page, or did the server refuse?"),
    (b"<html", "a web page, not the file: was the link that of a page, or did the server refuse?"),
    (b"<?xml", "XML, as servers send for an error: download the file again"),
    (b"\x1f\x8b", "a gzip file: unpack it first"),
    (b"bzh", "a bzip2 file: unpack it first"),
    (b"\xfd7zxz", "an xz file: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstandard file: unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first"),
    (b"rar!", "a RAR archive: unpack it first"),
    (b"pk", "a zip archive, such as .npz or a file of torch.save"),
    (b"\x93numpy", "a NumPy array (.npy)"),
    (b"\x80", "a pickle"),
    (b"\x89hdf", "an HDF5 file, such as Keras' .h5 or MATLAB's version 7.3"),
    (b"matlab ", "a MATLAB file"),
    (b"gguf", "a GGUF file"),
    (b"\x89png", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"gif8", "a GIF image"),
    (b"%!ps", "a PostScript file"),
    (b"%pdf", "a PDF file"),
    (b"ii*\0", "a TIFF image"),
    (b"mm\0*", "a TIFF image"),
    (b"bm", "a BMP image"),
    (b"riff", "a RIFF file, such as WebP"),
)


class Budget:
    """What one file may still make: a number of objects, and bytes.

    Args:
        size: of the file in bytes.
    """

    def __init__(self, size: int):
        self.objects, self.size = min(MOST_OBJECTS, OBJECTS + size // 100), size + OVERHEAD
        self.shared = RATIO * size + OVERHEAD

    def spend(self, objects: int = 0, size: int = 0, shared: int = 0) -> None:
        """Takes objects and bytes from the budget, before they are made.

        Args:
            objects: how many.
            size: bytes of new memory.
            shared: bytes of an array, which may share memory with others: whoever reads all arrays reads them all.

        Raises:
            ValueError: more than is left.
        """
        self.objects -= objects
        self.size -= size
        self.shared -= shared
        if self.objects < 0:
            raise ValueError("it holds more objects than a file of arrays of its size needs")
        if self.size < 0 or self.shared < 0:
            raise ValueError("it declares much more data than its size; it is damaged, or made to fill the memory")


def check_expansion(unpacked: int, packed: int) -> None:
    """Compares the size that compressed data is declared to have with the size of the file.

    Args:
        unpacked: declared bytes.
        packed: bytes of the file.

    Raises:
        ValueError: `unpacked` is more than `SMALL` and more than `RATIO` times `packed`.
    """
    if unpacked > max(SMALL, RATIO * packed):
        raise ValueError(
            f"{packed:,} compressed bytes are declared to unpack to {unpacked:,}; at most {SMALL:,} or {RATIO} times "
            "the file's size are unpacked: if the file is trusted, store it without compression"
        )


def regular_file_size(path: str | os.PathLike) -> int:
    """The size of a file in bytes.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a folder, a pipe or a device, which could be read without end.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path} is no regular file; expected a file, not a folder, a pipe or a device")
    return found.st_size


def describe(start: bytes) -> str:
    """What a file is, from its first bytes (64 are enough), for a message."""
    if not start:
        return "an empty file"
    lower = start.lstrip().lower()
    for prefix, kind in _KINDS:
        if start.lower().startswith(prefix) or (prefix[:1] in b"<v" and lower.startswith(prefix)):
            return kind
    if start[8:9] == b"{":
        return "a file that begins as safetensors do"
    text = bytes(start[:16])
    return f"a file that begins with {text!r}"


def first_bytes(path: str | os.PathLike) -> bytes:
    """The first 64 bytes of a file, for `describe`."""
    with Path(path).open("rb") as file:
        return file.read(64)
