"""All chapters, trained on embedded data, on one page.

    python -m experiments.tour

Trains the `quick` preset of every experiment, offline, each in its own folder below runs/tour, and writes
runs/tour/index.html after each: the idea, the equations and the functions that compute them, pictures, curves, numbers,
and the time it took. On a CPU the diffusion models run at the same time as the others (`--at-once 1`: one after
another, for exact times). After an interruption the same command continues; finished experiments are not trained again.
"""

import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import tyro

from experiments.command.terminal import errors_exit
from experiments.report import pages
from experiments.tour import programs
from experiments.tour.lesson import Lesson
from experiments.tour.page import CHAPTERS, PRESET, command, is_finished, tour_page

# Experiments that compare samples on the features of a classifier. It is trained on the same digits, once for all.
COMPARE_FEATURES = ("ddpm", "guided_diffusion")


def main(workdir: Path = Path("runs/tour"), chapters: tuple[int, ...] = (), at_once: Literal[0, 1, 2] = 0) -> None:
    """Trains and writes the page.

    Args:
        workdir: where everything is written
        chapters: numbers of chapters; by default all
        at_once: programs at a time; 0: two on a CPU with several cores, otherwise one
    """
    with errors_exit():
        code = walk(workdir.absolute(), chapters, at_once or programs.at_once())
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
    running, failed, writing = programs.Programs(), [], threading.Lock()

    def write_page() -> None:
        with writing:
            pages.write(folder / "index.html", tour_page(CHAPTERS, folder))

    def lane(part: list[tuple[int, Lesson]]) -> None:
        for number, lesson in part:
            if running.stopped is not None:
                return
            workdir = folder / lesson.experiment
            before = is_finished(lesson, workdir)
            end = " was finished before" if before else ""
            print(f"[{number}/{len(lessons)}] {lesson.title}: {command(lesson)}{end}", flush=True)
            if before:
                continue
            code = running.run(lesson.experiment, arguments(lesson, workdir))
            write_page()
            if code and code not in programs.STOPPED:
                failed.append(lesson.experiment)

    write_page()
    parts = [lessons]
    if at_once == 2:
        # The diffusion models take about as long as all others, and share a file of features.
        long = [entry for entry in lessons if entry[1].experiment in COMPARE_FEATURES]
        parts = [long, [entry for entry in lessons if entry not in long]]
    running.side_by_side([partial(lane, part) for part in parts if part])
    if running.stopped is not None:
        print("The tour has stopped; the same command continues it.", file=sys.stderr)
        return running.stopped
    if failed:
        print(f"Failed, for the reasons above: {', '.join(failed)}. The others are on the page.", file=sys.stderr)
    print(folder / "index.html")
    return 1 if failed else 0


def arguments(lesson: Lesson, folder: Path) -> list[str]:
    """The command that trains in `folder`."""
    program = [sys.executable, "-m", "experiments.tour.child", f"experiments.{lesson.experiment}"]
    command = [*program, PRESET, "--workdir", str(folder)]
    if lesson.experiment in COMPARE_FEATURES:
        command += ["--evaluation.features", str(folder.parent / "features.npz")]
    return command


if __name__ == "__main__":
    tyro.cli(main, prog="python -m experiments.tour", description=__doc__)
