"""gzip, unpacked only as far as it is asked for."""

import os
import zlib
from pathlib import Path
from typing import BinaryIO, Protocol

_CHUNK = 1 << 16
_MEMBERS = 10_000


class Stream(Protocol):
    """What `fill` reads from."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; fewer at the end alone."""
        ...


class Bytes:
    """A stream of bytes in memory, without a copy of them."""

    def __init__(self, data: memoryview):
        self.data, self.position = data, 0

    def read(self, size: int, /) -> bytes:
        """As `Stream.read`."""
        part = bytes(self.data[self.position : self.position + size])
        self.position += len(part)
        return part


class Unpacked:
    """Unpacks a stream as it is read, of gzip or, with `wbits` 15, of zlib.

    Reading raises EOFError or zlib.error where the data is damaged. Reading beyond its end returns no bytes, and has
    then compared the checksum.
    """

    def __init__(self, file: Stream, wbits: int = 31):
        self.file, self.wbits, self.input, self.members = file, wbits, b"", 0
        self.member = zlib.decompressobj(wbits=wbits)

    def read(self, size: int, /) -> bytes:
        """As `Stream.read`."""
        parts, left = [], size
        while left and (part := self._some(left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _some(self, size: int) -> bytes:
        """At least one byte, or none at the end."""
        while True:
            if self.member.eof:
                self.input = self.member.unused_data or self.file.read(_CHUNK)
                if not self.input.strip(b"\0"):  # the end, or padding
                    return b""
                self.members += 1
                if self.members > _MEMBERS:
                    raise zlib.error(f"it has more than {_MEMBERS:,} members")
                self.member = zlib.decompressobj(wbits=self.wbits)
            self.input = self.input or self.file.read(_CHUNK)
            if not self.input:
                raise EOFError("the compressed data ends early")
            part = self.member.decompress(self.input, size)
            self.input = self.member.unconsumed_tail
            if part:
                return part


def open_unpacked(path: str | os.PathLike) -> tuple[BinaryIO, Stream, bool]:
    """A file, and the stream of what it holds: `Unpacked` where the file is gzip.

    Returns:
        the file, to be closed; the stream; whether it is gzip.
    """
    file = Path(path).open("rb")  # the caller closes it
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return file, Unpacked(file) if packed else file, packed


def fill(stream: Stream, target: memoryview) -> int:
    """Reads from a stream into the bytes `target`, in pieces. Returns how many there were."""
    done = 0
    while done < len(target):
        part = stream.read(min(1 << 20, len(target) - done))
        if not part:
            break
        target[done : done + len(part)] = part
        done += len(part)
    return done
