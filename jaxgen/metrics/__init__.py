"""Measures of arrays, and the networks on whose features samples are compared."""

from .feature_classifier import FeatureClassifier, classifier_extractor
from .features import Extractor, compare_features, extract_in_batches, inception_score, sample_quality
from .frechet import frechet_distance, frechet_from_moments
from .image import psnr, ssim
from .inception import load_inception
from .kernel_distance import KernelDistance, kernel_distance
from .mode_coverage import ModeCoverage, mode_coverage
from .moments import FeatureSummary, Moments, no_moments, summarize_features
from .parzen import ParzenEstimate, kmeans_centres, parzen_log_density, parzen_log_likelihood, parzen_table
from .precision_recall import DensityCoverage, PrecisionRecall, density_coverage, precision_recall
from .sample_batches import SampleBatch, read_sample_batch, save_sample_batch, write_sample_batch
from .sample_evaluation import evaluate_sample_batch

__all__ = [
    "DensityCoverage",
    "Extractor",
    "FeatureClassifier",
    "FeatureSummary",
    "KernelDistance",
    "ModeCoverage",
    "Moments",
    "ParzenEstimate",
    "PrecisionRecall",
    "SampleBatch",
    "classifier_extractor",
    "compare_features",
    "density_coverage",
    "evaluate_sample_batch",
    "extract_in_batches",
    "frechet_distance",
    "frechet_from_moments",
    "inception_score",
    "kernel_distance",
    "kmeans_centres",
    "load_inception",
    "mode_coverage",
    "no_moments",
    "parzen_log_density",
    "parzen_log_likelihood",
    "parzen_table",
    "precision_recall",
    "psnr",
    "read_sample_batch",
    "sample_quality",
    "save_sample_batch",
    "ssim",
    "summarize_features",
    "write_sample_batch",
]
