"""The page of the tour, from the runs below its folder."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.command import run_folders
from experiments.command.run_folders import RunFolder, leaves
from experiments.report import contents, pages
from experiments.report.charts import Chart
from experiments.report.pages import Code, Table
from experiments.tour import equations
from experiments.tour.lesson import Chapter, Lesson, read_chapters

CHAPTERS = read_chapters()
PRESET = "quick"


def tour_page(chapters: Sequence[Chapter], folder: Path) -> str:
    """The page, from whatever has been trained below `folder`."""
    lessons = [lesson for chapter in chapters for lesson in chapter.lessons]
    runs = {lesson.experiment: read(folder / lesson.experiment) for lesson in lessons}
    rows = []
    for lesson in lessons:
        run = runs[lesson.experiment]
        state = "finished" if run and run.results else "begun" if run else "not yet trained"
        rows.append((lesson.title, state, round(run.seconds()) if run else None, Code(command(lesson))))
    return pages.render(
        "tour.html.jinja2",
        systems=Table(("system", "state", "seconds", "command"), rows),
        minutes=sum(run.seconds() for run in runs.values() if run) / 60,
        chapters=chapters,
        runs=runs,
        equations=equations.read(),
        numbers_of=numbers_of,
        curves_of=curves_of,
        results=contents.results,
    )


def numbers_of(lesson: Lesson, metrics: Mapping[str, float]) -> Table:
    """The chosen numbers, and what to compare them with."""
    rows = [(n.measured, metrics.get(n.metric), fill(n.context, metrics)) for n in lesson.numbers]
    return Table(("measured", "value", "compared with"), rows)


def fill(text: str, metrics: Mapping[str, float]) -> str:
    """Text with the metrics that it names in braces."""
    try:
        return text.format_map(metrics)
    except KeyError as missing:
        return f"{missing.args[0]} was not measured"


def curves_of(run: RunFolder, quantities: Mapping[str, str]) -> list[Chart]:
    """A chart for each quantity, a line a stage."""
    names = {"step": "step", **quantities}
    lines = {
        stage: [{names[name]: line[name] for name in names if name in line} for line in logged]
        for stage, logged in run.stages().items()
    }
    return contents.charts({stage: logged for stage, logged in lines.items() if len(logged[0]) > 1})


def read(folder: Path) -> RunFolder | None:
    """The run in a folder, or None before it has begun."""
    return run_folders.read(folder) if (folder / "config.json").exists() else None


def command(lesson: Lesson) -> str:
    """The command of a lesson, as a person would type it."""
    return f"python -m experiments.{lesson.experiment} {PRESET}"


def is_finished(lesson: Lesson, folder: Path) -> bool:
    """Whether the folder holds results of the preset as it is now, in all fields on which results depend."""
    run = read(folder)
    if run is None or run.results is None:
        return False
    from jaxgen import training

    preset = importlib.import_module(f"experiments.{lesson.experiment}").PRESETS[PRESET]
    untracked = training.untracked_fields(preset)

    def tracked(config: Any) -> dict[str, Any]:
        return {name: value for name, value in leaves(training.to_dict(config)).items() if name not in untracked}

    try:
        return tracked(training.from_dict(preset, run.record["config"])) == tracked(preset)
    except ValueError:
        return False
