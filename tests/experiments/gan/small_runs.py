"""Small data and short trainings of the GAN experiment."""

import dataclasses
import json

import numpy as np

from experiments import gan
from experiments.gan.data import Images
from jaxgen import data, training


def images(num=40, seed=0, label=True):
    x = np.random.default_rng(seed).integers(0, 256, (num, 8, 8, 1), dtype=np.uint8)
    return data.Images(x, np.arange(num, dtype=np.int32) % 3 if label else None, f"random {seed}")


def splits(signed=False, label=True):
    whole = images(label=label)
    return Images(whole.select(slice(30)), whole.select(slice(30, None)), images(20, 1, label), whole, signed)


def tiny(preset, **fields):
    """A preset with six steps."""
    settings = training.Settings(num_steps=6, batch_size=8, log_every=2, save_every=3, devices=1)
    return dataclasses.replace(gan.PRESETS[preset], train=settings, **fields)


def with_steps(config, num_steps):
    return dataclasses.replace(config, train=dataclasses.replace(config.train, num_steps=num_steps))


def trained(config, prepared, workdir):
    """The results of a run."""
    extendable = gan.extendable_fields(config)
    with training.Run(workdir, config, experiment="gan", quiet=True, extendable_fields=extendable) as run:
        return gan.train(config, prepared, run)


def measured(workdir, what):
    """{step: values} of the measurements of this name."""
    entries = json.loads((workdir / "measured.json").read_text())
    return {entry["key"]["step"]: entry["values"] for entry in entries if entry["key"]["what"] == what}
