"""Training speed beside this machine's matrix-product rate and, where torch is installed, plain PyTorch.

    python -m experiments.benchmark

Every case runs real updates of its MNIST preset's shapes on random images, one after another in interleaved rounds, and
the medians are printed with the share of the matrix-product rate measured in the same rounds. The floating-point
operations are counted by hand: 2 for each weight and example forward, 4 backward. PyTorch runs the same step on as many
threads as there are cores.
"""

import dataclasses
import functools
import importlib.util
import os
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments import (
    contractive_autoencoder,
    deep_autoencoder,
    flat_images,
    optimizers,
    sparse_autoencoder,
    torch_steps,
)
from experiments import vae as vae_experiment
from jaxgen import autoencoder, training, vae

ROUNDS, SECONDS = 5, 1.5


class Case(NamedTuple):
    """One training step: its name, its batch, the multiply-adds of one example forward and backward, and the step.

    `torch` makes the same step in PyTorch, if it is there to compare with.
    """

    name: str
    batch_size: int
    multiply_adds: int
    update: training.Update
    state: training.TrainState
    torch: Callable[[], Callable[[int], None]] | None = None
    binarize: bool = False


def cases() -> list[Case]:
    """The steps of the experiments at their MNIST presets' sizes."""
    key = jax.random.key(0)
    init = lambda network: network.init(key, jnp.zeros((1, 784)))["params"]
    made = []

    def add(name, batch_size, params, multiply_adds, loss, optimizer, statistics=None):
        update = training.update_from_objective(loss, optimizer, statistics=statistics)
        made.append(Case(name, batch_size, multiply_adds, update, training.create_state(params, optimizer)))

    deep = deep_autoencoder.PRESETS["mnist"]
    network = deep_autoencoder.build(deep.model, 784)
    params = init(network)
    add(
        "deep autoencoder", deep.train.batch_size, params, 3 * weights(params) - 784_000,
        autoencoder.reconstruction_loss(network, deep.model.error),
        optimizers.build(deep.optimizer, deep.train.num_steps),
    )  # fmt: skip
    optimizer = autoencoder.momentum_sgd(0.1, 0.9)
    rbm = autoencoder.rbm_params(key, 784, 1000)
    update = autoencoder.contrastive_divergence_update(optimizer)
    # Up, down, up, and two outer products.
    made.append(Case("RBM 784-1000", 100, 5 * 784_000, update, training.create_state(rbm, optimizer)))
    sparse = sparse_autoencoder.PRESETS["mnist"]
    for method in sparse.methods:
        network, loss, statistics = sparse_autoencoder.build(sparse, method, 784)
        # Two layers, tied or not; the gradient for the pixels is not taken. XLA merges KL's two passes of the encoder.
        params = init(network)
        add(f"sparse: {method}", sparse.train.batch_size, params, 5 * 784_000, loss, optax.adam(1e-3), statistics)
    contractive = contractive_autoencoder.PRESETS["mnist"]
    network = autoencoder.Autoencoder(784, (), 1000, code_activation=nn.sigmoid, tied=True)
    loss = autoencoder.contractive_loss(network, contractive.model.contraction)
    add("contractive", 100, init(network), 5 * 784_000, loss, optax.adam(1e-3))
    classifier = autoencoder.Classifier(784, (), 1000, 10, code_activation=nn.sigmoid)
    loss = autoencoder.classification_loss(classifier)
    add("classifier 784-1000-10", 100, init(classifier), 2 * 784_000 + 30_000, loss, optax.sgd(0.05, momentum=0.9))
    return made + variational_cases()


def variational_cases() -> list[Case]:
    """The one-layer networks of Burda et al. and of Kingma & Welling."""
    made = []
    for name, preset, num_samples in (
        ("VAE 784-200-200-50", "mnist", 0),
        ("IWAE 784-200-200-50, k = 1", "iwae", 1),
        ("IWAE 784-200-200-50, k = 5", "iwae", 5),
        ("IWAE 784-200-200-50, k = 50", "iwae", 50),
        ("VAE 784-500-20", "paper_kingma", 0),
    ):
        config = vae_experiment.PRESETS[preset]
        model, batch_size = config.model, config.train.batch_size
        if config.sweep:
            model = dataclasses.replace(model, latent_sizes=(20,))
        chosen = dataclasses.replace(
            config, objective=dataclasses.replace(config.objective, num_samples=max(1, num_samples))
        )
        random = flat_images.FlatImages(np.zeros((1, 784), np.uint8), None, (28, 28, 1), "random")
        network = vae_experiment.build(model, random)
        loss, _ = vae_experiment.objective(chosen, model, random)
        params = vae.init_params(jax.random.key(0), network)
        encoder, decoder = weights(params["recognition_0"]), weights(params["generator"])
        # The encoder runs once, the decoder for each sample; the gradient for the pixels is not taken.
        cost = 3 * (encoder + max(1, num_samples) * decoder) - 784 * model.widths[0]
        optimizer = optax.adam(1e-3)
        update, state = training.update_from_objective(loss, optimizer), training.create_state(params, optimizer)
        in_torch = functools.partial(torch_steps.vae, batch_size, model.widths, model.latent_sizes[0], num_samples)
        made.append(Case(name, batch_size, cost, update, state, in_torch, binarize=True))
    return made


def weights(params) -> int:
    """Entries of the kernels."""
    return sum(x.size for x in jax.tree.leaves(params) if x.ndim == 2)


def runner(case: Case) -> Callable[[], float]:
    """Returns a function that trains for about SECONDS and returns steps a second."""
    x = np.asarray(jax.random.bits(jax.random.key(0), (10_000, 784), jnp.uint8))
    label = np.arange(10_000, dtype=np.int32) % 10
    images = flat_images.FlatImages(x, label, (28, 28, 1), "random")
    batches = flat_images.batches(images, case.batch_size, binarize=case.binarize)
    parallel = training.ParallelUpdate(case.update, batches, batch_size=case.batch_size, devices=jax.devices()[:1])
    key = training.keys.root(0)
    carry = [parallel.replicate(case.state), parallel.empty_tally(case.state, key)]

    def steps(number: int) -> float:
        start = time.perf_counter()
        carry[:] = parallel(carry[0], carry[1], key, None, number)
        jax.block_until_ready(carry)
        return number / (time.perf_counter() - start)

    return for_seconds(steps)


def torch_runner(case: Case) -> Callable[[], float] | None:
    """The same for the step in PyTorch, where there is one and torch is installed."""
    if case.torch is None or importlib.util.find_spec("torch") is None:
        return None
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(os.cpu_count() or 1)
    train = case.torch()

    def steps(number: int) -> float:
        start = time.perf_counter()
        train(number)
        return number / (time.perf_counter() - start)

    return for_seconds(steps)


def for_seconds(steps: Callable[[int], float]) -> Callable[[], float]:
    """Warms up, then fixes the number of steps to take about SECONDS."""
    steps(2)
    number = max(2, int(steps(10) * SECONDS))
    return lambda: steps(number)


def product_rate(size: int = 2048) -> float:
    """Floating-point operations a second of a square float32 matrix product."""
    a = jnp.ones((size, size), jnp.float32)
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    start = time.perf_counter()
    for _ in range(5):
        product(a).block_until_ready()
    return 5 * 2 * size**3 / (time.perf_counter() - start)


def main() -> None:
    run = [(case, runner(case), torch_runner(case)) for case in cases()]
    rates: dict[str, list[float]] = {case.name: [] for case, _, _ in run}
    in_torch: dict[str, list[float]] = {case.name: [] for case, _, _ in run}
    products = []
    for _ in range(ROUNDS):
        products.append(product_rate())
        for case, steps, other in run:
            rates[case.name].append(steps())
            if other is not None:
                in_torch[case.name].append(other())
    peak = float(np.median(products))
    print(f"matrix product 2048: {peak / 1e9:.0f} GFLOP/s ({jax.devices()[0].device_kind})\n")
    print("| step | batch | steps/s | GFLOP/s | share of the product rate | time over PyTorch's |")
    print("|---|---|---|---|---|---|")
    for case, _, _ in run:
        rate = float(np.median(rates[case.name]))
        ratio = f"{np.median(in_torch[case.name]) / rate:.2f}" if in_torch[case.name] else "-"
        flops = rate * case.batch_size * 2 * case.multiply_adds
        print(f"| {case.name} | {case.batch_size} | {rate:.1f} | {flops / 1e9:.0f} | {flops / peak:.2f} | {ratio} |")


if __name__ == "__main__":
    main()
