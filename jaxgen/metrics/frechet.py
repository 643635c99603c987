"""The Frechet distance between two Gaussians fitted to two sets of features.

Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium" (2017).
"""

from typing import Any

import numpy as np

from jaxgen.arguments import Host, takes

from .distances import check_sets


@takes(a=Host("_ D"), b=Host("_ D"))
def frechet_distance(a: Any, b: Any) -> float:
    """The squared Frechet (2-Wasserstein) distance of Gaussians fitted to two sets of features.

    With Inception features this is the FID of Heusel et al. (2017). It falls with the number of samples: compare only
    numbers of the same counts.

    Args:
        a: [N, D], N at least 2.
        b: [M, D], M at least 2.

    Raises:
        ValueError: the sets do not fit together or have fewer than two rows.
    """
    check_sets(a=a, b=b)
    if min(len(a), len(b)) < 2:
        raise ValueError(f"{len(a)} and {len(b)} examples: a covariance needs at least 2")
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    covariances = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    return frechet_from_moments(a.mean(axis=0), next(covariances), b.mean(axis=0), next(covariances))


@takes(mean_a=Host("D"), covariance_a=Host("D D"), mean_b=Host("D"), covariance_b=Host("D D"))
def frechet_from_moments(mean_a: Any, covariance_a: Any, mean_b: Any, covariance_b: Any) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), in float64 on the host.

    tr (C_a C_b)^(1/2) is the sum of the singular values of C_a^(1/2) C_b^(1/2): real and stable for singular
    covariances, where the matrix square root of the product comes out complex or not at all.

    Args:
        mean_a: [D].
        covariance_a: [D, D], symmetric.
        mean_b: [D].
        covariance_b: [D, D], symmetric.

    Raises:
        ValueError: the shapes do not fit, or a value is not finite.
    """
    mean_a, covariance_a, mean_b, covariance_b = (
        np.asarray(x, np.float64) for x in (mean_a, covariance_a, mean_b, covariance_b)
    )
    size = mean_a.shape
    if len(size) != 1 or mean_b.shape != size or covariance_a.shape != 2 * size or covariance_b.shape != 2 * size:
        raise ValueError(
            f"means have shapes {size} and {mean_b.shape}, covariances {covariance_a.shape} and "
            f"{covariance_b.shape}; expected [D] and [D, D]"
        )
    if not all(np.isfinite(x).all() for x in (mean_a, covariance_a, mean_b, covariance_b)):
        raise ValueError("the moments are not finite: some feature is NaN or infinite")
    cross = np.linalg.svd(_root(covariance_a) @ _root(covariance_b), compute_uv=False).sum()
    squares = np.sum((mean_a - mean_b) ** 2) + np.trace(covariance_a) + np.trace(covariance_b)
    return float(max(squares - 2 * cross, 0.0))


def _root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
