"""Calls of `jaxgen.gan`."""

import jax.numpy as jnp
import numpy as np

from jaxgen import gan
from tests.inputs import call, key, keys, unit
from tests.parameters import random_parameters

_SETTINGS = "makes networks, noise or an initializer from settings"
EXEMPT = {
    "advance_spectral": "trees of parameters; its mathematics is power_iteration",
    "constant_bias": _SETTINGS,
    "dcgan_players": _SETTINGS,
    "halvings": "takes a number",
    "mlp_players": _SETTINGS,
    "normal_noise": _SETTINGS,
    "separate_optimizers": "makes an optimizer",
    "spectrally_normalized": "trees of parameters; its mathematics is spectral_norm",
    "two_player_update": "makes an update; tests/gan/test_update.py",
    "uniform_init": _SETTINGS,
    "uniform_noise": _SETTINGS,
    "warnings": "reads a dictionary of numbers",
}


def calls():
    players = gan.mlp_players(3, gan.normal_noise(2), (4,), (4,))
    generator = random_parameters(players.generator, np.zeros((1, 2), np.float32))
    discriminator = random_parameters(players.discriminator, np.zeros((1, 3), np.float32))
    critic = lambda x: jnp.sum(jnp.tanh(x), axis=-1)
    x, y, logits, more = unit(5, 3), unit(5, 3), unit(5), unit(5)
    pair = {"real_logits": logits, "fake_logits": more}
    images = {"keys": keys(5), "critic": critic, "real": x, "fake": y}
    kernel = {"kernel": unit(3, 4), "u": np.full(4, 0.5, np.float32)}
    return {
        "check_labels": call(labels=np.array([0, 2, 1]), num_classes=3),
        "compare_to_optimal": call(**pair, optimal_real_logits=unit(5), optimal_fake_logits=unit(5)),
        "diagnose": call("real", "fake", losses=gan.NON_SATURATING, **pair, real=x, fake=y),
        "discriminator_logits": call("x:1", players=players, params=discriminator, x=x),
        "discriminator_loss": call(**pair),
        "dragan_penalty": call("real:1", **{**images, "fake": None}),
        "dropout": call("x", keys=keys(5), x=x, keep=0.5),
        "estimate_optimal_logits": call(
            "samples", "x", real_log_density=lambda x: jnp.sum(x, axis=-1), samples=y, x=x, width=0.5
        ),
        "generator_loss": call("fake_logits", fake_logits=logits),
        "gradient_penalty": call(**images),
        "hinge_discriminator_loss": call(**pair),
        "init_spectral": call(key=key(), params={"kernel": unit(3, 4)}),
        "interpolate": call(key=key(), players=players, params=generator, num_walks=2, num_steps=3),
        "jensen_shannon": call(p=x, q=y, weights=unit(3)),
        "least_squares_discriminator_loss": call(**pair),
        "least_squares_generator_loss": call("fake_logits", fake_logits=logits),
        "marginal_logits": call(x=x),
        "maxout": call("x", x=unit(5, 6), pieces=2),
        "maxout_players": call(x=x, noise=gan.normal_noise(2)),
        "optimal_discriminator": call(p_real=x, p_generated=y),
        "optimal_logits": call(log_p_real=x, log_p_generated=y),
        "power_iteration": call("kernel", **kernel),
        "r1_penalty": call("real:1", **{**images, "keys": None, "fake": None}),
        "sample": call(key=key(), players=players, params=generator, num=3),
        "spectral_norm": call("kernel", **kernel),
        "squared_gradient": call("x:1", critic=critic, x=x),
        "value": call(**pair),
        "wasserstein_discriminator_loss": call(**pair),
        "wasserstein_generator_loss": call("fake_logits", fake_logits=logits),
    }
