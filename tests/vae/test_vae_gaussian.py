"""Gaussians against SciPy, and the reparameterized gradient against the analytic one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from jaxgen import vae

GENERATOR = np.random.default_rng(0)
MEAN, LOG_VARIANCE, Z = GENERATOR.normal(size=(3, 4, 6))


def test_densities_equal_scipy():
    with jax.enable_x64(True):
        found = vae.normal_log_density(*map(jnp.asarray, (Z, MEAN, LOG_VARIANCE)))
        standard = vae.standard_normal_log_density(jnp.asarray(Z))
    expected = stats.norm.logpdf(Z, MEAN, np.exp(LOG_VARIANCE / 2)).sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(standard, stats.norm.logpdf(Z).sum(-1), rtol=1e-12)


def test_the_kl_is_the_integral_that_defines_it():
    def integral(mean, log_variance):
        q = stats.norm(mean, np.exp(log_variance / 2))
        f = lambda z: q.pdf(z) * (q.logpdf(z) - stats.norm.logpdf(z))
        spread = 12 * q.std()
        return integrate.quad(f, mean - spread, mean + spread, epsabs=1e-12, limit=200)[0]

    expected = np.vectorize(integral)(MEAN, LOG_VARIANCE)
    with jax.enable_x64(True):
        found = vae.kl_per_dimension(jnp.asarray(MEAN), jnp.asarray(LOG_VARIANCE))
        total = vae.kl_to_standard_normal(jnp.asarray(MEAN), jnp.asarray(LOG_VARIANCE))
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    np.testing.assert_allclose(total, expected.sum(-1), rtol=1e-8)


def test_the_kl_keeps_its_digits_near_the_prior():
    # mu^2/2 + (v - 1 - log v)/2 with v = 1 + d is d^2/4 to leading order; 1 - 1 would leave nothing in float32.
    found = vae.kl_per_dimension(jnp.float32(0), jnp.float32(1e-3))
    assert abs(float(found) - 0.25e-6 * (1 + 1e-3 / 3)) < 1e-3 * 0.25e-6 + 3e-11


def test_the_sampled_kl_is_unbiased():
    num = 40_000
    mean, log_variance = (jnp.asarray(a[0], jnp.float32) for a in (MEAN, LOG_VARIANCE))
    spread = lambda a: jnp.broadcast_to(a[None, :], (num, 6))
    z = vae.reparameterize(jax.random.key(0), spread(mean), spread(log_variance))
    found = np.asarray(vae.monte_carlo_kl(z, spread(mean), spread(log_variance)), np.float64)
    expected = float(vae.kl_to_standard_normal(mean, log_variance))
    assert abs(found.mean() - expected) < 4 * found.std() / np.sqrt(num)


def test_a_draw_has_the_moments_it_should():
    num = 100_000
    z = np.asarray(vae.reparameterize(jax.random.key(0), jnp.full((num,), 2.0), jnp.full((num,), jnp.log(9.0))))
    assert abs(z.mean() - 2) < 4 * 3 / np.sqrt(num)
    assert abs(z.var() - 9) < 4 * 9 * np.sqrt(2 / num)


def test_a_draw_from_given_noise():
    with jax.enable_x64(True):
        mean, log_variance = jnp.asarray(MEAN), jnp.asarray(LOG_VARIANCE)
        found = vae.reparameterize(None, mean, log_variance, noise=Z)
        noise = jax.random.normal(jax.random.key(0), (4, 6), jnp.float64)
        given = vae.reparameterize(None, mean, log_variance, noise=noise)
        np.testing.assert_array_equal(given, vae.reparameterize(jax.random.key(0), mean, log_variance))
    np.testing.assert_allclose(found, MEAN + np.exp(LOG_VARIANCE / 2) * Z, rtol=1e-14)
    with pytest.raises(ValueError, match=r"noise has shape \(6,\); expected \(4, 6\)"):
        vae.reparameterize(None, jnp.zeros((4, 6)), jnp.zeros((4, 6)), noise=Z[0])
    with pytest.raises(ValueError, match="no key and no noise"):
        vae.reparameterize(None, jnp.zeros((4, 6)), jnp.zeros((4, 6)))


@pytest.mark.parametrize("mean, deviation", [(0.0, 1.0), (1.0, 0.5), (2.0, 2.0)])
def test_the_reparameterized_gradient_of_a_square(mean, deviation):
    """E z^2 = mu^2 + sigma^2: gradient (2 mu, 2 sigma); its variance 4 sigma^2 for mu (the sheet: 4, 1, 16)."""
    num = 40_000
    log_variance = 2 * np.log(deviation)

    def square(parameters, key):
        return vae.reparameterize(key, parameters[0], parameters[1]) ** 2

    parameters = jnp.array([mean, log_variance], jnp.float32)
    keys = jax.random.split(jax.random.key(1), num)
    found = np.asarray(jax.jit(jax.vmap(jax.grad(square), (None, 0)))(parameters, keys), np.float64)
    # d sigma^2 / d log sigma^2 = sigma^2.
    error = np.abs(found.mean(0) - [2 * mean, deviation**2])
    assert np.all(error < 4 * found.std(0) / np.sqrt(num))
    np.testing.assert_allclose(found[:, 0].var(), 4 * deviation**2, rtol=0.05)
