from typing import Any

import jax
import numpy as np
import pytest

from jaxgen import metrics

RNG = np.random.default_rng(0)


def by_pairs(a, b):
    """Equation 4 of Binkowski et al. 2018, pair by pair."""
    k = lambda x, y: (x @ y / len(x) + 1) ** 3
    own = lambda x: np.mean([k(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j])
    return own(a) + own(b) - 2 * np.mean([k(x, y) for x in a for y in b])


def test_whole_sets_equal_the_sum_over_pairs():
    a, b = RNG.normal(size=(7, 4)), RNG.normal(size=(9, 4)) + 0.5
    assert metrics.kernel_distance(None, a, b) == (pytest.approx(by_pairs(a, b), rel=1e-10), 0)


def test_subsets_are_unbiased_and_reproducible():
    a, b = RNG.normal(size=(60, 4)), RNG.normal(size=(50, 4)) + 1
    whole = metrics.kernel_distance(None, a, b).mean
    found = metrics.kernel_distance(jax.random.key(0), a, b, num_subsets=200, subset_size=20)
    assert found.mean == pytest.approx(whole, abs=4 * found.standard_deviation / 200**0.5)
    assert found == metrics.kernel_distance(jax.random.key(0), a, b, num_subsets=200, subset_size=20)
    # Not biased upwards, unlike the Frechet distance: as often below 0 as above.
    same = [metrics.kernel_distance(None, *RNG.normal(size=(2, 20, 4))).mean for _ in range(60)]
    assert abs(np.mean(same)) < 4 * np.std(same) / 60**0.5 and min(same) < 0


def test_bad_input_is_refused():
    a = RNG.normal(size=(9, 4))
    arguments: Any
    for arguments, message in (
        ((None, a, a[:, :2]), "b has shape"),
        ((None, a[:1], a), "at least 2"),
        ((None, a, a, 2, 5), "no key"),
        ((jax.random.key(0), a[:4], a, 2, 6), "at most"),
        ((None, a * np.nan, a), "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            metrics.kernel_distance(*arguments)
