"""Problems of a configuration, as sentences: all of them are named in one error."""

from collections.abc import Callable, Iterable
from typing import Any


def refuse(problems: Iterable[str]) -> None:
    """Raises one ValueError that names all problems, a line each; nothing where there is none."""
    if listed := list(problems):
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
