"""The command line: `python -m experiments.gan PRESET [--any.field value]`."""

from experiments import gan
from experiments.command import cli

if __name__ == "__main__":
    about, extendable = gan.__doc__ or "", gan.extendable_fields
    cli.main("gan", gan.PRESETS, gan.validate_and_load, gan.train, about, extendable_fields=extendable)
