"""Trains a few steps of every experiment and compares the parameters with those that were recorded.

    python -m experiments.recorded
    python -m experiments.recorded vae ddpm
    python -m experiments.recorded --write

The configs are the quick presets made small (`verify_runs.small`), smaller still where a network takes long to compile.
The file has one entry for each environment: where this one has an entry, the parameters must have its sha256, and
elsewhere they must agree with the first entry to a tolerance. `--write` records this environment. Ends with 1 where
something differs.
"""

import dataclasses
import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from experiments import verify_runs
from jaxgen import training
from jaxgen.training import environment, files

FILE = Path(__file__).parent / "recorded.json"
# Of the way from the first checkpoint to the last: what rounding makes of it elsewhere is far below, another learning
# rate or noise far above.
TOLERANCE = 0.02
SUMS = 4

EXPERIMENTS = (
    "deep_autoencoder",
    "sparse_autoencoder",
    "contractive_autoencoder",
    "vae",
    "gan",
    "ddpm",
    "guided_diffusion",
    "nerf",
)
Record = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Options:
    """What is trained and compared."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """experiments; none: all"""
    write: bool = False
    """record this environment instead of comparing"""
    file: str = str(FILE)
    """of the records"""


def config_of(name: str) -> tuple[Any, Any]:
    """(script, config) of one of EXPERIMENTS.

    Raises:
        ValueError: another name.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"no experiment {name!r} is recorded; those are {', '.join(EXPERIMENTS)}")
    script: Any = importlib.import_module(f"experiments.{name}")
    config = verify_runs.small(script.PRESETS["quick"])
    match name:
        case "deep_autoencoder":
            # With pretraining: Boltzmann machines, then fine-tuning.
            model = dataclasses.replace(config.model, widths=(20,), activation="sigmoid", tied=False)
            pretraining = dataclasses.replace(config.pretraining, epochs=1)
            digits = dataclasses.replace(config.data, name="digits")
            changes = {"data": digits, "model": model, "pretraining": pretraining}
        case "sparse_autoencoder" | "contractive_autoencoder":
            changes = {"methods": config.methods[-1:]}
        case "vae":
            changes = {"optimizer": dataclasses.replace(config.optimizer, learning_rate=1e-3)}
        case "ddpm":
            # Dropout, flips and the average of the parameters are there.
            tiny = {"channels": 4, "multipliers": (1,), "attention": (), "groups": 2, "dropout": 0.1}
            changes = {
                "network": dataclasses.replace(config.network, **tiny),
                "process": dataclasses.replace(config.process, schedule="linear"),
                "data": dataclasses.replace(config.data, flip=True),
            }
        case "guided_diffusion":
            # With a classifier; labels are left out, and timesteps drawn by their losses.
            tiny = {"channels": 4, "multipliers": (1,), "attention": (), "head_channels": 4, "groups": 2}
            classifier = dataclasses.replace(config.classifier.network, **tiny)
            changes = {
                "network": dataclasses.replace(config.network, **tiny),
                "classifier": dataclasses.replace(config.classifier, network=classifier),
            }
        case "nerf":
            # With noise on the density; few views, because each is rendered first.
            scene = dataclasses.replace(config.data, width=12, train_views=5, test_views=1)
            sampling = dataclasses.replace(config.sampling, coarse=8, fine=8, noise_std=1.0)
            changes = {
                "data": scene,
                "sampling": sampling,
                "model": dataclasses.replace(config.model, depth=2),
                "optimizer": dataclasses.replace(config.optimizer, learning_rate=4e-3, delay_steps=0),
            }
        case _:
            changes = {}
    config = dataclasses.replace(config, **changes)
    settings = dataclasses.replace(config.train, exact_shards=0)
    return script, dataclasses.replace(config, train=settings)


def run(name: str) -> Record:
    """Trains, and returns what a record holds of it: {"sha256", "norm", "way", "sums"}."""
    script, config = config_of(name)
    with tempfile.TemporaryDirectory(prefix="recorded-") as folder:
        verify_runs.train(script, config, script.prepare(config), Path(folder))
        end = verify_runs.read_end(Path(folder))
    params = end.params
    flat = lambda arrays: np.concatenate([np.ravel(arrays[n]).astype(np.float64) for n in sorted(params)])
    last, first = flat(end.arrays), flat(end.early)
    # Of the parameters with signs that look random: two sets with the same sums are the same, or nearly.
    number = np.arange(SUMS * len(last), dtype=np.uint64).reshape(SUMS, -1)
    signs = 2.0 * ((number * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(63)).astype(np.float64) - 1
    return {
        "sha256": training.tree_digest(params),
        "norm": float(np.linalg.norm(last)),
        "way": float(np.linalg.norm(last - first)),
        "sums": (signs @ last).tolist(),
    }


def differs(here: Record, there: Record, exact: bool) -> str:
    """In what a run differs from a recorded one, in words; "" where it does not.

    Args:
        here: of `run`.
        there: as recorded.
        exact: the environments are the same, so the bits must be.
    """
    if exact and here["sha256"] != there["sha256"]:
        return f"sha256 {here['sha256'][:12]}, recorded in the same environment {there['sha256'][:12]}"
    pairs = zip([here["norm"], here["way"], *here["sums"]], [there["norm"], there["way"], *there["sums"]], strict=True)
    apart = max(abs(a - b) for a, b in pairs) / there["way"]
    # A sum with random signs over a difference is as large as the difference's norm, up to chance.
    return f"{apart:.1e} of the way apart, expected at most {TOLERANCE:g}" if not apart <= TOLERANCE else ""


def compared(name: str, record: Record, entries: list[Record]) -> tuple[bool, str]:
    """(holds, what to say) of a run beside the file's entries."""
    now = environment.of_bits(environment.describe())
    same = [e for e in entries if e["environment"] == now and name in e["runs"]]
    others = [e for e in entries if name in e["runs"]]
    if not others:
        return False, "is not recorded: run python -m experiments.recorded --write"
    said = differs(record, (same or others)[0]["runs"][name], bool(same))
    return not said, said or ("the same bits" if same else "the same to tolerance; this environment is not recorded")


def read(path: Path) -> list[Record]:
    """The entries of a file; none where it is not there."""
    return files.read_json(path) if path.exists() else []


def written(entries: list[Record], records: dict[str, Record]) -> list[Record]:
    """The entries with these of this environment, in place of older ones of the same names."""
    now = environment.of_bits(environment.describe())
    kept = [e for e in entries if e["environment"] != now]
    before = [e["runs"] for e in entries if e["environment"] == now]
    return [*kept, {"environment": now, "runs": {**(before[0] if before else {}), **records}}]


def main() -> None:
    options = tyro.cli(Options, prog="python -m experiments.recorded", description=__doc__)
    # As in the tests.
    jax.config.update("jax_num_cpu_devices", int(os.environ.get("JAX_NUM_CPU_DEVICES", 8)))
    path, broken, records = Path(options.file), [], {}
    try:
        entries = read(path)
        for name in options.names or EXPERIMENTS:
            records[name] = run(name)
            if not options.write:
                holds, said = compared(name, records[name], entries)
                broken += [] if holds else [name]
                print(f"{name:24} {records[name]['sha256'][:12]}  {said}", flush=True)
        if options.write:
            files.write_json(path, written(entries, records))
            print(f"wrote {', '.join(records)} to {path}")
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
    if broken:
        print(f"DIFFERS: {', '.join(broken)}")
        if jax.default_backend() != "cpu" and jax.config.jax_default_matmul_precision is None:  # type: ignore
            print("Products of float32 have fewer bits here than on a CPU: try JAX_DEFAULT_MATMUL_PRECISION=highest")
        sys.exit(1)


if __name__ == "__main__":
    main()
