"""Speed of every family's training step and sampling step, beside this machine's ceilings and plain PyTorch.

    python -m experiments.benchmark
    python -m experiments.benchmark --only vae gan --rounds 3 --markdown --json speed.json

Each module of `experiments.benchmarks` lists cases. A case is measured in rounds; in each, one after another: the
ceilings (matrix product, memory copy), the step inside a compiled loop, as single calls, and where torch is installed
the same network and step in PyTorch on as many threads as there are cores. Times are medians over rounds, ratios the
medians of each round's ratio; "cores" is the processor time of this process over the time. Nothing else should run
meanwhile.
"""

import dataclasses
import difflib
import importlib
import importlib.util
import json
import os
import pkgutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from experiments import benchmarks, timing
from jaxgen.training import environment

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure and where to write it."""

    only: tuple[str, ...] = ()
    """families, the modules of experiments.benchmarks; none: all"""
    rounds: int = 5
    """measurements of each number"""
    seconds: float = timing.SECONDS
    """how long one measurement should take"""
    json: str = ""
    """file for every single measurement"""
    markdown: bool = False
    """print the table as Markdown"""
    exact_shards: int = 0
    """K > 0: training steps also with the batch as K exact shards (or the largest number below that divides it), for
    what exactness costs on one device"""
    cold: bool = False
    """compile without the cache, so that compile_seconds in the file are true"""


def families() -> list[str]:
    """The names that --only takes."""
    return sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__))


def cases(family: str) -> list[timing.Case]:
    """Of one family, those for this backend.

    Raises:
        ValueError: no such family.
    """
    known = families()
    if family not in known:
        near = difflib.get_close_matches(family, known, n=1, cutoff=0)[0]
        raise ValueError(f"no family {family!r}; the nearest is {near!r}, all are {', '.join(known)}")
    listed = importlib.import_module(f"{benchmarks.__name__}.{family}").cases()
    return [case for case in listed if case.precision == "float32" or jax.default_backend() != "cpu"]


def measured(family: str, case: timing.Case, options: Options) -> list[Row]:
    """One row for the training step and one for the sampling step, with all rounds' values."""
    twin = timing.torch_steps(case)
    rows = []
    for step in ("training", "sampling"):
        if step == "training":
            steps, in_torch, batch = timing.training_steps(case), twin and twin.train, case.batch_size
        elif case.sampling is not None:
            steps, in_torch = timing.sampling_steps(case), twin and twin.sample
            batch = len(jax.tree.leaves(case.sampling.start)[0])
        else:
            continue
        runs = {"in_loop": steps.in_loop, "single": steps.single, **({"torch": in_torch} if in_torch else {})}
        shards = max((k for k in range(1, options.exact_shards + 1) if batch % k == 0), default=0)
        if step == "training" and shards > 1:
            runs["exact"] = timing.engine_loop(case, shards)
        measure = {name: timing.timed(run, options.seconds) for name, run in runs.items()}
        measure |= {"product_rate": lambda: timing.product_rate(case.precision), "copy_rate": timing.copy_rate}
        rounds = [{name: _busy(take) for name, take in measure.items()} for _ in range(options.rounds)]
        row = {"family": family, "case": case.name, "step": step, "batch": batch, "precision": case.precision}
        row |= {"exact_shards": shards if "exact" in runs else 0}
        row |= steps.work._asdict() | {name: [r[name][0] for r in rounds] for name in measure}
        row |= {f"{name}_cores": [r[name][1] for r in rounds] for name in runs}
        stats = jax.devices()[0].memory_stats()
        rows.append(row | {"device_peak_bytes": stats["peak_bytes_in_use"] if stats else None})
    return rows


def _busy(take: Callable[[], float]) -> tuple[float, float]:
    """What a measurement found, and how many cores it kept busy meanwhile."""
    began, used = time.perf_counter(), time.process_time()
    found = take()
    return found, (time.process_time() - used) / (time.perf_counter() - began)


def summary(row: Row) -> dict[str, float | None]:
    """Milliseconds, ratios and shares of a row."""
    median = lambda name: float(np.median(row[name]))
    over = lambda name: float(np.median(np.divide(row[name], row["torch"]))) if "torch" in row else None
    exact = {}
    if row.get("exact_shards"):
        exact = {"exact shards": row["exact_shards"], "exact ms": 1e3 * median("exact")}
        exact["exact / loop"] = float(np.median(np.divide(row["exact"], row["in_loop"])))
    return {
        "loop ms": 1e3 * median("in_loop"),
        "single ms": 1e3 * median("single"),
        "PyTorch ms": 1e3 * median("torch") if "torch" in row else None,
        "loop / PyTorch": over("in_loop"),
        "single / PyTorch": over("single"),
        "loop cores": median("in_loop_cores"),
        "PyTorch cores": median("torch_cores") if "torch" in row else None,
        "GFLOP": row["flops"] / 1e9,
        "of product rate": row["flops"] / median("in_loop") / median("product_rate"),
        "of copy rate": row["bytes"] / median("in_loop") / median("copy_rate"),
        "MiB": row["memory"] / 2**20,
        **exact,
    }


def name_of(row: Row) -> str:
    """Of the case, with the precision where it is not float32."""
    return row["case"] if row["precision"] == "float32" else f"{row['case']}, {row['precision']}"


def table(rows: list[Row], markdown: bool) -> str:
    """The rows as text."""
    # A sampling step has no exact shards.
    names = list(max(map(summary, rows), key=len)) if rows else []
    lines = [["case", "step", "batch", *names]]
    for row in rows:
        name = name_of(row)
        found = summary(row)
        values = ["-" if found.get(n) is None else f"{found[n]:.3g}" for n in names]
        lines.append([name, row["step"], str(row["batch"]), *values])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if markdown:
        lines.insert(1, ["---"] * len(widths))
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) for line in lines)


def line(row: Row) -> str:
    """A row as it is shown while others are still measured."""
    found = summary(row)
    shown = [f"{name} {value:.3g}" for name, value in found.items() if value is not None and " ms" in name]
    return f"{name_of(row)}, {row['step']}: {', '.join(shown)}"


def record(options: Options, rows: list[Row]) -> dict:
    """What --json writes."""
    made: dict[str, Any] = {"options": dataclasses.asdict(options), "environment": environment.describe()}
    if importlib.util.find_spec("torch"):
        import torch  # pyright: ignore[reportMissingImports]

        made["torch"] = {"version": torch.__version__, "threads": torch.get_num_threads()}
    return made | {"rows": rows}


def run(options: Options) -> list[Row]:
    """Measures, prints each row as it comes and the table at the end, and writes the file after every case.

    Raises:
        ValueError: an unknown family, or no rounds.
    """
    if options.rounds < 1 or options.seconds < 0 or options.exact_shards < 0:
        raise ValueError(
            f"rounds is {options.rounds}, seconds {options.seconds}, exact_shards {options.exact_shards}; expected at "
            "least 1, 0 and 0"
        )
    if options.cold:
        jax.config.update("jax_enable_compilation_cache", False)
    if importlib.util.find_spec("torch"):
        import torch  # pyright: ignore[reportMissingImports]

        torch.set_num_threads(os.cpu_count() or 1)
        # As XLA computes on a GPU: kernels chosen by trying them, float32 products by way of tf32 if nothing is said.
        if torch.cuda.is_available():
            precision: Any = jax.config
            torch.set_float32_matmul_precision("high" if precision.jax_default_matmul_precision is None else "highest")
            torch.backends.cudnn.benchmark = True
    chosen = [(family, case) for family in options.only or families() for case in cases(family)]
    rows: list[Row] = []
    for family, case in chosen:
        new = measured(family, case, options)
        rows += new
        for row in new:
            print(line(row), file=sys.stderr, flush=True)
        if options.json:
            Path(options.json).write_text(json.dumps(record(options, rows), indent=1) + "\n")
    if rows:
        rates = {name: np.median([np.median(row[name]) for row in rows]) for name in ("product_rate", "copy_rate")}
        device = jax.devices()[0].device_kind
        print(
            f"{device}: product {rates['product_rate'] / 1e9:.0f} GFLOP/s, copy {rates['copy_rate'] / 1e9:.0f} GB/s\n"
        )
        print(table(rows, options.markdown))
    return rows


def main() -> None:
    try:
        run(tyro.cli(Options, prog="python -m experiments.benchmark", description=__doc__))
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
