"""The bound against densities integrated in float64, and against closed forms for Gaussian data."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_data import best_network, best_x0, chain, sampling_variance
from scipy import special, stats

from jaxgen import diffusion

KEY = jax.random.key(0)
BITS = np.log(2)
T3 = np.array([0.3, 0.4, 0.5])


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


@pytest.mark.parametrize(
    "prediction, variance",
    [("noise", "fixed_small"), ("x0", "fixed_large"), ("mean", "learned"), ("v", "learned_range")],
)
def test_the_terms_add_up_to_the_bound_of_the_joint_densities(prediction, variance):
    z, weights = nodes(60)
    data = np.array([-1.0, 51 / 255 * 2 - 1, 0.6, 1.0])
    with jax.enable_x64(True):
        s = diffusion.make_schedule(T3, jnp.float64)
        x0 = jnp.asarray(np.repeat(data, 60)[:, None])

        @partial(jax.jit, static_argnums=0)
        def term(t):
            x_t = diffusion.add_noise(s, x0, t, jnp.asarray(np.tile(z, 4)[:, None]))
            output = network(x_t, t, variance.startswith("learned"), jnp)
            options = dict(prediction=prediction, variance=variance, clip=False, cdf="exact")
            return diffusion.vlb_term(s, output, x0, x_t, t, **options)

        terms = sum(np.asarray(term(t)).reshape(4, 60) @ weights for t in range(3))
        prior = np.asarray(diffusion.prior_kl(s, x0)).reshape(4, 60)[:, 0]
    expected = [oracle_bound(x, prediction, variance) for x in data]
    np.testing.assert_allclose(terms + prior, expected, rtol=1e-6)


def test_given_noise_of_the_terms():
    """Each term is `vlb_term` at x_t of its own noise, and the bound is the same as by the key that makes the noise."""
    denoise = lambda x, t: network(x, t.astype(x.dtype)[:, None], False, jnp)
    x0 = np.array([[-1.0], [0.6]])
    with jax.enable_x64(True):
        s, x0 = diffusion.make_schedule(T3, jnp.float64), jnp.asarray(x0)
        keys = diffusion.example_keys(KEY, 2)
        step_keys = lambda t: jax.vmap(jax.random.fold_in, (0, None))(jax.random.clone(keys), t)
        noise = jnp.stack([diffusion.example_normal(step_keys(t), x0) for t in range(3)])
        by_key, given, bits = jax.jit(
            lambda noise: (
                diffusion.vlb_terms(jax.random.clone(keys), denoise, s, x0),
                diffusion.vlb_terms(None, denoise, s, x0, noise=noise),
                diffusion.bits_per_dim(None, denoise, s, x0, noise=noise),
            )
        )(noise)
        expected = []
        for t in range(3):
            x_t = diffusion.add_noise(s, x0, t, noise[t])
            expected.append(diffusion.vlb_term(s, denoise(x_t, jnp.full(2, t)), x0, x_t, t))
    np.testing.assert_allclose(given.terms, np.stack(expected, axis=1), rtol=1e-9)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-20), given, by_key)
    np.testing.assert_allclose(bits.terms, np.asarray(given.terms) / BITS, rtol=1e-12)
    s, x0 = diffusion.make_schedule(T3), jnp.zeros((2, 1))
    with pytest.raises(ValueError, match=r"noise has shape \(2, 1\); expected \(3, 2, 1\)"):
        diffusion.vlb_terms(None, denoise, s, x0, noise=np.zeros((2, 1)))
    with pytest.raises(ValueError, match="no key and no noise"):
        diffusion.bits_per_dim(None, denoise, s, x0)


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
    with jax.enable_x64(True):
        s = diffusion.make_schedule(STEPS, jnp.float64)
        terms = [np.sum(w * np.asarray(diffusion.prior_kl(s, jnp.asarray(x0))))]
        for t in range(6):
            x_t = np.sqrt(c.alpha_bar[t]) * x0 + np.sqrt(1 - c.alpha_bar[t]) * noise
            output = np.concatenate([gain[t] * x_t + offset[t], np.full_like(x_t, np.log(variance[t]))], axis=-1)
            term = diffusion.vlb_term(
                s, jnp.asarray(output), jnp.asarray(x0), jnp.asarray(x_t), t,
                prediction="x0", variance="learned", clip=False, cdf="exact",
            )  # fmt: skip
            terms.append(np.sum(w * np.asarray(term)))
    last_mean, last = np.sqrt(c.alpha_bar[-1]) * MEAN, c.alpha_bar[-1] * VARIANCE + 1 - c.alpha_bar[-1]
    entropy = 0.5 * np.log(2 * np.pi * np.e * VARIANCE) - np.log(2 / 255)
    mismatch = 0.5 * (last_mean**2 + last - 1 - np.log(last))
    # Points beyond the outermost levels have a weight of 1e-9.
    np.testing.assert_allclose(np.sum(terms), entropy + mismatch, rtol=1e-5)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_the_scan_over_t_finds_the_closed_forms(variance):
    """E of each term for the best mean and a fixed variance, and the errors beside it, on a respaced chain."""
    betas, kept = diffusion.linear_betas(200), np.round(np.arange(20) * 199 / 19).astype(int)
    c = chain(betas, kept)
    schedule = diffusion.respace(diffusion.make_schedule(betas), 20)
    denoise = best_network(betas, MEAN, VARIANCE)
    x0 = MEAN + np.sqrt(VARIANCE) * np.random.default_rng(0).normal(size=(2000, 1, 10))
    x0 = jnp.asarray(np.round(np.clip(x0, -1, 1) * 127.5 + 127.5) / 127.5 - 1, jnp.float32)
    run = lambda f: jax.jit(partial(f, denoise=denoise, schedule=schedule, variance=variance, clip=False))
    bound = jax.tree.map(np.asarray, run(diffusion.vlb_terms)(KEY, x0=x0))
    assert bound.terms.shape == (2000, 20)
    left = VARIANCE * (1 - c.alpha_bar) / (c.alpha_bar * VARIANCE + 1 - c.alpha_bar)
    sigma2 = sampling_variance(c, variance)
    ratio = c.small / sigma2
    kl = 0.5 * (ratio - 1 - np.log(np.maximum(ratio, 1e-30)) + c.from_x0**2 * left / sigma2)
    decoder = 0.5 * np.log(2 * np.pi * sigma2[0]) + left[0] / sigma2[0] / 2 - np.log(2 / 255)
    expected = 10 * np.append(decoder, kl[1:])
    errors = bound.terms.std(axis=0) / np.sqrt(2000)
    # Widths of a quarter of a bin at t = 0 make the density differ from the mass, and levels from their Gaussian.
    assert np.all(np.abs(bound.terms.mean(axis=0) - expected)[1:] < 4.5 * errors[1:] + 1e-3 * expected[1:])
    np.testing.assert_allclose(bound.x0_mse.mean(axis=0), left, rtol=0.05)
    np.testing.assert_allclose(bound.noise_mse.mean(axis=0), c.alpha_bar / (1 - c.alpha_bar) * left, rtol=0.05)
    # The same in bits for each of ten dimensions, and in its parts.
    bits = jax.tree.map(np.asarray, run(diffusion.bits_per_dim)(KEY, x0=x0))
    np.testing.assert_allclose(bits.terms, bound.terms / (10 * BITS), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(bits.prior, bound.prior / (10 * BITS), rtol=1e-5)
    np.testing.assert_allclose(bits.rate + bits.distortion, bits.total, rtol=1e-5)
    np.testing.assert_allclose(bits.distortion, bits.terms[:, 0])
    np.testing.assert_allclose(bits.total, bits.prior + bits.terms.sum(1), rtol=1e-5)


def test_an_examples_terms_depend_on_its_own_key():
    betas = diffusion.linear_betas(30)
    schedule = diffusion.make_schedule(betas)
    denoise = best_network(betas, MEAN, VARIANCE)
    x0 = jnp.full((400, 3), 0.2)
    run = jax.jit(lambda key, x0: diffusion.vlb_terms(key, denoise, schedule, x0).terms)
    terms = np.asarray(run(KEY, x0))
    np.testing.assert_allclose(run(KEY, x0[:2]), terms[:2], rtol=1e-5)
    np.testing.assert_allclose(run(diffusion.example_keys(KEY, 4)[1:], x0[:3]), terms[1:4], rtol=1e-5)
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
    x0 = jnp.array([[0.0] * 4, [0.5] * 4, [-1.0] * 4])
    for name, betas in published().items():
        found = np.asarray(diffusion.prior_kl(diffusion.make_schedule(betas), x0)) / (4 * BITS)
        assert np.all(np.abs(found - printed[name]) <= 1.05 * np.array(half_units[name])), (name, found)


@pytest.mark.parametrize(
    "variance, printed",
    [
        ("fixed_large", {"linear 1000": (0.2726920843, 0.01020449347, 9.360997),
                         "linear 4000": (0.2560792928, 0.00251266952, 10.08205),
                         "cosine 1000": (0.2639083293, 499.5000012, 512.109),
                         "cosine 4000": (0.25379, 499.5, 514.269)}),
        ("fixed_small", {"linear 1000": (0.5996715122, 0.01020450187, 10.170493),
                         "linear 4000": (0.5248949957, 0.00251267, 10.6897),
                         "cosine 1000": (0.5588561018, 499.5012, 512.82),
                         "cosine 4000": (0.51539, 499.50, 514.84)}),
    ],
)  # fmt: skip
def test_what_the_simple_loss_leaves_out(variance, printed):
    with jax.enable_x64(True):
        for name, betas in published().items():
            s = diffusion.make_schedule(betas, jnp.float64)
            x = jnp.ones((s.num_steps, 1))
            weights = np.asarray(diffusion.noise_loss_weight(s, x, jnp.arange(s.num_steps), variance))[:, 0]
            found = (weights[1], weights[-1], weights[1:].sum())
            np.testing.assert_allclose(found, printed[name], rtol=2e-5, err_msg=name)
            np.testing.assert_allclose(found[0], printed[name][0], rtol=1e-5 if "4000" in name else 5e-10)


def test_the_weight_is_what_the_noise_costs_in_the_bound():
    betas = diffusion.linear_betas(100)
    generator = np.random.default_rng(0)
    with jax.enable_x64(True):
        s = diffusion.make_schedule(betas, jnp.float64)
        x0, noise, error = map(jnp.asarray, generator.uniform(-1, 1, size=(3, 99, 4)))
        t = jnp.arange(1, 100)
        x_t = diffusion.add_noise(s, x0, t, noise)
        term = lambda output: diffusion.vlb_term(s, output, x0, x_t, t, variance="fixed_large", clip=False)
        costs = term(noise + error) - term(noise)
        slopes = jax.jit(jax.grad(lambda output: jnp.sum(term(output))))(noise + error)
        weights = diffusion.noise_loss_weight(s, x_t, t)
    np.testing.assert_allclose(costs, np.sum(np.asarray(weights * error**2), axis=1), rtol=1e-7)
    np.testing.assert_allclose(slopes, 2 * np.asarray(weights * error), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("cdf", ["tanh", "exact"])
def test_the_gradient_of_a_wrong_network_is_finite(cdf):
    """Each example takes one branch, L_0 or the KL; the other's numbers must not reach the gradient."""
    s = diffusion.make_schedule(diffusion.cosine_betas(1000))
    t = jnp.array([0, 0, 1, 500, 999])
    x0 = jnp.array([[-1.0, 1.0, 0.2 / 255]] * 5)
    x_t = diffusion.add_noise(s, x0, t, jnp.ones((5, 3)))
    term = lambda output: jnp.sum(
        diffusion.vlb_term(s, output, x0, x_t, t, variance="learned_range", clip=False, cdf=cdf)
    )
    value, slopes = jax.jit(jax.value_and_grad(term))(jnp.full((5, 6), 30.0))
    assert np.isfinite(value) and np.all(np.isfinite(slopes))


def test_what_a_perfect_network_pays():
    """The price of variance beta instead of beta-tilde, and of the last step's width, in bits."""
    s = diffusion.make_schedule(diffusion.linear_betas(1000))
    x0 = jnp.zeros((1000, 1))
    t = jnp.arange(1000)
    noise = jax.random.normal(KEY, x0.shape)
    x_t = diffusion.add_noise(s, x0, t, noise)
    pay = lambda variance: np.asarray(diffusion.vlb_term(s, noise, x0, x_t, t, variance=variance)) / BITS
    large = pay("fixed_large")
    np.testing.assert_allclose([large[1:].sum(), large[1]], [0.486419, 0.175125], rtol=2e-5)
    np.testing.assert_allclose(pay("fixed_small")[1:], 0, atol=1e-6)
    levels = np.array([[0, 1 / 255, -1, 1]])
    found = diffusion.discretized_gaussian_log_likelihood(*(jnp.asarray(levels),) * 2, s.posterior_log_variance[0])
    np.testing.assert_allclose(-np.asarray(found)[0] / BITS, [1.305665] * 2 + [0.509908] * 2, atol=2e-6)


# The decoder.


LEVELS = np.arange(256) * 2 / 255 - 1


@pytest.mark.parametrize("cdf", ["tanh", "exact"])
def test_the_masses_of_all_levels_are_one(cdf):
    with jax.enable_x64(True):
        found = diffusion.discretized_gaussian_log_likelihood(
            jnp.asarray(LEVELS), jnp.full(256, 0.97), jnp.full(256, -2.0), cdf=cdf
        )
    np.testing.assert_allclose(special.logsumexp(np.asarray(found)), 0, atol=1e-9)


def test_the_exact_masses_are_those_of_the_normal_distribution():
    for mean, sd in ((0.3, 0.5), (0.9, 0.02), (-0.2, 0.01)):
        args = (LEVELS, np.full(256, mean), np.full(256, 2 * np.log(sd)))
        found = lambda dtype, args=args: np.asarray(
            diffusion.discretized_gaussian_log_likelihood(*(jnp.asarray(a, dtype) for a in args), cdf="exact")
        )
        with jax.enable_x64(True):
            np.testing.assert_allclose(found(jnp.float64), log_mass(LEVELS, mean, sd), rtol=1e-8)
        # 100 standard deviations away it is still a number, in float32.
        np.testing.assert_allclose(found(jnp.float32), log_mass(LEVELS, mean, sd), rtol=2e-3, atol=1e-4)


def test_the_approximate_masses_are_the_authors():
    def cdf(z):
        return 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))

    mean, sd = 0.3, 0.2
    above = cdf((LEVELS - mean + 1 / 255) / sd)
    below = cdf((LEVELS - mean - 1 / 255) / sd)
    mass = np.where(LEVELS < -0.999, above, np.where(LEVELS > 0.999, 1 - below, above - below))
    with jax.enable_x64(True):
        args = map(jnp.asarray, (LEVELS, np.full(256, mean), np.full(256, 2 * np.log(sd))))
        found = diffusion.discretized_gaussian_log_likelihood(*args)
    np.testing.assert_allclose(np.exp(found), np.maximum(mass, 1e-12), rtol=1e-7, atol=1e-15)
    # The floor: a level that the distribution does not know.
    far = diffusion.discretized_gaussian_log_likelihood(jnp.ones(1), -jnp.ones(1), jnp.full(1, -8.0))
    np.testing.assert_allclose(far, np.log(1e-12), rtol=1e-6)
    z = np.linspace(-6, 6, 24001)
    errors = np.abs(np.asarray(diffusion.decoder.approximate_normal_cdf(z)) - stats.norm.cdf(z))
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


@pytest.mark.parametrize("log_variance", [-18.0, -14.0, -9.8, -6.0, -2.0, 0.0, 4.0, 12.0, 20.0])
@pytest.mark.parametrize("cdf", ["tanh", "exact"])
def test_masses_and_gradients_in_float32_are_those_of_float64(cdf, log_variance):
    """At every level, for means inside and outside the range, with sigma from 1e-4 to 2e4."""
    means = np.float32([-1.5, -1, -0.9, -0.1, 0, 0.003, 0.5, 0.97, 1, 3, 10])
    x, mean = (a.ravel() for a in np.meshgrid(LEVELS.astype(np.float32), means))
    args = (jnp.asarray(mean), jnp.full(len(x), log_variance))
    total = lambda *args: jnp.sum(diffusion.discretized_gaussian_log_likelihood(jnp.asarray(x), *args, cdf=cdf))
    found = diffusion.discretized_gaussian_log_likelihood(jnp.asarray(x), *args, cdf=cdf)
    by_mean, by_log_variance = jax.jit(jax.grad(total, (0, 1)))(*args)
    # The inputs of float32, exactly.
    x, mean, sd = x.astype(float), mean.astype(float), np.exp(log_variance / 2)
    log, (at_low, at_high) = {"tanh": approximate_parts, "exact": exact_parts}[cdf](x, mean, sd)
    at_low, at_high = np.where(x < -0.999, 0, at_low), np.where(x > 0.999, 0, at_high)
    low, high = (x - 1 / 255 - mean) / sd, (x + 1 / 255 - mean) / sd
    np.testing.assert_allclose(found, log, rtol=2e-6, atol=4e-6)
    np.testing.assert_allclose(by_mean, (at_low - at_high) / sd, rtol=1e-5, atol=1e-6 / sd)
    np.testing.assert_allclose(by_log_variance, (low * at_low - high * at_high) / 2, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("cdf", ["tanh", "exact"])
def test_masses_and_gradients_are_finite_for_any_log_variance(cdf):
    x = jnp.asarray(np.repeat(LEVELS[[0, 1, 127, 254, 255]], 41), jnp.float32)
    log_variance = jnp.tile(jnp.linspace(-200, 200, 41), 5)
    likelihood = lambda *args: diffusion.discretized_gaussian_log_likelihood(x, *args, cdf=cdf)
    for mean in (-100.0, -1.0, -1 / 255, 0.0, 1.0, 100.0):
        args = (jnp.full(205, mean), log_variance)
        found, pull = jax.vjp(likelihood, *args)
        assert all(np.all(np.isfinite(a)) for a in (found, *pull(jnp.ones(205))))
        assert np.all(found <= 0)


@pytest.mark.parametrize("cdf", ["tanh", "exact"])
def test_gradients_are_finite_everywhere(cdf):
    total = lambda mean, log_variance: jnp.sum(
        diffusion.discretized_gaussian_log_likelihood(jnp.asarray(LEVELS, jnp.float32), mean, log_variance, cdf=cdf)
    )
    for log_variance in (-9.5, -2.0, 0.0):
        grads = jax.grad(total, (0, 1))(jnp.full(256, 0.3), jnp.full(256, log_variance))
        assert all(np.all(np.isfinite(g)) for g in grads)


# What the network says of the variance.


def test_the_learned_range_runs_between_its_ends():
    s = diffusion.make_schedule(diffusion.linear_betas(1000))
    t = jnp.array([0, 1, 500, 999])
    x_t = jnp.ones((4, 2, 3))
    run = lambda values, kind: np.asarray(
        diffusion.p_mean_variance(s, jnp.concatenate([x_t, values], -1), x_t, t, variance=kind).log_variance
    )
    fixed = lambda kind: np.asarray(diffusion.p_mean_variance(s, x_t, x_t, t, variance=kind).log_variance)[:, 0, 0]
    small, large = fixed("fixed_small"), fixed("fixed_large")
    betas = diffusion.linear_betas(1000)
    c = chain(betas)
    np.testing.assert_allclose(small, np.log([c.small[1], c.small[1], c.small[500], c.small[999]]), rtol=1e-6)
    np.testing.assert_allclose(large, np.log([c.small[1], betas[1], betas[500], betas[999]]), rtol=1e-6)
    # At t = 0 the range goes up to beta_0, which the fixed variance does not take there.
    top = np.log(betas[[0, 1, 500, 999]])
    np.testing.assert_allclose(run(-x_t, "learned_range")[:, 1, 2], small, rtol=1e-6)
    np.testing.assert_allclose(run(x_t, "learned_range")[:, 0, 0], top, rtol=1e-6)
    np.testing.assert_allclose(run(0 * x_t, "learned_range")[:, 0, 0], (small + top) / 2, rtol=1e-6)
    # Not held within the range.
    np.testing.assert_allclose(run(3 * x_t, "learned_range")[:, 0, 0], top + (top - small), rtol=1e-5)
    np.testing.assert_allclose(run(3 * x_t, "learned"), 3 * np.ones((4, 2, 3)))
    p = diffusion.p_mean_variance(s, jnp.concatenate([x_t, x_t], -1), x_t, t, variance="learned")
    np.testing.assert_allclose(p.variance, np.e, rtol=1e-6)


@pytest.mark.parametrize("prediction", ["noise", "x0", "mean", "v"])
def test_clipping_and_editing_move_the_mean_by_way_of_x0(prediction):
    betas = diffusion.linear_betas(100)
    c = chain(betas)
    generator = np.random.default_rng(0)
    t = np.array([0, 30, 99])
    x_t, output = generator.normal(size=(2, 3, 5))
    with jax.enable_x64(True):
        s = diffusion.make_schedule(betas, jnp.float64)
        args = (s, jnp.asarray(output), jnp.asarray(x_t), jnp.asarray(t))
        run = partial(diffusion.p_mean_variance, *args, prediction=prediction)
        free, clipped = run(clip=False), run()
        edited = run(edit_x0=lambda x0, t: 0.5 * x0 + t.astype(x0.dtype)[:, None])
        raw = np.asarray(diffusion.convert(*args, prediction, "x0"))
    coefficients = (c.from_x0[t][:, None], c.from_xt[t][:, None])
    for found, x0 in ((free, raw), (clipped, np.clip(raw, -1, 1)), (edited, np.clip(raw / 2 + t[:, None], -1, 1))):
        np.testing.assert_allclose(found.x0, x0, rtol=1e-7, atol=1e-9)
        mean = output if prediction == "mean" else coefficients[0] * x0 + coefficients[1] * x_t
        np.testing.assert_allclose(found.mean, mean, rtol=1e-6, atol=1e-9)


def test_what_does_not_exist_is_named():
    s = diffusion.make_schedule(diffusion.linear_betas(100))
    x = jnp.ones((2, 3))
    with pytest.raises(ValueError, match="'eps'; expected one of noise, x0, mean, v"):
        diffusion.p_mean_variance(s, x, x, 0, prediction="eps")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'big'; expected one of fixed_small, fixed_large, learned, learned_range"):
        diffusion.p_mean_variance(s, x, x, 0, variance="big")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has 3 channels; expected two of equal size"):
        diffusion.p_mean_variance(s, x, x, 0, variance="learned")
    with pytest.raises(ValueError, match=r"shape \(2, 3\) for x_t of shape \(2, 6\)"):
        diffusion.p_mean_variance(s, jnp.ones((2, 6)), jnp.ones((2, 6)), 0, variance="learned_range")
    with pytest.raises(ValueError, match="'erf'; expected one of tanh, exact"):
        diffusion.vlb_term(s, x, x, x, 0, cdf="erf")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'learned' with no values"):
        diffusion.noise_loss_weight(s, x, 0, "learned")
