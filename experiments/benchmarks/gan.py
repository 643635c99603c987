"""The players of Goodfellow et al. for MNIST: one step of both, and drawing."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import flat_images, gan_data
from experiments import gan as experiment
from experiments.timing import Case, Sampling


def cases() -> list[Case]:
    made = []
    for name, preset in (("GAN, alternating", "mnist"), ("GAN of 2014, simultaneous", "paper")):
        config = experiment.PRESETS[preset]
        batch_size = config.train.batch_size
        random = images()
        players = experiment.build(config.model, random)
        optimizer, update = experiment.update_of(config, players)

        def init(players=players, optimizer=optimizer, config=config):
            params = players.init(jax.random.key(0), {"x": jnp.zeros((1, 784))})
            return experiment.start(jax.random.key(1), config.objective, params, optimizer)

        def draw(params, key, x, players=players):
            return players.generate(params["generator"], jax.random.split(key, len(x)))

        sampling = Sampling(draw, jnp.zeros((batch_size, 784)))
        steps = config.objective.discriminator_steps
        made.append(Case(name, batch_size, update, init, random.batches(batch_size, steps), sampling))
    return made


def images() -> gan_data.Images:
    """10,000 random images."""
    x = np.asarray(jax.random.bits(jax.random.key(0), (10_000, 784), jnp.uint8))
    flat = flat_images.FlatImages(x, None, (28, 28, 1), "random")
    return gan_data.Images(flat, flat, flat, flat, signed=False)
