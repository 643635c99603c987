"""Patterns of shapes, such as "B ... C", whose names are sizes (ours)."""

from typing import Any, NamedTuple


class Known(NamedTuple):
    """What a name stands for in a call.

    Attributes:
        size: a number, or the axes of "...".
        argument: the argument that it was first found in.
        shape: the shape of that argument.
    """

    size: int | tuple[int, ...]
    argument: str
    shape: tuple[int, ...]


Bound = dict[str, Known]


def check_shape(name: str, shape: tuple[int, ...], pattern: str | None, bound: Bound) -> None:
    """Raises ValueError unless the shape fits the pattern; sizes of its names are added to `bound`."""
    if pattern is None:
        return
    against = None
    for part in pattern.split("|"):
        sizes = _sizes(part.split(), shape)
        against = None if sizes is None else _conflict(sizes, bound, "...1" in part)
        if sizes is not None and against is None:
            for token, size in sizes.items():
                known = bound.get(token)
                if known is None or (token == "..." and len(size) == len(known.size)):  # pyright: ignore
                    bound[token] = Known(size if known is None else _broadcast(size, known.size), name, shape)
            return
    problem = "" if against is None else f", and {against.argument} has shape {against.shape}"
    hint = ""
    if "..." not in pattern and pattern.endswith(" D") and len(shape) > len(pattern.split()):
        hint = "; flatten each example: x.reshape(len(x), -1)"
    raise ValueError(f"{name} has shape {shape}{problem}; expected {_pretty(pattern)}{hint}")


def _sizes(tokens: list[str], shape: tuple[int, ...]) -> dict[str, int | tuple[int, ...]] | None:
    """What each name of a pattern stands for in a shape; None where the shape does not fit."""
    lead = next((i for i, token in enumerate(tokens) if token.startswith("...")), None)
    if len(shape) < len(tokens) - (lead is not None) or (lead is None and len(shape) != len(tokens)):
        return None
    sizes: dict[str, int | tuple[int, ...]] = {}
    if lead is not None:
        end = len(shape) - (len(tokens) - lead - 1)
        sizes["..."] = shape[lead:end]
        tokens, shape = tokens[:lead] + tokens[lead + 1 :], shape[:lead] + shape[end:]
    for token, size in zip(tokens, shape, strict=True):
        if token == "_":
            continue
        if (token.isdigit() and int(token) != size) or sizes.get(token, size) != size:
            return None
        if not token.isdigit():
            sizes[token] = size
    return sizes


def _conflict(sizes: dict[str, int | tuple[int, ...]], bound: Bound, broadcasts: bool) -> Known | None:
    """The argument that a name had another size in, or None."""
    for token, size in sizes.items():
        known = bound.get(token)
        if known is None or known.size == size:
            continue
        if token == "..." and broadcasts and _broadcast(size, known.size) is not None:
            continue
        return known
    return None


def _broadcast(a: Any, b: Any) -> Any:
    """Axes of one number whose sizes are equal or 1, broadcast; None where they do not fit. Sizes stay as they are."""
    if isinstance(a, int):
        return a
    if len(a) != len(b) or any(x != y and 1 not in (x, y) for x, y in zip(a, b, strict=True)):
        return None
    return tuple(max(x, y) if 0 not in (x, y) else 0 for x, y in zip(a, b, strict=True))


def _pretty(pattern: str) -> str:
    """The pattern as messages show it: [B, ..., C]."""
    parts = [", ".join(part.replace("...1", "...").replace("_", "*").split()) for part in pattern.split("|")]
    return " or ".join(f"[{part}]" if part else "a scalar" for part in parts)
