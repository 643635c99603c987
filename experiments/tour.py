"""All chapters of the notes, trained on embedded data, on one page.

    python -m experiments.tour

Trains the `quick` preset of every experiment, offline, each in a folder of its own below runs/tour, on a CPU the
diffusion models beside the others (`--at-once 1`: one after another; exact times need that), and writes
runs/tour/index.html after each: the idea, the equations beside the functions that compute them, pictures, curves,
numbers, and the time it took. Interrupted, the same command goes on where it was; what is finished is not trained
again.
"""

import importlib
import json
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import tyro

from experiments import page, report, run_folders, tour_autoencoders, tour_generators, tour_programs
from experiments.equations import EQUATIONS
from experiments.page import Html, Section
from experiments.run_folders import RunFolder
from experiments.tour_lesson import Chapter, Lesson

CHAPTERS = (*tour_autoencoders.CHAPTERS, *tour_generators.CHAPTERS)
PRESET = "quick"
# Experiments that compare samples on the features of a classifier. It is trained on the same digits, once for all.
COMPARE_FEATURES = ("ddpm", "guided_diffusion")


def tour_page(chapters: Sequence[Chapter], folder: Path) -> Html:
    """The page, from whatever has been trained below `folder`."""
    found = {lesson.experiment: read(folder / lesson.experiment) for chapter in chapters for lesson in chapter.lessons}
    rows, total = [], 0.0
    for chapter in chapters:
        for lesson in chapter.lessons:
            run = found[lesson.experiment]
            total += run.seconds() if run else 0.0
            state = "finished" if run and run.results else "begun" if run else "not yet trained"
            rows.append((lesson.title, state, round(run.seconds()) if run else None, page.code(command(lesson))))
    intro = page.join(
        page.paragraph(
            "The notes' generative models: their equations, and small systems trained by them on this machine, on data "
            "that comes with the library."
        ),
        page.table(("system", "state", "seconds", "command"), rows),
        page.paragraph(f"{total / 60:.1f} minutes of training, measuring and drawing, without starting the programs."),
    )
    sections = [
        Section(chapter.title, page.join(*[taught(lesson, found[lesson.experiment]) for lesson in chapter.lessons]))
        for chapter in chapters
    ]
    return page.document("A tour of generative models", intro, sections, "Made by python -m experiments.tour.")


def taught(lesson: Lesson, run: RunFolder | None) -> Html:
    """One system: its idea and equations, and what came of it."""
    parts = [
        page.heading(lesson.title),
        page.paragraph(*lesson.ideas),
        page.equations({EQUATIONS[name]: name for name in lesson.equations}),
    ]
    if run is None or run.results is None:
        return page.join(*parts, page.status(run.state() if run else "Not yet trained."))
    drawn = {path.name: path for path in run.pictures}
    shown = [page.picture(drawn[name], caption) for name, caption in lesson.pictures.items() if name in drawn]
    missing = sorted(set(lesson.pictures) - set(drawn))
    if missing:
        parts.append(page.status(f"Not drawn: {', '.join(missing)}."))
    return page.join(
        *parts,
        numbers(lesson, run.results["metrics"]),
        page.tiles(shown),
        page.tiles(chart for chart in curves_of(run, lesson.quantities)),
        page.paragraph(f"Took {run.seconds():.0f} seconds."),
        page.folded(f"All numbers of {lesson.experiment}, and how it ran", report.results(run), report.how_it_ran(run)),
    )


def numbers(lesson: Lesson, metrics: dict[str, float]) -> Html:
    """The chosen numbers, and what stands beside them."""
    rows = [(what, metrics.get(metric), filled(beside, metrics)) for what, metric, beside in lesson.numbers]
    return page.table(("measured", "value", "beside it"), rows)


def filled(text: str, metrics: dict[str, float]) -> str:
    """Text with the metrics that it names in braces."""
    try:
        return text.format_map(metrics)
    except KeyError as missing:
        return f"{missing.args[0]} was not measured"


def curves_of(run: RunFolder, quantities: Mapping[str, str]) -> list[Html]:
    """A chart for each quantity, a line a stage."""
    names = {"step": "step", **quantities}
    lines = {
        stage: [{names[name]: line[name] for name in names if name in line} for line in found]
        for stage, found in run.stages().items()
    }
    return report.charts({stage: found for stage, found in lines.items() if len(found[0]) > 1})


def read(folder: Path) -> RunFolder | None:
    """The run in a folder, or None before it has begun."""
    return run_folders.read(folder) if (folder / "config.json").exists() else None


def command(lesson: Lesson) -> str:
    """What a person would type."""
    return f"python -m experiments.{lesson.experiment} {PRESET}"


def finished(lesson: Lesson, folder: Path) -> bool:
    """Whether the folder holds results of the preset as it now is."""
    run = read(folder)
    if run is None or run.results is None:
        return False
    from jaxgen import training

    preset = importlib.import_module(f"experiments.{lesson.experiment}").PRESETS[PRESET]
    expected = json.loads(json.dumps(training.to_dict(preset)))
    if lesson.experiment in COMPARE_FEATURES:
        expected["evaluation"]["features"] = run.record["config"].get("evaluation", {}).get("features")
    return run.record["config"] == expected


def arguments(lesson: Lesson, folder: Path) -> list[str]:
    """The command that trains in `folder`."""
    command = [sys.executable, "-m", f"experiments.{lesson.experiment}", PRESET, "--workdir", str(folder)]
    if lesson.experiment in COMPARE_FEATURES:
        command += ["--evaluation.features", str(folder.parent / "features.npz")]
    return command


def main(workdir: Path = Path("runs/tour"), chapters: tuple[int, ...] = (), at_once: Literal[0, 1, 2] = 0) -> None:
    """Trains and writes the page.

    Args:
        workdir: where everything is written
        chapters: numbers of the notes' chapters; by default all
        at_once: programs at a time; 0: two on a CPU with several cores, otherwise one
    """
    try:
        code = walk(workdir.absolute(), chapters, at_once or tour_programs.at_once())
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        code = 1
    sys.exit(code)


def walk(folder: Path, numbers_of_chapters: Sequence[int] = (), at_once: int = 1) -> int:
    """The tour, and its exit code: 0, that of an interruption, or 1 where an experiment failed.

    Raises:
        ValueError: there is no such chapter.
    """
    wrong = [number for number in numbers_of_chapters if not 1 <= number <= len(CHAPTERS)]
    if wrong:
        raise ValueError(f"no chapter {wrong[0]}; there are 1 to {len(CHAPTERS)}")
    chosen = [CHAPTERS[number - 1] for number in sorted(set(numbers_of_chapters))] or list(CHAPTERS)
    lessons = list(enumerate((lesson for chapter in chosen for lesson in chapter.lessons), 1))
    folder.mkdir(parents=True, exist_ok=True)
    programs, failed, writing = tour_programs.Programs(), [], threading.Lock()

    def write_page():
        with writing:
            page.write(folder / "index.html", tour_page(CHAPTERS, folder))

    def lane(part: list[tuple[int, Lesson]]):
        for number, lesson in part:
            if programs.stopped is not None:
                return
            where = folder / lesson.experiment
            before = finished(lesson, where)
            end = " was finished before" if before else ""
            print(f"[{number}/{len(lessons)}] {lesson.title}: {command(lesson)}{end}", flush=True)
            if before:
                continue
            code = programs.run(lesson.experiment, arguments(lesson, where))
            write_page()
            if code and code not in tour_programs.STOPPED:
                failed.append(lesson.experiment)

    write_page()
    parts = [lessons]
    if at_once == 2:
        # The diffusion models take about as long as all others, and share a file of features.
        long = [entry for entry in lessons if entry[1].experiment in COMPARE_FEATURES]
        parts = [long, [entry for entry in lessons if entry not in long]]
    programs.side_by_side([partial(lane, part) for part in parts if part])
    if programs.stopped is not None:
        print("The tour has stopped; the same command goes on from here.", file=sys.stderr)
        return programs.stopped
    if failed:
        print(f"Failed, for the reasons above: {', '.join(failed)}. The others are on the page.", file=sys.stderr)
    print(folder / "index.html")
    return 1 if failed else 0


if __name__ == "__main__":
    tyro.cli(main, prog="python -m experiments.tour", description=__doc__)
