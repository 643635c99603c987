"""Parzen estimates of several sets of samples, and k-means centres as one of them."""

import numpy as np
import pytest

from jaxgen import metrics


def normal(seed, num, scale=1.0):
    return scale * np.random.default_rng(seed).normal(size=(num, 3)).astype(np.float32)


def test_a_table_has_the_estimate_of_each_set():
    validation, test = normal(2, 30), normal(3, 40)
    sets = {"model": normal(0, 50), "training": normal(1, 50, 0.1)}
    table = metrics.parzen_table(sets, validation, test)
    assert len(table) == 8
    for name, samples in sets.items():
        alone = metrics.parzen_log_likelihood(samples, validation, test)
        found = [table[name + suffix] for suffix in ("", "_standard_error", "_sigma", "_sigma_at_edge")]
        assert found == [alone.mean, alone.standard_error, alone.sigma, alone.at_edge]


def test_kmeans_finds_separate_groups():
    centres = np.array([[10, 10], [200, 10], [10, 200]], np.uint8)
    x = np.repeat(centres, 50, axis=0) + np.random.default_rng(0).integers(0, 5, (150, 2), dtype=np.uint8)
    found = metrics.kmeans_centres((x / 255).astype(np.float32), 3, 2)
    assert found.shape == (3, 2) and found.dtype == np.float32
    expected = x.reshape(3, 50, 2).mean(axis=1) / 255
    np.testing.assert_allclose(found[np.lexsort(found.T[::-1])], expected[np.lexsort(expected.T[::-1])], atol=2e-3)


def test_kmeans_begins_with_its_seed():
    x = normal(0, 200)
    one, again, other = (metrics.kmeans_centres(x, 5, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_more_centres_than_examples_are_refused():
    with pytest.raises(ValueError, match="n_samples=4 should be >= n_clusters=5"):
        metrics.kmeans_centres(normal(0, 4), 5)
