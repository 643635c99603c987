"""Several settings of one experiment: `--sweep field=a,b,c`.

Each setting is a run of its own below the sweep's folder, with the configuration that the same command has without the
sweep and with `--field value`. Settings whose training steps are the same program with other constants or seeds are
trained together in one compiled program, the others one after another, with the same bits in both cases. So the
parameters of a setting have the hash that they have alone, and the same command resumes the sweep. Several `--sweep`
give all combinations. The values of a tuple are separated by spaces: `--sweep "model.widths=200 200,500"`.
"""

import contextlib
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxgen import training
from jaxgen.training.files import write_json

Fields = dict[str, list[str]]
"""{dotted field: its values as they were typed}."""
Open = Callable[[Path], training.Run]
Train = Callable[[training.Run], dict]


class Setting(NamedTuple):
    """One combination of the swept fields.

    Attributes:
        values: {dotted field: value as it was typed}.
        flags: the same as arguments of the command line.
    """

    values: dict[str, str]
    flags: list[str]

    @property
    def name(self) -> str:
        """Of the run folder and of the column in the table."""
        return ",".join(f"{field}={value}" for field, value in self.values.items()).replace("/", "_").replace(" ", "x")


def take(arguments: Sequence[str]) -> tuple[Fields, list[str]]:
    """(swept fields, the other arguments) of a command line.

    Raises:
        ValueError: a field is swept twice, or has no values.
    """
    fields, others = {}, list(arguments)
    for i in reversed([i for i, argument in enumerate(others) if argument.partition("=")[0] == "--sweep"]):
        _, _, sweep = others[i].partition("=")
        end = i + 1 if sweep else i + 2
        field, _, values = (sweep or " ".join(others[i + 1 : end])).partition("=")
        if not values:  # the field of `vae` that had this name in 0.1.0: --sweep 3 5
            continue
        field, listed = field.removeprefix("--").replace("-", "_"), [value.strip() for value in values.split(",")]
        if field in fields or not all(listed) or len(set(listed)) < len(listed):
            raise ValueError(f"--sweep {field}={values}: expected each field once, and different values, none empty")
        fields = {field: listed, **fields}
        del others[i:end]
    return fields, others


def settings(config: Any, fields: Fields) -> list[Setting]:
    """All combinations of the values, the last field varying fastest; none where no field is swept."""
    if not fields:
        return []
    combinations = (dict(zip(fields, values, strict=True)) for values in itertools.product(*fields.values()))
    return [Setting(values, [f for item in values.items() for f in _flags(config, *item)]) for values in combinations]


def run_all(folder: Path, settings: Sequence[tuple[Setting, Open, Train]]) -> list[dict]:
    """Trains the settings, together those that can be, and writes the results so far to sweep.json.

    Args:
        folder: of the sweep.
        settings: (setting, open, train) each: `open(workdir)` gives its run, with `defer`, and `train(run)` what
            `run.finish` returned.

    Returns:
        for each setting {"setting": {field: value}, "folder": name, "trained_together": the largest number of settings
        in one program with it, and what results.json holds}.

    Raises:
        ValueError: the folder is that of a run.
    """
    if (folder / "config.json").exists():
        raise ValueError(f"{folder} holds a run; choose another --workdir for the sweep")
    results: dict[str, dict] = {}
    together = {setting.name: 1 for setting, _, _ in settings}
    with contextlib.ExitStack() as opened:
        runs = [opened.enter_context(open_run(folder / setting.name)) for setting, open_run, _ in settings]
        while len(results) < len(settings):
            asked = []
            for (setting, _, train), run in zip(settings, runs, strict=True):
                # From the start each time: what was trained and measured is read from the run's folder.
                try:
                    results[setting.name] = results.get(setting.name) or {"setting": setting.values, **train(run)}
                except training.Deferred as deferred:
                    asked.append((setting.name, deferred.fit))
            for group in training.fit_together([fit for _, fit in asked]):
                together |= {name: max(together[name], len(group)) for name, fit in asked if fit in group}
        rows = [{"folder": name, "trained_together": together[name], **row} for name, row in results.items()]
        if training.hosts.is_primary():
            named = {"experiment": runs[0].experiment, "preset": runs[0].preset}
            write_json(folder / "sweep.json", {**named, "runs": rows})
    return rows


def table(results: Sequence[dict]) -> str:
    """The results of `run_all`, a column for each setting and a row for each metric."""
    rows = [["", *(result["folder"] for result in results)]]
    for metric in dict.fromkeys(name for result in results for name in result["metrics"]):
        values = [result["metrics"].get(metric) for result in results]
        rows.append([metric, *("" if value is None else f"{value:.5g}" for value in values)])
    rows.append(["parameters sha256", *(result["params_sha256"][:12] for result in results)])
    rows.append(["settings in one program", *(str(result["trained_together"]) for result in results)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows)
    return "\n".join("  ".join(line) for line in lines)


def _flags(config: Any, field: str, value: str) -> list[str]:
    """The arguments that set a field; a field that does not exist is left to the command line's own check."""
    for name in field.split("."):
        config = getattr(config, name, None)
    parent, _, last = field.replace("_", "-").rpartition(".")
    dotted = f"{parent}." if parent else ""
    if isinstance(config, bool) and value.lower() in ("true", "false"):
        return [f"--{dotted}{'' if value.lower() == 'true' else 'no-'}{last}"]
    return [f"--{dotted}{last}", *value.split()]
