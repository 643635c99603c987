"""The one-layer networks of Burda et al. and of Kingma & Welling."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from experiments import vae as experiment
from experiments.benchmark.cases.autoencoder import images
from experiments.benchmark.steps import Case, Sampling, in_torch
from jaxgen import training, vae


def cases() -> list[Case]:
    made = []
    for name, preset, num_samples in (
        ("VAE 784-200-200-50", "mnist", 0),
        ("IWAE 784-200-200-50, k = 1", "iwae", 1),
        ("IWAE 784-200-200-50, k = 5", "iwae", 5),
        ("IWAE 784-200-200-50, k = 50", "iwae", 50),
        ("VAE 784-500-20", "paper_kingma", 0),
    ):
        config = experiment.PRESETS[preset]
        model, batch_size = config.model, config.train.batch_size
        if config.compared_latent_sizes:
            model = dataclasses.replace(model, latent_sizes=(20,))
        bound = vae.Objective("iwae", num_samples) if num_samples else vae.Objective()
        chosen = dataclasses.replace(config, objective=bound)

        network, likelihood, loss, _ = chosen.build(model, (28, 28, 1), 1)
        optimizer = optax.adam(1e-3)
        update = training.update_from_objective(loss, optimizer)

        def init(network=network, optimizer=optimizer):
            return training.create_state(vae.init_params(jax.random.key(0), network), optimizer)

        def draw(params, key, x, network=network, likelihood=likelihood):
            return vae.sample(key, network, params, likelihood, len(x))[1]

        sampling = Sampling(draw, jnp.zeros((batch_size, 784)))
        twin = in_torch("vae.vae", batch_size, model.widths, model.latent_sizes[0], num_samples)
        made.append(Case(name, batch_size, update, init, images(batch_size, binarize=True), sampling, twin))
    return made
