"""Ho et al.'s U-Net for CIFAR-10 and a small one for MNIST: the simple loss, and a step of ancestral sampling."""

import functools

import jax
import jax.numpy as jnp
import optax

from experiments.benchmarks.autoencoder import random_bytes
from experiments.timing import Case, Sampling
from experiments.torch_steps import unet as in_torch
from jaxgen import diffusion, training


def cases() -> list[Case]:
    made = []
    for name, batch_size, channels, multipliers, attention, side, colours in (
        ("U-Net, MNIST, 1.6 M", 64, 32, (1, 2, 2), (14,), 28, 1),
        ("U-Net, CIFAR-10, 35.7 M", 8, 128, (1, 2, 2, 2), (16,), 32, 3),
    ):
        network = diffusion.UNet(colours, colours, channels, multipliers, attention_resolutions=attention)
        twin = functools.partial(in_torch.unet, batch_size, channels, multipliers, attention, side, colours)
        made.append(case(name, batch_size, network, side, twin))
    # Parameters and their gradients stay float32.
    narrow = made[-1]
    network = diffusion.UNet(dtype=jnp.bfloat16)
    return [*made, case(narrow.name, narrow.batch_size, network, 32, None, "bfloat16")]


def case(name, batch_size, network, side, twin, precision="float32") -> Case:
    """Clipped Adam and a moving average, as in the paper."""
    shape = (side, side, network.in_channels)
    schedule = diffusion.make_schedule(diffusion.linear_betas(1000))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(2e-4))

    def loss(params, batch, keys, context):
        del context
        for_t, for_noise, for_dropout = jax.vmap(lambda key: tuple(jax.random.split(key, 3)))(keys)
        t = jax.vmap(lambda key: jax.random.randint(key, (), 0, 1000))(for_t)
        noise = jax.vmap(lambda key: jax.random.normal(key, shape))(for_noise)
        x = diffusion.add_noise(schedule, batch, t, noise)
        output = network.apply({"params": params}, x, t, keys=for_dropout)
        return diffusion.simple_loss(schedule, output, batch, t, noise), {}

    def init():
        start = lambda key: network.init(key, jnp.zeros((1, *shape)), jnp.zeros(1, jnp.int32))["params"]
        return training.create_state(jax.jit(start)(jax.random.key(0)), optimizer, ema=True)

    def denoise(params, key, x):
        t = jnp.full(len(x), 500)
        output = network.apply({"params": params}, x, t)
        return diffusion.ancestral_step(key, schedule, output, x, 500).x

    take = lambda key, arrays, step, positions: arrays[(positions + step) % 1000].astype(jnp.float32) / 127.5 - 1
    batches = training.DeviceBatches(take, random_bytes((1000, *shape)))
    update = training.update_from_objective(loss, optimizer, ema_decay=0.9999)
    sampling = Sampling(denoise, jnp.zeros((batch_size, *shape)))
    return Case(name, batch_size, update, init, batches, sampling, twin, precision)
