"""Guided diffusion: Nichol & Dhariwal 2021 and Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis".

    python -m experiments.guided_diffusion quick
    python -m experiments.guided_diffusion mnist --data.dir FOLDER

A run trains a classifier of noisy images, if there is one, then the U-Net. Measured with the averaged parameters: the
bound of -log p on test images in bits/dim (of p(x | y) where the network is class-conditional), the accuracy of the
classifier at every noise level, and classifier-FID, precision and recall of samples against the scale of guidance, by
the classifier and without one. figures/guided.png shows the same noise at every scale, figures/tradeoff.png the metrics
against the scale.
"""

from experiments.ddpm.config import extendable_fields
from experiments.guided_diffusion.config import Config
from experiments.guided_diffusion.presets import PRESETS
from experiments.guided_diffusion.train import make_sample_fn, train, validate_and_load

__all__ = ["PRESETS", "Config", "extendable_fields", "make_sample_fn", "train", "validate_and_load"]
