import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen import data


def keys(num, seed=0):
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(num))


def test_the_ring_has_eight_modes_all_distinct_and_evenly_spaced():
    means = np.asarray(data.ring_mixture().means)
    assert means.shape == (8, 2)
    np.testing.assert_allclose(np.linalg.norm(means, axis=1), 2, rtol=1e-6)
    distances = np.linalg.norm(means[:, None] - means[None], axis=-1) + 9 * np.eye(8)
    np.testing.assert_allclose(distances.min(axis=1), 4 * np.sin(np.pi / 8), rtol=1e-5)


def test_the_grid_has_25_modes():
    means = np.asarray(data.grid_mixture().means)
    assert {tuple(m) for m in means.tolist()} == {(x, y) for x in (-4.0, -2, 0, 2, 4) for y in (-4.0, -2, 0, 2, 4)}
    np.testing.assert_array_equal(means[:3], [[-4, -4], [-2, -4], [0, -4]])


@pytest.mark.parametrize("mixture", [data.ring_mixture(5, 1.5, 0.3), data.grid_mixture(2, 1.0, 0.4)])
def test_the_density_is_the_sum_of_scipys(mixture):
    x = np.random.default_rng(0).normal(size=(3, 7, 2))
    parts = [stats.multivariate_normal(m, mixture.std**2).pdf(x) for m in np.asarray(mixture.means, np.float64)]
    found = data.mixture_log_density(mixture, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, np.log(np.mean(parts, axis=0)), rtol=2e-5, atol=2e-5)


def test_the_density_is_exact_far_away_and_in_float64():
    with jax.enable_x64(True):
        mixture = data.ring_mixture(8, 2.0, 0.02, jnp.float64)
        found = data.mixture_log_density(mixture, jnp.array([2.0, 100.0]))
        distances = np.linalg.norm(np.asarray(mixture.means) - [2, 100], axis=1)
        expected = -((distances.min() / 0.02) ** 2) / 2 - np.log(8) - 2 * np.log(0.02 * np.sqrt(2 * np.pi))
        assert found.dtype == jnp.float64 and float(found) == pytest.approx(expected, rel=1e-12)


def test_draws_have_equal_modes_and_the_standard_deviation():
    mixture = data.ring_mixture(8, 2.0, 0.1)
    x = np.asarray(jax.jit(data.draw_mixture)(keys(20_000), mixture))
    mode = np.linalg.norm(x[:, None] - np.asarray(mixture.means)[None], axis=-1).argmin(axis=1)
    counts = np.bincount(mode, minlength=8)
    assert stats.chisquare(counts).pvalue > 1e-3
    residual = (x - np.asarray(mixture.means)[mode]) / 0.1
    np.testing.assert_allclose(residual.mean(axis=0), 0, atol=0.03)
    np.testing.assert_allclose(np.cov(residual.T), np.eye(2), atol=0.04)


def test_a_point_depends_on_its_own_key_alone():
    mixture = data.grid_mixture()
    whole = data.draw_mixture(keys(6), mixture)
    np.testing.assert_array_equal(data.draw_mixture(keys(6)[2:5], mixture), whole[2:5])
    assert len({tuple(p) for p in np.asarray(whole).tolist()}) == 6


@pytest.mark.parametrize(
    "make, arguments",
    [(data.ring_mixture, (0,)), (data.ring_mixture, (8, -1.0)), (data.ring_mixture, (8, 1.0, 0.0)),
     (data.grid_mixture, (0,)), (data.grid_mixture, (5, 0.0)), (data.grid_mixture, (5, 1.0, -1.0))],
)  # fmt: skip
def test_bad_mixtures_are_refused(make, arguments):
    with pytest.raises(ValueError, match="expected 1 or more and positive"):
        make(*arguments)
