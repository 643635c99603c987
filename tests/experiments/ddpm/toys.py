"""A small configuration of `ddpm`, and a network that compiles quickly."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments import ddpm
from experiments.command import image_data
from experiments.ddpm.config import Evaluation
from experiments.ddpm.model import DiffusionConfig, Network, build_model
from jaxgen import diffusion, training
from jaxgen.diffusion import Sampler

TINY = ddpm.Config(
    data=image_data.ImageData(flip=True),
    network=Network(4, (1,), 1, (), groups=2, dropout=0.5),
    process=DiffusionConfig(steps=40),
    optimizer=training.Optimizer("adam", 1e-2, clip=1.0),
    ema=0.99,
    preview_every=2,
    preview=Sampler("dpm_solver", "logsnr4"),
    evaluation=Evaluation(images=5, samples=12, sampler=Sampler(steps="6"), batch_size=4),
    train=training.Settings(num_steps=4, batch_size=8, log_every=2, save_every=2, devices=1),
)
SHAPE = (8, 8, 1)


def changed(config: Any = TINY, **fields) -> Any:
    """A config with fields such as network__dropout=0."""
    for name, value in fields.items():
        outer, _, inner = name.partition("__")
        if inner:
            value = changed(getattr(config, outer), **{inner: value})
        config = dataclasses.replace(config, **{outer: value})
    return config


def model_of(config, network=None, shape=SHAPE):
    """The model of a config, perhaps of another network."""
    model = build_model(config.network, config.process, shape)
    return model if network is None else dataclasses.replace(model, network=network)


@partial(jax.jit, static_argnums=(0, 1))
def keys_of(num, seed=0):
    """A key for each of the numbers below num."""
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(num))


class Constant:
    """A "network" that ignores x: its parameters are its output, one for each step of the chain."""

    dropout = 0.0

    def apply(self, variables, x, t, keys=None):
        return variables["params"][t]


class Small(nn.Module):
    """As a U-Net is called, but compiled in no time."""

    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, t, labels=None, keys=None):
        if keys is not None:
            kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.dropout, SHAPE))(keys)
            x = x * kept.astype(x.dtype)
        return nn.Dense(1)(nn.tanh(nn.Dense(8)(x)))


def make_networks_small(monkeypatch):
    """Replaces the U-Net of every config."""
    monkeypatch.setattr(diffusion, "UNet", lambda dropout, **_: Small(dropout))
