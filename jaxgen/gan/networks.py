"""The two players as functions of parameters and keys, and their fully connected networks.

`Players` takes any networks. Those here are Goodfellow et al.'s (2014) for MNIST, and plain ones for points in a plane.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Float, Host, Key, Real, takes
from jaxgen.compiler import check_once
from jaxgen.nn import DenseStack
from jaxgen.nn.random import checked_draws

Initializer = nn.initializers.Initializer
Tree = Any
Noise = Callable[[jax.Array], jax.Array]
"""keys [B] -> z [B, Z]."""


class Players(NamedTuple):
    """A generator and a discriminator.

    Attributes:
        generator: module, (z [B, Z], labels) -> x [B, ...].
        discriminator: module, (x [B, ...], labels, keys) -> logits [B]; keys [B] or None draw its dropout.
        noise: p_z.
        condition: name of the labels in a batch, or None for players that see no labels.
    """

    generator: nn.Module
    discriminator: nn.Module
    noise: Noise
    condition: str | None = None

    def generate(
        self,
        params: Tree,
        keys: jax.Array | None,
        labels: ArrayLike | None = None,
        *,
        noise: ArrayLike | None = None,
    ) -> jax.Array:
        """G(z), z drawn from the keys: generator's parameters, keys [B], labels [B] -> [B, ...].

        Args:
            params: the generator's parameters, a tree.
            keys: [B]; may be None where `noise` is given.
            labels: [B] for players with a condition.
            noise: z, [B, Z], in place of the draw from p_z.

        Raises:
            ValueError: there are neither keys nor noise, or the noise has another shape than draws from p_z.
        """
        if noise is not None:
            num = np.shape(noise)[:1] or (1,)
            # Only the shape of the draws is used, which no key changes.
            drawn = jax.eval_shape(lambda: self.noise(jax.random.split(jax.random.key(0), num)))
            z = checked_draws("noise", noise, drawn.shape, drawn.dtype)
        elif keys is not None:
            z = self.noise(keys)
        else:
            raise ValueError("there are no keys and no noise; expected keys [B], or noise z [B, Z]")
        value: Any = self.generator.apply({"params": params}, z, labels)
        return value

    def discriminate(
        self, params: Tree, keys: jax.Array | None, x: jax.Array, labels: jax.Array | None = None
    ) -> jax.Array:
        """Logits of D(x): discriminator's parameters, keys [B] (None: no dropout), [B, ...], labels [B] -> [B]."""
        value: Any = self.discriminator.apply({"params": params}, x, labels, keys)
        return value

    def labels(self, batch: dict[str, jax.Array]) -> jax.Array | None:
        """The labels [B] that the players see of a batch, or None."""
        return None if self.condition is None else batch[self.condition]

    def init(self, key: jax.Array, batch: dict[str, Any]) -> dict[str, Tree]:
        """Fresh parameters {"generator": tree, "discriminator": tree} from a scalar key and a batch of data.

        Args:
            key: scalar key.
            batch: {"x": [B, ...]} and the labels if there is a condition; only shapes and label range are read.

        Raises:
            ValueError: the networks do not fit the data, or the generator not the discriminator.
        """
        check_once()
        for_noise, for_generator, for_discriminator = jax.random.split(key, 3)
        x, labels = jnp.asarray(batch["x"][:1]), self.labels(batch)
        labels = None if labels is None else jnp.asarray(labels[:1])
        fake, generator = self.generator.init_with_output(
            for_generator, self.noise(jax.random.split(for_noise, 1)), labels
        )
        if fake.shape != x.shape:
            raise ValueError(f"the generator makes examples of shape {fake.shape[1:]}, the data's are {x.shape[1:]}")
        discriminator = self.discriminator.init(for_discriminator, x, labels, None)
        return {"generator": generator["params"], "discriminator": discriminator["params"]}


def normal_noise(size: int) -> Noise:
    """z ~ N(0, I): keys [B] -> [B, size]."""
    return takes(keys=Key("B"))(lambda keys: jax.vmap(lambda key: jax.random.normal(key, (size,)))(keys))


def uniform_noise(size: int) -> Noise:
    """z uniform on [-sqrt 3, sqrt 3], of variance 1 as in the paper's code: keys [B] -> [B, size]."""
    edge = 3**0.5
    draw = lambda key: jax.random.uniform(key, (size,), minval=-edge, maxval=edge)
    return takes(keys=Key("B"))(lambda keys: jax.vmap(draw)(keys))


@takes(edge=Real(positive=True))
def uniform_init(edge: float) -> Initializer:
    """U(-edge, edge), whatever the fan-in: the paper's code has 0.05 (generator) and 0.005 (discriminator)."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -edge, edge)


@takes(x=Host("N D", low=0, high=1, dtype=None, hint=" (uint8 images: divide by 255)"), floor=Real())
def marginal_logits(x: Any, floor: float = 1e-3) -> np.ndarray:
    """log(m / (1 - m)) of each pixel's mean m over training data in [0, 1], kept in [floor, 1 - floor].

    Args:
        x: [N, D].
        floor: of the mean.

    Returns:
        [D] float32: the generator's output bias at the start of the paper's code.
    """
    mean = np.clip(np.mean(x, axis=0, dtype=np.float64), floor, 1 - floor)
    return (np.log(mean) - np.log1p(-mean)).astype(np.float32)


def constant_bias(values: Any) -> Initializer:
    """An initializer that gives these values: [D] -> bias [D]."""
    values = tuple(np.asarray(values, np.float64).tolist())  # hashable, as modules must be

    def init(key, shape, dtype=jnp.float32):
        del key
        if shape != (len(values),):
            raise ValueError(f"the bias has shape {shape}, but {len(values)} values were given")
        return jnp.asarray(values, dtype)

    return init


class MLPGenerator(nn.Module):
    """z [B, Z] -> x [B, data_size] through dense layers. The defaults are the paper's for MNIST.

    Attributes:
        data_size: D.
        widths: of the hidden layers.
        activation: of the hidden layers.
        output: of the last one: sigmoid for data in [0, 1], `lambda x: x` for points.
        kernel_init: of the kernels.
        output_bias_init: of the last bias, e.g. `constant_bias(marginal_logits(x))`.
    """

    data_size: int = 784
    widths: Sequence[int] = (1200, 1200)
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    output: Callable[[jax.Array], jax.Array] = nn.sigmoid
    kernel_init: Initializer = uniform_init(0.05)
    output_bias_init: Initializer = nn.initializers.zeros_init()

    def setup(self) -> None:
        """Declares the layers."""
        self.hidden = DenseStack(self.widths, self.activation, self.kernel_init)
        self.last = nn.Dense(self.data_size, kernel_init=self.kernel_init, bias_init=self.output_bias_init)

    def __call__(self, z: jax.Array, labels: jax.Array | None = None) -> jax.Array:
        _refuse(labels, self)
        return self.output(self.last(self.hidden(z)))


class MLPDiscriminator(nn.Module):
    """x [B, D] -> logits [B] through dense layers, without dropout.

    Attributes:
        widths: of the hidden layers.
        activation: of the hidden layers.
        kernel_init: of the kernels.
    """

    widths: Sequence[int] = (128, 128)
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    kernel_init: Initializer = nn.initializers.glorot_uniform()

    def setup(self) -> None:
        """Declares the layers."""
        self.hidden = DenseStack(self.widths, self.activation, self.kernel_init)
        self.last = nn.Dense(1, kernel_init=self.kernel_init)

    def __call__(self, x: jax.Array, labels: jax.Array | None = None, keys: jax.Array | None = None) -> jax.Array:
        _refuse(labels, self)
        del keys
        return self.last(self.hidden(x))[:, 0]


class MaxoutDiscriminator(nn.Module):
    """x [B, D] -> logits [B]: maxout layers with dropout before every layer. The defaults are the paper's for MNIST.

    Attributes:
        units: of each maxout layer.
        pieces: linear pieces of each unit.
        keep: probability of keeping a unit before the first layer.
        keep_hidden: before each later one.
        kernel_init: of the kernels.
    """

    units: Sequence[int] = (240, 240)
    pieces: int = 5
    keep: float = 0.8
    keep_hidden: float = 0.5
    kernel_init: Initializer = uniform_init(0.005)

    def setup(self) -> None:
        """Declares the layers."""
        self.layers = [nn.Dense(n * self.pieces, kernel_init=self.kernel_init) for n in self.units]
        self.last = nn.Dense(1, kernel_init=self.kernel_init)

    def __call__(self, x: jax.Array, labels: jax.Array | None = None, keys: jax.Array | None = None) -> jax.Array:
        _refuse(labels, self)
        for i, layer in enumerate([*self.layers, self.last]):
            if keys is not None:
                layer_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, i)
                x = dropout(layer_keys, x, self.keep_hidden if i else self.keep)
            x = layer(x)
            if i < len(self.units):
                x = maxout(x, self.pieces)
        return x[:, 0]


def mlp_players(
    size: int,
    noise: Noise,
    generator_widths: Sequence[int] = (128, 128),
    discriminator_widths: Sequence[int] = (128, 128),
) -> Players:
    """Plain players for points [size]: ReLU without an output nonlinearity against leaky ReLU, Glorot's kernels."""
    init = nn.initializers.glorot_uniform()
    generator = MLPGenerator(size, generator_widths, output=lambda x: x, kernel_init=init)
    return Players(generator, MLPDiscriminator(discriminator_widths, nn.leaky_relu), noise)


@takes(x=Host("N D", low=0, high=1, dtype=None))
def maxout_players(
    x: Any,
    noise: Noise,
    generator_widths: Sequence[int] = (1200, 1200),
    discriminator_widths: Sequence[int] = (240, 240),
) -> Players:
    """The players of Goodfellow et al. (2014) for images in [0, 1], with the generator's output bias of their code.

    Args:
        x: training images, [N, D]; the output bias starts at the logits of their means.
        noise: p_z.
        generator_widths: hidden layers.
        discriminator_widths: maxout units of each hidden layer.
    """
    bias = constant_bias(marginal_logits(x))
    generator = MLPGenerator(x.shape[-1], generator_widths, output_bias_init=bias)
    return Players(generator, MaxoutDiscriminator(discriminator_widths), noise)


@takes(x=Float("... _"), pieces=Count())
def maxout(x: ArrayLike, pieces: int) -> jax.Array:
    """The largest of each `pieces` neighbours (Goodfellow et al. 2013): [..., U * pieces] -> [..., U].

    Raises:
        ValueError: the width does not divide.
    """
    x = jnp.asarray(x)
    if pieces < 1 or x.shape[-1] % pieces:
        raise ValueError(f"a width of {x.shape[-1]} does not divide into units of {pieces} pieces")
    return jnp.max(x.reshape(*x.shape[:-1], -1, pieces), axis=-1)


@takes(keys=Key("B"), x=Float("B ..."), keep=Real())
def dropout(keys: jax.Array, x: ArrayLike, keep: float) -> jax.Array:
    """Each entry kept with probability `keep` and divided by it, otherwise 0: keys [B], x [B, ...] -> [B, ...].

    Raises:
        ValueError: keep is not in (0, 1].
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep is {keep}; expected a probability in (0, 1]")
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, keep, jnp.shape(x)[1:]))(keys)
    return jnp.where(kept, jnp.asarray(x) / keep, 0)


def _refuse(labels, module):
    if labels is not None:
        raise ValueError(f"{type(module).__name__} takes no labels; the DCGAN players with num_classes do")
