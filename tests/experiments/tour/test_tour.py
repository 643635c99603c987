"""The tour: what it names exists, it goes on where it was, and its page is whole at every moment."""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from experiments.report import pages
from experiments.tour import __main__ as tour
from experiments.tour import equations, programs
from experiments.tour.page import CHAPTERS, is_finished, tour_page
from experiments.tour.programs import Programs
from jaxgen import pictures, training
from jaxgen.training import files
from tests.experiments.report.page_reader import Page

LESSONS = [lesson for chapter in CHAPTERS for lesson in chapter.lessons]
NAMES = [lesson.experiment for lesson in LESSONS]


def leave_behind(lesson, folder, config=None):
    """A folder as a finished run of the lesson leaves it."""
    preset = importlib.import_module(f"experiments.{lesson.experiment}").PRESETS["quick"]
    (folder / "figures").mkdir(parents=True)
    save = lambda name, value: files.write_json(folder / name, value)  # in one piece, as a run does
    record = {"experiment": lesson.experiment, "preset": "quick", "seed": 0}
    save("config.json", record | {"config": config or training.to_dict(preset)})
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 5, "other": 9.0} | dict.fromkeys(lesson.quantities, 1.5)))
    metrics = {number.metric: 0.25 for number in lesson.numbers}
    results = {"step": 5, "params_sha256": "ab" * 32, "seconds": 30.0, "metrics": metrics, "paper": {}}
    save("results.json", record | results)
    for name in lesson.pictures:
        picture = np.zeros((2, 2, 3), np.uint8)
        path = folder / "figures" / name
        pictures.save_gif(path, [picture]) if path.suffix == ".gif" else pictures.save_png(path, picture)


@pytest.fixture
def walk(monkeypatch, tmp_path):
    """Walks the tour with experiments that end at once: with files, or with the exit code that `ends` gives them."""

    def run(ends=(), chapters=(), at_once=1):
        called = []
        experiments = {lesson.experiment: lesson for lesson in LESSONS}

        def command(name, arguments):
            called.append(name)
            code = dict(ends).get(name, 0)
            if not code:
                assert arguments[1:5] == ["-m", "experiments.tour.child", f"experiments.{name}", "quick"]
                leave_behind(experiments[name], Path(arguments[arguments.index("--workdir") + 1]))
            return ["sh", "-c", f"exit {code}" if code >= 0 else f"kill -{-code} $$"]

        class Stubs(Programs):
            def run(self, name, arguments):
                return super().run(name, command(name, arguments))

        monkeypatch.setattr(programs, "Programs", Stubs)
        code = tour.walk(tmp_path / "tour", chapters, at_once)
        return code, called, Page((tmp_path / "tour" / "index.html").read_text())

    return run


def test_every_equation_stands_beside_a_public_function_and_can_be_set():
    found = equations.read()
    for named, tex in found.items():
        package, name = named.split(".")
        assert name in importlib.import_module(f"jaxgen.{package}").__all__
        assert pages.mathml(tex).count("<math") == 1 and "\\" not in pages.mathml(tex)
    assert len(set(found.values())) == len(found)


def test_a_whole_tour(walk):
    code, called, read = walk()
    assert code == 0 and called == NAMES
    assert not read.problems and read.asks_for_nothing()
    assert len(read.images) == sum(len(lesson.pictures) for lesson in LESSONS)
    assert read.tags.count("math") == sum(len(lesson.equations) for lesson in LESSONS)
    charts = [label for label in read.labels if " over step: " in label]
    assert charts and not any(label.startswith("other") for label in charts)
    assert f"{len(LESSONS) / 2:.1f} minutes of training" in read.text and "Took 30 seconds." in read.text
    assert read.values.count(0.25) >= sum(len(lesson.numbers) for lesson in LESSONS)
    # Nothing is trained twice.
    assert walk()[:2] == (0, [])


def test_an_interrupted_tour_goes_on_where_it_was(walk):
    code, called, read = walk(ends={NAMES[1]: 130})
    assert code == 130 and called == NAMES[:2] and not read.problems
    assert read.text.count("Not yet trained.") == len(NAMES) - 1
    code, called, read = walk()
    assert code == 0 and called == NAMES[1:] and "Not yet trained." not in read.text
    assert walk(ends={NAMES[0]: -15})[0] == 0


def test_what_fails_does_not_keep_the_rest_from_being_seen(walk, capsys):
    code, called, read = walk(ends={NAMES[0]: 1})
    assert code == 1 and called == NAMES and read.text.count("Not yet trained.") == 1
    assert f"Failed, for the reasons above: {NAMES[0]}." in capsys.readouterr().err


def test_chapters_by_number(walk):
    code, called, read = walk(chapters=(2,))
    assert code == 0 and called == [lesson.experiment for lesson in CHAPTERS[1].lessons]
    assert "Sparse codes" in read.text
    with pytest.raises(ValueError, match=f"no chapter 9; there are 1 to {len(CHAPTERS)}"):
        tour.walk(None, (9,))  # type: ignore[arg-type]


def test_results_of_another_config_are_not_taken_for_the_presets(tmp_path):
    leave_behind(LESSONS[0], tmp_path / "a")
    assert is_finished(LESSONS[0], tmp_path / "a")
    leave_behind(LESSONS[0], tmp_path / "b", {"seed": 0})
    assert not is_finished(LESSONS[0], tmp_path / "b") and not is_finished(LESSONS[0], tmp_path / "c")


def test_what_was_not_drawn_or_measured_is_said(tmp_path):
    leave_behind(LESSONS[0], tmp_path / LESSONS[0].experiment)
    first = next(iter(LESSONS[0].pictures))
    (tmp_path / LESSONS[0].experiment / "figures" / first).unlink()
    text = Page(tour_page(CHAPTERS, tmp_path)).text
    assert f"Not drawn: {first}." in text and "pca_error was not measured" in text


def test_the_diffusion_models_run_beside_the_others(walk):
    code, called, read = walk(at_once=2)
    long = [name for name in NAMES if name in tour.COMPARE_FEATURES]
    assert code == 0 and sorted(called) == sorted(NAMES) and read.text.count("Not yet trained.") == 0
    assert [name for name in called if name in long] == long
    assert [name for name in called if name not in long] == [name for name in NAMES if name not in long]


WAITS = "trap 'exit 143' TERM; touch {here}; while [ ! -e {other} ]; do sleep 0.02; done; echo met; {end}"


def test_programs_run_side_by_side_and_a_signal_reaches_both(tmp_path, capfd):
    """Both meet, so they run at a time. Ctrl-C is left to them, SIGTERM passed on; nothing more is started."""
    programs, codes = Programs(), {}

    def lane(name, other):
        script = WAITS.format(here=tmp_path / name, other=tmp_path / other, end="while :; do sleep 0.02; done")
        codes[name] = programs.run(name, ["sh", "-c", script])
        codes[name + " next"] = programs.run(name, ["touch", str(tmp_path / "next")])

    def signals():
        while not all((tmp_path / name).exists() for name in "ab") or signal.getsignal(signal.SIGTERM) == before:
            time.sleep(0.02)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)
        while programs.stopped is None:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=signals)
    # A shell starts programs in the background with SIGINT ignored.
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread.start()
    programs.side_by_side([partial(lane, "a", "b"), partial(lane, "b", "a")])
    thread.join()
    signal.signal(signal.SIGINT, interrupt)
    assert codes == {"a": 143, "b": 143, "a next": 130, "b next": 130} and not (tmp_path / "next").exists()
    assert programs.stopped == 130 and signal.getsignal(signal.SIGTERM) == before
    assert sorted(capfd.readouterr().out.splitlines()) == ["a: met", "b: met"]


def test_what_breaks_in_a_lane_is_raised():
    def breaks():
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        Programs().side_by_side([breaks, lambda: None])


def test_a_program_ends_with_a_tour_that_is_killed(tmp_path):
    (tmp_path / "waits.py").write_text(
        "import os, pathlib, sys, time\n"
        "pathlib.Path(sys.argv[1]).write_text(f'{os.getpid()} {__name__}')\n"
        "time.sleep(60)\n"
    )
    tour_program = (
        "import sys; from experiments.tour.programs import Programs\n"
        "Programs().run('a', [sys.executable, '-m', 'experiments.tour.child', 'waits', sys.argv[1]])"
    )
    root = Path(tour.__file__).parents[2]
    paths = os.pathsep.join([str(root), str(tmp_path)])
    killed = subprocess.Popen(
        [sys.executable, "-c", tour_program, str(tmp_path / "pid")], env={**os.environ, "PYTHONPATH": paths}
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    number, name = (tmp_path / "pid").read_text().split()
    assert name == "__main__"
    # A process that has ended is gone, or waits to be reaped.
    state = Path(f"/proc/{number}/stat")
    while state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.02)
