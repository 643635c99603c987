from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxgen import diffusion
from tests.programs import values

RNG = np.random.default_rng(0)
SCHEDULE = diffusion.make_schedule(diffusion.cosine_betas(400))
T = np.array([0, 1, 200, 399])
X0 = (np.round(RNG.uniform(0, 255, size=(4, 2, 2, 3))) / 127.5 - 1).astype(np.float32)
NOISE = RNG.normal(size=X0.shape).astype(np.float32)
OUTPUT = RNG.normal(size=(4, 2, 2, 6)).astype(np.float32)


KINDS = ("mse", "rescaled_mse", "kl", "rescaled_kl")


def loss(output, kind: Any = "rescaled_mse", **options):
    return diffusion.training_loss(SCHEDULE, output, jnp.asarray(X0), jnp.asarray(T), NOISE, kind=kind, **options)


def noised():
    return diffusion.add_noise(SCHEDULE, X0, T, NOISE)


def test_losses_are_those_of_the_authors_in_their_units():
    def program(output):
        nats = diffusion.vlb_term(SCHEDULE, output, X0, noised(), T, variance="learned_range", clip=False)
        fixed = loss(output[..., :3], variance="fixed_large")
        return nats, {kind: loss(output, kind) for kind in KINDS}, fixed.loss

    nats, losses, fixed = values(program, OUTPUT)
    bits = nats / (12 * np.log(2))
    mse = np.mean((OUTPUT[..., :3] - NOISE) ** 2, axis=(1, 2, 3))
    expected = {"mse": mse + bits, "rescaled_mse": mse + 0.4 * bits, "kl": bits, "rescaled_kl": 400 * bits}
    for kind, value in expected.items():
        found = losses[kind]
        np.testing.assert_allclose(found.loss, value, rtol=1e-5, err_msg=kind)
        np.testing.assert_allclose(found.mse, mse, rtol=1e-5, err_msg=kind)
        np.testing.assert_allclose(found.vlb, bits, rtol=1e-5, err_msg=kind)
    np.testing.assert_allclose(fixed, mse, rtol=1e-5)


def test_the_exact_decoder_is_in_the_bound_of_every_kind():
    """At t = 0 the mass of the normal distribution, in bits for each dimension; the other terms have no decoder."""

    def program(output):
        p = diffusion.p_mean_variance(SCHEDULE, output, noised(), T, variance="learned_range", clip=False)
        return p, {kind: [loss(output, kind, cdf=cdf) for cdf in ("tanh", "exact")] for kind in KINDS}

    p, losses = values(program, OUTPUT)
    x0, mean, sd = X0[0].astype(float), p.mean[0].astype(float), np.exp(p.log_variance[0].astype(float) / 2)
    low, high = np.where(x0 > -0.999, x0 - 1 / 255, -np.inf), np.where(x0 < 0.999, x0 + 1 / 255, np.inf)
    tails = np.sort([np.where(x0 > mean, mean - a, a - mean) / sd for a in (low, high)], axis=0)
    logs = special.log_ndtr(tails)
    bits = -np.mean(logs[1] + np.log(-np.expm1(logs[0] - logs[1]))) / np.log(2)
    for kind, (tanh, exact) in losses.items():
        np.testing.assert_allclose(exact.vlb[0], bits, rtol=1e-5, err_msg=kind)
        np.testing.assert_array_equal(exact.vlb[1:], tanh.vlb[1:], kind)
        factor = {"mse": 1, "rescaled_mse": 0.4, "kl": 1, "rescaled_kl": 400}[kind]
        moved = factor * (exact.vlb - tanh.vlb)
        np.testing.assert_allclose(exact.loss - tanh.loss, moved, rtol=1e-4, atol=1e-5, err_msg=kind)
        assert abs(tanh.vlb[0] / bits - 1) > 1e-4, kind


def test_the_hybrid_gradient_reaches_the_mean_only_through_the_simple_term():
    def gradients(output, prediction):
        total = lambda output, kind: jnp.sum(loss(output, kind, prediction=prediction).loss)
        simple = lambda predicted: jnp.sum(
            diffusion.simple_loss(SCHEDULE, predicted, X0, T, NOISE, prediction=prediction)
        )
        gradient = jax.grad(total)
        return gradient(output, "rescaled_mse"), gradient(output, "kl"), jax.grad(simple)(output[..., :3])

    program = lambda output: {prediction: gradients(output, prediction) for prediction in ("noise", "x0")}
    for prediction, (gradient, bound, simple) in values(program, OUTPUT).items():
        np.testing.assert_allclose(gradient[..., :3], simple, rtol=1e-5, err_msg=prediction)
        # The decoder at t = 0 differs in float32 from one program to the next.
        np.testing.assert_allclose(gradient[..., 3:], 0.4 * bound[..., 3:], rtol=2e-3, atol=1e-3, err_msg=prediction)
        assert np.max(np.abs(bound[1:, ..., :3])) > 0, prediction


def test_the_sum_over_t_of_the_vlb_loss_is_the_bound():
    """L_vlb of equal weights: T times the mean over t of what one t estimates, without the prior's constant."""
    small = diffusion.make_schedule(diffusion.cosine_betas(4))

    def program(key, x0, output):
        bound = diffusion.bits_per_dim(
            jax.random.clone(key), lambda x, t: output, small, x0, variance="learned_range", clip=False
        )
        keys = diffusion.keys_per_example(key, 1)

        def estimate(t):
            noise = diffusion.normal_per_example(jax.vmap(jax.random.fold_in, (0, None))(jax.random.clone(keys), t), x0)
            return diffusion.training_loss(small, output, x0, t[None], noise, kind="rescaled_kl").loss

        return bound.total - bound.prior, jax.vmap(estimate)(jnp.arange(4))

    bound, estimates = values(program, jax.random.key(0), X0[:1], OUTPUT[:1])
    np.testing.assert_allclose(np.mean(estimates), bound[0], rtol=1e-4)


def test_other_losses_are_refused():
    for message, arguments, options in (
        ("rescaled_kl", ("hybrid",), {}),
        ("same shape", (), {"variance": "fixed_small"}),
        ("'erf'; expected one of tanh, exact", (), {"cdf": "erf"}),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(lambda output, a=arguments, o=options: loss(output, *a, **o), OUTPUT)


def test_rescaled_timesteps_are_in_units_of_a_thousand_steps():
    found = values(lambda t: diffusion.rescaled_timesteps(t, 4000), np.array([0, 1, 3999]))
    np.testing.assert_allclose(found, [0, 0.25, 999.75], rtol=1e-6)
