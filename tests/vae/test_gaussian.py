"""Gaussians against SciPy, and the reparameterized gradient against the analytic one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from jaxgen import vae
from tests.vae.linear_vae import compiled

GENERATOR = np.random.default_rng(0)
MEAN, LOG_VARIANCE, Z = GENERATOR.normal(size=(3, 4, 6))


@pytest.fixture(scope="module")
def found():
    """What the tests compare, from one program in float64 and float32."""

    def f(z, mean, log_variance, noise):
        return {
            "density": vae.normal_log_density(z, mean, log_variance),
            "standard": vae.standard_normal_log_density(z),
            "kl": vae.kl_per_dimension(mean, log_variance),
            "total kl": vae.kl_to_standard_normal(mean, log_variance),
            "from noise": vae.reparameterize(None, mean, log_variance, noise=noise),
            "from normal": vae.reparameterize(
                None, mean, log_variance, noise=jax.random.normal(jax.random.key(0), (4, 6), jnp.float64)
            ),
            "from key": vae.reparameterize(jax.random.key(0), mean, log_variance),
        }

    def in_float32(mean, log_variance, near):
        spread = lambda a: jnp.broadcast_to(a[None, :], (40_000, 6))
        z = vae.reparameterize(jax.random.key(0), spread(mean), spread(log_variance))
        return {
            "near": vae.kl_per_dimension(0 * near, near),
            "sampled kl": vae.monte_carlo_kl(z, spread(mean), spread(log_variance)),
            "closed kl": vae.kl_to_standard_normal(mean, log_variance),
            "draws": vae.reparameterize(
                jax.random.key(0),
                jnp.full((100_000,), 2.0, jnp.float32),
                jnp.full((100_000,), jnp.log(9.0), jnp.float32),
            ),
        }

    both = lambda wide, narrow: {**f(*wide), **in_float32(*narrow)}
    return compiled(
        both, (Z, MEAN, LOG_VARIANCE, Z), (np.float32(MEAN[0]), np.float32(LOG_VARIANCE[0]), np.float32(1e-3))
    )


def test_densities_equal_scipy(found):
    expected = stats.norm.logpdf(Z, MEAN, np.exp(LOG_VARIANCE / 2)).sum(-1)
    np.testing.assert_allclose(found["density"], expected, rtol=1e-12)
    np.testing.assert_allclose(found["standard"], stats.norm.logpdf(Z).sum(-1), rtol=1e-12)


def test_the_kl_is_the_integral_that_defines_it(found):
    def integral(mean, log_variance):
        q = mean, np.exp(log_variance / 2)
        f = lambda z: stats.norm.pdf(z, *q) * (stats.norm.logpdf(z, *q) - stats.norm.logpdf(z))
        spread = 12 * q[1]
        return integrate.quad(f, mean - spread, mean + spread, epsabs=1e-12, limit=200)[0]

    expected = np.vectorize(integral)(MEAN, LOG_VARIANCE)
    np.testing.assert_allclose(found["kl"], expected, rtol=1e-8)
    np.testing.assert_allclose(found["total kl"], expected.sum(-1), rtol=1e-8)


def test_the_kl_keeps_its_digits_near_the_prior(found):
    # mu^2/2 + (v - 1 - log v)/2 with v = 1 + d is d^2/4 to leading order; 1 - 1 would leave nothing in float32.
    assert found["near"].dtype == np.float32
    assert abs(float(found["near"]) - 0.25e-6 * (1 + 1e-3 / 3)) < 1e-3 * 0.25e-6 + 3e-11


def test_the_sampled_kl_is_unbiased(found):
    sampled = found["sampled kl"].astype(np.float64)
    assert abs(sampled.mean() - found["closed kl"]) < 4 * sampled.std() / np.sqrt(len(sampled))


def test_a_draw_has_the_moments_it_should(found):
    z = found["draws"]
    assert abs(z.mean() - 2) < 4 * 3 / np.sqrt(len(z))
    assert abs(z.var() - 9) < 4 * 9 * np.sqrt(2 / len(z))


def test_a_draw_from_given_noise(found):
    np.testing.assert_array_equal(found["from normal"], found["from key"])
    np.testing.assert_allclose(found["from noise"], MEAN + np.exp(LOG_VARIANCE / 2) * Z, rtol=1e-14)
    with pytest.raises(ValueError, match=r"noise has shape \(6,\); expected \(4, 6\)"):
        vae.reparameterize(None, np.zeros((4, 6)), np.zeros((4, 6)), noise=Z[0])
    with pytest.raises(ValueError, match="no key and no noise"):
        vae.reparameterize(None, np.zeros((4, 6)), np.zeros((4, 6)))


CASES = [(0.0, 1.0), (1.0, 0.5), (2.0, 2.0)]


@pytest.fixture(scope="module")
def slopes():
    """Gradients of z^2 by (mean, log variance) for each case and 40,000 keys, [C, N, 2]."""

    def square(parameters, key):
        return vae.reparameterize(key, parameters[0], parameters[1]) ** 2

    gradients = jax.vmap(jax.vmap(jax.grad(square), (None, 0)), (0, None))
    parameters = np.array([[mean, 2 * np.log(deviation)] for mean, deviation in CASES], np.float32)
    return compiled(lambda p: gradients(p, jax.random.split(jax.random.key(1), 40_000)), parameters).astype(np.float64)


@pytest.mark.parametrize("case", range(3), ids=map(str, CASES))
def test_the_reparameterized_gradient_of_a_square(slopes, case):
    """E z^2 = mu^2 + sigma^2: gradient (2 mu, 2 sigma); its variance 4 sigma^2 for mu (the sheet: 4, 1, 16)."""
    (mean, deviation), found = CASES[case], slopes[case]
    # d sigma^2 / d log sigma^2 = sigma^2.
    error = np.abs(found.mean(0) - [2 * mean, deviation**2])
    assert np.all(error < 4 * found.std(0) / np.sqrt(len(found)))
    np.testing.assert_allclose(found[:, 0].var(), 4 * deviation**2, rtol=0.05)
