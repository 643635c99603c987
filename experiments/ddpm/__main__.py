"""The command `python -m experiments.ddpm`."""

from experiments.command import cli
from experiments.ddpm import PRESETS, extendable_fields, train, validate_and_load
from experiments.ddpm import __doc__ as description

if __name__ == "__main__":
    cli.main("ddpm", PRESETS, validate_and_load, train, description or "", extendable_fields=extendable_fields)
