"""Files of JSON that are wrong: each is refused with its place, in bounded time."""

import math
import os

import pytest

from jaxgen.files import check_shape, read_json, read_json_lines


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


def test_the_first_place_of_another_shape_is_named():
    shape = {"name": str, "sizes?": [int], "values": {str: float}, "either?": ([str], {str: bool})}
    whole = {"name": "a", "sizes": [0, 2**53], "values": {"x": math.inf, "y": 3}, "either": {"z": True}}
    check_shape(whole, shape, "a.json")
    check_shape({"name": "", "values": {}}, shape, "a.json")
    for change, message in (
        ({"name": 3}, "a.json: name is 3; expected text"),
        ({"sizes": [1, -1]}, r"a.json: sizes\[1\] is -1; expected a whole number from 0 to 2\^53"),
        ({"sizes": [1.0]}, r"a.json: sizes\[0\] is 1.0; expected a whole number"),
        ({"sizes": 7}, "a.json: sizes is 7; expected a list"),
        ({"values": {"x": True}}, "a.json: values.x is True; expected a number"),
        ({"values": {"x": 10**400}}, "a.json: values.x is 1000.*; expected a number"),
        ({"values": []}, "a.json: values is a list; expected an object"),
        ({"either": {"z": 1}}, "a.json: either.z is 1; expected true or false"),
        ({"more": 1}, "a.json: more is there; expected an object with name, sizes, values, either alone"),
    ):
        with pytest.raises(ValueError, match=message):
            check_shape(whole | change, shape, "a.json")
    with pytest.raises(ValueError, match="there is no 'values'; expected an object with name, sizes, values, either"):
        check_shape({"name": "a"}, shape, "a.json")


def test_damaged_lines_are_left_out_and_numbered(tmp_path):
    path = tmp_path / "a.jsonl"
    assert read_json_lines(path, {"n": int}) == ([], {})
    long = b'{"n": 5, "s": "' + b"x" * 2**21 + b'"}'
    path.write_bytes(b"\n".join([b'{"n": 1}', b'{"n": ', b"\xff", long, b"[" * 10_000, b'{"n": "2"}', b'{"n": 3}']))
    values, damaged = read_json_lines(path, {"n": int, str: None})
    assert values == [{"n": 1}, {"n": 3}] and list(damaged) == [2, 3, 4, 5, 6]
    assert damaged[2] == '{"n": ' and damaged[4] == '{"n": 5, "s": "' + "x" * 45
