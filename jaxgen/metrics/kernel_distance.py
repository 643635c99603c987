"""The kernel distance of two sets of features: KID.

Source: Binkowski, Sutherland, Arbel & Gretton, "Demystifying MMD GANs" (2018), section 4.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgen.arguments import Count, Host, Key, takes

from .distances import check_sets


class KernelDistance(NamedTuple):
    """A mean over subsets.

    Attributes:
        mean: of the unbiased estimates; near 0, also below, where the distributions agree.
        standard_deviation: of the estimates over the subsets.
    """

    mean: float
    standard_deviation: float


@takes(key=Key(""), a=Host("_ D"), b=Host("_ D"), num_subsets=Count(), subset_size=Count())
def kernel_distance(key: Any, a: Any, b: Any, num_subsets: int = 100, subset_size: int = 1000) -> KernelDistance:
    """KID: the squared maximum mean discrepancy with the kernel (x . y / D + 1)^3, averaged over random subsets.

    Unlike the Frechet distance it is unbiased, so that numbers of other counts compare. In float64 on the host.

    Args:
        key: scalar key; may be None where both sets are used whole.
        a: features, [N, D].
        b: features, [M, D].
        num_subsets: how many pairs of subsets are drawn.
        subset_size: features of each, without replacement; where it is N and M or more, both sets are used whole, once.

    Raises:
        ValueError: the sets do not fit together, a subset has fewer than two features or is larger than one of the
            sets alone, there is no key, or a value is not finite.
    """
    check_sets(a=a, b=b)
    if min(len(a), len(b), subset_size) < 2:
        raise ValueError(f"{len(a)} and {len(b)} features in subsets of {subset_size}; expected at least 2 of each")
    if subset_size >= max(len(a), len(b)):
        return KernelDistance(_unbiased(a, b), 0.0)
    if subset_size > min(len(a), len(b)):
        raise ValueError(
            f"subset_size is {subset_size} of {len(a)} and {len(b)} features; expected at most the smaller"
        )
    if key is None:
        raise ValueError("there is no key; expected a key, or subset_size of both sets, which uses them whole")
    found = []
    for number in range(num_subsets):
        keys = jax.random.split(jax.random.fold_in(key, number))
        rows = [np.asarray(jax.random.permutation(k, len(x)))[:subset_size] for k, x in zip(keys, (a, b), strict=True)]
        found.append(_unbiased(a[rows[0]], b[rows[1]]))
    return KernelDistance(float(np.mean(found)), float(np.std(found)))


def _unbiased(a: np.ndarray, b: np.ndarray) -> float:
    """Equation 4 of the paper: the diagonal, a feature with itself, is left out."""
    kernel = lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3
    others = lambda x: (np.sum(k := kernel(x, x)) - np.trace(k)) / (len(x) * (len(x) - 1))
    return float(others(a) + others(b) - 2 * np.mean(kernel(a, b)))
