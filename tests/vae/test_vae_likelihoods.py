"""Likelihoods against SciPy in float64, at extreme values, and against their own samplers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxgen import vae

GENERATOR = np.random.default_rng(0)
X = GENERATOR.uniform(size=(3, 7))
BITS = (X > 0.5).astype(np.float64)
A, B = GENERATOR.normal(size=(2, 3, 7))


def test_bernoulli_and_gaussian_equal_scipy():
    with jax.enable_x64(True):
        bernoulli = vae.bernoulli_log_likelihood(jnp.asarray(BITS), jnp.asarray(A))
        gaussian = vae.gaussian_log_likelihood(*map(jnp.asarray, (X, A, B)))
    np.testing.assert_allclose(bernoulli, stats.bernoulli.logpmf(BITS, special.expit(A)).sum(-1), rtol=1e-12)
    np.testing.assert_allclose(gaussian, stats.norm.logpdf(X, A, np.exp(B / 2)).sum(-1), rtol=1e-12)


@pytest.mark.parametrize("logit", [-1e4, -100.0, 100.0, 1e4])
@pytest.mark.parametrize("bit", [0.0, 1.0])
def test_bernoulli_is_finite_with_its_gradient_at_any_logit(logit, bit):
    value, gradient = jax.value_and_grad(lambda a: vae.bernoulli_log_likelihood(jnp.array([bit]), a[None]))(
        jnp.float32(logit)
    )
    right = (logit > 0) == (bit == 1)
    np.testing.assert_allclose(value, 0.0 if right else -abs(logit), atol=1e-6)
    np.testing.assert_allclose(gradient, 0.0 if right else -np.sign(logit), atol=1e-6)


@pytest.mark.parametrize("levels", [2, 5, 256])
@pytest.mark.parametrize("mean, log_scale", [(0.5, -3.0), (0.0, -1.0), (1.2, -5.0), (0.3, 2.0), (-0.5, -6.0)])
def test_discretized_logistic_bins_sum_to_one_and_equal_scipy(levels, mean, log_scale):
    x = np.arange(levels) / (levels - 1)
    with jax.enable_x64(True):
        of = lambda a: jnp.full((levels, 1), a)
        found = vae.discretized_logistic_log_likelihood(jnp.asarray(x)[:, None], of(mean), of(log_scale), levels)
    np.testing.assert_allclose(special.logsumexp(found), 0.0, atol=1e-10)
    edges = np.concatenate([[-np.inf], (x[1:] + x[:-1]) / 2, [np.inf]])
    logistic = stats.logistic(mean, np.exp(log_scale))
    # From the nearer tail, where the difference of two numbers near 1 would lose everything.
    mass = np.where(edges[:-1] > mean, logistic.sf(edges[:-1]) - logistic.sf(edges[1:]), np.diff(logistic.cdf(edges)))
    known = mass > 1e-290
    np.testing.assert_allclose(np.exp(found)[known], mass[known], rtol=1e-8)


def test_discretized_logistic_far_in_the_tail_is_finite():
    f = lambda m: vae.discretized_logistic_log_likelihood(jnp.array([0.5]), m[None], jnp.array([-7.0]))
    value, gradient = jax.value_and_grad(f)(jnp.float32(0.0))
    # log of the mass is about -|x - m| / s, and its slope 1 / s.
    np.testing.assert_allclose(gradient, np.exp(7.0), rtol=1e-4)
    np.testing.assert_allclose(value, -0.5 * np.exp(7.0), rtol=1e-2)


CHOICES = [
    vae.bernoulli(), vae.gaussian(), vae.gaussian(variance=0.25), vae.gaussian(sigmoid_mean=True),
    vae.discretized_logistic(16),
]  # fmt: skip


@pytest.mark.parametrize("likelihood", CHOICES, ids=range(len(CHOICES)))
def test_samples_have_the_stated_mean_and_the_highest_expected_likelihood(likelihood):
    """E log p(x) over x ~ p falls when p is replaced by another member of the family (Gibbs)."""
    num = 20_000
    output = jnp.asarray(GENERATOR.uniform(-0.3, 0.3, likelihood.outputs * 2) + 0.5, jnp.float32)
    if likelihood.name == "discretized logistic":
        output = jnp.array([0.4, 0.6, -2.5, -2.0])
    many = jnp.broadcast_to(output[None, :], (num, len(output)))
    x = likelihood.sample(jax.random.key(0), many)
    assert x.shape == (num, 2)
    error = np.abs(np.asarray(x).mean(0) - np.asarray(likelihood.mean(output)))
    assert np.all(error < 4 * np.asarray(x).std(0) / np.sqrt(num) + 1e-3)
    for i in range(len(output)):
        other = many.at[:, i].add(0.5)
        gain = np.asarray(likelihood.log_prob(x, many) - likelihood.log_prob(x, other))
        assert gain.mean() > 3 * gain.std() / np.sqrt(num)


@pytest.mark.parametrize("likelihood", CHOICES, ids=range(len(CHOICES)))
def test_a_sample_from_given_draws(likelihood):
    """The definitions in float64, and the same sample as from the key that makes the draws."""
    generator = np.random.default_rng(0)
    output = generator.normal(size=(3, likelihood.outputs * 2))
    gaussian, logistic = likelihood.name == "gaussian", likelihood.name == "discretized logistic"
    draws = generator.normal(size=(3, 2)) if gaussian else generator.uniform(size=(3, 2))
    key = lambda: jax.random.key(1)
    with jax.enable_x64(True):
        out = jnp.asarray(output)
        found, mean = likelihood.sample(None, out, draws), np.asarray(likelihood.mean(out))
        low = jnp.finfo(jnp.float64).tiny if logistic else 0.0
        shape = ((3, 2), jnp.float64)
        drawn = jax.random.normal(key(), *shape) if gaussian else jax.random.uniform(key(), *shape, low)
        np.testing.assert_array_equal(likelihood.sample(None, out, drawn), likelihood.sample(key(), out))
    if gaussian:
        expected = mean + draws * (np.exp(output[:, 2:] / 2) if likelihood.outputs == 2 else 0.5)
    elif logistic:
        expected = output[:, :2] + np.exp(output[:, 2:]) * special.logit(draws)
        expected = np.rint(np.clip(expected, 0, 1) * 15) / 15
    else:
        expected = draws < special.expit(output)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    with pytest.raises(ValueError, match=r"draws has shape \(2,\); expected \(3, 2\)"):
        likelihood.sample(None, jnp.asarray(output, jnp.float32), draws[0])


def test_data_that_the_likelihood_does_not_describe_is_refused():
    grey = np.linspace(0, 1, 5)
    vae.check_data(vae.bernoulli(), np.array([0.0, 1.0]))
    vae.check_data(vae.bernoulli(grey=True), grey)
    vae.check_data(vae.discretized_logistic(5), grey)
    with pytest.raises(ValueError, match="binarize it.*grey=True"):
        vae.check_data(vae.bernoulli(), grey)
    with pytest.raises(ValueError, match="runs from 0 to 255"):
        vae.check_data(vae.gaussian(), 255 * grey)
    with pytest.raises(ValueError, match="runs from nan"):
        vae.check_data(vae.gaussian(), np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="4 levels"):
        vae.check_data(vae.discretized_logistic(4), grey)
    with pytest.raises(ValueError, match="variance is 0"):
        vae.gaussian(variance=0)
    with pytest.raises(ValueError, match="num_levels is 1"):
        vae.discretized_logistic(1)
