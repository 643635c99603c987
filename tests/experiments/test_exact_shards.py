"""exact_shards=4 gives the same bits on 1, 2 and 4 devices for the updates that the experiments train with.

The fast tier compares one of them on 1 and 2 devices: KL sparsity, whose loss needs a mean over the whole batch.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import deep_autoencoder, sparse_autoencoder
from experiments import vae as vae_experiment
from jaxgen import autoencoder, data, diffusion, training, vae
from tests.parameters import random_parameters

pytestmark = pytest.mark.optimized
WIDTH, BATCH = 20, 16


def images():
    pixels = np.random.default_rng(0).integers(0, 256, (40, WIDTH), dtype=np.uint8)
    return data.Images(pixels.reshape(40, 4, 5, 1), None, "random")


def fresh(network):
    return random_parameters(network, np.zeros((1, WIDTH), np.float32))


def deep():
    preset = deep_autoencoder.PRESETS["mnist"]
    model = dataclasses.replace(preset.model, widths=(12,), code_size=3)
    network = deep_autoencoder.build(model, WIDTH)
    optimizer = training.build_optimizer(preset.optimizer, 1000)
    loss = autoencoder.reconstruction_loss(network, model.error)
    return training.update_from_objective(loss, optimizer), training.create_state(fresh(network), optimizer)


def conjugate():
    network = deep_autoencoder.build(deep_autoencoder.Model(widths=(12,), code_size=3), WIDTH)
    update = autoencoder.conjugate_gradient_update(autoencoder.reconstruction_loss(network))
    return update, training.create_state(fresh(network), optax.identity())


def sparse(method):
    preset = sparse_autoencoder.PRESETS["mnist"]
    model = dataclasses.replace(preset.model, code_size=24, k=4, start_k=10)
    network, loss, statistics = sparse_autoencoder.build(dataclasses.replace(preset, model=model), method, WIDTH)
    optimizer = optax.adam(1e-2)
    update = training.update_from_objective(loss, optimizer, statistics=statistics)
    return update, training.create_state(fresh(network), optimizer)


def boltzmann():
    optimizer = autoencoder.momentum_sgd(0.1, autoencoder.two_stage_momentum(2))
    params = autoencoder.rbm_params(jax.random.key(1), WIDTH, 8)
    return autoencoder.contrastive_divergence_update(optimizer), training.create_state(params, optimizer)


def variational(bound, num_samples, **model):
    config = dataclasses.replace(
        vae_experiment.PRESETS["mnist"],
        model=vae.Architecture(widths=(12,), upper_widths=(6,), **model),
        objective=vae.Objective(bound, num_samples, "dreg"),
        binarization="grey",
    )
    network, _, loss, _ = config.build(config.model, images().shape, len(images()))
    optimizer = training.build_optimizer(config.optimizer, 1000)
    update = training.update_from_objective(loss, optimizer, ema_decay=training.warm_up_decay(config.ema))
    return update, training.create_state(vae.init_params(jax.random.key(1), network), optimizer, ema=True)


def hybrid():
    """A learned variance, by two convolutions: the loss divides by roots of the schedule."""
    schedule = diffusion.make_schedule(diffusion.cosine_betas(5))
    params = [jnp.full((3, 3, 1, 16), 0.1), jnp.full((3, 3, 16, 2), 0.1)]
    convolve = lambda x, kernel: jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )

    def loss(params, batch, keys, context):
        x0 = batch["x"].reshape(-1, 4, 5, 1)
        t = jax.vmap(lambda key: jax.random.randint(key, (), 0, 5))(jax.random.clone(keys))
        x_t, noise = diffusion.q_sample(keys, schedule, x0, t)
        output = convolve(jnp.tanh(convolve(x_t, params[0])), params[1])
        found = diffusion.training_loss(schedule, output, x0, t, noise)
        return found.loss, {"bound": found.vlb, "error": found.mse}

    optimizer = optax.adam(1e-2)
    return training.update_from_objective(loss, optimizer), training.create_state(params, optimizer)


CASES = {
    "deep": deep,
    "kl": lambda: sparse("kl"),
    "k_sparse": lambda: sparse("k_sparse"),
    "rbm": boltzmann,
    "conjugate gradients": conjugate,
    "hybrid": hybrid,
    "vae": lambda: variational("vae", 1, latent_sizes=(3,)),
    "iwae": lambda: variational("iwae", 4, latent_sizes=(4, 2)),
}


def ends(name, device_counts):
    """Digest of the end of four steps, for each number of devices."""
    update, state = CASES[name]()
    state = jax.device_get(state)
    batches = data.image_batches(images(), BATCH, flat=True)
    key, found = training.keys.root(0), []
    for devices in device_counts:
        parallel = training.ParallelUpdate(
            update, batches, batch_size=BATCH, devices=jax.devices()[:devices], exact_shards=4
        )
        end = parallel(parallel.replicate(state), parallel.empty_sums(state, key), key, None, 4)
        found.append(training.tree_digest(end))
    return found


def test_same_bits_on_1_and_2_devices():
    assert len(set(ends("kl", (1, 2)))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deep", "kl", "k_sparse", "rbm", "vae", "iwae", "hybrid"])
def test_same_bits_on_1_2_and_4_devices(name):
    counts = (1, 4) if name == "iwae" else (1, 2, 4)  # the largest of them to compile
    assert len(set(ends(name, counts))) == 1


@pytest.mark.slow
def test_conjugate_gradients_on_2_and_4_devices():
    """One device rounds differently in the line search; see the update's docstring."""
    assert len(set(ends("conjugate gradients", (2, 4)))) == 1
