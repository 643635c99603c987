"""What the tour shows of a chapter: ideas, equations, and what to look at in each quick run."""

from typing import NamedTuple


class Lesson(NamedTuple):
    """One experiment's `quick` preset and what to show of it.

    Attributes:
        experiment: the script.
        title: of what is trained.
        ideas: sentences.
        equations: the functions that compute them, as in `experiments.equations`.
        pictures: {file in figures/: what it shows}.
        quantities: {logged name: what it is}, whose curves are drawn.
        numbers: (what was measured, metric, what stands beside it); the last may name metrics in braces.
    """

    experiment: str
    title: str
    ideas: tuple[str, ...]
    equations: tuple[str, ...]
    pictures: dict[str, str]
    quantities: dict[str, str]
    numbers: tuple[tuple[str, str, str], ...]


class Chapter(NamedTuple):
    """A chapter of the notes."""

    title: str
    lessons: tuple[Lesson, ...]
