import math

import numpy as np
import pytest

from jaxgen import metrics

MEANS = np.array([[0.0, 0], [10, 0], [0, 10], [10, 10]])


def at(mode, num, offset=(0.0, 0.0)):
    return np.tile(MEANS[mode] + np.asarray(offset), (num, 1))


def test_counts_shares_and_divergences_of_a_constructed_set():
    samples = np.concatenate([at(0, 30, (0.29, 0)), at(1, 10), at(2, 60, (0.31, 0)), at(3, 0)])
    found = metrics.mode_coverage(samples, MEANS, std=0.1)
    np.testing.assert_array_equal(found.counts, [30, 10, 0, 0])
    assert (found.captured, found.captured_20) == (2, 1)
    assert found.high_quality == pytest.approx(0.4)
    shares = np.array([0.75, 0.25])
    assert found.kl == pytest.approx(np.sum(shares * np.log(shares * 4)))
    assert found.total_variation == pytest.approx((0.5 + 0.0 + 0.25 + 0.25) / 2)


def test_twenty_samples_are_enough_and_nineteen_are_not():
    assert metrics.mode_coverage(at(0, 20), MEANS, 0.1).captured_20 == 1
    assert metrics.mode_coverage(at(0, 19), MEANS, 0.1).captured_20 == 0


def test_perfect_samples():
    rng = np.random.default_rng(0)
    samples = np.concatenate([at(k, 5000) for k in range(4)]) + 0.1 * rng.normal(size=(20_000, 2))
    found = metrics.mode_coverage(samples, MEANS, 0.1)
    assert (found.captured, found.captured_20) == (4, 4)
    assert found.high_quality == pytest.approx(1 - math.exp(-4.5), abs=0.003)
    assert found.kl < 1e-4 and found.total_variation < 0.01


def test_collapse_and_nothing_at_all_are_the_worst():
    for samples in (at(2, 50), at(2, 50, (3, 3))):
        found = metrics.mode_coverage(samples, MEANS, 0.1)
        assert found.kl == pytest.approx(math.log(4)) and found.total_variation == pytest.approx(0.75)
    assert found.captured == 0 and found.high_quality == 0


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="two modes are at the same place"):
        metrics.mode_coverage(at(0, 3), np.concatenate([MEANS, MEANS[:1]]), 0.1)
    with pytest.raises(ValueError, match=r"\(3, 1\)"):
        metrics.mode_coverage(at(0, 3)[:, :1], MEANS, 0.1)
    with pytest.raises(ValueError, match="std is 0"):
        metrics.mode_coverage(at(0, 3), MEANS, 0)
    with pytest.raises(ValueError, match="not finite"):
        metrics.mode_coverage(at(0, 3) * np.nan, MEANS, 0.1)
