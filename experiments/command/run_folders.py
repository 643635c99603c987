"""The files of a run, read without jax: config, environment, logs, results, pictures."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxgen.files import check_shape, read_json, read_json_lines, run_records

MEDIA_TYPES = {".png": "image/png", ".gif": "image/gif"}
# config.json lists the fields on which no result depends, except that of 0.1.0, which had the fields of these names.
UNTRACKED_IN_0_1_0 = {
    "dir", "log_every", "save_every", "keep_checkpoints", "steps_per_call", "prefetch", "devices", "backend", "on_host",
    "preview_every", "check_every", "frames", "features", "chunk", "spectrum_examples", "test_split", "model_devices",
    "exact_shard", "workers",
}  # fmt: skip


class RunFolder(NamedTuple):
    """A run.

    Attributes:
        folder: where it is.
        name: its name among the runs that were read together.
        record: config.json: "experiment", "preset", "seed", "config".
        environment: environment.json, or {}.
        metrics: lines of metrics.jsonl.
        timing: lines of timing.jsonl.
        measured: measured.json, or {}.
        results: results.json, or None.
        pictures: the files in figures/.
        damage: what could not be read, in words.
    """

    folder: Path
    name: str
    record: dict[str, Any]
    environment: dict[str, Any]
    metrics: list[dict[str, Any]]
    timing: list[dict[str, Any]]
    measured: dict[str, dict[str, float]]
    results: dict[str, Any] | None
    pictures: list[Path]
    damage: list[str]

    @property
    def config(self) -> dict[str, Any]:
        """{dotted name: value}."""
        return leaves(self.record["config"])

    @property
    def tracked(self) -> dict[str, Any]:
        """{dotted name: value} of the fields on which results depend."""
        if "untracked" in self.record:
            return {name: value for name, value in self.config.items() if name not in self.record["untracked"]}
        return {n: value for n, value in self.config.items() if n.split(".")[-1] not in UNTRACKED_IN_0_1_0}

    def stages(self) -> dict[str, list[dict[str, Any]]]:
        """The lines of metrics.jsonl by stage, in the order in which the stages began."""
        found: dict[str, list[dict[str, Any]]] = {}
        for line in self.metrics:
            found.setdefault(line.get("stage", ""), []).append(line)
        return found

    def seconds(self) -> float:
        """Wall time of training over all sessions, as far as it was logged."""
        if self.results is not None:
            return self.results["seconds"]
        longest: dict[int, float] = {}
        for line in self.timing:
            longest[line["session"]] = max(longest.get(line["session"], 0.0), line["seconds"])
        return sum(longest.values())

    @property
    def sessions(self) -> int:
        """How often it was started, as far as a step was logged."""
        return len({line["session"] for line in self.timing})

    def stage_ends(self) -> list[tuple[str, int, float]]:
        """(stage, last logged step, steps a second) of each stage."""
        last = {line.get("stage", ""): line for line in self.timing}
        return [(stage or "training", line["step"], line["steps_per_second"]) for stage, line in last.items()]

    def state(self) -> str:
        """One sentence: finished, or how far it is."""
        steps = self.record["config"].get("train", {}).get("num_steps")
        stages = self.stages()
        if self.results is not None:
            if set(stages) == {""} and steps and self.results["step"] < steps:
                return f"Unfinished: the results are of step {self.results['step']}, the run now goes to {steps}."
            return "Finished."
        if not stages:
            return "Unfinished: no step was logged yet."
        stage, lines = list(stages.items())[-1]
        whole = f" of {steps}" if steps and not stage else ""
        where = f", stage {stage}" if stage else ""
        return f"Unfinished: the last logged step is {lines[-1]['step']}{whole}{where}. The same command goes on."


def read_all(folders: Sequence[str | Path]) -> list[RunFolder]:
    """Several runs, each with a name that tells it from the others.

    Raises:
        ValueError: one is not a run, or is named twice.
    """
    paths = [Path(folder).absolute() for folder in folders]
    resolved = [path.resolve() for path in paths]
    twice = [str(f) for f, path in zip(folders, resolved, strict=True) if resolved.count(path) > 1]
    if twice:
        raise ValueError(f"the same run twice: {' and '.join(twice)}")
    # The shortest last parts of the paths that are all different.
    depth = next(n for n in range(1, 1000) if len({path.parts[-n:] for path in paths}) == len(paths))
    return [read(path, "/".join(path.parts[-depth:])) for path in paths]


def read(folder: str | Path, name: str = "") -> RunFolder:
    """The run in a folder.

    Raises:
        ValueError: no such folder, no run, or a damaged file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give the --workdir of a run (runs/<name>-<preset>-seed<seed>)")
    if not (folder / "config.json").exists():
        inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
        hint = f" The runs in it: {', '.join(inside)}." if inside else ""
        raise ValueError(f"{folder} holds no config.json: it is not a run.{hint}")
    record = _json(folder / "config.json")
    if not isinstance(record, dict) or not {"experiment", "preset", "seed", "config"} <= record.keys():
        raise ValueError(f"{folder / 'config.json'} was not written by a run of this library")
    check_shape(record, run_records.CONFIG, str(folder / "config.json"))
    damage: list[str] = []
    return RunFolder(
        folder=folder,
        name=name or folder.name,
        record=record,
        environment=_json(folder / "environment.json", run_records.ENVIRONMENT) or {},
        metrics=_lines(folder / "metrics.jsonl", run_records.METRICS, damage),
        timing=_lines(folder / "timing.jsonl", run_records.WHOLE_TIMING, damage),
        measured=_measured(folder / "measured.json"),
        results=_json(folder / "results.json", run_records.RESULTS),
        pictures=sorted(p for p in (folder / "figures").glob("*") if p.suffix in MEDIA_TYPES and p.is_file()),
        damage=damage,
    )


def _measured(path: Path) -> dict[str, dict[str, float]]:
    """{what was measured, and on what it depends: values}."""
    entries = _json(path, run_records.MEASURED) or {}
    if isinstance(entries, dict):  # of 0.1.0
        return entries
    describe = lambda what, **on: ", ".join([what, *(f"{name} {value}" for name, value in leaves(on).items())])
    return {describe(**entry["key"]): entry["values"] for entry in entries}


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, by dotted names."""
    flat = {}
    for name, value in tree.items():
        flat |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def differing_fields(runs: Sequence[RunFolder]) -> dict[str, list[Any]]:
    """{dotted field: its value in each run, or None} of the fields in which the runs' configs differ."""
    configs = [{"experiment": run.record["experiment"], **run.config} for run in runs]
    names = dict.fromkeys(name for config in configs for name in config)
    values = {name: [config.get(name) for config in configs] for name in names}
    return {name: found for name, found in values.items() if any(value != found[0] for value in found)}


def same_but_for_seed(runs: Sequence[RunFolder]) -> list[list[RunFolder]]:
    """The runs with results in groups of one experiment and config that differ in the seed alone; one run a seed."""
    groups: dict[str, dict[int, RunFolder]] = {}
    for run in runs:
        if run.results is not None:
            key = json.dumps([run.record["experiment"], {**run.tracked, "seed": None}], sort_keys=True)
            groups.setdefault(key, {}).setdefault(run.record["seed"], run)
    return [list(group.values()) for group in groups.values() if len(group) > 1]


def _json(path: Path, shape: Any = None) -> Any:
    """The value in a file, or None where there is none; measures of older runs may be NaN."""
    return read_json(path, run_records.EXPECTED, shape=shape, finite=False) if os.path.lexists(path) else None


def _lines(path: Path, shape: Any, damage: list[str]) -> list[dict[str, Any]]:
    lines, damaged = read_json_lines(path, shape, finite=False)
    # A killed process leaves at most its last line unfinished.
    damage += [f"{path.name}, line {number}, is damaged and was left out." for number in damaged]
    return lines
