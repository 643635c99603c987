"""Measures of samples on the features of a network (Heusel et al. 2017; Kynkaanniemi et al. 2019).

Whatever gives features is an `Extractor`. The published FID takes those of Inception (`jaxgen.metrics.inception`, named
"fid"); the distances on a classifier of the data itself (`FeatureClassifier`, named "classifier_fid") are ours and
compare models of the same data, not with published numbers.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.arguments import Host, takes

from .frechet import frechet_distance
from .precision_recall import precision_recall


@dataclasses.dataclass(frozen=True)
class Extractor:
    """What turns images into features.

    Attributes:
        name: what the Frechet distance on these features is called: "classifier_fid", or "fid" for Inception's.
        extract: [B, H, W, C] float32 in [-1, 1] -> (features [B, F], class probabilities [B, K]).
        sha256: of what the features depend on.
        accuracy: share of test images classified right, or None.
        spatial: the same and features that know places, [B, S], of which sFID is the distance; None where there are
            none.
    """

    name: str
    extract: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    sha256: str
    accuracy: float | None = None
    spatial: Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]] | None = None

    def __call__(self, images: np.ndarray, batch_size: int = 500) -> tuple[np.ndarray, np.ndarray]:
        """Features [N, F] and class probabilities [N, K] of images [N, H, W, C], uint8 or floating point in [0, 1].

        Generated images should be rounded to bytes first, as the real ones are.

        Raises:
            ValueError: no images, or values outside [0, 1].
        """
        found = list(extract_in_batches(self.extract, np.asarray(images), batch_size))
        features, probabilities = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return features, probabilities


def extract_in_batches(extract: Callable[[jax.Array], tuple[jax.Array, ...]], images: Any, batch_size: int = 500):
    """Yields the arrays that `extract` returns for one batch after another of images [N, H, W, C], in memory or not.

    Raises:
        ValueError: as an `Extractor`.
    """
    if len(images.shape) != 4 or not len(images):
        raise ValueError(f"images have shape {images.shape}; expected [N, H, W, C]")
    for start in range(0, len(images), batch_size):
        x = images[start : start + batch_size]
        if x.dtype == np.uint8:
            # As `data.signed`.
            x = (2 * x.astype(np.float32) - np.float32(255)) * np.float32(1 / 255)
        elif x.min() >= 0 and x.max() <= 1:
            x = 2 * x.astype(np.float32) - 1
        else:
            raise ValueError(f"images lie in [{x.min():g}, {x.max():g}]; expected uint8, or [0, 1]")
        # The last batch is filled up, so that there is one shape to compile.
        filled = np.concatenate([x, np.zeros((batch_size - len(x), *x.shape[1:]), np.float32)])
        yield [np.asarray(a)[: len(x)] for a in extract(jnp.asarray(filled))]


@takes(reference=Host("_ F"), features=Host("_ F"))
def compare_features(
    reference: np.ndarray, features: np.ndarray, name: str = "classifier_fid", suffix: str = ""
) -> dict[str, float]:
    """{name: Frechet distance, "precision", "recall"} of samples' features [N, F] compared with real ones [M, F].

    The distance takes all of both; precision and recall take as many real features as there are samples, because they
    compare only between equal counts.
    """
    quality = precision_recall(reference[: len(features)], features[: len(reference)])
    measured = {
        name: frechet_distance(features, reference),
        "precision": quality.precision,
        "recall": quality.recall,
    }
    return {f"{key}{suffix}": value for key, value in measured.items()}


def sample_quality(extractor: Extractor, samples: np.ndarray, reference, held_out) -> dict[str, float]:
    """Frechet distance, precision, recall and score of N samples, and the floor: the same of N real images.

    Args:
        extractor: gives the features.
        samples: generated images, uint8 [N, H, W, C].
        reference: the images [M, H, W, C] that they are compared with.
        held_out: real images of another split, of which the first N are the floor's, all if there are fewer.
    """
    real, _ = extractor(reference)
    features, probabilities = extractor(samples)
    floor, _ = extractor(held_out[: len(samples)])
    measured = compare_features(real, features, extractor.name)
    measured |= compare_features(real, floor, extractor.name, "_floor")
    measured["inception_score" if extractor.name == "fid" else "classifier_score"] = inception_score(probabilities)
    measured |= {"fid_samples": len(samples), "floor_images": len(floor), "reference_images": len(real)}
    if extractor.accuracy is not None:
        measured["classifier_accuracy_percent"] = 100 * extractor.accuracy
    return measured


@takes(probabilities=Host("_ K", low=0, high=1 + 1e-3))
def inception_score(probabilities: np.ndarray) -> float:
    """exp of the mean KL(p(y | x) || p(y)) of class probabilities [N, K]: from 1 to K (Salimans et al. 2016)."""
    p = np.asarray(probabilities, np.float64)
    logs = np.log(np.maximum(p, 1e-30)) - np.log(np.maximum(p.mean(axis=0), 1e-30))[None]
    return float(np.exp(np.mean(np.sum(p * logs, axis=1))))
