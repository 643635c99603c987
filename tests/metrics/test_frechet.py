import numpy as np
import pytest
from scipy import linalg

from jaxgen import metrics


def features(seed, num, size):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num, size)) @ rng.normal(size=(size, size)) + rng.normal(size=size)


def by_matrix_root(a, b):
    covariances = [np.cov(x, rowvar=False) for x in (a, b)]
    root = np.real(linalg.sqrtm(covariances[0] @ covariances[1]))
    return np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2) + np.trace(sum(covariances) - 2 * root)


@pytest.mark.parametrize("size", [2, 7, 30])
def test_equals_the_matrix_square_root(size):
    a, b = features(0, 200, size), features(1, 150, size)
    assert metrics.frechet_distance(a, b) == pytest.approx(by_matrix_root(a, b), rel=1e-9)


def test_one_dimension_has_a_closed_form():
    a, b = features(0, 200, 1), 3 * features(1, 150, 1)
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)
    found = metrics.frechet_from_moments([1.0, 0], np.diag([4.0, 1]), [0.0, 2], np.diag([9.0, 25]))
    assert found == pytest.approx(1 + 4 + 1 + 16)


def test_singular_covariances_are_real_and_a_set_is_at_zero_from_itself():
    a, b = features(0, 5, 20), features(1, 6, 20)  # rank 4 and 5
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    found = metrics.frechet_distance(a, b)
    # The limit of covariances that are not singular.
    moments = [f(x) for x in (a, b) for f in (lambda x: x.mean(axis=0), lambda x: np.cov(x, rowvar=False))]
    moments[1], moments[3] = (c + 1e-12 * np.eye(20) for c in (moments[1], moments[3]))
    root = np.real(linalg.sqrtm(moments[1] @ moments[3]))
    limit = np.sum((moments[0] - moments[2]) ** 2) + np.trace(moments[1] + moments[3] - 2 * root)
    assert found == pytest.approx(limit, rel=1e-4) and found == pytest.approx(metrics.frechet_distance(b, a))


def test_float32_features_are_summed_in_float64():
    a, b = features(0, 500, 4) + 1000, features(1, 500, 4) + 1000
    found = metrics.frechet_distance(a.astype(np.float32), b.astype(np.float32))
    assert found == pytest.approx(by_matrix_root(a, b), rel=1e-4)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"b has shape \(3, 4\), and a has shape \(3, 2\)"):
        metrics.frechet_distance(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="at least 2"):
        metrics.frechet_distance(np.zeros((3, 2)), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="not finite"):
        metrics.frechet_distance(np.full((3, 2), np.nan), np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"covariance_a has shape \(3, 3\), and mean_a has shape \(2,\)"):
        metrics.frechet_from_moments(np.zeros(2), np.eye(3), np.zeros(2), np.eye(2))
