"""Autoencoders at their MNIST presets' sizes, and the machines that pretrain them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments import contractive_autoencoder, deep_autoencoder, sparse_autoencoder
from experiments.benchmark.steps import Case, Sampling, in_torch
from jaxgen import autoencoder, data, training


def cases() -> list[Case]:
    key = jax.random.key(0)
    made = []

    def add(name, batch_size, network, loss, optimizer, twin, statistics=None):
        update = training.update_from_objective(loss, optimizer, statistics=statistics)
        params = lambda: network.init(key, jnp.zeros((1, 784)))["params"]
        init = lambda: training.create_state(params(), optimizer)
        made.append(Case(name, batch_size, update, init, images(batch_size), torch=twin))

    deep = deep_autoencoder.PRESETS["mnist"]
    network = deep_autoencoder.build(deep.model, 784)
    widths = (784, *deep.model.widths, deep.model.code_size)
    add(
        "deep autoencoder", deep.train.batch_size, network,
        autoencoder.reconstruction_loss(network, deep.model.error),
        training.build_optimizer(deep.optimizer, deep.train.num_steps),
        in_torch("autoencoder.deep", deep.train.batch_size, widths, deep.model.activation),
    )  # fmt: skip
    made.append(boltzmann_machine(key))
    sparse = sparse_autoencoder.PRESETS["mnist"]
    for method in sparse.methods:
        network, loss, statistics = sparse_autoencoder.build(sparse, method, 784)
        twin = in_torch("autoencoder.sparse", sparse.train.batch_size, method, sparse.model)
        add(f"sparse: {method}", sparse.train.batch_size, network, loss, optax.adam(1e-3), twin, statistics)
    contractive = contractive_autoencoder.PRESETS["mnist"]
    network = autoencoder.Autoencoder(784, (), 1000, code_activation=nn.sigmoid, tied=True)
    weight = contractive.model.contraction
    loss = autoencoder.contractive_loss(network, weight)
    add("contractive", 100, network, loss, optax.adam(1e-3), in_torch("autoencoder.contractive", 100, weight))
    classifier = autoencoder.Classifier(784, (), 1000, 10, code_activation=nn.sigmoid)
    loss, optimizer = autoencoder.classification_loss(classifier), optax.sgd(0.05, momentum=0.9)
    add("classifier 784-1000-10", 100, classifier, loss, optimizer, in_torch("autoencoder.classifier", 100))
    return made


def boltzmann_machine(key: jax.Array) -> Case:
    """Contrastive divergence; drawing is a step of Gibbs sampling."""
    optimizer = autoencoder.momentum_sgd(0.1, 0.9)
    update = autoencoder.contrastive_divergence_update(optimizer)
    init = lambda: training.create_state(autoencoder.rbm_params(key, 784, 1000), optimizer)

    def gibbs(params, key, v):
        for_hidden, for_visible = jax.random.split(key)
        draw = lambda key, mean: jax.random.bernoulli(key, mean).astype(mean.dtype)
        h = draw(for_hidden, autoencoder.hidden_given_visible(params, v))
        return draw(for_visible, autoencoder.visible_given_hidden(params, h))

    sampling = Sampling(gibbs, jnp.zeros((100, 784)))
    twin = in_torch("autoencoder.boltzmann_machine", 100)
    return Case("RBM 784-1000", 100, update, init, images(100), sampling, twin)


def images(batch_size: int, binarize: bool = False) -> training.DeviceBatches:
    """Batches of 10,000 flat random images."""
    label = np.arange(10_000, dtype=np.int32) % 10
    made = data.Images(random_bytes((10_000, 28, 28, 1)), label, "random")
    batches = data.image_batches(made, batch_size, flat=True, binarize=binarize)
    assert isinstance(batches, training.DeviceBatches)
    return batches


@functools.cache
def random_bytes(shape: tuple[int, ...]) -> np.ndarray:
    """Images of noise."""
    return np.asarray(jax.random.bits(jax.random.key(0), shape, jnp.uint8))
