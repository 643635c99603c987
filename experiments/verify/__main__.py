"""Trains a few steps of an experiment under settings that must not change the result, and compares the bits.

    python -m experiments.verify vae quick
    python -m experiments.verify sparse_autoencoder quick --variants resume kill --methods kl

Any preset is reduced by one rule: trainings of 12 steps of 16 examples, integers of the model at most 32 (see
`short_runs.reduce_config`); the command line overrides single fields of the result. The printed hashes are of the
parameters in the last checkpoints of all trainings of the run; "same" means that the whole states and metrics.jsonl are
the same too.

With exact shards every variant must give the same bits. Without, so must all but two: other numbers of devices, and
batches made by the host, must agree to rounding. The table shows their distance: the largest in any number of the
state, and that of the parameters as a share of the distance moved between the first checkpoint and the last. Samples of
the trained model are drawn alone, together and on all devices, with a fixed batch size too. Exits with 1 where a
promise is broken.
"""

import dataclasses
import os
import sys
import tempfile
from pathlib import Path

import jax

from experiments.command import cli
from experiments.command.terminal import errors_exit
from experiments.verify import short_runs
from experiments.verify.comparison import compare
from experiments.verify.variants import VARIANTS, Group
from jaxgen import training


@dataclasses.dataclass(frozen=True)
class Options:
    """What is compared."""

    variants: tuple[Group, ...] = training.renamed((*dict.fromkeys(v.group for v in VARIANTS), "samples"), "ways")
    """groups of variants"""
    kills: int = 5
    """number of kills"""


def main() -> None:
    known = short_runs.experiments()
    if sys.argv[1:2] == [] or sys.argv[1] not in known:
        print(f"usage: python -m experiments.verify {{{','.join(known)}}} PRESET [--any.field value]", file=sys.stderr)
        sys.exit(2)
    name = sys.argv[1]
    script = short_runs.load(name)
    presets = {preset: short_runs.reduce_config(config) for preset, config in script.PRESETS.items()}
    _, config, options = cli.parse(f"experiments.verify {name}", presets, sys.argv[2:], __doc__ or "", Options())
    jax.config.update("jax_num_cpu_devices", int(os.environ.get("JAX_NUM_CPU_DEVICES", 8)))
    with errors_exit(2):
        trial = short_runs.Trial(script, config, cli.checked(config, script.validate_and_load))
        with tempfile.TemporaryDirectory(prefix="verify-") as folder:
            # The variants share most of their programs.
            jax.config.update("jax_compilation_cache_dir", str(Path(folder) / "cache"))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
            jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
            broken = compare(trial, options.variants, options.kills, Path(folder))
    if broken:
        print(f"BROKEN: {', '.join(broken)}")
        sys.exit(1)
    print("every promise held")


if __name__ == "__main__":
    main()
