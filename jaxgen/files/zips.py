"""Zip archives whose directory, sizes and checksums are compared before and while they are read."""

import contextlib
import os
import struct
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

from jaxgen.files.limits import check_expansion

_END, _END64, _LOCATOR64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"
_DIRECTORY = 3 << 20
"""Bytes of the largest directory that is read: about 25,000 entries."""


@contextlib.contextmanager
def open_zip(path: str | os.PathLike) -> Iterator[zipfile.ZipFile]:
    """An archive whose entries have different names and do not overlap, open for reading.

    Raises:
        ValueError: it is truncated or damaged, two entries have one name, or one is encrypted or packed otherwise than
            by deflate.
    """
    with open(path, "rb") as file, _seeks():
        size = os.fstat(file.fileno()).st_size
        count = _check_directory(file, size)
        with zipfile.ZipFile(file) as archive:
            _check_entries(archive.infolist(), count, size)
            yield archive


@contextlib.contextmanager
def _seeks() -> Iterator[None]:
    """zipfile seeks where a damaged archive tells it to, which fails without the file's name."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise ValueError(f"the archive is damaged ({error})") from error
        raise


def _check_entries(entries: list[zipfile.ZipInfo], count: int, size: int) -> None:
    if count not in (len(entries), 0xFFFF):
        raise ValueError(f"the archive declares {count} entries and has {len(entries)}")
    seen = set()
    for entry in entries:
        if entry.filename in seen:
            raise ValueError(f"the archive has two entries named {entry.filename!r}")
        seen.add(entry.filename)
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
            raise ValueError(f"the entry {entry.filename!r} is encrypted, or packed otherwise than by deflate")
        if entry.compress_type == zipfile.ZIP_STORED and entry.compress_size != entry.file_size:
            raise ValueError(f"the entry {entry.filename!r} is not packed, and has two sizes")
    if sum(entry.compress_size for entry in entries) > size:
        raise ValueError("the entries of the archive overlap")


def read_entry(archive: zipfile.ZipFile, name: str, limit: int | None = None) -> bytes:
    """All bytes of an entry, its checksum compared.

    Args:
        archive: from `open_zip`.
        name: of the entry.
        limit: how long it may be; None: as `check_expansion` says.

    Raises:
        ValueError: the entry is missing, damaged, or longer.
    """
    try:
        entry = archive.getinfo(name)
    except KeyError as error:
        raise ValueError(f"the archive has no entry {name!r}") from error
    if limit is not None and entry.file_size > limit:
        raise ValueError(f"the entry {name!r} has {entry.file_size:,} bytes; expected at most {limit:,}")
    if entry.compress_size != entry.file_size:
        check_expansion(entry.file_size, entry.compress_size)
    with archive.open(entry) as stream:
        data = stream.read(entry.file_size)
        if len(data) != entry.file_size or stream.read(1):
            raise ValueError(f"the entry {name!r} is not as long as declared")
    return data


def _check_directory(file: BinaryIO, size: int) -> int:
    """Finds the end of the archive as zipfile does, and limits the directory that zipfile will read.

    Returns:
        the declared number of entries; 0xFFFF in archives of 64 bits.
    """
    start = max(0, size - (1 << 16) - 22 - 76)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) < at + 22:
        raise ValueError(f"the zip archive has no end: the file is incomplete after {size:,} bytes, download it again")
    count, length = struct.unpack_from("<HI", tail, at + 10)
    if at >= 76 and tail[at - 20 : at - 16] == _LOCATOR64 and tail[at - 76 : at - 72] == _END64:
        length = struct.unpack_from("<Q", tail, at - 36)[0]
    if length > min(_DIRECTORY, start + at):
        raise ValueError(f"the zip archive declares a directory of {length:,} bytes; the file has {size:,}")
    file.seek(0)
    return count
