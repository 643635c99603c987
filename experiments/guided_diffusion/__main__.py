"""The command `python -m experiments.guided_diffusion`."""

from experiments.command import cli
from experiments.guided_diffusion import PRESETS, extendable_fields, train, validate_and_load
from experiments.guided_diffusion import __doc__ as description

if __name__ == "__main__":
    cli.main(
        "guided_diffusion", PRESETS, validate_and_load, train, description or "", extendable_fields=extendable_fields
    )
