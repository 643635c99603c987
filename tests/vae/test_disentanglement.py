"""The decomposition of the KL term against sums in NumPy, and the capacity."""

import math
from typing import Any

import numpy as np
from scipy import special, stats

from jaxgen import vae
from tests.programs import in_float64

GENERATOR = np.random.default_rng(0)
Z, MEAN, LOG_VARIANCE = GENERATOR.normal(size=(3, 6, 4))


def test_the_terms_are_those_of_chen_et_al():
    found = in_float64(lambda *args: vae.kl_terms(*args, num_examples=100), Z, MEAN, LOG_VARIANCE)
    # Equation S6: dimension j of z_i under the posterior of x_k.
    each = stats.norm.logpdf(Z[:, None], MEAN[None], np.exp(LOG_VARIANCE / 2)[None])
    own = stats.norm.logpdf(Z, MEAN, np.exp(LOG_VARIANCE / 2)).sum(axis=1)
    logsumexp: Any = special.logsumexp
    aggregate = logsumexp(each.sum(axis=2), axis=1) - math.log(100 * 6)
    marginals = (logsumexp(each, axis=1) - math.log(100 * 6)).sum(axis=1)
    np.testing.assert_allclose(found.mutual_information, own - aggregate, rtol=1e-10)
    np.testing.assert_allclose(found.total_correlation, aggregate - marginals, rtol=1e-10)
    np.testing.assert_allclose(found.dimension_wise_kl, marginals - stats.norm.logpdf(Z).sum(axis=1), rtol=1e-10)
    expected = in_float64(vae.monte_carlo_kl, Z, MEAN, LOG_VARIANCE)
    np.testing.assert_allclose(sum(found), expected, rtol=1e-10, err_msg="the three do not add up to the KL")


def test_the_capacity_rises_to_its_last_value_and_stays():
    found = [float(vae.annealed_capacity(step, 25.0, 100)) for step in (0, 50, 100, 1000)]
    np.testing.assert_allclose(found, [0, 12.5, 25, 25])
    np.testing.assert_allclose(vae.capacity_penalty(np.array([20.0, 30.0]), 25.0, 1000.0), [5000, 5000])
