"""The players of Goodfellow et al. for MNIST: one step of both, and drawing."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark.steps import Case, Sampling
from experiments.gan import PRESETS
from experiments.gan.data import Images
from experiments.gan.train import build, build_update, init_state
from jaxgen import data


def cases() -> list[Case]:
    made = []
    for name, preset in (("GAN, alternating", "mnist"), ("GAN of 2014, simultaneous", "paper")):
        config = PRESETS[preset]
        batch_size = config.train.batch_size
        random = images()
        players = build(config.model, random)
        optimizer, update = build_update(config, players)

        def init(players=players, optimizer=optimizer, config=config):
            params = players.init(jax.random.key(0), {"x": jnp.zeros((1, 784))})
            return init_state(jax.random.key(1), config.objective, params, optimizer)

        def draw(params, key, x, players=players):
            return players.generate(params["generator"], jax.random.split(key, len(x)))

        sampling = Sampling(draw, jnp.zeros((batch_size, 784)))
        steps = config.objective.discriminator_steps
        made.append(Case(name, batch_size, update, init, random.batches(batch_size, steps), sampling))
    return made


def images() -> Images:
    """10,000 random images."""
    x = np.asarray(jax.random.bits(jax.random.key(0), (10_000, 28, 28, 1), jnp.uint8))
    flat = data.Images(x, None, "random")
    return Images(flat, flat, flat, flat, signed=False)
