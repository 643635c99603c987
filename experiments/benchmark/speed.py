"""Seconds of every family's training and sampling step, relative to this machine's peak rates and to plain PyTorch.

    python -m experiments.benchmark
    python -m experiments.benchmark --only vae gan --rounds 3 --markdown --json speed.json

Each module of `experiments.benchmark.cases` lists cases. A case is measured in rounds; each round measures one after
another: the peak rates (matrix product, memory copy), the step inside a compiled loop, as single calls, and, where
torch is installed, the same network and step in PyTorch on as many threads as there are cores. Times are medians over
rounds, ratios the medians of each round's ratio; "cores" is the processor time of this process divided by the time.
Nothing else should run at the same time.
"""

import dataclasses
import difflib
import importlib
import importlib.util
import json
import pkgutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from experiments.benchmark import cases as case_modules
from experiments.benchmark.steps import (
    Case,
    Steps,
    configure_torch,
    engine_loop,
    sampling_steps,
    torch_steps,
    training_steps,
)
from experiments.command import terminal
from jaxgen.training import environment, profiling

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure and where to write it."""

    only: tuple[str, ...] = ()
    """families, the modules of experiments.benchmark.cases; none: all"""
    rounds: int = 5
    """measurements of each number"""
    seconds: float = profiling.SECONDS
    """approximate duration of one measurement"""
    json: str = ""
    """file for every single measurement"""
    markdown: bool = False
    """print the table as Markdown"""
    exact_shards: int = 0
    """K > 0: training steps also with the batch as K exact shards (or the largest number below that divides it), for
    the cost of exactness on one device"""
    cold: bool = False
    """compile without the cache, so that compile_seconds in the file are true"""

    def check(self) -> None:
        """Raises ValueError for impossible options."""
        if self.rounds < 1 or self.seconds < 0 or self.exact_shards < 0:
            raise ValueError(
                f"rounds is {self.rounds}, seconds {self.seconds}, exact_shards {self.exact_shards}; expected at "
                "least 1, 0 and 0"
            )


def families() -> list[str]:
    """The names that --only takes."""
    return sorted(module.name for module in pkgutil.iter_modules(case_modules.__path__))


def cases(family: str) -> list[Case]:
    """The cases of one family that this backend can run.

    Raises:
        ValueError: no such family.
    """
    known = families()
    if family not in known:
        near = difflib.get_close_matches(family, known, n=1, cutoff=0)[0]
        raise ValueError(f"no family {family!r}; the nearest is {near!r}, all are {', '.join(known)}")
    listed = importlib.import_module(f"{case_modules.__name__}.{family}").cases()
    return [case for case in listed if case.precision == "float32" or jax.default_backend() != "cpu"]


def measure(family: str, case: Case, options: Options) -> list[Row]:
    """One row for the training step and one for the sampling step, with the values of all rounds."""
    twin = torch_steps(case)
    training = _measure_step(case, training_steps(case), twin and twin.train, case.batch_size, options)
    rows = [{"step": "training", **training}]
    if case.sampling is not None:
        batch = len(jax.tree.leaves(case.sampling.start)[0])
        no_shards = dataclasses.replace(options, exact_shards=0)
        sampling = _measure_step(case, sampling_steps(case), twin and twin.sample, batch, no_shards)
        rows.append({"step": "sampling", **sampling})
    return [{"family": family, "case": case.name, **row} for row in rows]


def _measure_step(
    case: Case, steps: Steps, torch_run: Callable[[int], None] | None, batch: int, options: Options
) -> Row:
    runs = {"in_loop": steps.in_loop, "single": steps.single, **({"torch": torch_run} if torch_run else {})}
    shards = max((k for k in range(2, options.exact_shards + 1) if batch % k == 0), default=0)
    if shards:
        runs["exact"] = engine_loop(case, shards)
    measurements = {name: profiling.seconds_per_step(run, options.seconds) for name, run in runs.items()}
    measurements |= {"product_rate": lambda: profiling.product_rate(case.precision), "copy_rate": profiling.copy_rate}
    rounds = [{name: _with_cores(take) for name, take in measurements.items()} for _ in range(options.rounds)]
    row = {"batch": batch, "precision": case.precision, "exact_shards": shards, **steps.work._asdict()}
    row |= {name: [values[name][0] for values in rounds] for name in measurements}
    row |= {f"{name}_cores": [values[name][1] for values in rounds] for name in runs}
    stats = jax.devices()[0].memory_stats()
    return row | {"device_peak_bytes": stats["peak_bytes_in_use"] if stats else None}


def _with_cores(take: Callable[[], float]) -> tuple[float, float]:
    """(the value of a measurement, the number of cores that were busy during it)."""
    began, used = time.perf_counter(), time.process_time()
    value = take()
    return value, (time.process_time() - used) / (time.perf_counter() - began)


def summary(row: Row) -> dict[str, float | None]:
    """Milliseconds, ratios and shares of a row."""
    median = lambda name, factor=1.0: factor * float(np.median(row[name])) if name in row else None
    ratio = lambda a, b: float(np.median(np.divide(row[a], row[b]))) if b in row else None
    of_rate = lambda work, rate: float(row[work] / np.median(row["in_loop"]) / np.median(row[rate]))
    exact = {}
    if row.get("exact_shards"):
        exact = {"exact shards": row["exact_shards"], "exact ms": median("exact", 1e3)}
        exact["exact / loop"] = ratio("exact", "in_loop")
    return {
        "loop ms": median("in_loop", 1e3),
        "single ms": median("single", 1e3),
        "PyTorch ms": median("torch", 1e3),
        "loop / PyTorch": ratio("in_loop", "torch"),
        "single / PyTorch": ratio("single", "torch"),
        "loop cores": median("in_loop_cores"),
        "PyTorch cores": median("torch_cores") if "torch" in row else None,
        "GFLOP": row["flops"] / 1e9,
        "of product rate": of_rate("flops", "product_rate"),
        "of copy rate": of_rate("bytes", "copy_rate"),
        "MiB": row["memory"] / 2**20,
        **exact,
    }


def name_of(row: Row) -> str:
    """The name of the case, with the precision where it is not float32."""
    return row["case"] if row["precision"] == "float32" else f"{row['case']}, {row['precision']}"


def table(rows: list[Row], markdown: bool) -> str:
    """The rows as text."""
    # A sampling step has no exact shards.
    names = list(max(map(summary, rows), key=len))
    lines = [["case", "step", "batch", *names]]
    for row in rows:
        values = summary(row)
        cells = ["-" if values.get(name) is None else f"{values[name]:.3g}" for name in names]
        lines.append([name_of(row), row["step"], str(row["batch"]), *cells])
    return terminal.table(lines, markdown)


def record(options: Options, rows: list[Row]) -> dict[str, Any]:
    """The content of the --json file."""
    about: dict[str, Any] = {"options": dataclasses.asdict(options), "environment": environment.describe()}
    if importlib.util.find_spec("torch"):
        import torch  # pyright: ignore[reportMissingImports]

        about["torch"] = {"version": torch.__version__, "threads": torch.get_num_threads()}
    return about | {"rows": rows}


def run(options: Options) -> list[Row]:
    """Measures, prints each row when it is known and the table at the end, and writes the file after every case.

    Raises:
        ValueError: an unknown family, or no rounds.
    """
    options.check()
    if options.cold:
        jax.config.update("jax_enable_compilation_cache", False)
    if importlib.util.find_spec("torch"):
        configure_torch()
    # All names are checked before the first measurement.
    chosen = [(family, case) for family in options.only or families() for case in cases(family)]
    rows: list[Row] = []
    for family, case in chosen:
        new = measure(family, case, options)
        rows += new
        for row in new:
            times = [f"{name} {v:.3g}" for name, v in summary(row).items() if v is not None and " ms" in name]
            print(f"{name_of(row)}, {row['step']}: {', '.join(times)}", file=sys.stderr, flush=True)
        if options.json:
            Path(options.json).write_text(json.dumps(record(options, rows), indent=1) + "\n")
    if rows:
        product, copy = (np.median([np.median(row[name]) for row in rows]) for name in ("product_rate", "copy_rate"))
        device = jax.devices()[0].device_kind
        print(f"{device}: product {product / 1e9:.0f} GFLOP/s, copy {copy / 1e9:.0f} GB/s\n")
        print(table(rows, options.markdown))
    return rows


def main() -> None:
    options = tyro.cli(Options, prog="python -m experiments.benchmark", description=__doc__)
    with terminal.errors_exit():
        run(options)


if __name__ == "__main__":
    main()
