"""Denoising diffusion: Ho, Jain & Abbeel 2020, with the losses and samplers that followed.

    python -m experiments.ddpm quick
    python -m experiments.ddpm mnist --data.dir FOLDER

Measured with the averaged parameters: the bound of -log p on test images in bits/dim, with its rate and distortion, and
classifier-FID, precision and recall of samples, next to those of held-out real images. In training, figures/ receives a
preview every --preview-every steps, always of the same noise.
"""

from experiments.ddpm.config import Config, extendable_fields, validate_and_load
from experiments.ddpm.presets import PRESETS
from experiments.ddpm.train import make_sample_fn, train

__all__ = ["PRESETS", "Config", "extendable_fields", "make_sample_fn", "train", "validate_and_load"]
