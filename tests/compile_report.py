"""A pytest plugin that measures where the time of the suite goes: `pytest -p tests.compile_report --compile-report=F`.

Writes one JSON object with a value for each test file: its number of tests, seconds of wall and processor time (of
the process and of its ended children), seconds of tracing, lowering, compiling and loading from the persistent cache,
and the numbers of programs that were compiled or loaded, and of those that were loaded. `compile` contains `load`. The
programs of other processes that a test starts count in "cpu" alone.

`python -m tests.compile_report F` prints the file as a Markdown table, the slowest first; with `--keep`, the seconds of
processor time go to durations.json, by which the files are ordered.
"""

import collections
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

SECONDS = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
    "/jax/core/compile/backend_compile_duration": "compile",
    "/jax/compilation_cache/cache_retrieval_time_sec": "load",
}
COLUMNS = ("tests", "wall", "cpu", "trace", "lower", "compile", "load", "programs", "loaded")


def pytest_addoption(parser):
    parser.addoption("--compile-report", metavar="FILE", help="measure tracing and compiling by test file, as JSON")


def pytest_configure(config):
    if config.getoption("--compile-report"):
        config.pluginmanager.register(Measure(config), "measure-compilation")


class Measure:
    """Adds up what JAX reports (jax.monitoring) for each test file; in each worker, then over the workers."""

    def __init__(self, config):
        import jax

        self._config = config
        self._files: Any = collections.defaultdict(collections.Counter)
        # What happens between tests, such as the collection, counts for no file.
        self._now: collections.Counter[Any] = collections.Counter()
        jax.monitoring.register_event_duration_secs_listener(self._add)

    def _add(self, event: str, duration_secs: float, **_: str | int) -> None:
        name = SECONDS.get(event)
        # Some tests replace the clock.
        if name and 0 <= duration_secs < 3600:
            self._now.update({name: duration_secs})
            self._now["programs"] += name == "compile"
            self._now["loaded"] += name == "load"

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item):
        self._now = self._files[item.location[0]]
        wall, cpu = time.perf_counter(), sum(os.times()[:4])
        try:
            return (yield)
        finally:
            self._now += {"tests": 1, "wall": time.perf_counter() - wall, "cpu": sum(os.times()[:4]) - cpu}
            self._now = collections.Counter()

    def pytest_sessionfinish(self, session):
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["compile_report"] = {name: dict(of) for name, of in self._files.items()}
        else:
            text = json.dumps(self._files, indent=1, sort_keys=True)
            Path(self._config.getoption("--compile-report")).write_text(text + "\n")

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node, error):
        for name, of in getattr(node, "workeroutput", {}).get("compile_report", {}).items():
            self._files[name].update(of)


def table(files):
    """The report as lines of a Markdown table."""
    total = sum((collections.Counter(of) for of in files.values()), collections.Counter())
    rows = [("all", total), *sorted(files.items(), key=lambda item: -item[1].get("wall", 0))]
    yield "| file | " + " | ".join(COLUMNS) + " |"
    yield "|---" * (len(COLUMNS) + 1) + "|"
    for name, of in rows:
        yield f"| {name} | " + " | ".join(f"{of.get(column, 0):.0f}" for column in COLUMNS) + " |"


def main(file, *options):
    files = json.loads(Path(file).read_text())
    print(*table(files), sep="\n")
    if options == ("--keep",):
        seconds = {name: round(of.get("cpu", 0.0), 1) for name, of in sorted(files.items())}
        Path(__file__).with_name("durations.json").write_text(json.dumps(seconds, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
