"""Numbers of the published chains: terms of the bound, and weights of the simple loss."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import diffusion
from tests.programs import values

BITS = np.log(2)


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
