"""Greedy layer-wise pretraining of a deep autoencoder by restricted Boltzmann machines.

Source: Hinton & Salakhutdinov, Science 313 (2006), figure 1, with the constants of their released code.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax

from jaxgen.autoencoder.rbm import (
    Params,
    contrastive_divergence_update,
    hidden_given_visible,
    momentum_sgd,
    rbm_params,
    two_stage_momentum,
    unroll,
)

CHUNK = 1000
TrainMachine = Callable[[int, Any, optax.GradientTransformation, Params, np.ndarray | None], Params]


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """Layer-wise restricted Boltzmann machines, CD-1, with the released code's constants."""

    epochs: int = 0
    """epochs for each layer; 0: no pretraining"""
    batch_size: int = 100
    """examples per update"""
    learning_rate: float = 0.1
    """learning rate of the layers with logistic units"""
    code_learning_rate: float = 0.001
    """learning rate of the layer with Gaussian units"""
    slow_epochs: int = 5
    """epochs with momentum 0.5; it is 0.9 after them"""
    weight_decay: float = 2e-4
    """weight decay of the kernels"""

    def check(self) -> list[str]:
        """What is wrong with these settings, one sentence each."""
        problems = []
        if self.batch_size < 1:
            problems.append(f"pretraining.batch_size is {self.batch_size}; it must be at least 1")
        if self.epochs < 0:
            problems.append(f"pretraining.epochs is {self.epochs}; it must be 0 or more")
        return problems


def pretrain(
    config: Pretraining,
    train_machine: TrainMachine,
    keys: Sequence[jax.Array],
    x: np.ndarray,
    sizes: Sequence[int],
) -> dict:
    """Trains one machine a layer, each on the hidden probabilities of the one below, and unrolls them.

    The last machine has Gaussian hidden units, the others logistic ones.

    Args:
        config: learning rates, momentum and weight decay.
        train_machine: `train_machine(layer, update, optimizer, params, features) -> params` trains machine number
            `layer`, from 0: `update` is that of `contrastive_divergence_update` for the optax `optimizer`, and
            `features` [N, H] is the data of this machine, or None for the first, which is trained on x.
        keys: scalar keys of the machines' first parameters, one a layer.
        x: [N, D] in [0, 1].
        sizes: D, the widths of the hidden layers, and the size of the code.

    Returns:
        parameters (a tree) of an untied `Autoencoder` with a linear code, as `unroll` gives them.
    """
    stack, features = [], None
    momentum = two_stage_momentum(config.slow_epochs * (len(x) // config.batch_size))
    up = jax.jit(hidden_given_visible, static_argnames="hidden")
    for layer, (visible, num_hidden) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        is_code = layer == len(sizes) - 2
        hidden = "gaussian" if is_code else "bernoulli"
        rate = config.code_learning_rate if is_code else config.learning_rate
        optimizer = momentum_sgd(rate, momentum, config.weight_decay)
        update = contrastive_divergence_update(optimizer, hidden)
        params = rbm_params(keys[layer], visible, num_hidden)
        stack.append(train_machine(layer, update, optimizer, params, features))
        below = x if features is None else features
        parts = [up(stack[-1], below[i : i + CHUNK], hidden=hidden) for i in range(0, len(below), CHUNK)]
        features = np.concatenate([np.asarray(part) for part in parts])
    return unroll(stack)
