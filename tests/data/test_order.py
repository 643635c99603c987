"""The visiting order: a bijection for awkward sizes, well mixed, exact far beyond 2**32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen.data.order import locate, permuted, shuffled_index

SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 100, 1000, 4097, 60_000)
# (step, batch_size, num_examples)
PLACES = (
    (1_000_000, 4_096, 64_000_000),
    (1_000_000, 4_096, 60_000),
    (2**31 - 1, 2**20 + 7, 2**31 - 1),
    (123_456_789, 65_537, 1_234_567_891),
    (1_048_576, 4_096, 2**30 + 1),
    (0, 1, 1),
)


@pytest.fixture(scope="module")
def permutations():
    """{n: permutation of the numbers below n}, of one program."""

    @jax.jit
    def draw(seed):
        image = lambda key, n: jax.vmap(lambda i: permuted(key, i, n))(jnp.arange(n, dtype=jnp.uint32))
        return {n: image(jax.random.key(seed), n) for n in SIZES}

    return jax.tree.map(np.asarray, draw(3))


@pytest.fixture(scope="module")
def places_over_keys():
    """(seed, num_keys up to 20,000) -> [num_keys, 12]: where each key sends each number below 12."""

    @jax.jit
    def draw(seed):
        image = jax.vmap(lambda key: jax.vmap(lambda i: permuted(key, i, 12))(jnp.arange(12, dtype=jnp.uint32)))
        return image(jax.random.split(jax.random.key(seed), 20_000))

    return lambda seed, num_keys: np.asarray(draw(seed))[:num_keys]


@pytest.mark.parametrize("n", SIZES)
def test_it_is_a_bijection(permutations, n):
    np.testing.assert_array_equal(np.sort(permutations[n]), np.arange(n))


def test_where_an_index_goes_is_uniform(places_over_keys):
    """Over 4,000 keys, the place of each of 5 indices among 12 (not a power of two): chi-square, fixed keys."""
    n, num_keys = 12, 4000
    for places in places_over_keys(0, num_keys)[:, [0, 1, 5, 6, 11]].T:
        assert stats.chisquare(np.bincount(places, minlength=n)).pvalue > 1e-3


def test_pairs_are_uniform(places_over_keys):
    """Where two neighbours go together: all 12 x 11 ordered pairs alike. A weak round function fails here first."""
    n, num_keys = 12, 20_000
    a, b = places_over_keys(1, num_keys)[:, [3, 4]].T
    counts = np.bincount(a * n + b, minlength=n * n).reshape(n, n)
    assert (np.diag(counts) == 0).all()
    assert stats.chisquare(counts[~np.eye(n, dtype=bool)]).pvalue > 1e-3


def test_a_large_permutation_has_no_structure(permutations):
    """Serial correlation within 4 standard errors, and as many fixed points and ascents as chance gives."""
    n = 60_000
    p = permutations[n].astype(float)
    assert abs(np.corrcoef(p[:-1], p[1:])[0, 1]) < 4 / np.sqrt(n)
    assert abs(np.corrcoef(p, np.arange(n))[0, 1]) < 4 / np.sqrt(n)
    assert (p == np.arange(n)).sum() <= 8
    assert abs((p[1:] > p[:-1]).sum() - n / 2) < 4 * np.sqrt(n / 12)
    # Batches of consecutive positions draw evenly from the whole set.
    batches = p[: n // 100 * 100].reshape(-1, 100)
    assert stats.kstest(batches.mean(axis=1), stats.norm(n / 2, n / np.sqrt(12 * 100)).cdf).pvalue > 1e-3


def visited(seed, step, positions, batch_size, num_examples):
    """`shuffled_index` as a program of the seed, the step and the positions."""
    return np.asarray(_visited(seed, step, np.asarray(positions, np.int32), batch_size, num_examples))


_visited = jax.jit(lambda seed, *args: shuffled_index(jax.random.key(seed), *args), static_argnums=(3, 4))


def test_epochs_and_keys_differ():
    orders = [visited(seed, epoch, np.arange(100), 100, 100) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert all(sorted(o) == list(range(100)) for o in orders)
    assert all((a == b).mean() < 0.1 for a, b in [(orders[0], orders[1]), (orders[0], orders[2])])


def test_batches_that_cross_epochs_visit_everything_once_an_epoch():
    n, batch = 10, 4
    epochs = np.concatenate([visited(0, step, np.arange(batch), batch, n) for step in range(15)]).reshape(6, n)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(n), (6, 1)))


def test_a_batch_larger_than_the_data():
    found = visited(0, 1, np.arange(8), 8, 3)
    epoch = (8 + np.arange(8)) // 3
    assert all(len(set(found[epoch == e])) == (epoch == e).sum() for e in set(epoch))


@pytest.fixture(scope="module")
def located():
    """{case of PLACES: (positions, epochs, remainders)}, of one program."""
    positions = {case: np.array([0, 1, case[1] // 2, case[1] - 1], np.int32) for case in PLACES}
    found = jax.jit(lambda steps: {case: locate(steps[case], positions[case], *case[1:]) for case in PLACES})(
        {case: np.uint32(case[0]) for case in PLACES}
    )
    return {case: (positions[case], *map(np.asarray, found[case])) for case in PLACES}


@pytest.mark.parametrize("step, batch, n", PLACES)
def test_positions_beyond_32_bits_against_python_integers(located, step, batch, n):
    assert not jax.config.values["jax_enable_x64"]
    positions, epoch, i = located[step, batch, n]
    expected = [divmod(step * batch + int(p), n) for p in positions]
    assert [int(e) for e in epoch] == [e % 2**32 for e, _ in expected]
    assert [int(x) for x in i] == [x for _, x in expected]


def test_any_part_of_a_batch_can_be_computed_alone():
    whole, some = visited(2, 9, np.arange(100), 100, 100), np.random.default_rng(0).integers(0, 100, 100)
    np.testing.assert_array_equal(visited(2, 9, some, 100, 100), whole[some])


def test_impossible_sizes():
    with pytest.raises(ValueError, match="num_examples is 0"):
        locate(0, np.arange(3), 3, 0)
    with pytest.raises(ValueError, match="batch_size is 4294967296"):
        locate(0, np.arange(3), 2**32, 5)
