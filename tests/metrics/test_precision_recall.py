import numpy as np
import pytest
from scipy.spatial import distance

from jaxgen import metrics

RNG = np.random.default_rng(0)
BLOB = RNG.normal(size=(60, 3))


def by_sorting(real, generated, k):
    def share(x, of):
        radii = np.sort(distance.cdist(of, of), axis=1)[:, k]
        return (distance.cdist(x, of) <= radii[None, :]).any(axis=1).mean()

    return share(generated, real), share(real, generated)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_equals_sorted_distances(k):
    real, generated = BLOB, 0.8 * RNG.normal(size=(45, 3)) + 0.6
    found = metrics.precision_recall(real, generated, neighbours=k, batch_size=20)
    assert found == pytest.approx(by_sorting(real, generated, k))
    assert 0.05 < found.recall < found.precision < 0.999


def test_a_set_against_itself_and_far_away():
    assert metrics.precision_recall(BLOB, BLOB, batch_size=60) == (1.0, 1.0)
    assert metrics.precision_recall(BLOB, BLOB + 100, batch_size=60) == (0.0, 0.0)


def test_dropping_half_costs_recall_and_junk_costs_precision():
    other = RNG.normal(size=(60, 3)) + 100
    both = np.concatenate([BLOB, other])
    assert metrics.precision_recall(both, BLOB, batch_size=60) == (1.0, 0.5)
    assert metrics.precision_recall(BLOB, both, batch_size=60) == (0.5, 1.0)


def test_the_radius_reaches_the_kth_other_feature():
    """Real at 0, 1, 3, 7: with k = 2 the radii are 3, 2, 3, 6 and the union is [-3, 13]; with k = 1 it is [-1, 11]."""
    real = np.array([[0.0], [1], [3], [7]])
    inside = lambda k, x: metrics.precision_recall(real, np.array([[x], [500.0], [900.0]]), k).precision > 0
    assert inside(2, -2.9) and not inside(2, -3.1) and inside(2, 12.9) and not inside(2, 13.1)
    assert inside(1, -0.9) and not inside(1, -1.1) and inside(1, 10.9) and not inside(1, 11.1)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="neighbours is 3"):
        metrics.precision_recall(BLOB[:3], BLOB)
    with pytest.raises(ValueError, match="neighbours is 0"):
        metrics.precision_recall(BLOB, BLOB, 0)
    with pytest.raises(ValueError, match=r"generated has shape \(60, 2\)"):
        metrics.precision_recall(BLOB, BLOB[:, :2])


def clusters(offset, num, seed):
    """float32 points in two tight clusters that lie far apart and far from the origin, and duplicates."""
    rng = np.random.default_rng(seed)
    x = 1e-3 * rng.normal(size=(num, 6)) + offset * (np.arange(num) % 2)[:, None] + 3 * offset
    x[:4] = x[4]
    return x.astype(np.float32)


@pytest.mark.parametrize("offset", [0.0, 1.0, 100.0])
def test_clusters_far_apart_and_duplicates_equal_float64(offset):
    real, generated = clusters(offset, 60, 0), clusters(offset, 50, 1)
    found = metrics.precision_recall(real, generated)
    assert found == pytest.approx(by_sorting(np.float64(real), np.float64(generated), 3))
    density, coverage = metrics.density_coverage(real, generated, 3)
    pairs = distance.cdist(np.float64(real), np.float64(generated))
    radii = np.sort(distance.cdist(np.float64(real), np.float64(real)), axis=1)[:, 3]
    inside = pairs <= radii[:, None]
    assert density == pytest.approx(inside.sum(axis=0).mean() / 3) and coverage == inside.any(axis=1).mean()


def test_density_and_coverage_of_equal_distributions():
    """Naeem et al. 2020: 1 in expectation, and 1 - 2^-k for many features."""
    found = metrics.density_coverage(*RNG.normal(size=(2, 400, 2)))
    assert found.density == pytest.approx(1, abs=0.1) and found.coverage == pytest.approx(1 - 2**-5, abs=0.03)
    with pytest.raises(ValueError, match="neighbours is 5"):
        metrics.density_coverage(BLOB[:5], BLOB)
