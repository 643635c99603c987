"""Variational autoencoders: Kingma & Welling 2013, and the importance-weighted bound of Burda et al. 2015.

    python -m experiments.vae quick
    python -m experiments.vae mnist --data.dir FOLDER

Measured on the test images: the bound, -log p by importance sampling with its standard error, and the number of active
latent dimensions. Everything is summed over pixels and averaged over images, in nats. A Bernoulli likelihood of pixels
that are not binary must be requested by --binarization grey.
"""

from experiments.vae.config import PRESETS, Config
from experiments.vae.train import make_sample_fn, train, validate_and_load

__all__ = ["PRESETS", "Config", "make_sample_fn", "train", "validate_and_load"]
