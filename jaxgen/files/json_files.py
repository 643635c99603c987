"""JSON files that people and other programs write: checked before and while they are parsed."""

import json
import math
import os
import re
import stat
from typing import IO, Any

import numpy as np

from jaxgen.files.paths import as_path

_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_DIGITS = 300
_LONGEST_LINE = 2**20


def read_json(
    path: str | os.PathLike,
    expected: str = "valid JSON",
    *,
    shape: Any = None,
    largest: int = 2**26,
    deepest: int = 64,
    finite: bool = True,
) -> Any:
    """What a JSON file holds. A byte order mark is skipped.

    Args:
        path: the file.
        expected: what the file should be, for the messages.
        shape: what it must hold, as for `check_shape`; None: anything.
        largest: bytes that it may have.
        deepest: lists and objects that may be inside of each other.
        finite: refuses NaN, Infinity and numbers beyond the range of float64.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no regular file, too large, not UTF-8, not JSON, nested too deeply, has a key twice in one
            object, a number of more than 300 digits, one that is not finite, or another shape. The message names the
            file and the place.
    """
    path = as_path(path)
    with open_regular(path, expected) as file:
        size = os.fstat(file.fileno()).st_size
        if size > largest:
            raise ValueError(
                f"{path} has {size} bytes; expected {expected}, of at most {largest}: is it the right file?"
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
    value = parse_json(text, str(path), expected, deepest=deepest, finite=finite)
    check_shape(value, shape, str(path))
    return value


def parse_json(text: str, name: str, expected: str = "valid JSON", *, deepest: int = 64, finite: bool = True) -> Any:
    """The value of a JSON text; the arguments and errors of `read_json`, which names the text `name`."""
    bare = _STRING.sub(lambda string: '"' + " " * (len(string[0]) - 2) + '"', text)
    _check_depth(name, bare, deepest, expected)
    if number := re.search(rf"\d{{{_DIGITS + 1},}}", bare):
        raise ValueError(
            f"{name}: {_place(text, number.start())}: a number of {len(number[0])} digits; expected {expected}, with "
            f"numbers of at most {_DIGITS}"
        )
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{name}: line {error.lineno}, column {error.colno}: not a whole JSON file ({error.msg}); expected "
            f"{expected}: get it again, or write it again"
        ) from error
    except _Twice as error:
        raise ValueError(f"{name}: the key {error.args[0]!r} is twice in one object; expected {expected}") from error
    if finite and (place := not_finite(value)) is not None:
        raise ValueError(f"{name}: {place} is not finite; expected {expected}, with finite numbers")
    return value


def read_json_lines(path: str | os.PathLike, shape: Any, *, finite: bool = True) -> tuple[list[Any], dict[int, str]]:
    """The values of a file with one JSON value a line, such as a log.

    Args:
        path: the file; one that does not exist has no lines.
        shape: of each value, as for `check_shape`.
        finite: as for `read_json`.

    Returns:
        (the values, {number of a damaged line, from 1: its first 60 characters}). A damaged line is not UTF-8 or JSON,
        of another shape, or longer than a million bytes.

    Raises:
        ValueError: it is no regular file.
    """
    values, damaged = [], {}
    try:
        file = open_regular(path, "a file with one JSON object a line")
    except FileNotFoundError:
        return values, damaged
    with file:
        number = 0
        while line := file.readline(_LONGEST_LINE):
            number += 1
            whole = len(line) < _LONGEST_LINE
            while not whole and (rest := file.readline(_LONGEST_LINE)):
                whole = len(rest) < _LONGEST_LINE
            try:
                if len(line) == _LONGEST_LINE:
                    raise ValueError("too long")
                value = parse_json(line.decode().strip(), str(path), finite=finite)
                check_shape(value, shape, str(path))
                values.append(value)
            except ValueError:
                damaged[number] = line[:60].decode(errors="replace").rstrip("\n")
    return values, damaged


def check_shape(value: Any, shape: Any, name: str) -> None:
    """Compares parsed JSON with what it must hold.

    Args:
        value: what was parsed.
        shape: None: anything; `str`, `bool`, `dict`, `list`: such a value; `float`: a number, finite or not; `int`: a
            whole number from 0 to 2^53; `[shape]`: a list of such values; `{"key": shape, "key?": shape, str: shape}`:
            an object with this key, perhaps with this key, and with any others of this shape; `(shape, shape)`: one of
            both.
        name: of the file, for the message.

    Raises:
        ValueError: it holds something else; the message names the file, the place and what is expected there.
    """
    if found := _mismatch(value, shape, ""):
        place, what, expected = found
        raise ValueError(f"{name}: {f'{place} is {what}' if place else what}; expected {expected}")


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


def open_regular(path: str | os.PathLike, expected: str = "a file") -> IO[bytes]:
    """Opens a file for reading, without waiting for the writer of a pipe.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a folder, a pipe, a socket or a device.
    """
    found = os.stat(path)
    if stat.S_ISREG(found.st_mode):
        # Another file may have taken its place in between.
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
    raise ValueError(f"{path} is not a regular file; expected {expected}")


_NAMES = {str: "text", bool: "true or false", dict: "an object", list: "a list", float: "a number"}
_WHOLE = "a whole number from 0 to 2^53"


def _mismatch(value: Any, shape: Any, place: str) -> tuple[str, str, str] | None:
    """(place, what is there, what is expected) of the first difference."""
    if isinstance(shape, tuple):
        found = [_mismatch(value, one, place) for one in shape]
        return None if None in found else max(found, key=lambda one: len(one[0]) if one else 0)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return place, _short(value), "a list"
        parts = (_mismatch(part, shape[0], f"{place}[{i}]") for i, part in enumerate(value))
        return next(filter(None, parts), None)
    if isinstance(shape, dict):
        return _object_mismatch(value, shape, place)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if shape is int:
        fits = is_number and isinstance(value, int) and 0 <= value <= 2**53
    elif shape is float:
        fits = is_number and (isinstance(value, float) or abs(value) < 2**1023)
    else:
        fits = shape is None or isinstance(value, shape)
    return None if fits else (place, _short(value), _WHOLE if shape is int else _NAMES[shape])


def _object_mismatch(value: Any, shape: dict, place: str) -> tuple[str, str, str] | None:
    keys = [key for key in shape if isinstance(key, str)]
    if not isinstance(value, dict):
        return place, _short(value), "an object"
    for key in keys:
        if not key.endswith("?") and key not in value:
            return (
                place,
                f"without {key!r}" if place else f"there is no {key!r}",
                f"an object with {', '.join(key.removesuffix('?') for key in keys)}",
            )
    shapes = {key.removesuffix("?"): shape[key] for key in keys}
    for key, part in value.items():
        if key not in shapes and str not in shape:
            return f"{place}.{key}".lstrip("."), "there", f"an object with {', '.join(shapes)} alone"
        if found := _mismatch(part, shapes.get(key, shape.get(str)), f"{place}.{key}".lstrip(".")):
            return found
    return None


def _short(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


class _Twice(ValueError):
    """A key that an object has twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        raise _Twice(next(key for key, _ in pairs if key in seen or seen.add(key)))
    return found


def _check_depth(name: str, bare: str, deepest: int, expected: str) -> None:
    """`bare` is the text without what is inside of strings."""
    codes = np.frombuffer(bare.encode("utf-32-le", "surrogatepass"), np.uint32)
    opens, closes = np.isin(codes, [ord("["), ord("{")]), np.isin(codes, [ord("]"), ord("}")])
    places = np.flatnonzero(opens | closes)
    depth = np.cumsum(np.where(opens[places], 1, -1))
    if len(depth) and depth.max() > deepest:
        place = places[int(np.argmax(depth > deepest))]
        raise ValueError(
            f"{name}: {_place(bare, int(place))}: more than {deepest} lists and objects inside of each other (here up "
            f"to {depth.max()}); expected {expected}"
        )


def _place(text: str, index: int) -> str:
    return f"line {text.count(chr(10), 0, index) + 1}, column {index - text.rfind(chr(10), 0, index)}"
