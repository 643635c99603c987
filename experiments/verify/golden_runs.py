"""Trains a few steps of every experiment and compares the parameters with recorded ones.

    python -m experiments.verify.golden_runs
    python -m experiments.verify.golden_runs vae ddpm
    python -m experiments.verify.golden_runs --write

The configs are the quick presets made small (`short_runs.reduce_config`), smaller still where a network takes long to
compile. The file has one entry for each environment: where this one has an entry, the parameters must have its sha256;
elsewhere they must agree with the first entry to a tolerance. `--write` records this environment. Exits with 1 where
something differs.
"""

import dataclasses
import os
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from experiments.command.terminal import errors_exit
from experiments.verify import short_runs
from jaxgen import training
from jaxgen.training import environment, files

FILE = Path(__file__).with_name("golden_runs.json")
# A share of the distance moved from the first checkpoint to the last: rounding elsewhere gives far less, another
# learning rate or noise far more.
TOLERANCE = 0.02
SUMS = 4

# {experiment: fields that differ from the reduced quick preset}.
CHANGES: dict[str, dict[str, Any]] = tomllib.loads(FILE.with_name("golden_configs.toml").read_text())
EXPERIMENTS = tuple(CHANGES)
Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Options:
    """What is trained and compared."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """experiments; none: all"""
    write: bool = False
    """record this environment instead of comparing"""
    file: str = str(FILE)
    """file of the records"""


def check_name(name: str) -> None:
    """Raises ValueError for a name that is not in EXPERIMENTS."""
    if name not in EXPERIMENTS:
        raise ValueError(f"no experiment {name!r} is recorded; those are {', '.join(EXPERIMENTS)}")


def config_of(name: str) -> Any:
    """The config of one of EXPERIMENTS.

    Raises:
        ValueError: another name.
    """
    check_name(name)
    config = short_runs.reduce_config(short_runs.load(name).PRESETS["quick"])
    return short_runs.replace_fields(config, {**CHANGES[name], "train.exact_shards": 0})


def run(name: str) -> Record:
    """Trains, and returns its record: {"sha256", "norm", "way", "sums"}; "way" is the distance moved."""
    with tempfile.TemporaryDirectory(prefix="golden-runs-") as folder:
        short_runs.train(short_runs.prepare_trial(name, config_of(name)), Path(folder))
        end = short_runs.read_end(Path(folder))
    params = end.params
    flat = lambda arrays: np.concatenate([np.ravel(arrays[n]).astype(np.float64) for n in sorted(params)])
    last, first = flat(end.arrays), flat(end.early)
    # Sums of the parameters with signs that look random: two sets with the same sums are the same, or nearly.
    number = np.arange(SUMS * len(last), dtype=np.uint64).reshape(SUMS, -1)
    signs = 2.0 * ((number * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(63)).astype(np.float64) - 1
    return {
        "sha256": training.tree_digest(params),
        "norm": float(np.linalg.norm(last)),
        "way": float(np.linalg.norm(last - first)),
        "sums": (signs @ last).tolist(),
    }


def difference(record: Record, expected: Record, exact: bool) -> str:
    """How a run differs from a recorded one, in words; "" where it does not.

    Args:
        record: of `run`.
        expected: as recorded.
        exact: the environments are the same, so the bits must be.
    """
    if exact and record["sha256"] != expected["sha256"]:
        return f"sha256 {record['sha256'][:12]}, recorded in the same environment {expected['sha256'][:12]}"
    numbers = lambda of: np.array([of["norm"], of["way"], *of["sums"]])
    share = np.max(np.abs(numbers(record) - numbers(expected))) / expected["way"]
    # A sum with random signs over a difference is as large as the difference's norm, up to chance.
    return f"{share:.1e} of the way apart, expected at most {TOLERANCE:g}" if not share <= TOLERANCE else ""


def compare(name: str, record: Record, entries: list[Record]) -> tuple[bool, str]:
    """(it holds, the verdict in words) of a run compared with the file's entries."""
    now = environment.of_bits(environment.describe())
    others = [e for e in entries if name in e["runs"]]
    same = [e for e in others if e["environment"] == now]
    if not others:
        return False, "is not recorded: run python -m experiments.verify.golden_runs --write"
    differs = difference(record, (same or others)[0]["runs"][name], bool(same))
    agrees = "the same bits" if same else "the same to tolerance; this environment is not recorded"
    return not differs, differs or agrees


def read(path: Path) -> list[Record]:
    """The entries of a file; none where the file does not exist."""
    return files.read_json(path) if path.exists() else []


def add(entries: list[Record], records: dict[str, Record]) -> list[Record]:
    """The entries with these records of this environment, in place of older ones of the same names."""
    now = environment.of_bits(environment.describe())
    others = [e for e in entries if e["environment"] != now]
    before = [e["runs"] for e in entries if e["environment"] == now]
    return [*others, {"environment": now, "runs": {**(before[0] if before else {}), **records}}]


def main() -> None:
    options = tyro.cli(Options, prog="python -m experiments.verify.golden_runs", description=__doc__)
    # As in the tests.
    jax.config.update("jax_num_cpu_devices", int(os.environ.get("JAX_NUM_CPU_DEVICES", 8)))
    path, broken, records = Path(options.file), [], {}
    with errors_exit():
        entries = read(path)
        for name in options.names or EXPERIMENTS:
            records[name] = run(name)
            if not options.write:
                holds, verdict = compare(name, records[name], entries)
                broken += [] if holds else [name]
                print(f"{name:24} {records[name]['sha256'][:12]}  {verdict}", flush=True)
        if options.write:
            files.write_json(path, add(entries, records))
            print(f"wrote {', '.join(records)} to {path}")
    if broken:
        print(f"DIFFERS: {', '.join(broken)}")
        if jax.default_backend() != "cpu" and jax.config.jax_default_matmul_precision is None:  # type: ignore
            print("Products of float32 have fewer bits here than on a CPU: try JAX_DEFAULT_MATMUL_PRECISION=highest")
        sys.exit(1)


if __name__ == "__main__":
    main()
