"""Files of JSON that are wrong: each is refused with its place, in bounded time."""

import os

import pytest

from jaxgen.data import read_json


@pytest.fixture
def path(tmp_path):
    return tmp_path / "described.json"


@pytest.mark.parametrize(
    "text, value",
    [
        ('{"a": [1, 2.5, null, true]}', {"a": [1, 2.5, None, True]}),
        ("\ufeff[1]", [1]),
        ('["[[{\\"", "\\\\"]', ['[[{"', "\\"]),
        ('"' + "1" * 1000 + '"', "1" * 1000),
        ("[" * 64 + "]" * 64, None),
        ("9" * 300, int("9" * 300)),
    ],
)
def test_what_is_right_is_read(path, text, value):
    path.write_text(text, encoding="utf-8")
    found = read_json(path)
    assert value is None or found == value


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is empty"),
        (b"{", "line 1, column 2: not a whole JSON file"),
        (b'{"a": 1,\n "b": }', "line 2, column 7: not a whole JSON file"),
        (b"\xff\xfe{\x00", "byte 0 is not UTF-8"),
        (b"[" * 200_000, "line 1, column 65: more than 64 lists and objects .* up to 200000"),
        (b'{"a":' * 200_000, "more than 64 lists and objects"),
        (b"[\n" + b"1" * 5000 + b"]", "line 2, column 1: a number of 5000 digits"),
        (b"[0." + b"1" * 5000 + b"]", "a number of 5000 digits"),
        (b'{"frames": [{"x": 1}, {"x": [0, NaN]}]}', r"frames\[1\].x\[1\] is not finite"),
        (b"[1e999]", r"\[0\] is not finite"),
        (b"-Infinity", "the number is not finite"),
        (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' is twice"),
        (b'"' + b'\\"' * 300_000, "not a whole JSON file"),
        (b'"' * 300_001, "not a whole JSON file"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(path, content, message):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as refused:
        read_json(path, "a description of frames")
    assert str(refused.value).startswith(str(path)) and "a description of frames" in str(refused.value)


def test_limits_are_the_callers(path):
    path.write_text("[[NaN]]")
    assert str(read_json(path, finite=False)) == "[[nan]]"
    with pytest.raises(ValueError, match="7 bytes; expected valid JSON, of at most 6"):
        read_json(path, largest=6)
    with pytest.raises(ValueError, match="more than 1 lists"):
        read_json(path, deepest=1)


def test_a_pipe_is_not_waited_for(path):
    os.mkfifo(path)
    with pytest.raises(ValueError, match="not a regular file"):
        read_json(path)
    with pytest.raises(FileNotFoundError):
        read_json(path.with_name("other.json"))
