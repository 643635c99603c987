"""The command line: `python -m experiments.nerf PRESET [--any.field value]`."""

from experiments import nerf
from experiments.command import cli

if __name__ == "__main__":
    about, extendable = nerf.__doc__ or "", nerf.extendable_fields
    cli.main("nerf", nerf.PRESETS, nerf.validate_and_load, nerf.train, about, extendable_fields=extendable)
