"""Ho et al.'s network for CIFAR-10, one of its kind for MNIST, and the MNIST preset's own."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from experiments import ddpm as experiment
from experiments import image_batches, optimizers
from experiments.benchmarks.autoencoder import random_bytes
from experiments.timing import Case, Sampling
from experiments.torch_steps import unet as in_torch
from jaxgen import diffusion, training


def cases() -> list[Case]:
    paper, mnist = experiment.PRESETS["cifar10"].network, experiment.PRESETS["mnist"]
    narrow = experiment.Network(32, (1, 2, 2), attention=(14,))
    half = dataclasses.replace(paper, dtype="bfloat16")
    # Of the paper's 128, what two cores can do in a second or two.
    batch_size = 8 if jax.default_backend() == "cpu" else experiment.PRESETS["cifar10"].train.batch_size
    return [
        case("U-Net, CIFAR-10", batch_size, (32, 32, 3), paper),
        case("U-Net, CIFAR-10", batch_size, (32, 32, 3), half, twin=False),
        case("U-Net 32-64-64, MNIST", 64, (28, 28, 1), narrow),
        # PyTorch's has two blocks a level and 32 groups.
        case("U-Net, MNIST preset", mnist.train.batch_size, (28, 28, 1), mnist.network, twin=False),
    ]


def case(name: str, batch_size: int, shape, network: experiment.Network, twin: bool = True) -> Case:
    """The simple loss with clipping, Adam and the average; drawing is an ancestral step in the middle of the chain."""
    process = experiment.Process()
    schedule, unet = experiment.make_schedule(process), experiment.build(network, process, shape)
    optimizer = optimizers.build(optimizers.Optimizer("adam", 2e-4, clip=1.0), 1000)
    loss = experiment.objective(process, schedule, unet)
    update = training.update_from_objective(loss, optimizer, ema_decay=0.9999)
    init = lambda: training.create_state(experiment.init(unet, jax.random.key(0), shape), optimizer, ema=True)

    def denoise(params, key, x):
        t = jnp.full((len(x),), 500, jnp.int32)
        return diffusion.ancestral_step(key, schedule, unet.apply({"params": params}, x, t), x, t).x  # type: ignore

    batches = image_batches.batches(image_batches.Images(random_bytes((2000, *shape)), None, "random"), batch_size)
    assert isinstance(batches, training.DeviceBatches)
    sizes = (batch_size, network.channels, network.multipliers, network.attention, shape[0], shape[2])
    return Case(
        name,
        batch_size,
        update,
        init,
        batches,
        Sampling(denoise, jnp.zeros((batch_size, *shape))),
        functools.partial(in_torch.unet, *sizes) if twin else None,
        network.dtype,
    )
