"""Likelihoods against SciPy in float64, at extreme values, and against their own samplers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxgen import vae
from tests.vae.linear_vae import compiled

GENERATOR = np.random.default_rng(0)
X = GENERATOR.uniform(size=(3, 7))
BITS = (X > 0.5).astype(np.float64)
A, B = GENERATOR.normal(size=(2, 3, 7))


CHOICES = [
    vae.bernoulli(), vae.gaussian(), vae.gaussian(variance=0.25), vae.gaussian(sigmoid_mean=True),
    vae.discretized_logistic(16),
]  # fmt: skip
EXTREME = [(bit, logit) for bit in (0.0, 1.0) for logit in (-1e4, -100.0, 100.0, 1e4)]
LOGISTIC = [(0.5, -3.0), (0.0, -1.0), (1.2, -5.0), (0.3, 2.0), (-0.5, -6.0)]


@pytest.fixture(scope="module")
def found():
    """Values and gradients that the tests compare, from one program."""
    in_tail = lambda m, x: vae.discretized_logistic_log_likelihood(x, m[None], jnp.array([-7.0], jnp.float32))

    def f(bits, x, a, b, extreme, logistic, half):
        at = lambda case: jax.value_and_grad(lambda a: vae.bernoulli_log_likelihood(case[:1], a[None]))(case[1])
        of_levels = {}
        for levels in (2, 5, 256):
            steps = (jnp.arange(levels) / (levels - 1))[:, None]
            of = lambda a, steps=steps: jnp.full(steps.shape, a)
            of_levels[levels] = jax.vmap(
                lambda case, levels=levels, steps=steps, of=of: vae.discretized_logistic_log_likelihood(
                    steps, of(case[0]), of(case[1]), levels
                )
            )(logistic)
        return {
            "bernoulli": vae.bernoulli_log_likelihood(bits, a),
            "gaussian": vae.gaussian_log_likelihood(x, a, b),
            "extreme": jax.vmap(at)(extreme),
            "levels": of_levels,
            "tail": jax.value_and_grad(in_tail)(0 * half[0], half),
        }

    return compiled(f, BITS, X, A, B, np.array(EXTREME, np.float32), np.array(LOGISTIC), np.array([0.5], np.float32))


def test_bernoulli_and_gaussian_equal_scipy(found):
    bernoulli = stats.bernoulli.logpmf(BITS, special.expit(A)).sum(-1)
    np.testing.assert_allclose(found["bernoulli"], bernoulli, rtol=1e-12)
    np.testing.assert_allclose(found["gaussian"], stats.norm.logpdf(X, A, np.exp(B / 2)).sum(-1), rtol=1e-12)


@pytest.mark.parametrize("bit, logit", EXTREME)
def test_bernoulli_is_finite_with_its_gradient_at_any_logit(found, bit, logit):
    value, gradient = (a[EXTREME.index((bit, logit))] for a in found["extreme"])
    assert value.dtype == gradient.dtype == np.float32
    right = (logit > 0) == (bit == 1)
    np.testing.assert_allclose(value, 0.0 if right else -abs(logit), atol=1e-6)
    np.testing.assert_allclose(gradient, 0.0 if right else -np.sign(logit), atol=1e-6)


@pytest.mark.parametrize("levels", [2, 5, 256])
@pytest.mark.parametrize("mean, log_scale", LOGISTIC)
def test_discretized_logistic_bins_sum_to_one_and_equal_scipy(found, levels, mean, log_scale):
    x = np.arange(levels) / (levels - 1)
    log_mass = found["levels"][levels][LOGISTIC.index((mean, log_scale))]
    np.testing.assert_allclose(np.exp(log_mass).sum(), 1.0, atol=1e-10)
    edges = np.concatenate([[-np.inf], (x[1:] + x[:-1]) / 2, [np.inf]])
    logistic = stats.logistic(mean, np.exp(log_scale))
    # From the nearer tail, where the difference of two numbers near 1 would lose everything.
    mass = np.where(edges[:-1] > mean, logistic.sf(edges[:-1]) - logistic.sf(edges[1:]), np.diff(logistic.cdf(edges)))
    known = mass > 1e-290
    np.testing.assert_allclose(np.exp(log_mass)[known], mass[known], rtol=1e-8)


def test_discretized_logistic_far_in_the_tail_is_finite(found):
    value, gradient = found["tail"]
    # log of the mass is about -|x - m| / s, and its slope 1 / s.
    np.testing.assert_allclose(gradient, np.exp(7.0), rtol=1e-4)
    np.testing.assert_allclose(value, -0.5 * np.exp(7.0), rtol=1e-2)


OUTPUTS = [(GENERATOR.uniform(-0.3, 0.3, choice.outputs * 2) + 0.5).astype(np.float32) for choice in CHOICES]
OUTPUTS[-1] = np.array([0.4, 0.6, -2.5, -2.0], np.float32)


@pytest.fixture(scope="module")
def samples():
    """Of each choice 20,000 samples, their stated mean, and what each changed entry of the output loses [E, N]."""

    def f(likelihood, output):
        many = jnp.broadcast_to(output[None, :], (20_000, len(output)))
        x = likelihood.sample(jax.random.key(0), many)
        others = many[None] + 0.5 * jnp.eye(len(output), dtype=many.dtype)[:, None]
        losses = likelihood.log_prob(x, many)[None] - jax.vmap(likelihood.log_prob, (None, 0))(x, others)
        return x, likelihood.mean(output), losses

    return compiled(lambda outputs: [f(*pair) for pair in zip(CHOICES, outputs, strict=True)], OUTPUTS)


@pytest.mark.parametrize("number", range(len(CHOICES)))
def test_samples_have_the_stated_mean_and_the_highest_expected_likelihood(samples, number):
    """E log p(x) over x ~ p falls when p is replaced by another member of the family (Gibbs)."""
    x, mean, losses = samples[number]
    num = 20_000
    assert x.shape == (num, 2)
    assert np.all(np.abs(x.mean(0) - mean) < 4 * x.std(0) / np.sqrt(num) + 1e-3)
    assert len(losses) == 2 * CHOICES[number].outputs
    for gain in losses:
        assert gain.mean() > 3 * gain.std() / np.sqrt(num)


def given_draws(likelihood):
    """An output [3, outputs * 2] and draws [3, 2] of the likelihood's kind, in float64."""
    generator = np.random.default_rng(0)
    output = generator.normal(size=(3, likelihood.outputs * 2))
    return output, (generator.normal if likelihood.name == "gaussian" else generator.uniform)(size=(3, 2))


@pytest.fixture(scope="module")
def from_draws():
    """Of each choice the sample from given draws, the mean, and samples from a key and from the draws it makes."""

    def f(likelihood, output, draws):
        low = jnp.finfo(jnp.float64).tiny if likelihood.name == "discretized logistic" else 0.0
        shape = (jax.random.key(1), (3, 2), jnp.float64)
        drawn = jax.random.normal(*shape) if likelihood.name == "gaussian" else jax.random.uniform(*shape, low)
        same = likelihood.sample(None, output, drawn), likelihood.sample(jax.random.key(1), output)
        return likelihood.sample(None, output, draws), likelihood.mean(output), *same

    given = [given_draws(choice) for choice in CHOICES]
    return compiled(lambda given: [f(choice, *own) for choice, own in zip(CHOICES, given, strict=True)], given)


@pytest.mark.parametrize("number", range(len(CHOICES)))
def test_a_sample_from_given_draws(from_draws, number):
    """The definitions in float64, and the same sample as from the key that makes the draws."""
    likelihood = CHOICES[number]
    output, draws = given_draws(likelihood)
    found, mean, of_draws, of_key = from_draws[number]
    np.testing.assert_array_equal(of_draws, of_key)
    if likelihood.name == "gaussian":
        expected = mean + draws * (np.exp(output[:, 2:] / 2) if likelihood.outputs == 2 else 0.5)
    elif likelihood.name == "discretized logistic":
        expected = output[:, :2] + np.exp(output[:, 2:]) * special.logit(draws)
        expected = np.rint(np.clip(expected, 0, 1) * 15) / 15
    else:
        expected = draws < special.expit(output)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    with pytest.raises(ValueError, match=r"draws has shape \(2,\); expected \(3, 2\)"):
        jax.eval_shape(lambda: likelihood.sample(None, np.float32(output), draws[0]))


def test_data_that_the_likelihood_does_not_describe_is_refused():
    grey = np.linspace(0, 1, 5)
    vae.check_data(vae.bernoulli(), np.array([0.0, 1.0]))
    vae.check_data(vae.bernoulli(grey=True), grey)
    vae.check_data(vae.discretized_logistic(5), grey)
    with pytest.raises(ValueError, match="binarize it.*grey=True"):
        vae.check_data(vae.bernoulli(), grey)
    with pytest.raises(ValueError, match="runs from 0 to 255"):
        vae.check_data(vae.gaussian(), 255 * grey)
    with pytest.raises(ValueError, match="not finite"):
        vae.check_data(vae.gaussian(), np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="4 levels"):
        vae.check_data(vae.discretized_logistic(4), grey)
    with pytest.raises(ValueError, match="variance is 0"):
        vae.gaussian(variance=0)
    with pytest.raises(ValueError, match="num_levels is 1"):
        vae.discretized_logistic(1)
