"""Generative adversarial networks: Goodfellow et al. (2014) and later losses, penalties and architectures.

    python -m experiments.gan quick
    python -m experiments.gan mnist --data.dir FOLDER

On mixtures of Gaussians the run measures how many modes the generator has found, the share of good samples, and the
distance of D from the optimal discriminator. On images it measures the paper's Parzen-window log-likelihood, next to
that of training images and of k-means centres, and, where there are labels, the Frechet distance, precision and recall
on a classifier's features. For all data it measures the value of the game, -2 log 2 at its equilibrium.
"""

from experiments.gan.config import PRESETS, Config, extendable_fields
from experiments.gan.train import make_sample_fn, train, validate_and_load

__all__ = ["PRESETS", "Config", "extendable_fields", "make_sample_fn", "train", "validate_and_load"]
