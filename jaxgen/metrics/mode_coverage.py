"""How many modes of a known mixture a generator has found."""

import math
from typing import Any, NamedTuple

import numpy as np

from jaxgen.arguments import Host, Real, takes


class ModeCoverage(NamedTuple):
    """Counts of N samples over the K modes of a mixture.

    A sample is of high quality if it lies within 3 standard deviations (`radius`) of its nearest mode.

    Attributes:
        captured: modes with at least 1 sample of high quality.
        captured_20: modes with at least 20. With few samples a mode, one stray sample makes `captured` look complete.
        high_quality: share of the N samples that are of high quality, in [0, 1]. Perfect samples in the plane reach
            1 - exp(-9/2) = 0.9889, not 1.
        kl: KL(share of each mode || uniform) over the samples of high quality, nats, in [0, log K].
        total_variation: half the sum of |share - 1/K|, in [0, 1 - 1/K].
        counts: [K] samples of high quality of each mode. Without any, the divergences are those of a single mode.
    """

    captured: int
    captured_20: int
    high_quality: float
    kl: float
    total_variation: float
    counts: np.ndarray


@takes(samples=Host("N D"), means=Host("K D"), std=Real(), radius=Real())
def mode_coverage(samples: Any, means: Any, std: float, radius: float = 3.0) -> ModeCoverage:
    """Modes captured, share of high-quality samples, and divergence of the modes' shares from uniform.

    The counting of Srivastava et al. (2017), VEEGAN: 2,500 samples, 3 standard deviations.

    Args:
        samples: [N, D], of the generator.
        means: [K, D], the modes, all distinct.
        std: standard deviation of each mode.
        radius: how many of them count as high quality (Euclidean distance).

    Raises:
        ValueError: shapes do not fit, std or radius is not positive, two modes coincide, or a sample is not finite.
    """
    samples, means = np.asarray(samples, np.float64), np.asarray(means, np.float64)
    if samples.ndim != 2 or means.ndim != 2 or samples.shape[1] != means.shape[1] or not len(samples):
        raise ValueError(f"samples have shape {samples.shape}, means {means.shape}; expected [N, D] and [K, D]")
    if std <= 0 or radius <= 0:
        raise ValueError(f"std is {std} and radius {radius}; both must be positive")
    if len(np.unique(means, axis=0)) < len(means):
        raise ValueError("two modes are at the same place, so they cannot both be captured")
    if not np.isfinite(samples).all():
        raise ValueError("some samples are not finite; their generator has diverged")
    # One mode at a time: N x K x D numbers would not fit for large N.
    distances = np.stack([np.sqrt(np.sum((samples - mean) ** 2, axis=1)) for mean in means], axis=1)
    good = distances.min(axis=1) <= radius * std
    counts = np.bincount(distances.argmin(axis=1)[good], minlength=len(means))
    shares = counts / counts.sum() if counts.sum() else np.eye(len(means))[0]
    present = shares[shares > 0]
    return ModeCoverage(
        captured=int(np.sum(counts >= 1)),
        captured_20=int(np.sum(counts >= 20)),
        high_quality=float(good.mean()),
        kl=float(np.sum(present * np.log(present)) + math.log(len(means))),
        total_variation=float(np.abs(shares - 1 / len(means)).sum() / 2),
        counts=counts,
    )
