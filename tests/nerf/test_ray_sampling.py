"""Samples along rays: one in each bin and uniform there, and drawn from the density they should be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen import nerf
from tests.programs import in_float32, in_float64

# Edges of unequal width, and weights with nothing in two bins.
BINS = np.array([1.0, 1.5, 3.0, 3.2, 4.0, 6.0])
WEIGHTS = np.array([0.3, 0.0, 0.6, 0.05, 0.0])


def distribution(weights):
    """The distribution function of the piecewise-constant density."""
    cumulative = np.concatenate([[0], np.cumsum(weights / weights.sum())])
    return lambda t: np.interp(t, BINS, cumulative)


ONE_BIN = np.array([0.0, 0, 1, 0, 0])
CASES = {"some": WEIGHTS, "times 1000": 1e3 * WEIGHTS, "none": np.zeros(5), "one bin": ONE_BIN}


@pytest.fixture(scope="module")
def draws():
    """(weights, padding) -> 5,000 samples of each of three rays, by the same key."""

    def program(bins, weights):
        def importance(padding):
            draw = lambda weights: nerf.importance_samples(jax.random.key(0), bins, weights, 5000, padding=padding)
            return jax.vmap(draw)(weights)

        return {padding: importance(padding) for padding in (0.0, 1e-5, 0.1)}

    three = lambda a: np.tile(np.float32(a), (3, 1))
    found = in_float32(program, three(BINS), np.stack([three(weights) for weights in CASES.values()]))
    return {(name, padding): t for padding, of in found.items() for name, t in zip(CASES, of, strict=True)}


OPTIONS = [dict(in_disparity=a, half_end_bins=b) for a in (False, True) for b in (False, True)]


def test_one_stratified_sample_in_each_bin_and_uniform_there():
    near, far, num, rays = 2.0, 6.0, 8, 4000
    bounds = np.full((2, rays), [[near], [far]], np.float32)
    sample = lambda options: nerf.stratified_samples(jax.random.key(1), bounds[0], bounds[1], num, **options)
    for options, t in zip(OPTIONS, in_float32(lambda: list(map(sample, OPTIONS))), strict=True):
        ends, invert = ((1 / near, 1 / far), np.reciprocal) if options["in_disparity"] else ((near, far), np.positive)
        spaced = lambda n, ends=ends, invert=invert: invert(np.linspace(ends[0], ends[1], n))
        edges = spaced(num + 1)
        if options["half_end_bins"]:
            points = spaced(num)
            edges = np.concatenate([[near], (points[1:] + points[:-1]) / 2, [far]])
        share = (t - edges[:-1]) / np.diff(edges)
        assert t.shape == (rays, num) and share.min() > -1e-5 and share.max() < 1 + 1e-5, options
        for i in range(num):
            assert stats.kstest(share[:, i], "uniform").pvalue > 1e-3, (options, i)
        # Neither rays nor bins share their jitter.
        correlation = np.corrcoef(share.T) - np.eye(num)
        assert np.abs(correlation).max() < 5 / np.sqrt(rays), options


def test_deterministic_samples_are_equally_spaced_with_both_ends():
    t, inverse = in_float64(
        lambda near: (
            nerf.stratified_samples(None, 2.0, 6.0, 5),
            nerf.stratified_samples(None, near, 8, 8, in_disparity=True),
        ),
        np.array([1.0, 2.0]),
    )
    np.testing.assert_allclose(t, [2, 3, 4, 5, 6], rtol=1e-14)
    expected = [np.linspace(1, 1 / 8, 8), np.linspace(1 / 2, 1 / 8, 8)]
    np.testing.assert_allclose(1 / inverse, expected, rtol=1e-12)


def test_keys_map_as_rays_do():
    split = lambda: jax.random.split(jax.random.key(0), 3)
    near = np.array([1.0, 2.0, 3.0], np.float32)
    mapped, one = in_float32(
        lambda near: (
            jax.vmap(lambda k, n: nerf.stratified_samples(k, n, 7.0, 4))(split(), near),
            nerf.stratified_samples(split()[1], near[1], 7.0, 4),
        ),
        near,
    )
    np.testing.assert_allclose(mapped[1], one, rtol=1e-6)
    assert mapped.dtype == np.float32


@pytest.mark.parametrize("padding", [0.0, 1e-5, 0.1])
def test_importance_samples_have_the_piecewise_constant_density(draws, padding):
    t = draws["some", padding]
    for ray in t:
        assert stats.kstest(ray, distribution(WEIGHTS + padding)).pvalue > 1e-3
    # The test can tell: the weights are shares of probability, not heights of the density.
    assert stats.kstest(t[0], distribution(WEIGHTS * np.diff(BINS) + padding)).pvalue < 1e-6
    assert stats.kstest(t[0], stats.uniform(1, 5).cdf).pvalue < 1e-6


def test_rays_and_samples_are_independent(draws):
    t = draws["some", 1e-5]
    assert np.abs(np.corrcoef(t) - np.eye(3)).max() < 5 / np.sqrt(5000)
    assert abs(np.corrcoef(t[0, 1:], t[0, :-1])[0, 1]) < 5 / np.sqrt(5000)


def test_the_sum_of_the_weights_does_not_matter(draws):
    np.testing.assert_allclose(draws["times 1000", 0.0], draws["some", 0.0], rtol=1e-5)


def test_deterministic_importance_samples_are_the_quantiles():
    weights = np.array([0.3, 0.2, 0.6, 0.05, 0.1])
    found, single, *in_one = in_float64(
        lambda bins, weights: (
            nerf.importance_samples(None, bins, weights, 101, padding=0.0),
            nerf.importance_samples(None, bins, weights, 1),
            nerf.importance_samples(None, bins, jnp.asarray(ONE_BIN), 50),
            nerf.importance_samples(None, bins.astype(jnp.float32), jnp.asarray(ONE_BIN, jnp.float32), 50),
        ),
        *(BINS, weights),
    )
    # The inverse of the distribution function at 0, 0.01, ..., 1: both ends belong to it.
    cumulative = np.concatenate([[0], np.cumsum(weights / weights.sum())])
    np.testing.assert_allclose(found, np.interp(np.linspace(0, 1, 101), cumulative, BINS), rtol=1e-12)
    np.testing.assert_array_equal(single, BINS[:1])
    # A weight in one bin keeps all but the end samples there.
    for t in in_one:
        assert t[0] == 1 and t[-1] == 6
        assert ((t[1:-1] >= 3) & (t[1:-1] <= np.float32(3.2))).all() and len(np.unique(t)) == 50


def test_without_weights_all_bins_are_equally_likely(draws):
    for padding in (0.0, 1e-5):
        counts = np.histogram(draws["none", padding][0], BINS)[0]
        assert stats.chisquare(counts).pvalue > 1e-3, padding


def test_a_weight_in_one_bin_keeps_all_samples_there(draws):
    t = draws["one bin", 0.0]
    assert ((t >= 3) & (t <= np.float32(3.2))).all()


def test_stratified_samples_at_given_uniforms():
    """Sample i at the share u_i of bin i in float64, and the same samples as by the key that makes the uniforms."""
    near, uniforms = np.array([1.0, 2.0]), np.random.default_rng(0).uniform(size=(2, 4))

    def samples(near, uniforms, in_disparity):
        draw = lambda key, **given: nerf.stratified_samples(key, near, 6.0, 4, in_disparity=in_disparity, **given)
        drawn = jax.random.uniform(jax.random.key(0), (2, 4), jnp.float64)
        return draw(None, uniforms=uniforms), draw(None, uniforms=drawn), draw(jax.random.key(0))

    program = lambda near, uniforms: [samples(near, uniforms, in_disparity) for in_disparity in (False, True)]
    for in_disparity, (found, given, by_key) in enumerate(in_float64(program, near, uniforms)):
        np.testing.assert_array_equal(given, by_key)
        spaced = [1 / np.linspace(1 / n, 1 / 6, 5) if in_disparity else np.linspace(n, 6, 5) for n in near]
        expected = [edges[:-1] + u * np.diff(edges) for edges, u in zip(spaced, uniforms, strict=True)]
        np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=f"in disparity: {bool(in_disparity)}")
    with pytest.raises(ValueError, match=r"uniforms has shape \(4,\); expected \(2, 4\)"):
        jax.eval_shape(lambda: nerf.stratified_samples(None, near, 6.0, 4, uniforms=uniforms[0]))


def test_importance_samples_at_given_uniforms():
    """The quantiles in float64, and the same samples as by the key that makes the uniforms."""
    uniforms = np.random.default_rng(0).uniform(size=(2, 7))

    def program(bins, weights, uniforms):
        drawn = jax.random.uniform(jax.random.key(0), (2, 7), jnp.float64)
        given = (nerf.importance_samples(None, bins, weights, 7, uniforms=u) for u in (uniforms, drawn))
        return *given, nerf.importance_samples(jax.random.key(0), bins, weights, 7)

    bins, weights = (np.tile(a, (2, 1)) for a in (BINS, WEIGHTS))
    found, given, by_key = in_float64(program, bins, weights, uniforms)
    np.testing.assert_array_equal(given, by_key)
    with pytest.raises(ValueError, match=r"uniforms has shape \(2, 7\); expected \(2, 8\)"):
        jax.eval_shape(
            lambda bins, weights: nerf.importance_samples(None, bins, weights, 8, uniforms=uniforms), bins, weights
        )
    cumulative = np.concatenate([[0], np.cumsum((WEIGHTS + 1e-5) / (WEIGHTS + 1e-5).sum())])
    np.testing.assert_allclose(found, np.interp(uniforms, cumulative, BINS), rtol=1e-9)


def test_no_gradient_reaches_the_weights():
    total = lambda weights: jnp.sum(nerf.importance_samples(jax.random.key(0), np.float32(BINS), weights, 9))
    assert not np.any(in_float32(jax.grad(total), np.float32(WEIGHTS)))


def test_wrong_inputs():
    with pytest.raises(ValueError, match="near is 6.* and far is 2"):
        nerf.stratified_samples(None, 6.0, 2.0, 4)
    with pytest.raises(ValueError, match=r"near is 3.* at \(1,\)"):
        nerf.stratified_samples(None, np.array([1.0, 3.0]), 3.0, 4)
    with pytest.raises(ValueError, match="far is nan"):
        nerf.stratified_samples(None, 1.0, float("nan"), 4)
    with pytest.raises(ValueError, match="need near > 0"):
        nerf.stratified_samples(None, 0.0, 2.0, 4, in_disparity=True)
    with pytest.raises(ValueError, match="num_samples is 1"):
        nerf.stratified_samples(None, 1.0, 2.0, 1)
    with pytest.raises(ValueError, match=r"\[\.\.\., M \+ 1\] and \[\.\.\., M\]"):
        nerf.importance_samples(None, np.zeros(4), np.zeros(4), 5)
    with pytest.raises(ValueError, match="num_samples is 0"):
        nerf.importance_samples(None, np.zeros(4), np.zeros(3), 0)
