"""The bound against densities integrated in float64, and against closed forms for Gaussian data."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from jaxgen import diffusion
from tests.diffusion.gaussian_data import best_network, best_x0, chain, sampling_variance
from tests.programs import compiled, values

KEY = jax.random.key(0)
BITS = np.log(2)
T3 = np.array([0.3, 0.4, 0.5])
CDFS = ("tanh", "exact")


def nodes(num):
    """Points and weights of an expectation under N(0, 1)."""
    points, weights = np.polynomial.hermite_e.hermegauss(num)
    return points, weights / weights.sum()


def log_mass(x, mean, sd):
    """log of the mass on the bin of x, [...], on the side of the mean where tails keep their digits."""
    low, high = np.where(x > -0.999, x - 1 / 255, -np.inf), np.where(x < 0.999, x + 1 / 255, np.inf)
    flip = x > mean
    near, far = np.where(flip, mean - low, high - mean) / sd, np.where(flip, mean - high, low - mean) / sd
    return special.log_ndtr(near) + np.log(-np.expm1(special.log_ndtr(far) - special.log_ndtr(near)))


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
            options = dict(prediction=prediction, variance=variance, clip=False, cdf="exact")
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
        options = dict(prediction="x0", variance="learned", clip=False, cdf="exact")
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


# Numbers of the published chains.


def published():
    return {
        "linear 1000": diffusion.linear_betas(1000),
        "linear 4000": diffusion.linear_betas(4000),
        "cosine 1000": diffusion.cosine_betas(1000),
        "cosine 4000": diffusion.cosine_betas(4000),
    }


def test_the_prior_term_in_bits():
    """In float32, where a sum of 1, log and variance would be off by 1e-8."""
    printed = {
        "linear 1000": (5.8748e-10, 7.27868e-06, 2.911295e-05),
        "linear 4000": (6.50e-10, 7.6589e-06, 3.0634e-05),
        # Where the data is 0: alpha-bar^2 / (4 log 2).
        "cosine 1000": (2.12758e-18, 4.38e-10, 1.752e-09),
        "cosine 4000": (8.3109e-21, 2.7e-11, 1.1e-10),
    }
    half_units = {
        "linear 1000": (5e-15, 5e-12, 5e-12),
        "linear 4000": (5e-13, 5e-11, 5e-10),
        "cosine 1000": (5e-24, 5e-13, 5e-13),
        "cosine 4000": (5e-26, 5e-13, 5e-12),
    }
    x0 = np.array([[0.0] * 4, [0.5] * 4, [-1.0] * 4])
    schedules = {name: diffusion.make_schedule(betas) for name, betas in published().items()}
    nats = values(lambda x0: {name: diffusion.prior_kl(s, x0) for name, s in schedules.items()}, x0)
    for name, prior in nats.items():
        found = prior / (4 * BITS)
        assert np.all(np.abs(found - printed[name]) <= 1.05 * np.array(half_units[name])), (name, found)


def test_what_the_simple_loss_leaves_out():
    cases = {
        "fixed_large": {"linear 1000": (0.2726920843, 0.01020449347, 9.360997),
                        "linear 4000": (0.2560792928, 0.00251266952, 10.08205),
                        "cosine 1000": (0.2639083293, 499.5000012, 512.109),
                        "cosine 4000": (0.25379, 499.5, 514.269)},
        "fixed_small": {"linear 1000": (0.5996715122, 0.01020450187, 10.170493),
                        "linear 4000": (0.5248949957, 0.00251267, 10.6897),
                        "cosine 1000": (0.5588561018, 499.5012, 512.82),
                        "cosine 4000": (0.51539, 499.50, 514.84)},
    }  # fmt: skip

    def weights(name, variance):
        s = diffusion.make_schedule(published()[name], jnp.float64)
        return diffusion.noise_loss_weight(s, jnp.ones((s.num_steps, 1)), jnp.arange(s.num_steps), variance)[:, 0]

    found = values(lambda: {kind: {name: weights(name, kind) for name in of} for kind, of in cases.items()}, x64=True)
    for variance, of in cases.items():
        for name, printed in of.items():
            w = found[variance][name]
            case = f"{variance}, {name}"
            np.testing.assert_allclose((w[1], w[-1], w[1:].sum()), printed, rtol=2e-5, err_msg=case)
            np.testing.assert_allclose(w[1], printed[0], rtol=1e-5 if "4000" in name else 5e-10, err_msg=case)


def test_the_weight_is_what_the_noise_costs_in_the_bound():
    x0, noise, error = np.random.default_rng(0).uniform(-1, 1, size=(3, 99, 4))

    def program(x0, noise, error):
        s = diffusion.make_schedule(diffusion.linear_betas(100), jnp.float64)
        t = jnp.arange(1, 100)
        x_t = diffusion.add_noise(s, x0, t, noise)
        term = lambda output: diffusion.vlb_term(s, output, x0, x_t, t, variance="fixed_large", clip=False)
        wrong, pull = jax.vjp(term, noise + error)
        return wrong - term(noise), pull(jnp.ones(99))[0], diffusion.noise_loss_weight(s, x_t, t)

    costs, slopes, weights = values(program, x0, noise, error, x64=True)
    np.testing.assert_allclose(costs, np.sum(weights * error**2, axis=1), rtol=1e-7)
    np.testing.assert_allclose(slopes, 2 * weights * error, rtol=1e-6, atol=1e-12)


def test_the_gradient_of_a_wrong_network_is_finite():
    """Each example takes one branch, L_0 or the KL; the other's numbers must not reach the gradient."""
    s = diffusion.make_schedule(diffusion.cosine_betas(1000))
    t = np.array([0, 0, 1, 500, 999])

    def program(x0, output):
        x_t = diffusion.add_noise(s, x0, t, jnp.ones((5, 3)))
        options = dict(variance="learned_range", clip=False)
        term = lambda output, cdf: jnp.sum(diffusion.vlb_term(s, output, x0, x_t, t, cdf=cdf, **options))
        return [jax.value_and_grad(term)(output, cdf) for cdf in CDFS]

    found = values(program, np.array([[-1.0, 1.0, 0.2 / 255]] * 5), np.full((5, 6), 30.0))
    for cdf, (value, slopes) in zip(CDFS, found, strict=True):
        assert np.isfinite(value) and np.all(np.isfinite(slopes)), cdf


def test_what_a_perfect_network_pays():
    """The price of variance beta instead of beta-tilde, and of the last step's width, in bits."""
    s = diffusion.make_schedule(diffusion.linear_betas(1000))
    levels = np.array([[0, 1 / 255, -1, 1]])

    def program(noise, levels):
        x0, t = jnp.zeros((1000, 1)), jnp.arange(1000)
        x_t = diffusion.add_noise(s, x0, t, noise)
        pay = lambda variance: diffusion.vlb_term(s, noise, x0, x_t, t, variance=variance) / BITS
        width = s.posterior_log_variance[0]
        decoder = diffusion.discretized_gaussian_log_likelihood(levels, levels, width)
        return pay("fixed_large"), pay("fixed_small"), -decoder[0] / BITS

    large, small, found = values(program, np.random.default_rng(0).normal(size=(1000, 1)), levels)
    np.testing.assert_allclose([large[1:].sum(), large[1]], [0.486419, 0.175125], rtol=2e-5)
    np.testing.assert_allclose(small[1:], 0, atol=1e-6)
    np.testing.assert_allclose(found, [1.305665] * 2 + [0.509908] * 2, atol=2e-6)


# The decoder.


LEVELS = np.arange(256) * 2 / 255 - 1


@compiled
def masses(*args):
    return {cdf: diffusion.discretized_gaussian_log_likelihood(*args, cdf=cdf) for cdf in CDFS}


@jax.jit
def masses_and_gradients(x, *args):
    """By the mean and by the log variance; optimized, because optimization could cost digits of float32."""
    found = {}
    for cdf in CDFS:
        value, pull = jax.vjp(partial(diffusion.discretized_gaussian_log_likelihood, x, cdf=cdf), *args)
        found[cdf] = value, *pull(jnp.ones_like(value))
    return found


def of_shape(program, x64, *args):
    """The program at arguments that broadcast; one shape for all tests, so that it is compiled once for each dtype."""
    args = np.broadcast_arrays(*args)
    padded = [np.resize(a, 9 * 11 * 256).astype(np.float64 if x64 else np.float32) for a in args]
    with jax.enable_x64(x64):
        found = jax.device_get(program(*padded))
    return jax.tree.map(lambda a: a[: args[0].size].reshape(args[0].shape), found)


def test_the_masses_of_all_levels_are_one():
    for cdf, found in of_shape(masses, True, LEVELS, 0.97, -2.0).items():
        np.testing.assert_allclose(special.logsumexp(found), 0, atol=1e-9, err_msg=cdf)


def test_the_exact_masses_are_those_of_the_normal_distribution():
    mean, sd = np.array([(0.3, 0.5), (0.9, 0.02), (-0.2, 0.01)]).T[..., None]
    args, expected = (LEVELS, mean, 2 * np.log(sd)), log_mass(LEVELS, mean, sd)
    np.testing.assert_allclose(of_shape(masses, True, *args)["exact"], expected, rtol=1e-8)
    # 100 standard deviations away it is still a number, in float32.
    found = of_shape(masses_and_gradients, False, *args)["exact"][0]
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-4)


def test_the_approximate_masses_are_the_authors():
    def cdf(z):
        return 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))

    mean, sd = 0.3, 0.2
    above = cdf((LEVELS - mean + 1 / 255) / sd)
    below = cdf((LEVELS - mean - 1 / 255) / sd)
    mass = np.where(LEVELS < -0.999, above, np.where(LEVELS > 0.999, 1 - below, above - below))
    found = of_shape(masses, True, LEVELS, mean, 2 * np.log(sd))["tanh"]
    np.testing.assert_allclose(np.exp(found), np.maximum(mass, 1e-12), rtol=1e-7, atol=1e-15)
    # The floor: a level that the distribution does not know.
    far = of_shape(masses_and_gradients, False, np.ones(1), -1.0, -8.0)["tanh"][0]
    np.testing.assert_allclose(far, np.log(1e-12), rtol=1e-6)
    z = np.linspace(-6, 6, 24001)
    errors = np.abs(values(diffusion.decoder.approximate_normal_cdf, z) - stats.norm.cdf(z))
    assert 1.785e-4 < errors.max() < 1.795e-4 and abs(abs(z[errors.argmax()]) - 2.59) < 0.01


def approximate_parts(x, mean, sd):
    """log of the tanh decoder's mass, and the densities of its distribution at the ends of the bin over the mass."""
    a = lambda z: 2 * np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)
    low, high = (x - 1 / 255 - mean) / sd, (x + 1 / 255 - mean) / sd
    # Differences on the side of the mean where both are small.
    flip = x > mean
    near, far = np.where(flip, -low, high), np.where(flip, -high, low)
    mass = special.expit(a(near)) - special.expit(a(far))
    mass = np.where(x < -0.999, special.expit(a(high)), np.where(x > 0.999, special.expit(-a(low)), mass))
    slope = lambda z: 2 * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * z**2) * special.expit(a(z)) * special.expit(-a(z))
    held = np.maximum(mass, 1e-12)
    return np.log(held), [np.where(mass > 1e-12, slope(z) / held, 0) for z in (low, high)]


def exact_parts(x, mean, sd):
    """The same of the normal distribution."""
    log = log_mass(x, mean, sd)
    return log, [np.exp(stats.norm.logpdf((x + side / 255 - mean) / sd) - log) for side in (-1, 1)]


def test_masses_and_gradients_in_float32_are_those_of_float64():
    """At every level, for means inside and outside the range, with sigma from 1e-4 to 2e4."""
    log_variances = [-18.0, -14.0, -9.8, -6.0, -2.0, 0.0, 4.0, 12.0, 20.0]
    means = [-1.5, -1, -0.9, -0.1, 0, 0.003, 0.5, 0.97, 1, 3, 10]
    # The inputs of float32, exactly.
    lv, mean, x = (np.float32(a).astype(float) for a in np.meshgrid(log_variances, means, LEVELS, indexing="ij"))
    sd = np.exp(lv / 2)
    low, high = (x - 1 / 255 - mean) / sd, (x + 1 / 255 - mean) / sd
    for cdf, found in of_shape(masses_and_gradients, False, x, mean, lv).items():
        log, (at_low, at_high) = {"tanh": approximate_parts, "exact": exact_parts}[cdf](x, mean, sd)
        at_low, at_high = np.where(x < -0.999, 0, at_low), np.where(x > 0.999, 0, at_high)
        for i, log_variance in enumerate(log_variances):
            value, by_mean, by_log_variance = (a[i] for a in found)
            case = f"{cdf}, log variance {log_variance}"
            np.testing.assert_allclose(value, log[i], rtol=2e-6, atol=4e-6, err_msg=case)
            slope = (at_low - at_high)[i] / sd[i]
            np.testing.assert_allclose(by_mean, slope, rtol=1e-5, atol=1e-6 / sd[i, 0, 0], err_msg=case)
            slope = (low * at_low - high * at_high)[i] / 2
            np.testing.assert_allclose(by_log_variance, slope, rtol=2e-5, atol=2e-6, err_msg=case)


def test_masses_and_gradients_are_finite_for_any_log_variance():
    means = [-100.0, -1.0, -1 / 255, 0.0, 1.0, 100.0]
    x, log_variance = LEVELS[[0, 1, 127, 254, 255], None, None], np.linspace(-200, 200, 41)
    for cdf, found in of_shape(masses_and_gradients, False, x, np.array(means)[:, None], log_variance).items():
        assert all(np.all(np.isfinite(a)) for a in found), cdf
        assert np.all(found[0] <= 0), cdf


def test_gradients_are_finite_everywhere():
    log_variances = np.array([-9.5, -2.0, 0.0])[:, None]
    for cdf, (_, *slopes) in of_shape(masses_and_gradients, False, LEVELS, 0.3, log_variances).items():
        assert all(np.all(np.isfinite(slope)) for slope in slopes), cdf


# What the network says of the variance.


def test_the_learned_range_runs_between_its_ends():
    betas = diffusion.linear_betas(1000)
    s, t = diffusion.make_schedule(betas), np.array([0, 1, 500, 999])

    def program(x_t):
        run = lambda values, kind: diffusion.p_mean_variance(
            s, jnp.concatenate([x_t, values], -1), x_t, t, variance=kind
        )
        kinds = ("fixed_small", "fixed_large")
        fixed = [diffusion.p_mean_variance(s, x_t, x_t, t, variance=kind).log_variance[:, 0, 0] for kind in kinds]
        ranges = [run(factor * x_t, "learned_range").log_variance for factor in (-1.0, 1.0, 0.0, 3.0)]
        return fixed, ranges, run(3 * x_t, "learned").log_variance, run(x_t, "learned").variance

    (small, large), (lowest, highest, middle, beyond), three, variance = values(program, np.ones((4, 2, 3)))
    c = chain(betas)
    np.testing.assert_allclose(small, np.log([c.small[1], c.small[1], c.small[500], c.small[999]]), rtol=1e-6)
    np.testing.assert_allclose(large, np.log([c.small[1], betas[1], betas[500], betas[999]]), rtol=1e-6)
    # At t = 0 the range goes up to beta_0, which the fixed variance does not take there.
    top = np.log(betas[[0, 1, 500, 999]])
    np.testing.assert_allclose(lowest[:, 1, 2], small, rtol=1e-6)
    np.testing.assert_allclose(highest[:, 0, 0], top, rtol=1e-6)
    np.testing.assert_allclose(middle[:, 0, 0], (small + top) / 2, rtol=1e-6)
    # Not held within the range.
    np.testing.assert_allclose(beyond[:, 0, 0], top + (top - small), rtol=1e-5)
    np.testing.assert_allclose(three, 3 * np.ones((4, 2, 3)))
    np.testing.assert_allclose(variance, np.e, rtol=1e-6)


def test_clipping_and_editing_move_the_mean_by_way_of_x0():
    betas = diffusion.linear_betas(100)
    c = chain(betas)
    t = np.array([0, 30, 99])
    x_t, output = np.random.default_rng(0).normal(size=(2, 3, 5))
    predictions = ("noise", "x0", "mean", "v")

    def program(output, x_t, t):
        args = (diffusion.make_schedule(betas, jnp.float64), output, x_t, t)
        for prediction in predictions:
            run = partial(diffusion.p_mean_variance, *args, prediction=prediction)
            edited = run(edit_x0=lambda x0, t: 0.5 * x0 + t.astype(x0.dtype)[:, None])
            yield run(clip=False), run(), edited, diffusion.convert(*args, prediction, "x0")

    coefficients = (c.from_x0[t][:, None], c.from_xt[t][:, None])
    cases = values(lambda *args: list(program(*args)), output, x_t, t, x64=True)
    for prediction, (free, clipped, edited, raw) in zip(predictions, cases, strict=True):
        for found, x0 in ((free, raw), (clipped, np.clip(raw, -1, 1)), (edited, np.clip(raw / 2 + t[:, None], -1, 1))):
            np.testing.assert_allclose(found.x0, x0, rtol=1e-7, atol=1e-9, err_msg=prediction)
            mean = output if prediction == "mean" else coefficients[0] * x0 + coefficients[1] * x_t
            np.testing.assert_allclose(found.mean, mean, rtol=1e-6, atol=1e-9, err_msg=prediction)


def test_what_does_not_exist_is_named():
    s = diffusion.make_schedule(diffusion.linear_betas(100))
    x, wide = jnp.ones((2, 3)), jnp.ones((2, 6))
    p, term, weight = diffusion.p_mean_variance, diffusion.vlb_term, diffusion.noise_loss_weight
    for message, call in (
        ("'eps'; expected one of noise, x0, mean, v", lambda: p(s, x, x, 0, prediction="eps")),
        (
            "'big'; expected one of fixed_small, fixed_large, learned, learned_range",
            lambda: p(s, x, x, 0, variance="big"),
        ),
        ("has 3 channels; expected two of equal size", lambda: p(s, x, x, 0, variance="learned")),
        (r"shape \(2, 3\) for x_t of shape \(2, 6\)", lambda: p(s, wide, wide, 0, variance="learned_range")),
        ("'erf'; expected one of tanh, exact", lambda: term(s, x, x, x, 0, cdf="erf")),
        ("'learned' with no values", lambda: weight(s, x, 0, "learned")),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(call)
