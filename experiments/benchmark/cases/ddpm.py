"""Ho et al.'s network for CIFAR-10, one of its kind for MNIST, and the MNIST preset's own."""

import dataclasses

import jax
import jax.numpy as jnp

from experiments.benchmark.cases.autoencoder import random_bytes
from experiments.benchmark.steps import Case, Sampling, in_torch
from experiments.ddpm.model import DiffusionConfig, Network, build_model
from experiments.ddpm.presets import PRESETS
from experiments.ddpm.train import objective
from jaxgen import data, diffusion, training


def cases() -> list[Case]:
    paper, mnist = PRESETS["cifar10"].network, PRESETS["mnist"]
    narrow = Network(32, (1, 2, 2), attention=(14,))
    half = dataclasses.replace(paper, dtype="bfloat16")
    # Of the paper's 128, what two cores can do in a second or two.
    batch_size = 8 if jax.default_backend() == "cpu" else PRESETS["cifar10"].train.batch_size
    return [
        case("U-Net, CIFAR-10", batch_size, (32, 32, 3), paper),
        case("U-Net, CIFAR-10", batch_size, (32, 32, 3), half, twin=False),
        case("U-Net 32-64-64, MNIST", 64, (28, 28, 1), narrow),
        # PyTorch's has two blocks a level and 32 groups.
        case("U-Net, MNIST preset", mnist.train.batch_size, (28, 28, 1), mnist.network, twin=False),
    ]


def case(name: str, batch_size: int, shape, network: Network, twin: bool = True) -> Case:
    """The simple loss with clipping, Adam and the average; drawing is an ancestral step in the middle of the chain."""
    process = DiffusionConfig()
    model = build_model(network, process, shape)
    optimizer = training.build_optimizer(training.Optimizer("adam", 2e-4, clip=1.0), 1000)
    loss = objective(process, model)
    update = training.update_from_objective(loss, optimizer, ema_decay=0.9999)
    init = lambda: training.create_state(model.init(jax.random.key(0)), optimizer, ema=True)

    def denoise(params, key, x):
        t = jnp.full((len(x),), 500, jnp.int32)
        return diffusion.ancestral_step(key, model.schedule, model.apply(params, x, t), x, t).x

    batches = data.image_batches(data.Images(random_bytes((2000, *shape)), None, "random"), batch_size)
    assert isinstance(batches, training.DeviceBatches)
    sizes = (batch_size, network.channels, network.multipliers, network.attention, shape[0], shape[2])
    return Case(
        name,
        batch_size,
        update,
        init,
        batches,
        Sampling(denoise, jnp.zeros((batch_size, *shape))),
        in_torch("unet.unet", *sizes) if twin else None,
        network.dtype,
    )
