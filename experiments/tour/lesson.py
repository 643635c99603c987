"""The lessons of the tour, from the files in lessons/."""

import itertools
import tomllib
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).with_name("lessons")


class Number(NamedTuple):
    """A number that a lesson shows.

    Attributes:
        measured: what it is.
        metric: its name in results.json.
        context: what to compare it with; it may name metrics in braces.
    """

    measured: str
    metric: str
    context: str


class Lesson(NamedTuple):
    """One experiment's `quick` preset and what to show of it.

    Attributes:
        experiment: its name.
        title: of what is trained.
        ideas: sentences.
        equations: the functions that compute them, as in equations.toml.
        pictures: {file in figures/: caption}.
        quantities: {logged name: title of its curve}.
        numbers: the most important results.
    """

    experiment: str
    title: str
    ideas: list[str]
    equations: list[str]
    pictures: dict[str, str]
    quantities: dict[str, str]
    numbers: list[Number]


class Chapter(NamedTuple):
    """Lessons of one kind of model."""

    title: str
    lessons: list[Lesson]


def read_chapters() -> tuple[Chapter, ...]:
    """All lessons, in the order of their files' names."""
    contents = [tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.toml"))]
    for content in contents:
        content["numbers"] = [Number(**number) for number in content["numbers"]]
    grouped = itertools.groupby(contents, key=lambda content: content.pop("chapter"))
    return tuple(Chapter(title, [Lesson(**content) for content in group]) for title, group in grouped)
