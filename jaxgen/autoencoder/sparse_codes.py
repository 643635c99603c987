"""The sparse codes of the literature, each as a network and its loss, from settings that a configuration can hold.

Sources: Ng, CS294A lecture notes (2011); Makhzani & Frey (2013).
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
from flax import linen as nn

from jaxgen.autoencoder.k_sparse import k_sparse_encode, k_sparse_loss
from jaxgen.autoencoder.networks import Autoencoder
from jaxgen.autoencoder.objectives import Loss, reconstruction_loss
from jaxgen.autoencoder.sparsity import kl_sparsity_loss, kl_sparsity_statistics, l1_sparsity_loss

SparseMethod = Literal["plain", "l1", "kl", "k_sparse"]


@dataclasses.dataclass(frozen=True)
class SparseCode:
    """One hidden layer whose code is sparse."""

    code_size: int = 1000
    """units of the code"""
    k: int = 25
    """k-sparse: units kept"""
    start_k: int = 100
    """k-sparse: units kept at the first step; falls to k over the first half of training"""
    alpha: float = 3.0
    """k-sparse: alpha k units are kept when the code is used"""
    rho: float = 0.1
    """KL: target mean activation of each unit"""
    kl_weight: float = 6.0
    """KL: weight relative to the summed squared error (twice Ng's beta, whose error has a factor 1/2)"""
    l1_weight: float = 0.1
    """L1: weight relative to the summed squared error"""

    def check(self, methods: tuple[SparseMethod, ...]) -> list[str]:
        """What is wrong with these settings for some methods, one sentence each."""
        problems = [f"model.code_size is {self.code_size}; it must be at least 1"] if self.code_size < 1 else []
        for name in ("kl_weight", "l1_weight"):
            if getattr(self, name) < 0:
                problems.append(f"model.{name} is {getattr(self, name)}; it must not be negative")
        kept = {"k": self.k, "start_k": self.start_k, "alpha k": round(self.alpha * self.k)}
        for name, value in kept.items() if "k_sparse" in methods else ():
            if not 1 <= value <= self.code_size:
                problems.append(f"model.{name} is {value}; it must be from 1 to model.code_size = {self.code_size}")
        if "kl" in methods and not 0 < self.rho < 1:
            problems.append(f"model.rho is {self.rho}; a mean activation of logistic units lies inside (0, 1)")
        return problems

    def encoder(self, method: SparseMethod, network: Autoencoder, params: Any) -> Callable[[jax.Array], jax.Array]:
        """x [..., D] -> the code [..., H] as it is used after training; for k-sparse, alpha k units are kept."""
        if method == "k_sparse":
            return lambda x: k_sparse_encode(network, params, x, self.k, self.alpha)
        encode: Any = partial(network.apply, {"params": params}, method="encode")
        return encode


def build_sparse(
    config: SparseCode, method: SparseMethod, data_size: int, num_steps: int
) -> tuple[Autoencoder, Loss, Callable[..., Any] | None]:
    """(network, loss, its companion `statistics` or None) of a method, for batches {"x": [B, D]} in [0, 1].

    Args:
        config: size of the code, and weights.
        method: "plain" and "kl" have logistic codes, "l1" a rectified one, "k_sparse" a linear one with tied weights.
        data_size: D.
        num_steps: length of training, over the first half of which k falls.

    Raises:
        ValueError: `k`, `start_k` or `rho` is out of its range.
    """
    one_layer = partial(Autoencoder, data_size, (), config.code_size)
    match method:
        case "plain":
            network = one_layer(code_activation=nn.sigmoid)
            return network, reconstruction_loss(network, "squared_error"), None
        case "l1":
            network = one_layer(code_activation=nn.relu, output="linear")
            return network, l1_sparsity_loss(network, config.l1_weight), None
        case "kl":
            network = one_layer(code_activation=nn.sigmoid)
            loss = kl_sparsity_loss(network, config.rho, config.kl_weight)
            return network, loss, kl_sparsity_statistics(network)
        case "k_sparse":
            network = one_layer(output="linear", tied=True)
            return network, k_sparse_loss(network, config.k, config.start_k, num_steps), None
