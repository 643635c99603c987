"""JSON files that people and other programs write: checked before and while they are parsed."""

import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.files import as_path

_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_DIGITS = 300


def read_json(
    path: str | os.PathLike,
    expected: str = "valid JSON",
    *,
    largest: int = 2**26,
    deepest: int = 64,
    finite: bool = True,
) -> Any:
    """What a JSON file holds. A byte order mark is skipped.

    Args:
        path: the file.
        expected: what the file should be, for the messages.
        largest: bytes that it may have.
        deepest: lists and objects that may be inside of each other.
        finite: refuses NaN, Infinity and numbers beyond the range of float64.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no regular file, too large, not UTF-8, not JSON, nested too deeply, has a key twice in one
            object, a number of more than 300 digits, or one that is not finite. The message names the file and the
            place.
    """
    path = as_path(path)
    text = _text(path, expected, largest)
    bare = _STRING.sub(lambda string: '"' + " " * (len(string[0]) - 2) + '"', text)
    _check_depth(path, bare, deepest, expected)
    if number := re.search(rf"\d{{{_DIGITS + 1},}}", bare):
        raise ValueError(
            f"{path}: {_place(text, number.start())}: a number of {len(number[0])} digits; expected {expected}, with "
            f"numbers of at most {_DIGITS}"
        )
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}: line {error.lineno}, column {error.colno}: not a whole JSON file ({error.msg}); expected "
            f"{expected}: get it again, or write it again"
        ) from error
    except _Twice as error:
        raise ValueError(f"{path}: the key {error.args[0]!r} is twice in one object; expected {expected}") from error
    if finite and (place := not_finite(value)) is not None:
        raise ValueError(f"{path}: {place} is not finite; expected {expected}, with finite numbers")
    return value


def not_finite(value: Any) -> str | None:
    """The place of the first number that is not finite in a tree of lists and objects, e.g. "frames[3].fl_x"."""
    waiting = [("", value)]
    while waiting:
        place, part = waiting.pop()
        if isinstance(part, dict):
            waiting += reversed([(f"{place}.{key}".lstrip("."), inner) for key, inner in part.items()])
        elif isinstance(part, list):
            waiting += reversed([(f"{place}[{i}]", inner) for i, inner in enumerate(part)])
        elif isinstance(part, float) and not math.isfinite(part):
            return place or "the number"
    return None


class _Twice(ValueError):
    """A key that an object has twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        raise _Twice(next(key for key, _ in pairs if key in seen or seen.add(key)))
    return found


def _text(path: Path, expected: str, largest: int) -> str:
    # Opening a pipe would wait for its writer.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is not a regular file; expected {expected}")
        if status.st_size > largest:
            raise ValueError(
                f"{path} has {status.st_size} bytes; expected {expected}, of at most {largest}: is it the right file?"
            )
        content = file.read(largest + 1)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: byte {error.start} is not UTF-8 ({error.reason}); expected {expected}: save it as UTF-8"
        ) from error
    if not text.strip():
        raise ValueError(f"{path} is empty; expected {expected}")
    return text


def _check_depth(path: Path, bare: str, deepest: int, expected: str) -> None:
    """`bare` is the text without what is inside of strings."""
    codes = np.frombuffer(bare.encode("utf-32-le"), np.uint32)
    opens, closes = np.isin(codes, [ord("["), ord("{")]), np.isin(codes, [ord("]"), ord("}")])
    places = np.flatnonzero(opens | closes)
    depth = np.cumsum(np.where(opens[places], 1, -1))
    if len(depth) and depth.max() > deepest:
        place = places[int(np.argmax(depth > deepest))]
        raise ValueError(
            f"{path}: {_place(bare, int(place))}: more than {deepest} lists and objects inside of each other (here up "
            f"to {depth.max()}); expected {expected}"
        )


def _place(text: str, index: int) -> str:
    return f"line {text.count(chr(10), 0, index) + 1}, column {index - text.rfind(chr(10), 0, index)}"
