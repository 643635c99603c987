"""Precision and recall of a generator on features."""

from typing import Any, NamedTuple

import numpy as np

from jaxgen.arguments import Count, Host, takes

from .distances import check_sets, exact_squared_distances


class PrecisionRecall(NamedTuple):
    """How much of each set lies on the manifold of the other.

    Attributes:
        precision: share of generated features within a real one's radius, in [0, 1]: quality.
        recall: share of real features within a generated one's radius, in [0, 1]: variety.
    """

    precision: float
    recall: float


@takes(real=Host("_ D"), generated=Host("_ D"), neighbours=Count(0), batch_size=Count())
def precision_recall(real: Any, generated: Any, neighbours: int = 3, batch_size: int = 500) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al. 2019).

    The manifold of a set is the union of balls around its features, each reaching to the k-th nearest other feature
    of the set. The paper takes k = 3 and 50,000 features of both sets; numbers of other counts do not compare. In
    float64 on the host.

    Args:
        real: features of data, [N, D].
        generated: features of samples, [M, D].
        neighbours: k, at least 1 and below N and M.
        batch_size: rows of the distance matrix at a time.

    Raises:
        ValueError: the sets do not fit together, are too small for k, or hold a value that is not finite.
    """
    check_sets(real=real, generated=generated)
    if not 1 <= neighbours < min(len(real), len(generated)) or batch_size < 1:
        raise ValueError(
            f"neighbours is {neighbours} and batch_size {batch_size}, of {len(real)} real and {len(generated)} "
            "generated features; expected 1 <= neighbours < both counts"
        )
    centre = real.mean(axis=0)
    real, generated = real - centre, generated - centre
    reach = lambda x: _reach(x, neighbours, batch_size)
    return PrecisionRecall(
        precision=float(_counts(generated, real, reach(real), batch_size).astype(bool).mean()),
        recall=float(_counts(real, generated, reach(generated), batch_size).astype(bool).mean()),
    )


class DensityCoverage(NamedTuple):
    """Density and coverage.

    Attributes:
        density: how many real balls hold a generated feature, on average, divided by k: quality, at least 0, and 1 in
            expectation where the distributions agree.
        coverage: share of the real balls that hold a generated feature, in [0, 1]: variety.
    """

    density: float
    coverage: float


@takes(real=Host("_ D"), generated=Host("_ D"), neighbours=Count(0), batch_size=Count())
def density_coverage(real: Any, generated: Any, neighbours: int = 5, batch_size: int = 500) -> DensityCoverage:
    """Density and coverage, which one outlier among the features changes less than precision and recall.

    Balls reach from each real feature to its k-th nearest other. With equal distributions and many features coverage is
    1 - (N - 1) ... (N - k) / ((N + M - 1) ... (N + M - k)), which for N = M is near 1 - 2^-k. In float64 on the host.
    Source: Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models" (2020), equations 3 and 4.

    Args:
        real: features of data, [N, D].
        generated: features of samples, [M, D].
        neighbours: k, at least 1 and below N; the paper takes 5.
        batch_size: rows of the distance matrix at a time.

    Raises:
        ValueError: the sets do not fit together, are too small for k, or hold a value that is not finite.
    """
    check_sets(real=real, generated=generated)
    if not 1 <= neighbours < len(real):
        raise ValueError(
            f"neighbours is {neighbours} of {len(real)} real features; expected 1 <= neighbours < their count"
        )
    centre = real.mean(axis=0)
    real, generated = real - centre, generated - centre
    reach = _reach(real, neighbours, batch_size)
    inside = _counts(generated, real, reach, batch_size)
    nearest = np.concatenate(
        [exact_squared_distances(part, generated).min(axis=1) for part in _parts(real, batch_size)]
    )
    return DensityCoverage(float(inside.mean() / neighbours), float((nearest <= reach).mean()))


def _parts(x: np.ndarray, batch_size: int) -> list[np.ndarray]:
    return [x[i : i + batch_size] for i in range(0, len(x), batch_size)]


def _reach(x: np.ndarray, neighbours: int, batch_size: int) -> np.ndarray:
    """Squared distance of each feature to the k-th nearest other of its set: the nearest of all is itself."""
    kth = lambda part: np.partition(exact_squared_distances(part, x), neighbours, axis=1)[:, neighbours]
    return np.concatenate([kth(part) for part in _parts(x, batch_size)])


def _counts(x: np.ndarray, centres: np.ndarray, reach: np.ndarray, batch_size: int) -> np.ndarray:
    """How many balls hold each x."""
    inside = lambda part: np.sum(exact_squared_distances(part, centres) <= reach[None, :], axis=1)
    return np.concatenate([inside(part) for part in _parts(x, batch_size)])
