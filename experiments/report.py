"""A page about any run, or about several side by side, made from what they left in their folders.

    python -m experiments.report runs/vae-quick-seed0
    python -m experiments.report runs/vae-quick-seed* --out seeds.html

One HTML file that needs nothing else: results beside the paper's values, curves, pictures, time, config and
environment. Several runs also get a table of what differs in their configs, and, where only the seed does, the mean and
the spread. A run that is not finished gets a page that says so.
"""

import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from experiments import page
from experiments.page import Html, Section
from experiments.page_curves import COLORS, curves
from experiments.run_folders import RunFolder, differing_fields, leaves, read_all, same_but_for_seed


def report(runs: Sequence[RunFolder]) -> Html:
    """The page about one run or several."""
    if len(runs) == 1:
        run = runs[0]
        title = f"{run.record['experiment']} {run.record['preset']}, seed {run.record['seed']}"
        sections = [
            Section("Results", results(run)),
            Section("Curves", all_curves(runs)),
            Section("Pictures", page.tiles(page.picture(p, p.name) for p in run.pictures)),
            Section("How it ran", how_it_ran(run)),
        ]
        return page.document(title, states(runs), sections, f"Made from {run.name}.")
    sections = [
        Section("What differs", what_differs(runs)),
        Section("Results", compared_results(runs)),
        *[Section(f"Over seeds: {group[0].record['experiment']}", spread(group)) for group in same_but_for_seed(runs)],
        Section("Curves", all_curves(runs)),
        Section("Pictures", compared_pictures(runs)),
        Section("How they ran", page.join(*[page.folded(run.name, how_it_ran(run)) for run in runs])),
    ]
    names = ", ".join(dict.fromkeys(run.record["experiment"] for run in runs))
    return page.document(f"{len(runs)} runs: {names}", states(runs), sections, "Made from the runs' own folders.")


def states(runs: Sequence[RunFolder]) -> Html:
    """Whether each run is finished, and what of it could not be read."""
    said = []
    for run in runs:
        name = f"{run.name}: " if len(runs) > 1 else ""
        sentence = name + run.state()
        say = page.paragraph if run.state() == "Finished." else page.status
        said += [say(sentence, *run.damage) if not run.damage else page.status(sentence, *run.damage)]
    return page.join(*said)


def results(run: RunFolder) -> Html:
    """Every measured value beside the paper's, or what is known of them before the end."""
    if run.results is None:
        kept = {f"{what}: {name}": value for what, found in run.measured.items() for name, value in found.items()}
        if not kept:
            return page.paragraph("Nothing was measured yet.")
        return page.table(("measured so far", "value"), kept.items())
    metrics, paper = run.results["metrics"], run.results["paper"]
    if not paper:
        return page.table(("metric", "measured"), metrics.items())
    rows = [
        (name, value, paper.get(name), value - paper[name] if name in paper else None)
        for name, value in metrics.items()
    ]
    return page.table(("metric", "measured", "paper", "measured - paper"), rows)


def what_differs(runs: Sequence[RunFolder]) -> Html:
    """The fields of the configs that are not the same in all runs."""
    fields = differing_fields(runs)
    if not fields:
        return page.paragraph("The configs are the same.")
    rows = [
        (name, *[page.code(repr(v)) if v is not None else page.ABSENT for v in found]) for name, found in fields.items()
    ]
    return page.table(("field", *[run.name for run in runs]), rows)


def compared_results(runs: Sequence[RunFolder]) -> Html:
    """A column a run; the paper's value, where there is one, below the measured one."""
    found = [run.results or {"metrics": {}, "paper": {}} for run in runs]
    names = dict.fromkeys(name for results in found for name in results["metrics"])
    if not names:
        return page.paragraph("No run has results yet.")

    def cell(results: dict[str, Any], name: str) -> Html:
        value = page.number(results["metrics"].get(name))
        paper = results["paper"].get(name)
        return value if paper is None else Html(f"{value}<br><small>paper {page.number(paper)}</small>")

    rows: list[Sequence[Any]] = [(name, *[cell(results, name) for results in found]) for name in names]
    rows.append(("seconds", *[round(run.seconds(), 1) for run in runs]))
    rows.append(("parameters", *[page.code(r.get("params_sha256", page.ABSENT)[:16]) for r in found]))
    return page.table(("metric", *[run.name for run in runs]), rows)


def spread(group: Sequence[RunFolder]) -> Html:
    """Mean and sample standard deviation over runs that differ in the seed alone."""
    seeds = ", ".join(str(run.record["seed"]) for run in group)
    found = [run.results for run in group if run.results is not None]
    paper = {name: value for results in found for name, value in results["paper"].items()}
    rows = []
    for name in dict.fromkeys(name for results in found for name in results["metrics"]):
        values = [results["metrics"][name] for results in found if name in results["metrics"]]
        deviation = statistics.stdev(values) if len(values) > 1 else None
        rows.append((name, statistics.fmean(values), deviation, min(values), max(values), len(values), paper.get(name)))
    header = ("metric", "mean", "standard deviation", "least", "largest", "runs", "paper")
    return page.table(header, rows, f"Seeds {seeds}; the standard deviation of the sample (divided by runs - 1).")


def all_curves(runs: Sequence[RunFolder]) -> Html:
    """A chart for each logged quantity: of one run, a line a stage; of several, a chart a stage and a line a run."""
    if not any(run.metrics for run in runs):
        return page.paragraph("No step was logged yet.")
    if len(runs) == 1:
        groups = [{stage: lines for stage, lines in group} for group in related(runs[0].stages())]
        return page.tiles(chart for group in groups for chart in charts(group))
    stages = [run.stages() for run in runs]
    made = []
    for stage in dict.fromkeys(stage for found in stages for stage in found):
        lines = {run.name: found[stage] for run, found in zip(runs, stages, strict=True) if stage in found}
        made += charts(lines, f"{stage}: " if stage else "")
    return page.tiles(made)


def related(stages: dict[str, list[dict[str, Any]]]) -> list[list[tuple[str, list[dict[str, Any]]]]]:
    """Stages that can share charts: the quantities of one contain those of the other."""
    groups: list[list[tuple[str, list[dict[str, Any]]]]] = []
    for stage, lines in stages.items():
        mine = set(lines[0])
        for group in groups:
            theirs = set(group[0][1][0])
            if mine <= theirs or theirs <= mine:
                group.append((stage, lines))
                break
        else:
            groups.append([(stage, lines)])
    return groups


def charts(lines: dict[str, list[dict[str, Any]]], prefix: str = "") -> list[Html]:
    """A chart for each quantity in the lines of several stages or runs; quantities with the same values share one."""
    quantities = dict.fromkeys(name for found in lines.values() for line in found for name in line)
    by_values: dict[str, tuple[list[str], dict[str, Any]]] = {}
    for quantity in quantities:
        if quantity in ("step", "stage"):
            continue
        series = {}
        for name, found in lines.items():
            points = [(line["step"], line[quantity]) for line in found if isinstance(line.get(quantity), (int, float))]
            if points:
                series[name] = tuple(zip(*points, strict=True))
        if series:
            by_values.setdefault(repr(series), ([], series))[0].append(quantity)
    made, colors = [], {name: i % COLORS for i, name in enumerate(lines)}
    for named, series in by_values.values():
        title = prefix + " = ".join(named)
        items = list(series.items())
        for start in range(0, len(items), COLORS):
            made.append(curves(title, dict(items[start : start + COLORS]), "step", colors))
    return made


def compared_pictures(runs: Sequence[RunFolder]) -> Html:
    """Pictures of the same name side by side."""
    names = sorted({path.name for run in runs for path in run.pictures})
    parts = []
    for name in names:
        found = [(run.name, path) for run in runs for path in run.pictures if path.name == name]
        parts += [page.heading(name), page.tiles(page.picture(path, run) for run, path in found)]
    return page.join(*parts) if parts else page.paragraph("No picture was drawn yet.")


def how_it_ran(run: RunFolder) -> Html:
    """Steps, time, hash of the parameters, config and environment."""
    sessions = len({line["session"] for line in run.timing})
    last = {line.get("stage", ""): line for line in run.timing}
    rows = [(stage or "training", line["step"], line["steps_per_second"]) for stage, line in last.items()]
    said = [f"{run.seconds():.0f} seconds in {sessions} session{'s' if sessions != 1 else ''}."]
    if run.results is not None:
        said += [f"{run.results['step']} updates; parameters sha256 {run.results['params_sha256']}."]
    command = f"python -m experiments.{run.record['experiment']} {run.record['preset']} --seed {run.record['seed']}"
    return page.join(
        page.paragraph(*said),
        page.table(("stage", "last step", "steps a second"), rows) if rows else "",
        page.paragraph("Begun from", page.code(command), "and the fields below, whichever were given."),
        page.folded("Config", page.table(("field", "value"), as_rows(run.record["config"]))),
        page.folded("Environment", page.table(("what the bits depend on", "value"), as_rows(run.environment))),
    )


def as_rows(tree: dict[str, Any]) -> list[tuple[str, Html]]:
    """(dotted name, value as Python writes it) of nested dicts."""
    return [(name, page.code(repr(value))) for name, value in leaves(tree).items()]


def main(workdirs: tyro.conf.Positional[tuple[Path, ...]], out: Path | None = None) -> None:
    """Makes the page.

    Args:
        workdirs: folders of runs
        out: where to write it; by default report.html in the run's folder, or in the one that holds all the runs
    """
    try:
        if not workdirs:
            raise ValueError("no run is named; give the --workdir of one or several")
        runs = read_all(workdirs)
        folder = runs[0].folder if len(runs) == 1 else Path(os.path.commonpath([run.folder.parent for run in runs]))
        path = out or folder / "report.html"
        page.write(path, report(runs))
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
    print(path)


if __name__ == "__main__":
    tyro.cli(main, prog="python -m experiments.report", description=__doc__)
