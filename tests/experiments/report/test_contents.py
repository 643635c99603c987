"""The page about runs: its numbers are the runs' own, and what is missing is said."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.command import image_data
from experiments.command.run_folders import UNTRACKED_IN_0_1_0, differing_fields, read_all, same_but_for_seed
from experiments.report import contents
from jaxgen import pictures, training
from tests.experiments.report.page_reader import Page

PAPER = {"error": 1.5}


@pytest.fixture
def make(tmp_path):
    """Writes the folder of a run and returns it."""

    def write(name, seed=0, metrics=None, steps=(100, 200), stages=("",), untracked=None, **config):
        folder = tmp_path / name
        (folder / "figures").mkdir(parents=True)
        record = {"seed": seed, "data": {"name": "digits", "dir": ""}, "train": {"num_steps": 200}} | config
        save = lambda file, value: (folder / file).write_text(json.dumps(value))
        listed = {} if untracked is None else {"untracked": untracked}
        save("config.json", {"experiment": "toy", "preset": "quick", "seed": seed, "config": record, **listed})
        save("environment.json", {"python": "3.11", "versions": {"jax": "0.10"}})
        for number, stage in enumerate(stages):
            named = {"stage": stage} if stage else {}
            for step in steps:
                with open(folder / "metrics.jsonl", "a") as file:
                    file.write(json.dumps({"step": step, **named, "loss": 100.0 / step, "bound": -step}) + "\n")
                with open(folder / "timing.jsonl", "a") as file:
                    seconds = step / 10 + 20 * number
                    line = {"step": step, **named, "session": 1, "seconds": seconds, "steps_per_second": 10.0}
                    file.write(json.dumps(line) + "\n")
        pictures.save_png(folder / "figures" / "samples.png", np.full((3, 3, 3), seed, np.uint8))
        if metrics is not None:
            results = {"experiment": "toy", "preset": "quick", "seed": seed, "step": 200, "params_sha256": "ab" * 32}
            paper = {k: v for k, v in PAPER.items() if k in metrics}
            save("results.json", results | {"seconds": 12.5, "metrics": metrics, "paper": paper})
        return folder

    return write


def page_of(*folders):
    read = Page(contents.report(read_all(folders)))
    assert not read.problems and read.asks_for_nothing()
    return read


def test_one_run(make):
    metrics = {"error": 1.2345678901234567, "units <used>": 26.0}
    read = page_of(make("a", metrics=metrics))
    assert "toy quick, seed 0" in read.text and "Finished." in read.text and "12 seconds in 1 session." in read.text
    assert read.row("error")[:2] == ["1.2346", "1.5"] and read.row("units <used>") == ["26", "–", "–"]
    assert set(metrics.values()) | {1.5, metrics["error"] - 1.5} <= set(read.values)
    assert len(read.images) == 1 and read.row("data.name") == ["'digits'"] and read.row("versions.jax") == ["'0.10'"]
    assert read.labels == ["Contents", "loss over step: 1 to 0.5", "bound over step: -100 to -200"]


def test_several_stages_share_charts_where_their_quantities_allow(make):
    folder = make("a", metrics={}, stages=("ae", "cae"))
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 5, "stage": "classifier", "loss": 3.0, "error_rate": 0.5}) + "\n")
        file.write(json.dumps({"step": 5, "stage": "flow", "likelihood": 2.0, "negative": 2.0}) + "\n")
    assert page_of(folder).labels[1:] == [
        "loss over step: ae 1 to 0.5; cae 1 to 0.5",
        "bound over step: ae -100 to -200; cae -100 to -200",
        "loss over step: classifier 3 to 3",
        "error_rate over step: classifier 0.5 to 0.5",
        # The same values twice are one chart.
        "likelihood = negative over step: flow 2 to 2",
    ]


def test_an_unfinished_run_says_so(make):
    folder = make("a", steps=(100,))
    (folder / "measured.json").write_text('{"half way": {"bound": -1.25}}')
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 200, "lo')
    read = page_of(folder)
    assert "Unfinished: the last logged step is 100 of 200." in read.text and -1.25 in read.values
    assert "metrics.jsonl, line 2, is damaged and was left out." in read.text and "10 seconds" in read.text
    read = page_of(make("b", stages=("one", "two")))
    assert "the last logged step is 200, stage two." in read.text and "40 seconds" in read.text
    assert "no step was logged yet" in page_of(make("c", steps=())).text


def test_results_of_a_run_that_has_since_grown(make):
    folder = make("a", metrics={}, train={"num_steps": 500})
    assert "the results are of step 200, the run now goes to 500" in page_of(folder).text


def test_values_that_are_not_finite(make):
    folder = make("a", metrics={"error": float("nan")})
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 300, "loss": Infinity, "bound": NaN}\n')
    read = page_of(folder)
    assert read.row("error")[0] == "not finite" and "loss over step: 1 to 0.5" in read.labels


def test_several_runs_side_by_side(make):
    runs = [make("a", metrics={"error": 2.0}), make("b", metrics={"other": 3.0}, width=7), make("c")]
    read = page_of(*runs)
    assert read.row("width") == ["–", "7", "–"] and read.row("error") == ["2paper 1.5", "–", "–"]
    assert read.row("other") == ["–", "3", "–"] and len(read.images) == 3
    assert "c: Unfinished" in read.text and "a: Finished" in read.text and "Over seeds" not in read.text
    assert read.labels[1] == "loss over step: a 1 to 0.5; b 1 to 0.5; c 1 to 0.5"


def test_mean_and_spread_over_seeds_by_hand(make):
    runs = [make(str(seed), seed, {"error": value}) for seed, value in enumerate((1.0, 2.0, 4.0))]
    # 7/3; ((4/3)^2 + (1/3)^2 + (5/3)^2) / 2 = 7/3.
    row = next(r for r in page_of(*runs).rows if r[0] == "error" and len(r) == 7)
    assert row[1:] == [f"{7 / 3:.5g}", f"{(7 / 3) ** 0.5:.5g}", "1", "4", "3", "1.5"]


def test_what_counts_as_the_same_but_for_the_seed(make):
    data = lambda folder: {"data": {"name": "digits", "dir": folder}}
    runs = [
        make("a", 0, {"error": 1.0}), make("b", 1, {"error": 1.0}, **data("elsewhere")), make("c", 2, {}, width=3),
        make("d", 3), make("e", 1, {"error": 1.0}),
    ]  # fmt: skip
    (group,) = same_but_for_seed(read_all(runs))
    assert [run.name for run in group] == ["a", "b"]
    assert differing_fields(read_all(runs[:2])) == {"seed": [0, 1], "data.dir": ["", "elsewhere"]}


def test_config_json_says_which_fields_decide_nothing(make):
    data = lambda folder: {"data": {"name": "digits", "dir": folder}}
    runs = [make(str(i), i, {"error": 1.0}, untracked=["data.dir"], **data(f"folder {i}")) for i in range(2)]
    assert len(same_but_for_seed(read_all(runs))[0]) == 2
    runs = [make(f"x{i}", i, {"error": 1.0}, untracked=[], **data(f"folder {i}")) for i in range(2)]
    assert not same_but_for_seed(read_all(runs))


def test_fields_on_which_no_result_depends_are_those_of_the_engine():
    """Under the names that they had in 0.1.0."""
    fields = [*dataclasses.fields(training.Settings), *dataclasses.fields(image_data.FlatImageData)]
    for field in fields:
        (name,) = field.metadata.get("old_names") or (field.name,)
        assert (name in UNTRACKED_IN_0_1_0) == field.metadata.get("untracked", False), name


def test_names_tell_runs_of_the_same_folder_name_apart(make):
    read = read_all([make("x/run"), make("y/run")])
    assert [run.name for run in read] == ["x/run", "y/run"]


def test_what_is_not_a_run_is_refused(make, tmp_path):
    make("inside")
    cases = {
        "nowhere": "is not a folder",
        ".": "holds no config.json: it is not a run. The runs in it: inside.",
    }
    for name, message in cases.items():
        with pytest.raises(ValueError, match=message):
            read_all([tmp_path / name])
    with pytest.raises(ValueError, match="the same run twice"):
        read_all([tmp_path / "inside", tmp_path / "inside" / ".." / "inside"])
    (tmp_path / "inside" / "config.json").write_text('{"x": 1}')
    with pytest.raises(ValueError, match="was not written by a run"):
        read_all([tmp_path / "inside"])
    (tmp_path / "inside" / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json: line 1, column 2: not a whole JSON file"):
        read_all([tmp_path / "inside"])


def test_the_command_writes_where_it_is_told_without_loading_jax(make, tmp_path):
    a, b = make("a", metrics={}), make("b", 1, {})
    program = (
        "import sys; from experiments.report import __main__ as report; report.main({}, {}); "
        "assert 'jax' not in sys.modules"
    )
    root = Path(contents.__file__).parents[2]
    call = lambda *arguments: subprocess.run(
        [sys.executable, *arguments], cwd=root, capture_output=True, text=True, check=False
    )
    done = call("-c", program.format([str(a)], None))
    assert done.returncode == 0 and done.stdout.strip() == str(a / "report.html")
    assert Path(done.stdout.strip()).read_text().startswith("<!DOCTYPE html>")
    done = call("-m", "experiments.report", str(a), str(b))
    assert done.stdout.strip() == str(tmp_path / "report.html") and (tmp_path / "report.html").exists()
    done = call("-m", "experiments.report", str(tmp_path / "no"))
    assert done.returncode == 1 and "is not a folder" in done.stderr and "Traceback" not in done.stderr
