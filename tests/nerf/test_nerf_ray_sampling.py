"""Samples along rays: one in each bin and uniform there, and drawn from the density they should be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen import nerf

# Edges of unequal width, and weights with nothing in two bins.
BINS = np.array([1.0, 1.5, 3.0, 3.2, 4.0, 6.0])
WEIGHTS = np.array([0.3, 0.0, 0.6, 0.05, 0.0])


def distribution(weights):
    """The distribution function of the piecewise-constant density."""
    cumulative = np.concatenate([[0], np.cumsum(weights / weights.sum())])
    return lambda t: np.interp(t, BINS, cumulative)


def draws(num, weights=WEIGHTS, rays=3, **options):
    spread = lambda a: jnp.broadcast_to(jnp.asarray(a, jnp.float32), (rays, len(a)))
    return np.asarray(nerf.importance_samples(jax.random.key(0), spread(BINS), spread(weights), num, **options))


@pytest.mark.parametrize("half_end_bins", [False, True])
@pytest.mark.parametrize("in_disparity", [False, True])
def test_one_stratified_sample_in_each_bin_and_uniform_there(in_disparity, half_end_bins):
    near, far, num, rays = 2.0, 6.0, 8, 4000
    options = dict(in_disparity=in_disparity, half_end_bins=half_end_bins)
    bounds = jnp.full(rays, near), jnp.full(rays, far)
    t = np.asarray(nerf.stratified_samples(jax.random.key(1), *bounds, num, **options))
    spaced = lambda n: 1 / np.linspace(1 / near, 1 / far, n) if in_disparity else np.linspace(near, far, n)
    edges = spaced(num + 1)
    if half_end_bins:
        points = spaced(num)
        edges = np.concatenate([[near], (points[1:] + points[:-1]) / 2, [far]])
    share = (t - edges[:-1]) / np.diff(edges)
    assert t.shape == (rays, num) and share.min() > -1e-5 and share.max() < 1 + 1e-5
    for i in range(num):
        assert stats.kstest(share[:, i], "uniform").pvalue > 1e-3
    # Neither rays nor bins share their jitter.
    correlation = np.corrcoef(share.T) - np.eye(num)
    assert np.abs(correlation).max() < 5 / np.sqrt(rays)


def test_deterministic_samples_are_equally_spaced_with_both_ends():
    with jax.enable_x64(True):
        t = nerf.stratified_samples(None, 2.0, 6.0, 5)
        inverse = nerf.stratified_samples(None, jnp.array([1.0, 2.0]), 8, 8, in_disparity=True)
    np.testing.assert_allclose(t, [2, 3, 4, 5, 6], rtol=1e-14)
    expected = [np.linspace(1, 1 / 8, 8), np.linspace(1 / 2, 1 / 8, 8)]
    np.testing.assert_allclose(1 / np.asarray(inverse), expected, rtol=1e-12)


def test_keys_map_as_rays_do():
    split = lambda: jax.random.split(jax.random.key(0), 3)
    near = jnp.array([1.0, 2.0, 3.0])
    mapped = jax.jit(jax.vmap(lambda k, n: nerf.stratified_samples(k, n, 7.0, 4)))(split(), near)
    one = nerf.stratified_samples(split()[1], near[1], 7.0, 4)
    np.testing.assert_allclose(mapped[1], one, rtol=1e-6)
    assert mapped.dtype == jnp.float32


@pytest.mark.parametrize("padding", [0.0, 1e-5, 0.1])
def test_importance_samples_have_the_piecewise_constant_density(padding):
    t = draws(5000, padding=padding)
    for ray in t:
        assert stats.kstest(ray, distribution(WEIGHTS + padding)).pvalue > 1e-3
    # The test can tell: the weights are shares of probability, not heights of the density.
    assert stats.kstest(t[0], distribution(WEIGHTS * np.diff(BINS) + padding)).pvalue < 1e-6
    assert stats.kstest(t[0], stats.uniform(1, 5).cdf).pvalue < 1e-6


def test_rays_and_samples_are_independent():
    t = draws(5000)
    assert np.abs(np.corrcoef(t) - np.eye(3)).max() < 5 / np.sqrt(5000)
    assert abs(np.corrcoef(t[0, 1:], t[0, :-1])[0, 1]) < 5 / np.sqrt(5000)


def test_the_sum_of_the_weights_does_not_matter():
    np.testing.assert_allclose(draws(100, 1e3 * WEIGHTS, padding=0.0), draws(100, WEIGHTS, padding=0.0), rtol=1e-5)


def test_deterministic_importance_samples_are_the_quantiles():
    weights = np.array([0.3, 0.2, 0.6, 0.05, 0.1])
    with jax.enable_x64(True):
        found = nerf.importance_samples(None, jnp.asarray(BINS), jnp.asarray(weights), 101, padding=0.0)
        single = nerf.importance_samples(None, jnp.asarray(BINS), jnp.asarray(weights), 1)
    # The inverse of the distribution function at 0, 0.01, ..., 1: both ends belong to it.
    cumulative = np.concatenate([[0], np.cumsum(weights / weights.sum())])
    np.testing.assert_allclose(found, np.interp(np.linspace(0, 1, 101), cumulative, BINS), rtol=1e-12)
    np.testing.assert_array_equal(single, BINS[:1])


def test_without_weights_all_bins_are_equally_likely():
    for options in (dict(padding=0.0), dict()):
        t = draws(5000, np.zeros(5), **options)
        counts = np.histogram(t[0], BINS)[0]
        assert stats.chisquare(counts).pvalue > 1e-3


def test_a_weight_in_one_bin_keeps_all_but_the_end_samples_there():
    weights = np.array([0.0, 0, 1, 0, 0])
    assert ((draws(1000, weights, padding=0.0) >= 3) & (draws(1000, weights, padding=0.0) <= 3.2)).all()
    found = np.asarray(nerf.importance_samples(None, jnp.asarray(BINS, "float32"), jnp.asarray(weights, "float32"), 50))
    assert found[0] == 1 and found[-1] == 6
    assert ((found[1:-1] >= 3) & (found[1:-1] <= 3.2)).all() and len(np.unique(found)) == 50


@pytest.mark.parametrize("in_disparity", [False, True])
def test_stratified_samples_at_given_uniforms(in_disparity):
    """Sample i at the share u_i of bin i in float64, and the same samples as by the key that makes the uniforms."""
    near, uniforms = np.array([1.0, 2.0]), np.random.default_rng(0).uniform(size=(2, 4))
    key = lambda: jax.random.key(0)
    with jax.enable_x64(True):
        draw = lambda key, **given: nerf.stratified_samples(
            key, jnp.asarray(near), 6.0, 4, in_disparity=in_disparity, **given
        )
        found = draw(None, uniforms=uniforms)
        drawn = jax.random.uniform(key(), (2, 4), jnp.float64)
        np.testing.assert_array_equal(draw(None, uniforms=drawn), draw(key()))
    spaced = [1 / np.linspace(1 / n, 1 / 6, 5) if in_disparity else np.linspace(n, 6, 5) for n in near]
    expected = [edges[:-1] + u * np.diff(edges) for edges, u in zip(spaced, uniforms, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    with pytest.raises(ValueError, match=r"uniforms has shape \(4,\); expected \(2, 4\)"):
        nerf.stratified_samples(None, near, 6.0, 4, uniforms=uniforms[0])


def test_importance_samples_at_given_uniforms():
    """The quantiles in float64, and the same samples as by the key that makes the uniforms."""
    uniforms = np.random.default_rng(0).uniform(size=(2, 7))
    key = lambda: jax.random.key(0)
    with jax.enable_x64(True):
        bins, weights = (jnp.asarray(np.tile(a, (2, 1))) for a in (BINS, WEIGHTS))
        found = nerf.importance_samples(None, bins, weights, 7, uniforms=uniforms)
        drawn = jax.random.uniform(key(), (2, 7), jnp.float64)
        given = nerf.importance_samples(None, bins, weights, 7, uniforms=drawn)
        np.testing.assert_array_equal(given, nerf.importance_samples(key(), bins, weights, 7))
        with pytest.raises(ValueError, match=r"uniforms has shape \(2, 7\); expected \(2, 8\)"):
            nerf.importance_samples(None, bins, weights, 8, uniforms=uniforms)
    cumulative = np.concatenate([[0], np.cumsum((WEIGHTS + 1e-5) / (WEIGHTS + 1e-5).sum())])
    np.testing.assert_allclose(found, np.interp(uniforms, cumulative, BINS), rtol=1e-9)


def test_no_gradient_reaches_the_weights():
    def total(weights):
        return jnp.sum(nerf.importance_samples(jax.random.key(0), jnp.asarray(BINS, jnp.float32), weights, 9))

    assert not np.any(jax.grad(total)(jnp.asarray(WEIGHTS, jnp.float32)))


def test_wrong_inputs():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="near is 6.* and far is 2"):
        nerf.stratified_samples(key, 6.0, 2.0, 4)
    with pytest.raises(ValueError, match=r"near is 3.* at \(1,\)"):
        nerf.stratified_samples(key, jnp.array([1.0, 3.0]), 3.0, 4)
    with pytest.raises(ValueError, match="far is nan"):
        nerf.stratified_samples(key, 1.0, float("nan"), 4)
    with pytest.raises(ValueError, match="need near > 0"):
        nerf.stratified_samples(key, 0.0, 2.0, 4, in_disparity=True)
    with pytest.raises(ValueError, match="num_samples is 1"):
        nerf.stratified_samples(key, 1.0, 2.0, 1)
    with pytest.raises(ValueError, match=r"\[\.\.\., M \+ 1\] and \[\.\.\., M\]"):
        nerf.importance_samples(key, jnp.zeros(4), jnp.zeros(4), 5)
    with pytest.raises(ValueError, match="num_samples is 0"):
        nerf.importance_samples(key, jnp.zeros(4), jnp.zeros(3), 0)
