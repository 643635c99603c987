import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxgen import diffusion

RNG = np.random.default_rng(0)
SCHEDULE = diffusion.make_schedule(diffusion.cosine_betas(400))
T = np.array([0, 1, 200, 399])
X0 = (np.round(RNG.uniform(0, 255, size=(4, 2, 2, 3))) / 127.5 - 1).astype(np.float32)
NOISE = RNG.normal(size=X0.shape).astype(np.float32)
OUTPUT = RNG.normal(size=(4, 2, 2, 6)).astype(np.float32)


def loss(output, kind="rescaled_mse", **options):
    return diffusion.training_loss(SCHEDULE, output, X0, jnp.asarray(T), NOISE, kind=kind, **options)


def test_losses_are_those_of_the_authors_in_their_units():
    x_t = diffusion.add_noise(SCHEDULE, X0, T, NOISE)
    nats = diffusion.vlb_term(SCHEDULE, OUTPUT, X0, x_t, T, variance="learned_range", clip=False)
    bits = np.asarray(nats) / (12 * np.log(2))
    mse = np.mean((OUTPUT[..., :3] - NOISE) ** 2, axis=(1, 2, 3))
    expected = {"mse": mse + bits, "rescaled_mse": mse + 0.4 * bits, "kl": bits, "rescaled_kl": 400 * bits}
    for kind, value in expected.items():
        found = loss(OUTPUT, kind)
        np.testing.assert_allclose(found.loss, value, rtol=1e-5)
        np.testing.assert_allclose(found.mse, mse, rtol=1e-5)
        np.testing.assert_allclose(found.vlb, bits, rtol=1e-5)
    fixed = loss(OUTPUT[..., :3], variance="fixed_large")
    np.testing.assert_allclose(fixed.loss, mse, rtol=1e-5)


def test_the_exact_decoder_is_in_the_bound_of_every_kind():
    """At t = 0 the mass of the normal distribution, in bits for each dimension; the other terms have no decoder."""
    x_t = diffusion.add_noise(SCHEDULE, X0, T, NOISE)
    p = diffusion.p_mean_variance(SCHEDULE, OUTPUT, x_t, T, variance="learned_range", clip=False)
    x0, mean, sd = X0[0].astype(float), np.asarray(p.mean[0], float), np.exp(np.asarray(p.log_variance[0], float) / 2)
    low, high = np.where(x0 > -0.999, x0 - 1 / 255, -np.inf), np.where(x0 < 0.999, x0 + 1 / 255, np.inf)
    tails = np.sort([np.where(x0 > mean, mean - a, a - mean) / sd for a in (low, high)], axis=0)
    logs = special.log_ndtr(tails)
    bits = -np.mean(logs[1] + np.log(-np.expm1(logs[0] - logs[1]))) / np.log(2)
    for kind in ("mse", "rescaled_mse", "kl", "rescaled_kl"):
        tanh, exact = loss(OUTPUT, kind), loss(OUTPUT, kind, cdf="exact")
        np.testing.assert_allclose(exact.vlb[0], bits, rtol=1e-5)
        np.testing.assert_array_equal(exact.vlb[1:], tanh.vlb[1:])
        factor = {"mse": 1, "rescaled_mse": 0.4, "kl": 1, "rescaled_kl": 400}[kind]
        np.testing.assert_allclose(exact.loss - tanh.loss, factor * (exact.vlb - tanh.vlb), rtol=1e-4, atol=1e-5)
    assert abs(tanh.vlb[0] / bits - 1) > 1e-4


@pytest.mark.parametrize("prediction", ["noise", "x0"])
def test_the_hybrid_gradient_reaches_the_mean_only_through_the_simple_term(prediction):
    total = lambda output, kind: jnp.sum(loss(output, kind, prediction=prediction).loss)
    gradient = jax.grad(total)(OUTPUT, "rescaled_mse")
    simple = jax.grad(
        lambda predicted: jnp.sum(
            diffusion.simple_loss(SCHEDULE, predicted, X0, jnp.asarray(T), NOISE, prediction=prediction)
        )
    )(OUTPUT[..., :3])
    np.testing.assert_allclose(gradient[..., :3], simple, rtol=1e-5)
    bound = jax.grad(total)(OUTPUT, "kl")
    # The decoder at t = 0 differs in float32 from one program to the next.
    np.testing.assert_allclose(gradient[..., 3:], 0.4 * bound[..., 3:], rtol=2e-3, atol=1e-3)
    assert jnp.max(jnp.abs(bound[1:, ..., :3])) > 0


def test_the_sum_over_t_of_the_vlb_loss_is_the_bound():
    """L_vlb of equal weights: T times the mean over t of what one t estimates, without the prior's constant."""
    small = diffusion.make_schedule(diffusion.cosine_betas(4))
    x0, output = X0[:1], OUTPUT[:1]
    bound = diffusion.bits_per_dim(
        jax.random.key(0), lambda x, t: jnp.asarray(output), small, x0, variance="learned_range", clip=False
    )
    keys = diffusion.example_keys(jax.random.key(0), 1)
    estimates = []
    for t in range(4):
        noise = diffusion.example_normal(jax.vmap(jax.random.fold_in, (0, None))(keys, t), x0)
        found = diffusion.training_loss(small, output, x0, jnp.asarray([t]), noise, kind="rescaled_kl")
        estimates.append(found.loss)
    np.testing.assert_allclose(np.mean(estimates), bound.total[0] - bound.prior[0], rtol=1e-4)


def test_other_losses_are_refused():
    with pytest.raises(ValueError, match="rescaled_kl"):
        loss(OUTPUT, "hybrid")
    with pytest.raises(ValueError, match="same shape"):
        loss(OUTPUT, variance="fixed_small")
    with pytest.raises(ValueError, match="'erf'; expected one of tanh, exact"):
        loss(OUTPUT, cdf="erf")


def test_rescaled_timesteps_are_in_units_of_a_thousand_steps():
    t = jnp.asarray([0, 1, 3999])
    np.testing.assert_allclose(diffusion.rescaled_timesteps(t, 4000), [0, 0.25, 999.75], rtol=1e-6)
