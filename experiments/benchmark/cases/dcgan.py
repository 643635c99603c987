"""A convolutional GAN at 28x28: one alternating step of both players, and drawing."""

import jax
import jax.numpy as jnp
import optax

from experiments.benchmark.cases.autoencoder import random_bytes
from experiments.benchmark.steps import Case, Sampling, in_torch
from jaxgen import gan, training


def cases() -> list[Case]:
    players = gan.Players(gan.DCGANGenerator(), gan.DCGANDiscriminator(), gan.normal_noise(100))
    optimizer = gan.separate_optimizers(optax.adam(2e-4, b1=0.5), optax.adam(2e-4, b1=0.5))

    def init():
        start = lambda key: players.init(key, {"x": jnp.zeros((1, 28, 28, 1))})
        return training.create_state(jax.jit(start)(jax.random.key(0)), optimizer)

    def take(key, arrays, step, positions):
        return {"x": arrays[(positions + step) % 1000].astype(jnp.float32) / 127.5 - 1}

    batches = training.DeviceBatches(take, random_bytes((1000, 28, 28, 1)))
    draw = lambda params, key, x: players.generate(params["generator"], jax.random.split(key, len(x)))
    sampling = Sampling(draw, jnp.zeros((64, 28, 28, 1)))
    update = gan.two_player_update(players, optimizer)
    return [Case("DCGAN 28x28", 64, update, init, batches, sampling, in_torch("dcgan.dcgan", 64))]
