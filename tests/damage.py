"""Damaged copies of JSON texts, the same for the same seed: changed bytes, and values of other kinds."""

import json

import numpy as np

VALUES = (
    "null", "[]", "{}", "-1", "1.5", "1e400", "NaN", "true", '"x"', '""', '"\\ud800"', "9" * 400, "9" * 300, "9" * 30,
    "[" * 100 + "]" * 100, "[" * 100_000, '{"a": 1, "a": 2}', "[[1]]", '{"step": []}', "-1e308",
)  # fmt: skip
MARK = "<here>"


def damaged_json(text: str, seed: int) -> bytes:
    """A copy of a JSON text, or of a text with a value a line."""
    random = np.random.default_rng(seed)
    if seed % 2:
        return _changed_bytes(text.encode(), random)
    lines = text.splitlines() if text.count("\n{") else [text]
    at = int(random.integers(len(lines)))
    value = json.loads(lines[at])
    places = list(_places(value))
    container, key = places[int(random.integers(len(places)))]
    if random.random() < 0.2 and isinstance(container, dict):
        container.pop(key)
        lines[at] = json.dumps(value)
    else:
        container[key] = MARK
        lines[at] = json.dumps(value).replace(f'"{MARK}"', VALUES[int(random.integers(len(VALUES)))])
    return "\n".join(lines).encode()


def _places(value):
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _places(value[key])


def _changed_bytes(data, random):
    changed = bytearray(data)
    for _ in range(int(random.choice([1, 1, 2, 8]))):
        at, size = int(random.integers(len(changed) + 1)), int(random.integers(1, 20))
        match int(random.integers(5)):
            case 0:
                changed[at : at + 1] = bytes([int(random.integers(256))])
            case 1:
                del changed[at : at + size]
            case 2:
                changed[at:at] = changed[at : at + size]
            case 3:
                changed[at:at] = bytes(random.choice(list(b'{}[]",:0-'), size).astype(np.uint8))
            case 4:
                del changed[at:]
    return bytes(changed)
