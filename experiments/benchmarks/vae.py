"""The one-layer networks of Burda et al. and of Kingma & Welling."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import flat_images
from experiments import vae as experiment
from experiments.benchmarks.autoencoder import images
from experiments.timing import Case, Sampling
from experiments.torch_steps import vae as in_torch
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
        if config.sweep:
            model = dataclasses.replace(model, latent_sizes=(20,))
        bound = experiment.Objective("iwae", num_samples) if num_samples else experiment.Objective()
        chosen = dataclasses.replace(config, objective=bound)
        random = flat_images.FlatImages(np.zeros((1, 784), np.uint8), None, (28, 28, 1), "random")
        network, likelihood = experiment.build(model, random), experiment.likelihood_of(model, config.binarization)
        loss, _ = experiment.objective(chosen, model, random)
        optimizer = optax.adam(1e-3)
        update = training.update_from_objective(loss, optimizer)

        def init(network=network, optimizer=optimizer):
            return training.create_state(vae.init_params(jax.random.key(0), network), optimizer)

        def draw(params, key, x, network=network, likelihood=likelihood):
            return vae.sample(key, network, params, likelihood, len(x))[1]

        sampling = Sampling(draw, jnp.zeros((batch_size, 784)))
        twin = functools.partial(in_torch.vae, batch_size, model.widths, model.latent_sizes[0], num_samples)
        made.append(Case(name, batch_size, update, init, images(batch_size, binarize=True), sampling, twin))
    return made
