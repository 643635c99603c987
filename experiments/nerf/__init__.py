"""Neural radiance fields: Mildenhall et al. (2020), from images with camera poses to new views of the scene.

    python -m experiments.nerf quick
    python -m experiments.nerf blender_small --data.dir FOLDER

The run measures PSNR and SSIM of the fine network's images on held-out views (`psnr`, `ssim`; those of the coarse
network are `psnr_coarse`), as means over views. On the embedded scene it also measures the error of depth, in world
units, where the scene is opaque. The run directory receives poses.txt, which lists suspicious camera poses, and an
animation.
"""

from experiments.nerf.config import PRESETS, Config, extendable_fields
from experiments.nerf.train import make_sample_fn, train, validate_and_load

__all__ = ["PRESETS", "Config", "extendable_fields", "make_sample_fn", "train", "validate_and_load"]
