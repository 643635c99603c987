"""Runs the command of the variational autoencoders."""

from experiments import vae
from experiments.command import cli

if __name__ == "__main__":
    cli.main("vae", vae.PRESETS, vae.validate_and_load, vae.train, vae.__doc__ or "")
