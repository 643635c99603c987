"""The MNIST preset's U-Net and, in bfloat16, those of Dhariwal & Nichol for ImageNet 64 and 256."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark.cases.autoencoder import random_bytes
from experiments.benchmark.steps import Case, Sampling
from experiments.ddpm.model import build_model
from experiments.ddpm.train import objective
from experiments.guided_diffusion.presets import PRESETS
from jaxgen import data, diffusion, training


def cases() -> list[Case]:
    return [
        case("guided U-Net, MNIST preset", "mnist", 64, (28, 28, 1), 10, "float32"),
        case("ADM, ImageNet 64", "imagenet64", 64, (64, 64, 3), 1000, "bfloat16"),
        case("ADM, ImageNet 256", "imagenet256", 16, (256, 256, 3), 1000, "bfloat16"),
    ]


def case(name: str, preset: str, batch_size: int, shape: tuple[int, int, int], classes: int, dtype) -> Case:
    """The hybrid loss, AdamW and the average; drawing is a class-conditional ancestral step amid the chain."""
    config = PRESETS[preset]
    process, dropout = config.process, config.labels.dropout
    optimizer = training.build_optimizer(config.optimizer, config.train.num_steps)
    network = dataclasses.replace(config.network, dtype=dtype)
    model = build_model(network, process, shape, classes=classes, label_dropout=dropout)
    loss = objective(process, model, label_dropout=dropout, uniform_share=config.timesteps.uniform_share)
    init = lambda: training.create_state(model.init(jax.random.key(0)), optimizer, ema=True)
    labels = np.arange(4 * batch_size, dtype=np.int32) % classes

    def step(params, key, x):
        t = jnp.full((batch_size,), 500, jnp.int32)
        output = model.apply(params, x, t, jnp.asarray(labels[:batch_size]))
        return diffusion.ancestral_step(key, model.schedule, output, x, t, variance=model.variance).x

    images = data.Images(random_bytes((4 * batch_size, *shape)), labels, "random")
    batches = data.image_batches(images, batch_size)
    assert isinstance(batches, training.DeviceBatches)
    update = training.update_from_objective(loss, optimizer, ema_decay=0.9999)
    return Case(
        name, batch_size, update, init, batches, Sampling(step, jnp.zeros((batch_size, *shape))), precision=dtype
    )
