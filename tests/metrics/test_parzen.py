import inspect

import jax
import numpy as np
import pytest
from scipy import special, stats

from jaxgen import metrics
from jaxgen.metrics.parzen import SIGMAS


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def by_definition(x, samples, sigma):
    x, samples = x.astype(np.float64), samples.astype(np.float64)
    squares = ((x[:, None] - samples[None]) ** 2).sum(axis=-1)
    size = x.shape[1]
    normaliser = np.log(len(samples)) + size / 2 * np.log(2 * np.pi * sigma**2)
    return special.logsumexp(-squares / (2 * sigma**2), axis=1) - normaliser


def test_equals_the_definition_in_float64():
    samples, x = normal(0, 30, 5), normal(1, 17, 5)
    measure = lambda x, samples: {sigma: metrics.parzen_log_density(x, samples, sigma) for sigma in (0.1, 0.7, 3.0)}
    for sigma, found in jax.jit(measure)(x, samples).items():
        np.testing.assert_allclose(found, by_definition(x, samples, sigma), rtol=1e-4, atol=1e-4)
    with jax.enable_x64(True):
        wide = x.astype(np.float64), samples.astype(np.float64)
        found = jax.jit(metrics.parzen_log_density, static_argnums=2)(*wide, 0.7)
        np.testing.assert_allclose(found, by_definition(x, samples, 0.7), rtol=1e-12)


def test_the_protocol_step_by_step():
    samples, validation, test = normal(0, 200, 3), normal(1, 57, 3), normal(2, 83, 3)
    sigmas = (0.2, 0.45, 0.6, 2.0)
    found = metrics.parzen_log_likelihood(samples, validation, test, sigmas, batch_size=20)
    by_sigma = [by_definition(validation, samples, s).mean() for s in sigmas]
    sigma = sigmas[int(np.argmax(by_sigma))]
    expected = by_definition(test, samples, sigma)
    np.testing.assert_allclose(found.validation, by_sigma, rtol=1e-4)
    assert found.sigma == sigma and not found.at_edge
    np.testing.assert_allclose(found.log_likelihoods, expected, rtol=1e-4, atol=1e-4)
    assert found.mean == pytest.approx(expected.mean(), rel=1e-5)
    assert found.standard_error == pytest.approx(expected.std() / np.sqrt(83), rel=1e-4)
    # The test data has no say in sigma.
    other = metrics.parzen_log_likelihood(samples, validation, 50 + test, sigmas, batch_size=20)
    assert other.sigma == sigma and other.mean < found.mean - 100


def test_many_gaussian_samples_meet_the_closed_form():
    """Samples of N(0, I) smoothed by sigma are N(0, (1 + sigma^2) I)."""
    samples, test, sigma = normal(0, 20_000, 2), normal(1, 500, 2), 0.5
    found = metrics.parzen_log_likelihood(samples, test, test, (sigma,), batch_size=100)
    expected = stats.norm.logpdf(test.astype(np.float64), 0, np.sqrt(1 + sigma**2)).sum(axis=-1)
    np.testing.assert_allclose(found.log_likelihoods, expected, atol=0.25)
    assert found.mean == pytest.approx(expected.mean(), abs=0.01)


def test_a_distant_origin_does_not_cost_digits():
    samples, test = normal(0, 100, 4), normal(1, 50, 4)
    near = metrics.parzen_log_likelihood(samples, test, test, (0.3,)).log_likelihoods
    far = metrics.parzen_log_likelihood(samples + 100, test + 100, test + 100, (0.3,)).log_likelihoods
    np.testing.assert_allclose(far, near, atol=0.02)


def test_the_grid_is_the_authors_and_its_edge_is_told():
    np.testing.assert_allclose(SIGMAS, np.logspace(-1, 0, 10), rtol=1e-12)
    assert inspect.signature(metrics.parzen_log_likelihood).parameters["sigmas"].default == SIGMAS
    samples, test = normal(0, 50, 2), normal(1, 20, 2)
    # The ends stand for the whole grid: fewer bandwidths compile faster.
    ends = SIGMAS[:1] + SIGMAS[-2:]
    assert metrics.parzen_log_likelihood(100 * samples, test, test, ends).at_edge
    found = metrics.parzen_log_likelihood(samples, samples[:20], test, ends)
    assert found.at_edge and found.sigma == SIGMAS[0]


def test_bad_input_is_refused():
    x = normal(0, 5, 2)
    with pytest.raises(ValueError, match=r"test has shape \(5, 3\)"):
        metrics.parzen_log_likelihood(x, x, normal(0, 5, 3))
    with pytest.raises(ValueError, match="validation"):
        metrics.parzen_log_likelihood(x, x[:0], x)
    for sigmas in ((), (0.0, 1.0)):
        with pytest.raises(ValueError, match="sigmas"):
            metrics.parzen_log_likelihood(x, x, x, sigmas)
