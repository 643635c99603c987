"""Measures that need only arrays."""

from .frechet import frechet_distance, frechet_from_moments
from .image import psnr, ssim
from .mode_coverage import ModeCoverage, mode_coverage
from .parzen import ParzenEstimate, parzen_log_density, parzen_log_likelihood
from .precision_recall import PrecisionRecall, precision_recall

__all__ = [
    "ModeCoverage",
    "ParzenEstimate",
    "PrecisionRecall",
    "frechet_distance",
    "frechet_from_moments",
    "mode_coverage",
    "parzen_log_density",
    "parzen_log_likelihood",
    "precision_recall",
    "psnr",
    "ssim",
]
