"""The bound against densities integrated in float64, and against closed forms for Gaussian data."""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxgen import diffusion
from tests.diffusion.gaussian_data import best_network, best_x0, chain, log_mass, sampling_variance
from tests.programs import values

KEY = jax.random.key(0)
BITS = np.log(2)
T3 = np.array([0.3, 0.4, 0.5])
CDFS = ("tanh", "exact")


def nodes(num):
    """Points and weights of an expectation under N(0, 1)."""
    points, weights = np.polynomial.hermite_e.hermegauss(num)
    return points, weights / weights.sum()


# A chain of three steps on one pixel, with a network that is not the best one.


def network(x, t, learned, np=np):
    prediction = np.tanh(0.8 * x + 0.3 * t) - 0.2 * x
    return np.concatenate([prediction, 0.5 * np.sin(x) - 0.4], axis=-1) if learned else prediction


def oracle_gaussian(c, x_t, t, prediction, variance):
    """Mean and variance of p(x_{t-1} | x_t) by the definitions."""
    output = network(x_t[:, None], t, variance.startswith("learned"))
    value = output[:, 0]
    scale, sigma = np.sqrt(c.alpha_bar[t]), np.sqrt(1 - c.alpha_bar[t])
    x0 = {"noise": (x_t - sigma * value) / scale, "x0": value, "v": scale * x_t - sigma * value}.get(prediction)
    mean = value if prediction == "mean" else c.from_x0[t] * x0 + c.from_xt[t] * x_t
    if variance == "learned":
        return mean, np.exp(output[:, 1])
    small, large = sampling_variance(c, "fixed_small")[t], c.beta[t]
    if variance == "learned_range":
        share = (output[:, 1] + 1) / 2
        return mean, large**share * small ** (1 - share)
    return mean, np.full_like(x_t, sampling_variance(c, variance)[t])


def oracle_bound(x0, prediction, variance):
    """E_q[log q(x_1..x_T | x_0) - log p(x_0..x_T)] from the joint densities, by quadrature over x_1, x_2, x_3."""
    c = chain(T3)
    points, weights = nodes(40)
    z = np.array(list(itertools.product(points, repeat=3)))
    w = np.prod(list(itertools.product(weights, repeat=3)), axis=1)
    x = [np.full(len(z), x0)]
    log_q, log_p = 0.0, 0.0
    for t in range(3):
        mean, sd = np.sqrt(1 - T3[t]) * x[-1], np.sqrt(T3[t])
        x.append(mean + sd * z[:, t])
        log_q = log_q + stats.norm.logpdf(x[-1], mean, sd)
    for t in (2, 1):
        mean, var = oracle_gaussian(c, x[t + 1], t, prediction, variance)
        log_p = log_p + stats.norm.logpdf(x[t], mean, np.sqrt(var))
    mean, var = oracle_gaussian(c, x[1], 0, prediction, variance)
    log_p = log_p + log_mass(x[0], mean, np.sqrt(var)) + stats.norm.logpdf(x[3])
    return np.sum(w * (log_q - log_p))


def test_the_terms_add_up_to_the_bound_of_the_joint_densities():
    cases = [("noise", "fixed_small"), ("x0", "fixed_large"), ("mean", "learned"), ("v", "learned_range")]
    z, weights = nodes(60)
    data = np.array([-1.0, 51 / 255 * 2 - 1, 0.6, 1.0])
    # All data, steps and nodes are one batch.
    x0, t, noise = (a.reshape(-1, 1) for a in np.meshgrid(data, np.arange(3), z, indexing="ij"))

    def program(x0, t, noise):
        s = diffusion.make_schedule(T3, jnp.float64)
        x_t = diffusion.add_noise(s, x0, t, noise)
        for prediction, variance in cases:
            output = network(x_t, t.astype(x_t.dtype)[:, None], variance.startswith("learned"), jnp)
            options: dict[str, Any] = dict(prediction=prediction, variance=variance, clip=False, cdf="exact")
            yield diffusion.vlb_term(s, output, x0, x_t, t, **options)
        yield diffusion.prior_kl(s, x0)

    *terms, prior = values(lambda *args: list(program(*args)), x0, t[:, 0], noise, x64=True)
    for (prediction, variance), term in zip(cases, terms, strict=True):
        found = (term.reshape(4, 3, 60) @ weights).sum(axis=1) + prior.reshape(4, 180)[:, 0]
        expected = [oracle_bound(x, prediction, variance) for x in data]
        np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=f"{prediction}, {variance}")


def test_given_noise_of_the_terms():
    """Each term is `vlb_term` at x_t of its own noise, and the bound is the same as by the key that makes the noise."""
    denoise = lambda x, t: network(x, t.astype(x.dtype)[:, None], False, jnp)

    def program(key, x0):
        s = diffusion.make_schedule(T3, jnp.float64)
        keys = diffusion.keys_per_example(key, 2)
        step_keys = lambda t: jax.vmap(jax.random.fold_in, (0, None))(jax.random.clone(keys), t)
        noise = jnp.stack([diffusion.normal_per_example(step_keys(t), x0) for t in range(3)])
        terms = []
        for t in range(3):
            x_t = diffusion.add_noise(s, x0, t, noise[t])
            terms.append(diffusion.vlb_term(s, denoise(x_t, jnp.full(2, t)), x0, x_t, t))
        return (
            diffusion.vlb_terms(jax.random.clone(keys), denoise, s, x0),
            diffusion.vlb_terms(None, denoise, s, x0, noise=noise),
            diffusion.bits_per_dim(None, denoise, s, x0, noise=noise),
            jnp.stack(terms, axis=1),
        )

    by_key, given, bits, expected = values(program, KEY, np.array([[-1.0, 0.2], [0.6, 1.0]]), x64=True)
    np.testing.assert_allclose(given.terms, expected, rtol=1e-9)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-20), given, by_key)
    for found, nats in zip(bits[:2], given[:2], strict=True):
        np.testing.assert_allclose(found, nats / (2 * BITS), rtol=1e-12)
    jax.tree.map(np.testing.assert_array_equal, bits[2:], given[2:])
    s, x0 = diffusion.make_schedule(T3), jnp.zeros((2, 1))
    with pytest.raises(ValueError, match=r"noise has shape \(2, 1\); expected \(3, 2, 1\)"):
        diffusion.vlb_terms(None, denoise, s, x0, noise=np.zeros((2, 1)))
    with pytest.raises(ValueError, match="no key and no noise"):
        jax.eval_shape(lambda: diffusion.bits_per_dim(None, denoise, s, x0))


# Gaussian data.


MEAN, VARIANCE = 0.1, 0.15**2
STEPS = np.linspace(0.1, 0.6, 6)


def test_with_the_exact_reversal_the_bound_is_the_entropy():
    """E[x_0 | x_t] and the variance that goes with it: what is left is the mismatch at x_T, and the width of a bin."""
    c = chain(STEPS)
    gain, offset = best_x0(c, MEAN, VARIANCE)
    variance = np.append(0, c.small[1:]) + c.from_x0**2 * VARIANCE * (1 - c.alpha_bar) / (
        c.alpha_bar * VARIANCE + 1 - c.alpha_bar
    )
    z, weights = nodes(40)
    x0, noise = (a.reshape(-1, 1) for a in np.meshgrid(MEAN + np.sqrt(VARIANCE) * z, z, indexing="ij"))
    w = np.outer(weights, weights).ravel()
    # All steps are one batch.
    t = np.repeat(np.arange(6), len(x0))
    alpha_bar = c.alpha_bar[t, None]
    x_t = np.sqrt(alpha_bar) * np.tile(x0, (6, 1)) + np.sqrt(1 - alpha_bar) * np.tile(noise, (6, 1))
    output = np.stack([gain[t] * x_t[:, 0] + offset[t], np.log(variance[t])], axis=-1)

    def program(output, x0, x_t, t):
        s = diffusion.make_schedule(STEPS, jnp.float64)
        options: dict[str, Any] = dict(prediction="x0", variance="learned", clip=False, cdf="exact")
        term = diffusion.vlb_term(s, output, jnp.tile(x0, (6, 1)), x_t, t, **options)
        return diffusion.prior_kl(s, x0), term

    prior, term = values(program, output, x0, x_t, t, x64=True)
    terms = [prior @ w, *term.reshape(6, -1) @ w]
    last_mean, last = np.sqrt(c.alpha_bar[-1]) * MEAN, c.alpha_bar[-1] * VARIANCE + 1 - c.alpha_bar[-1]
    entropy = 0.5 * np.log(2 * np.pi * np.e * VARIANCE) - np.log(2 / 255)
    mismatch = 0.5 * (last_mean**2 + last - 1 - np.log(last))
    # Points beyond the outermost levels have a weight of 1e-9.
    np.testing.assert_allclose(np.sum(terms), entropy + mismatch, rtol=1e-5)


def test_the_scan_over_t_finds_the_closed_forms():
    """E of each term for the best mean and a fixed variance, and the mean squared errors, on a respaced chain."""
    betas, kept = diffusion.linear_betas(200), np.round(np.arange(20) * 199 / 19).astype(int)
    c = chain(betas, kept)
    schedule = diffusion.respace(diffusion.make_schedule(betas), 20)
    denoise = best_network(betas, MEAN, VARIANCE)
    x0 = MEAN + np.sqrt(VARIANCE) * np.random.default_rng(0).normal(size=(2000, 1, 10))
    x0 = np.round(np.clip(x0, -1, 1) * 127.5 + 127.5) / 127.5 - 1
    run = lambda variance: (
        lambda key, x0: diffusion.bits_per_dim(key, denoise, schedule, x0, variance=variance, clip=False)
    )
    left = VARIANCE * (1 - c.alpha_bar) / (c.alpha_bar * VARIANCE + 1 - c.alpha_bar)
    for variance in ("fixed_small", "fixed_large"):
        bits = values(run(variance), KEY, x0)
        # In nats.
        terms = 10 * BITS * bits.terms
        assert terms.shape == (2000, 20)
        sigma2 = sampling_variance(c, variance)
        ratio = c.small / sigma2
        kl = 0.5 * (ratio - 1 - np.log(np.maximum(ratio, 1e-30)) + c.from_x0**2 * left / sigma2)
        decoder = 0.5 * np.log(2 * np.pi * sigma2[0]) + left[0] / sigma2[0] / 2 - np.log(2 / 255)
        expected = 10 * np.append(decoder, kl[1:])
        errors = terms.std(axis=0) / np.sqrt(2000)
        # Widths of a quarter of a bin at t = 0 make the density differ from the mass, and levels from their Gaussian.
        assert np.all(np.abs(terms.mean(axis=0) - expected)[1:] < 4.5 * errors[1:] + 1e-3 * expected[1:]), variance
        np.testing.assert_allclose(bits.x0_mse.mean(axis=0), left, rtol=0.05, err_msg=variance)
        noise_mse = c.alpha_bar / (1 - c.alpha_bar) * left
        np.testing.assert_allclose(bits.noise_mse.mean(axis=0), noise_mse, rtol=0.05, err_msg=variance)
    # Its parts.
    np.testing.assert_allclose(bits.rate + bits.distortion, bits.total, rtol=1e-5)
    np.testing.assert_allclose(bits.distortion, bits.terms[:, 0])
    np.testing.assert_allclose(bits.total, bits.prior + bits.terms.sum(1), rtol=1e-5)


def test_an_examples_terms_depend_on_its_own_key():
    schedule = diffusion.make_schedule(diffusion.linear_betas(30))
    denoise = best_network(diffusion.linear_betas(30), MEAN, VARIANCE)

    def program(key, x0):
        run = lambda key, num: diffusion.vlb_terms(jax.random.clone(key), denoise, schedule, x0[:num]).terms
        return run(key, 400), run(key, 2), run(diffusion.keys_per_example(key, 4)[1:], 3)

    terms, two, three = values(program, KEY, np.full((400, 3), 0.2))
    np.testing.assert_allclose(two, terms[:2], rtol=1e-5)
    np.testing.assert_allclose(three, terms[1:4], rtol=1e-5)
    # Neither two examples nor two steps share their noise.
    assert len(np.unique(terms[:, 5])) > 390
    assert np.abs(np.corrcoef(terms.T)[np.triu_indices(30, 1)]).max() < 5 / np.sqrt(400)


def test_the_gradient_of_a_wrong_network_is_finite():
    """Each example takes one branch, L_0 or the KL; the other's numbers must not reach the gradient."""
    s = diffusion.make_schedule(diffusion.cosine_betas(1000))
    t = np.array([0, 0, 1, 500, 999])

    def program(x0, output):
        x_t = diffusion.add_noise(s, x0, t, jnp.ones((5, 3)))
        options: dict[str, Any] = dict(variance="learned_range", clip=False)
        term = lambda output, cdf: jnp.sum(diffusion.vlb_term(s, output, x0, x_t, t, cdf=cdf, **options))
        return [jax.value_and_grad(term)(output, cdf) for cdf in CDFS]

    found = values(program, np.array([[-1.0, 1.0, 0.2 / 255]] * 5), np.full((5, 6), 30.0))
    for cdf, (value, slopes) in zip(CDFS, found, strict=True):
        assert np.isfinite(value) and np.all(np.isfinite(slopes)), cdf


def test_unknown_cdfs_and_weights_are_named():
    s, x = diffusion.make_schedule(diffusion.linear_betas(100)), jnp.ones((2, 3))
    for message, call in (
        ("'erf'; expected one of tanh, exact", lambda: diffusion.vlb_term(s, x, x, x, 0, cdf="erf")),  # type: ignore[arg-type]
        ("'learned' with no values", lambda: diffusion.noise_loss_weight(s, x, 0, "learned")),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(call)
