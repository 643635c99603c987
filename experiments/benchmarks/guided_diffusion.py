"""The MNIST preset's U-Net and, in bfloat16, those of Dhariwal & Nichol for ImageNet 64 and 256."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from experiments import guided_diffusion as experiment
from experiments import guided_training, image_batches, optimizers
from experiments.benchmarks.autoencoder import random_bytes
from experiments.diffusion_chain import make_schedule
from experiments.guided_networks import Conditions, build
from experiments.timing import Case, Sampling
from jaxgen import diffusion, training


def cases() -> list[Case]:
    return [
        case("guided U-Net, MNIST preset", "mnist", 64, (28, 28, 1), 10, "float32"),
        case("ADM, ImageNet 64", "imagenet64", 64, (64, 64, 3), 1000, "bfloat16"),
        case("ADM, ImageNet 256", "imagenet256", 16, (256, 256, 3), 1000, "bfloat16"),
    ]


def case(name: str, preset: str, batch_size: int, shape: tuple[int, int, int], classes: int, dtype) -> Case:
    """The hybrid loss, AdamW and the average; drawing is a class-conditional ancestral step amid the chain."""
    config = experiment.PRESETS[preset]
    process, conditions = config.process, Conditions(classes, config.labels.dropout)
    schedule, optimizer = make_schedule(process), optimizers.build(config.optimizer, config.train.num_steps)
    denoiser = build(dataclasses.replace(config.network, dtype=dtype), conditions, shape, learned=process.learned)
    loss = guided_training.objective(process, config.timesteps, schedule, denoiser, conditions)
    init = lambda: training.create_state(denoiser.init(jax.random.key(0), shape), optimizer, ema=True)
    labels = np.arange(4 * batch_size, dtype=np.int32) % classes

    def step(params, key, x):
        t = jnp.full((batch_size,), 500, jnp.int32)
        output = denoiser.apply({"params": params}, x, t, jnp.asarray(labels[:batch_size]))
        return diffusion.ancestral_step(key, schedule, output, x, t, variance=process.p_variance).x

    images = image_batches.Images(random_bytes((4 * batch_size, *shape)), labels, "random")
    batches = image_batches.batches(images, batch_size)
    assert isinstance(batches, training.DeviceBatches)
    update = training.update_from_objective(loss, optimizer, ema_decay=0.9999)
    return Case(
        name, batch_size, update, init, batches, Sampling(step, jnp.zeros((batch_size, *shape))), precision=dtype
    )
