"""The losses of `ddpm` against the bound, and their parts."""

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.ddpm.model import DiffusionConfig
from experiments.ddpm.train import objective
from jaxgen import diffusion, training
from tests.experiments.ddpm.toys import TINY, Constant, changed, keys_of, model_of


def losses(process, params, num):
    """The objective on `num` copies of X0, each with a key of its own."""
    loss = objective(process, model_of(changed(TINY, process=process), Constant()))
    batch = {"x": jnp.broadcast_to(X0, (num, *X0.shape[1:]))}
    return loss(params, batch, keys_of(num, 3), training.update.Context(jnp.int32(0)))


X0 = np.linspace(-0.9, 0.9, 6, dtype=np.float32).reshape(1, 1, 6, 1)


def outputs(scale, *shape):
    return (scale * np.random.default_rng(1).normal(size=shape)).astype(np.float32)


def test_the_bound_as_a_loss_is_the_bound_in_bits_per_dim_on_average():
    process = DiffusionConfig(steps=30, loss="rescaled_kl")
    schedule = process.make_schedule()

    @jax.jit
    def both(params):
        denoise = lambda x, t: params[t]
        x0 = jnp.broadcast_to(X0, (500, *X0.shape[1:]))
        exact = diffusion.bits_per_dim(jax.random.key(9), denoise, schedule, x0, clip=False)
        return losses(process, params, 20_000)[0], exact.terms

    found, terms = (np.asarray(x, np.float64) for x in both(outputs(0.5, 30, 1, 6, 1)))
    per_image = terms.sum(axis=1)
    error = math.hypot(found.std() / len(found) ** 0.5, per_image.std() / len(per_image) ** 0.5)
    assert abs(found.mean() - per_image.mean()) < 4 * error and error < 0.03 * per_image.mean()


def test_the_simple_loss_has_the_noise_s_own_variance_and_its_quarters_add_up():
    params = np.zeros((30, 1, 6, 1), np.float32)
    found, named = jax.device_get(jax.jit(partial(losses, DiffusionConfig(steps=30), num=4000))(params))
    np.testing.assert_allclose(found.mean(dtype=np.float64), 1, atol=4 * math.sqrt(2 / 6 / 4000))
    quarters = np.stack([named[f"error_quarter_{i}"] for i in (1, 2, 3, 4)])
    np.testing.assert_allclose(quarters.sum(axis=0), 4 * found, rtol=1e-6)
    assert ((quarters > 0).sum(axis=0) == 1).all()
    shares = (quarters > 0).mean(axis=1)
    np.testing.assert_allclose(shares, [8 / 30, 7 / 30, 8 / 30, 7 / 30], atol=0.03)


def test_the_hybrid_loss_trains_the_variance_by_the_bound_and_the_rest_by_the_error():
    hybrid = DiffusionConfig(steps=30, variance="learned_range", loss="rescaled_mse", bound_weight=0.01)
    processes = {
        "hybrid": hybrid,
        "bound": dataclasses.replace(hybrid, loss="rescaled_kl"),
        "simple": dataclasses.replace(hybrid, bound_weight=0.0),
    }

    @jax.jit
    def gradients(params):
        mean = lambda process: lambda params: jnp.mean(losses(process, params, 200)[0])
        return {name: jax.grad(mean(process))(params) for name, process in processes.items()}

    found = jax.device_get(gradients(outputs(0.3, 30, 1, 6, 2)))
    hybrid, bound, simple = found["hybrid"], found["bound"], found["simple"]
    np.testing.assert_allclose(hybrid[..., 0], simple[..., 0], rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(hybrid[..., 1], 0.01 * bound[..., 1], rtol=1e-4, atol=1e-8)
    assert np.any(bound[..., 1] != 0) and np.all(simple[..., 1] == 0)
