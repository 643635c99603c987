"""What a page about one run or several holds: tables, charts and pictures."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.command.run_folders import RunFolder, differing_fields, same_but_for_seed
from experiments.report import pages
from experiments.report.charts import COLORS, Chart, chart
from experiments.report.pages import Code, Table

Lines = Sequence[Mapping[str, Any]]


def report(runs: Sequence[RunFolder]) -> str:
    """The page about one run or several."""
    if len(runs) == 1:
        return pages.render("run.html.jinja2", runs=runs, results=results(runs[0]), charts=all_charts(runs))
    return pages.render(
        "runs.html.jinja2",
        runs=runs,
        differences=differing_fields(runs),
        results=compared_results(runs),
        spreads=[(group[0].record["experiment"], spread(group)) for group in same_but_for_seed(runs)],
        charts=all_charts(runs),
        pictures=compared_pictures(runs),
    )


def results(run: RunFolder) -> Table | None:
    """Every measured value compared with the paper's, or those that are known before the end."""
    if run.results is None:
        rows = [(f"{what}: {name}", value) for what, values in run.measured.items() for name, value in values.items()]
        return Table(("measured so far", "value"), rows) if rows else None
    metrics, paper = run.results["metrics"], run.results["paper"]
    if not paper:
        return Table(("metric", "measured"), list(metrics.items()))
    compared = lambda name, value: (value, paper[name], value - paper[name]) if name in paper else (value, None, None)
    rows = [(name, *compared(name, value)) for name, value in metrics.items()]
    return Table(("metric", "measured", "paper", "measured - paper"), rows)


def compared_results(runs: Sequence[RunFolder]) -> Table | None:
    """A column a run; the paper's value, where there is one, below the measured one."""
    all_results = [run.results or {"metrics": {}, "paper": {}} for run in runs]
    names = dict.fromkeys(name for results in all_results for name in results["metrics"])
    if not names:
        return None
    cell = lambda results, name: (results["metrics"].get(name), results["paper"].get(name))
    rows = [
        *[(name, *[cell(results, name) for results in all_results]) for name in names],
        ("seconds", *[round(run.seconds(), 1) for run in runs]),
        ("parameters", *[Code(r["params_sha256"][:16]) if "params_sha256" in r else None for r in all_results]),
    ]
    return Table(("metric", *[run.name for run in runs]), rows)


def spread(group: Sequence[RunFolder]) -> Table:
    """Mean and sample standard deviation over runs that differ in the seed alone."""
    seeds = ", ".join(str(run.record["seed"]) for run in group)
    all_results = [run.results for run in group if run.results is not None]
    paper = {name: value for results in all_results for name, value in results["paper"].items()}
    rows = []
    for name in dict.fromkeys(name for results in all_results for name in results["metrics"]):
        values = [results["metrics"][name] for results in all_results if name in results["metrics"]]
        deviation = statistics.stdev(values) if len(values) > 1 else None
        rows.append((name, statistics.fmean(values), deviation, min(values), max(values), len(values), paper.get(name)))
    columns = ("metric", "mean", "standard deviation", "least", "largest", "runs", "paper")
    return Table(columns, rows, f"Seeds {seeds}; the standard deviation of the sample (divided by runs - 1).")


def all_charts(runs: Sequence[RunFolder]) -> list[Chart]:
    """A chart for each logged quantity: of one run, a line a stage; of several, a chart a stage and a line a run."""
    if len(runs) == 1:
        return [made for group in related(runs[0].stages()) for made in charts(group)]
    stages = [run.stages() for run in runs]
    made = []
    for stage in dict.fromkeys(stage for run_stages in stages for stage in run_stages):
        lines = {run.name: logged[stage] for run, logged in zip(runs, stages, strict=True) if stage in logged}
        made += charts(lines, f"{stage}: " if stage else "")
    return made


def related(stages: Mapping[str, Lines]) -> list[dict[str, Lines]]:
    """Stages that can share charts: the quantities of one contain those of the other."""
    groups: list[dict[str, Lines]] = []
    for stage, lines in stages.items():
        mine = set(lines[0])
        for group in groups:
            theirs = set(next(iter(group.values()))[0])
            if mine <= theirs or theirs <= mine:
                group[stage] = lines
                break
        else:
            groups.append({stage: lines})
    return groups


def charts(lines: Mapping[str, Lines], prefix: str = "") -> list[Chart]:
    """A chart for each quantity in the lines of several stages or runs; quantities with the same values share one."""
    quantities = dict.fromkeys(name for logged in lines.values() for line in logged for name in line)
    by_values: dict[str, tuple[list[str], dict[str, Any]]] = {}
    for quantity in quantities:
        if quantity in ("step", "stage"):
            continue
        series = {}
        for name, logged in lines.items():
            points = [(line["step"], line[quantity]) for line in logged if isinstance(line.get(quantity), (int, float))]
            if points:
                series[name] = tuple(zip(*points, strict=True))
        if series:
            by_values.setdefault(repr(series), ([], series))[0].append(quantity)
    made, colors = [], {name: i % COLORS for i, name in enumerate(lines)}
    for names, series in by_values.values():
        items = list(series.items())
        for start in range(0, len(items), COLORS):
            made.append(chart(prefix + " = ".join(names), dict(items[start : start + COLORS]), "step", colors))
    return made


def compared_pictures(runs: Sequence[RunFolder]) -> dict[str, list[tuple[str, Path]]]:
    """{file name: (run, file) of each run that has it}."""
    names = sorted({path.name for run in runs for path in run.pictures})
    return {name: [(run.name, path) for run in runs for path in run.pictures if path.name == name] for name in names}
