"""Mean and covariance of features that come in batches, for the distances of Heusel et al. (2017)."""

from typing import Any, NamedTuple

import numpy as np

from jaxgen.arguments import Count, takes

from .features import Extractor, extract_in_batches


class Moments(NamedTuple):
    """Moments of N features.

    Attributes:
        number: N.
        mean: their mean, [F] float64.
        scatter: the sum of the outer products of their deviations from it, [F, F] float64.
    """

    number: int
    mean: np.ndarray
    scatter: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """[F, F], with N - 1."""
        return self.scatter / (self.number - 1)

    def plus(self, more: np.ndarray) -> "Moments":
        """The moments with further features [n, F] (Chan, Golub & LeVeque 1979)."""
        more = np.asarray(more, np.float64)
        mean, total = more.mean(axis=0), self.number + len(more)
        centred, apart = more - mean[None], mean - self.mean
        scatter = centred.T @ centred + np.outer(apart, apart) * (self.number * len(more) / total)
        return Moments(total, self.mean + apart * (len(more) / total), self.scatter + scatter)


@takes(size=Count(0))
def no_moments(size: int) -> Moments:
    """The moments of no features [0, size]."""
    return Moments(0, np.zeros(size), np.zeros((size, size)))


class FeatureSummary(NamedTuple):
    """Features of N images.

    Attributes:
        features: of the first K images, [K, F].
        probabilities: of the classes, of all images, [N, classes].
        pooled: moments of all features.
        spatial: moments of all spatial features, or None where the extractor has none.
    """

    features: np.ndarray
    probabilities: np.ndarray
    pooled: Moments
    spatial: Moments | None


@takes(num_kept=Count(0), batch_size=Count())
def summarize_features(extractor: Extractor, images: Any, num_kept: int, batch_size: int = 100) -> FeatureSummary:
    """Extracts the features of images without keeping all of them.

    Args:
        extractor: gives the features.
        images: uint8 [N, H, W, C], in memory or not.
        num_kept: K, number of images whose features are kept.
        batch_size: images at a time.

    Raises:
        ValueError: fewer than two images.
    """
    if len(images) < 2:
        raise ValueError(f"{len(images)} image; a covariance needs at least 2")
    kept, probabilities, number = [], [], 0
    moments: list[Moments] = []
    for pooled, probability, *spatial in extract_in_batches(extractor.spatial or extractor.extract, images, batch_size):
        if not moments:
            moments = [no_moments(x.shape[1]) for x in (pooled, *spatial)]
        moments = [before.plus(x) for before, x in zip(moments, (pooled, *spatial), strict=True)]
        probabilities.append(probability)
        kept.append(pooled[: max(0, num_kept - number)])
        number += len(pooled)
    return FeatureSummary(np.concatenate(kept), np.concatenate(probabilities), moments[0], (moments[1:] or [None])[0])
