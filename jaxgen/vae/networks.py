"""The recognition and the generative network, with one or more layers of Gaussian latent variables.

Layers are numbered upwards from the data: q(z | x) = q(z_1 | x) q(z_2 | z_1) ... and
p(x, z) = p(x | z_1) p(z_1 | z_2) ... p(z_L) with p(z_L) = N(0, I). With one layer this is Kingma & Welling (2013), with
more Burda, Grosse & Salakhutdinov (2015).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen.arguments import Float, Host, Key, Real, takes
from jaxgen.compiler import check_once
from jaxgen.nn import DenseStack
from jaxgen.nn.random import checked_draws
from jaxgen.vae.gaussian import check_bounds, clipped, from_noise

GLOROT = nn.initializers.glorot_uniform()

Gaussian = tuple[jax.Array, jax.Array]
"""(mean, log variance)."""


def apply(network: nn.Module, params: Any, *arguments: Any, method: str) -> Any:
    """The value of a network's method at parameters."""
    return network.apply({"params": params}, *arguments, method=method)


class GaussianLayer(nn.Module):
    """h -> mean and log variance, [..., size] each: a trunk and two linear heads.

    Attributes:
        trunk: the hidden layers.
        size: dimensions of the Gaussian.
        kernel_init: initializer of the heads.
        log_variance_bounds: (low, high), between which the log variance is clipped; None: no bounds.
    """

    trunk: nn.Module
    size: int
    kernel_init: nn.initializers.Initializer = GLOROT
    log_variance_bounds: tuple[float, float] | None = None

    @nn.compact
    def __call__(self, h: jax.Array) -> Gaussian:
        h = self.trunk(h)
        head = lambda name: nn.Dense(self.size, kernel_init=self.kernel_init, name=name)
        return head("mean")(h), clipped(head("log_variance")(h), self.log_variance_bounds)


class VAE(nn.Module):
    """A variational autoencoder with L layers of latent variables. Made by `mlp_vae` or `conv_vae`.

    Attributes:
        data_size: D, the width of x.
        recognition: L layers; the first takes x, layer l takes z_{l-1}.
        conditionals: L - 1 layers; layer l gives p(z_l | z_{l+1}).
        generator: z_1 [..., Z_1] -> output [..., outputs * D], what the likelihood takes.
    """

    data_size: int
    recognition: Sequence[GaussianLayer]
    conditionals: Sequence[GaussianLayer]
    generator: nn.Module

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """(Z_1, ..., Z_L)."""
        return tuple(layer.size for layer in self.recognition)

    def encode(self, x: jax.Array) -> Gaussian:
        """q(z_1 | x): [..., D] -> mean and log variance, [..., Z_1] each.

        Raises:
            ValueError: `x` has the wrong width.
        """
        if x.shape[-1] != self.data_size:
            raise ValueError(
                f"x has width {x.shape[-1]} (its last axis), but this VAE has data_size={self.data_size}: flatten the "
                f"data to [..., {self.data_size}]"
            )
        return self.recognition[0](x)

    def decode(self, z: jax.Array) -> jax.Array:
        """The likelihood's output for z_1: [..., Z_1] -> [..., outputs * D]."""
        if z.shape[-1] != self.latent_sizes[0]:
            raise ValueError(f"z has width {z.shape[-1]}, but z_1 of this VAE has {self.latent_sizes[0]} dimensions")
        return self.generator(z)

    def infer(self, x: jax.Array, noise: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
        """z_1, ..., z_L drawn from q(z | x), reparameterized.

        Args:
            x: [..., 1, D] for K samples of each example, or [..., D] for one.
            noise: standard normal, [..., K, Z_l] or [..., Z_l], one array a layer (`draw_noise`).

        Returns:
            the shapes of `noise`.
        """
        below, samples = self.encode(x), []
        for layer, eps in zip(range(len(noise)), noise, strict=True):
            samples.append(from_noise(eps, *below))
            if layer + 1 < len(noise):
                below = self.recognition[layer + 1](samples[-1])
        return tuple(samples)

    def posteriors(self, x: jax.Array, z: Sequence[jax.Array]) -> tuple[Gaussian, ...]:
        """q(z_1 | x), q(z_2 | z_1), ..., at given z: the Gaussians of `infer`."""
        below = (x, *z[:-1])
        return (self.encode(x), *(layer(h) for layer, h in zip(self.recognition[1:], below[1:], strict=True)))

    def priors(self, z: Sequence[jax.Array]) -> tuple[Gaussian, ...]:
        """p(z_1 | z_2), ..., p(z_{L-1} | z_L), at given z; that of z_L is the standard normal and left out."""
        return tuple(layer(h) for layer, h in zip(self.conditionals, z[1:], strict=True))

    def generate(self, noise: Sequence[jax.Array]) -> jax.Array:
        """The likelihood's output for z drawn from p(z), from the top down: [..., Z_l] each -> [..., outputs * D]."""
        z = noise[-1]
        for layer, eps in zip(reversed(self.conditionals), reversed(noise[:-1]), strict=True):
            z = from_noise(eps, *layer(z))
        return self.decode(z)

    def __call__(self, x: jax.Array, noise: Sequence[jax.Array]) -> jax.Array:
        """The likelihood's output for z ~ q(z | x); touches every parameter, so `init` makes them all."""
        z = self.infer(x, noise)
        self.priors(z)
        return self.decode(z[0])


@takes(key=Key(""))
def draw_noise(key: jax.Array, latent_sizes: Sequence[int], *shape: int, dtype: Any = jnp.float32) -> tuple:
    """Standard normal noise for `infer` and `generate`: one array [*shape, Z_l] a layer, from one scalar key."""
    keys = jax.random.split(key, len(latent_sizes))
    return tuple(jax.random.normal(k, (*shape, size), dtype) for k, size in zip(keys, latent_sizes, strict=True))


def checked_noise(noise: Any, latent_sizes: Sequence[int], *shape: int, dtype: Any = None) -> tuple:
    """Given noise for `infer` or `generate`, shaped as by `draw_noise`: one array [*shape, Z_l] a layer.

    Raises:
        ValueError: another number of arrays than of layers, or another shape.
    """
    if len(noise) != len(latent_sizes):
        raise ValueError(
            f"noise has {len(noise)} arrays; expected a tuple of {len(latent_sizes)}, one for each latent layer"
        )
    return tuple(
        checked_draws(f"noise[{layer}]", eps, (*shape, size), dtype)
        for layer, (eps, size) in enumerate(zip(noise, latent_sizes, strict=True))
    )


@takes(key=Key(""), network=VAE, output_bias=Float())
def init_params(key: jax.Array, network: VAE, output_bias: Any = None) -> Any:
    """Fresh parameters of a network, a tree of arrays.

    Args:
        key: scalar key.
        network: the network.
        output_bias: [outputs * D], the bias of the generator's last layer, e.g. `mean_logits` of the training data;
            None: zero.
    """
    check_once()
    init_key, noise_key = jax.random.split(key)
    noise = draw_noise(noise_key, network.latent_sizes, 1)
    params: Any = network.init(init_key, jnp.zeros((1, network.data_size)), noise)["params"]
    if output_bias is None:
        return params
    last = params["generator"]["output"]
    bias = jnp.broadcast_to(jnp.asarray(output_bias, last["bias"].dtype), last["bias"].shape)
    return {**params, "generator": {**params["generator"], "output": {**last, "bias": bias}}}


@takes(x=Host("N D", low=0, high=1, dtype=None, hint=" (uint8 images: divide by 255)"), floor=Real())
def mean_logits(x: Any, floor: float = 1e-3) -> np.ndarray:
    """log(m / (1 - m)) of the mean m over the training data [N, D], kept inside [floor, 1 - floor]: [D] float32.

    As a decoder's output bias it saves the first epochs; Burda et al.'s released code starts from it.
    """
    mean = np.clip(np.mean(x, axis=0, dtype=np.float64), floor, 1 - floor)
    return (np.log(mean) - np.log1p(-mean)).astype(np.float32)


class _Generator(nn.Module):
    """Hidden layers and the linear layer `output`."""

    trunk: nn.Module
    size: int
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        return nn.Dense(self.size, kernel_init=self.kernel_init, name="output")(self.trunk(z))


def mlp_vae(
    data_size: int,
    latent_sizes: Sequence[int],
    widths: Sequence[Sequence[int]],
    outputs: int = 1,
    activation: Callable[[jax.Array], jax.Array] = nn.tanh,
    kernel_init: nn.initializers.Initializer = GLOROT,
    log_variance_bounds: tuple[float, float] | None = None,
) -> VAE:
    """A VAE of dense layers; the generative network mirrors the recognition network.

    Kingma & Welling (2013): latent_sizes=(N_z,), widths=((500,),). Burda et al. (2015): (50,) and ((200, 200),), or
    with two layers (100, 50) and ((200, 200), (100, 100)).

    Args:
        data_size: D.
        latent_sizes: (Z_1, ..., Z_L).
        widths: of the hidden layers between x and z_1, between z_1 and z_2, ...: L sequences, any of them empty.
        outputs: numbers the likelihood takes for each dimension of x.
        activation: nonlinearity of the hidden layers.
        kernel_init: initializer of all kernels.
        log_variance_bounds: of every Gaussian of the latent variables, see `GaussianLayer`.

    Raises:
        ValueError: no latent layer, a size below 1, another number of widths than of layers, or bounds that do not
            rise.
    """
    check_bounds("log_variance_bounds", log_variance_bounds)
    _check_sizes(latent_sizes, widths)
    stack = lambda w: DenseStack(tuple(w), activation, kernel_init)
    gaussian = lambda w, size: GaussianLayer(stack(w), size, kernel_init, log_variance_bounds)
    return VAE(
        data_size,
        tuple(gaussian(w, size) for w, size in zip(widths, latent_sizes, strict=True)),
        tuple(gaussian(w[::-1], size) for w, size in zip(widths[1:], latent_sizes[:-1], strict=True)),
        _Generator(stack(widths[0][::-1]), outputs * data_size, kernel_init),
    )


def _check_sizes(latent_sizes: Sequence[int], widths: Sequence[Sequence[int]]) -> None:
    if not latent_sizes or min(latent_sizes) < 1:
        raise ValueError(f"latent_sizes is {tuple(latent_sizes)}; a VAE needs a layer, each of at least 1 dimension")
    if len(widths) != len(latent_sizes):
        raise ValueError(
            f"widths has {len(widths)} entries for {len(latent_sizes)} latent layers; it must have one for each"
        )
    if min((width for w in widths for width in w), default=1) < 1:
        raise ValueError(f"widths is {widths}; every hidden layer must have at least 1 unit")
