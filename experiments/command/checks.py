"""Problems of a configuration, as sentences: all of them are named in one error."""

import dataclasses
import math
import sys
from collections.abc import Callable, Iterable
from typing import Any


def refuse(problems: Iterable[str]) -> None:
    """Raises one ValueError that names all problems once, a line each; nothing where there is none."""
    if listed := dict.fromkeys(line for problem in problems for line in problem.splitlines()):
        raise ValueError("\n".join(listed))


def bounds(config: Any, prefix: str = "", **minimums: float) -> list[str]:
    """The problems of fields that are below their minimum.

    Args:
        config: a dataclass.
        prefix: its dotted name and a dot, "" for the whole configuration.
        **minimums: the smallest value of each field, by its name.
    """
    below = {name: minimum for name, minimum in minimums.items() if getattr(config, name) < minimum}
    wanted = lambda minimum: f"be at least {minimum}" if minimum else "not be negative"
    return [f"{prefix}{name} is {getattr(config, name)}; it must {wanted(below[name])}" for name in below]


def errors_of(*functions: Callable[[], Any]) -> list[str]:
    """The messages of the ValueErrors that functions raise."""
    problems = []
    for function in functions:
        try:
            function()
        except ValueError as error:
            problems.append(str(error))
    return problems


def not_finite(config: Any, prefix: str = "") -> list[str]:
    """The problems of fields of a dataclass, and of those in it, that are NaN or infinite."""
    problems = []
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            problems += not_finite(value, f"{name}.")
        elif any(
            isinstance(v, float) and not math.isfinite(v) for v in (value if isinstance(value, tuple) else (value,))
        ):
            problems.append(f"{name} is {value}; it must be finite")
    return problems


def note(*sentences: str) -> None:
    """Prints what a reader of the results must know."""
    for sentence in sentences:
        print(f"note: {sentence}", file=sys.stderr, flush=True)


def note_fewer(name: str, number: int, available: int, what: str) -> None:
    """Notes that all are taken where fewer are available than a setting says."""
    if number > available:
        note(f"{name} is {number}, and there are {available} {what}: all are taken")


def note_memorization(train: float, test: float, what: str, num: int) -> None:
    """Notes that an error on `num` training images is far below that on test images."""
    if math.isfinite(train) and test - train > 0.5 * abs(test):
        note(
            f"{what} is {train:.4g} on training images and {test:.4g} on test images: the {num} training images are "
            "memorized. More images, a smaller network, or fewer steps would help"
        )
