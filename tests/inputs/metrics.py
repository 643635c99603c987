"""Calls of `jaxgen.metrics`."""

import numpy as np

from tests.inputs import call, key, unit

EXEMPT = {
    "classifier_extractor": "makes an extractor of a network",
    "evaluate_sample_batch": "reads sample batches; tests/metrics/test_sample_evaluation.py",
    "extract_in_batches": "images of an extractor; tests/metrics/test_features.py",
    "load_inception": "reads a file; tests/metrics/test_inception.py",
    "no_moments": "takes a number",
    "read_sample_batch": "reads a file; tests/metrics/test_sample_batches.py",
    "sample_quality": "images of an extractor; tests/metrics/test_features.py",
    "save_sample_batch": "writes a file; tests/metrics/test_sample_batches.py",
    "summarize_features": "images of an extractor; tests/metrics/test_sample_evaluation.py",
    "write_sample_batch": "writes a file; tests/metrics/test_sample_batches.py",
}


def calls():
    a, b, c = unit(8, 3), unit(9, 3), unit(7, 3)
    probabilities = unit(6, 3)
    images = {"image": unit(12, 12, 1), "reference": unit(12, 12, 1)}
    covariance = np.eye(3, dtype=np.float32)
    free = ("a", "b", "real", "generated", "samples", "reference", "features", "validation", "test", "x")
    return {
        "compare_features": call(reference=a, features=b),
        "density_coverage": call("generated", real=a, generated=b),
        "frechet_distance": call(a=a, b=b),
        "frechet_from_moments": call(mean_a=unit(3), covariance_a=covariance, mean_b=unit(3), covariance_b=covariance),
        "inception_score": call(probabilities=probabilities / probabilities.sum(axis=1, keepdims=True)),
        "kernel_distance": call(key=key(), a=a, b=b, num_subsets=2, subset_size=5),
        "kmeans_centres": call(x=a, number=2),
        "mode_coverage": call("samples", "means", samples=a, means=c, std=0.1),
        "parzen_log_density": call("x", "samples", x=a, samples=b, sigma=0.5),
        "parzen_log_likelihood": call(*free, samples=a, validation=b, test=c),
        "parzen_table": call(*free, sets={"model": a}, validation=b, test=c),
        "precision_recall": call(real=a, generated=b),
        "psnr": call(**images),
        "ssim": call(**images),
    }
