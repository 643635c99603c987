import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen import data


@pytest.fixture(scope="module")
def mixtures():
    """{name: Mixture}, their means of one program."""
    made = {}

    def make():
        made["ring"], made["grid"] = data.ring_mixture(), data.grid_mixture()
        made["ring of 5"], made["grid of 4"] = data.ring_mixture(5, 1.5, 0.3), data.grid_mixture(2, 1.0, 0.4)
        return {name: mixture.means for name, mixture in made.items()}

    means = jax.jit(make)()
    return {name: mixture._replace(means=np.asarray(means[name])) for name, mixture in made.items()}


def test_the_ring_has_eight_modes_all_distinct_and_evenly_spaced(mixtures):
    means = mixtures["ring"].means
    assert means.shape == (8, 2)
    np.testing.assert_allclose(np.linalg.norm(means, axis=1), 2, rtol=1e-6)
    distances = np.linalg.norm(means[:, None] - means[None], axis=-1) + 9 * np.eye(8)
    np.testing.assert_allclose(distances.min(axis=1), 4 * np.sin(np.pi / 8), rtol=1e-5)


def test_the_grid_has_25_modes(mixtures):
    means = mixtures["grid"].means
    assert {tuple(m) for m in means.tolist()} == {(x, y) for x in (-4.0, -2, 0, 2, 4) for y in (-4.0, -2, 0, 2, 4)}
    np.testing.assert_array_equal(means[:3], [[-4, -4], [-2, -4], [0, -4]])


def test_the_density_is_the_sum_of_scipys(mixtures):
    x = np.random.default_rng(0).normal(size=(3, 7, 2))
    names = ("ring of 5", "grid of 4")
    density = lambda x: {name: data.mixture_log_density(mixtures[name], x) for name in names}
    for name, found in jax.jit(density)(np.float32(x)).items():
        means, std = mixtures[name]
        parts = [stats.multivariate_normal(m, std**2).pdf(x) for m in np.asarray(means, np.float64)]
        np.testing.assert_allclose(found, np.log(np.mean(parts, axis=0)), rtol=2e-5, atol=2e-5, err_msg=name)


def test_the_density_is_exact_far_away_and_in_float64():
    @jax.jit
    def evaluate(x):
        mixture = data.ring_mixture(8, 2.0, 0.02, jnp.float64)
        return mixture.means, data.mixture_log_density(mixture, x)

    with jax.enable_x64(True):
        means, found = evaluate(np.array([2.0, 100.0]))
        distances = np.linalg.norm(np.asarray(means) - [2, 100], axis=1)
        expected = -((distances.min() / 0.02) ** 2) / 2 - np.log(8) - 2 * np.log(0.02 * np.sqrt(2 * np.pi))
        assert found.dtype == jnp.float64 and float(found) == pytest.approx(expected, rel=1e-12)


@pytest.fixture(scope="module")
def drawn():
    """20,000 points of a ring, and those of the keys 2, 3 and 4 drawn alone."""

    @jax.jit
    def draw():
        mixture = data.ring_mixture(8, 2.0, 0.1)
        keys = lambda numbers: jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), numbers)
        return [data.draw_mixture(keys(numbers), mixture) for numbers in (jnp.arange(20_000), jnp.arange(2, 5))]

    return jax.tree.map(np.asarray, draw())


def test_draws_have_equal_modes_and_the_standard_deviation(mixtures, drawn):
    x, means = drawn[0], mixtures["ring"].means
    mode = np.linalg.norm(x[:, None] - means[None], axis=-1).argmin(axis=1)
    counts = np.bincount(mode, minlength=8)
    assert stats.chisquare(counts).pvalue > 1e-3
    residual = (x - means[mode]) / 0.1
    np.testing.assert_allclose(residual.mean(axis=0), 0, atol=0.03)
    np.testing.assert_allclose(np.cov(residual.T), np.eye(2), atol=0.04)


def test_a_point_depends_on_its_own_key_alone(drawn):
    whole, part = drawn
    np.testing.assert_array_equal(part, whole[2:5])
    assert len({tuple(p) for p in whole[:6].tolist()}) == 6


@pytest.mark.parametrize(
    "make, arguments",
    [(data.ring_mixture, (0,)), (data.ring_mixture, (8, -1.0)), (data.ring_mixture, (8, 1.0, 0.0)),
     (data.grid_mixture, (0,)), (data.grid_mixture, (5, 0.0)), (data.grid_mixture, (5, 1.0, 0.0))],
)  # fmt: skip
def test_bad_mixtures_are_refused(make, arguments):
    with pytest.raises(ValueError, match="expected 1 or more and positive"):
        make(*arguments)


def test_a_scaled_mixture_has_mean_square_one_and_keeps_its_proportions(mixtures):
    for mixture in mixtures.values():
        scaled = data.scale_to_unit_variance(mixture)
        np.testing.assert_allclose(np.mean(scaled.means**2) + scaled.std**2, 1, rtol=1e-5)
        np.testing.assert_allclose(scaled.means / scaled.std, mixture.means / mixture.std, rtol=1e-5)


def test_batches_of_points_are_new_at_every_step_and_belong_to_their_positions(mixtures):
    ring = mixtures["ring"]
    batches = data.mixture_batches(ring)
    make = jax.jit(jax.vmap(batches.make, (None, None, 0, None)))
    points = lambda positions: np.asarray(
        make(jax.random.key(3), batches.arrays, np.arange(2), np.asarray(positions, np.int32))["x"]
    )
    x = points(range(18))
    assert x.shape == (2, 18, 2) and len(np.unique(x.reshape(-1, 2), axis=0)) == 36
    distance = np.linalg.norm(x[:, :, None] - ring.means, axis=-1).min(axis=-1)
    assert distance.max() < 5 * ring.std
    np.testing.assert_allclose(points([7, 2]), x[:, [7, 2]], rtol=1e-6)
