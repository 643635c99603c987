"""The autoencoder x -> code -> reconstruction, and a classifier on its encoder.

Notes 1.1; Hinton & Salakhutdinov (2006).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike

from jaxgen.arguments import Float, Key, takes
from jaxgen.nn import DenseStack

_OUTPUTS = ("sigmoid", "linear")


@takes(x=Float())
def identity(x: ArrayLike) -> jax.Array:
    """f(x) = x, of any shape: the linear code."""
    x = jnp.asarray(x)
    return x


def apply(network: nn.Module, params: Any, x: jax.Array, method: str = "__call__") -> jax.Array:
    """The value of a network's method at parameters, network.apply({"params": params}, x)."""
    value: Any = network.apply({"params": params}, x, method=method)
    return value


@takes(key=Key(""))
def init_params(key: jax.Array, network: Any) -> Any:
    """Fresh parameters of an `Autoencoder` or a `Classifier`, a tree of arrays, from a scalar key."""
    return network.init(key, jnp.zeros((1, network.data_size)))["params"]


def output_of(output: str, logits: jax.Array) -> jax.Array:
    """The reconstruction of an `Autoencoder` with this `output` from its logits.

    Raises:
        ValueError: `output` is neither "sigmoid" nor "linear".
    """
    if output not in _OUTPUTS:
        raise ValueError(f"output is {output!r}; expected one of {', '.join(_OUTPUTS)}")
    return nn.sigmoid(logits) if output == "sigmoid" else logits


def _check_width(found: int, expected: int, what: str, field: str, module: str) -> None:
    if found != expected:
        raise ValueError(
            f"{what} has width {found} (its last axis), but this {module} has {field}={expected};"
            f" flatten the data to [..., {expected}] or build the {module} with {field}={found}"
        )


class _TransposedDense(nn.Module):
    """h -> h W^T + b: W [D, H] belongs to another layer, b [D] is this one's own."""

    bias_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, h: jax.Array, kernel: jax.Array) -> jax.Array:
        bias = self.param("bias", self.bias_init, kernel.shape[:1], kernel.dtype)
        y = h @ kernel.T
        return y + bias.reshape((1,) * (y.ndim - 1) + (-1,))


class _TransposedStack(nn.Module):
    """The decoder whose kernels are the transposes of the encoder's."""

    depth: int
    activation: Callable[[jax.Array], jax.Array]
    bias_init: nn.initializers.Initializer

    def setup(self) -> None:
        self.layers = [_TransposedDense(self.bias_init) for _ in range(self.depth)]

    def __call__(self, h: jax.Array, kernels: Sequence[jax.Array]) -> jax.Array:
        for i, (layer, kernel) in enumerate(zip(self.layers, kernels, strict=True)):
            h = layer(h, kernel)
            if i + 1 < self.depth:
                h = self.activation(h)
        return h


class Autoencoder(nn.Module):
    """z = g(x), x' = f(z): a mirror of dense layers around a code (notes 1.1).

    Encoder D -> widths -> code_size, decoder code_size -> reversed(widths) -> D. Parameters:
    `encoder` and `decoder`, each with `layers_0`, `layers_1`, .. of `kernel` and `bias`; a tied
    decoder has biases only. The defaults are those of Hinton & Salakhutdinov, Science 313 (2006):
    logistic units and a linear code.

    Attributes:
        data_size: D.
        widths: widths of the encoder's hidden layers, e.g. (1000, 500, 250); empty for one layer.
        code_size: H.
        activation: nonlinearity of the hidden layers.
        code_activation: nonlinearity of the code.
        output: "sigmoid" (data in [0, 1]) or "linear".
        tied: whether the decoder's kernels are the transposes of the encoder's.
        kernel_init: initializer of the kernels.
        bias_init: initializer of the biases.

    Raises:
        ValueError: `x` or `code` has the wrong width, or `output` is unknown.
    """

    data_size: int
    widths: Sequence[int]
    code_size: int
    activation: Callable[[jax.Array], jax.Array] = nn.sigmoid
    code_activation: Callable[[jax.Array], jax.Array] = identity
    output: str = "sigmoid"
    tied: bool = False
    kernel_init: nn.initializers.Initializer = nn.initializers.glorot_uniform()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()

    def setup(self) -> None:
        """Declares encoder and decoder."""
        self.encoder = _encoder_of(self)
        if self.tied:
            self.decoder = _TransposedStack(len(self.widths) + 1, self.activation, self.bias_init)
        else:
            self.decoder = DenseStack(
                (*reversed(self.widths), self.data_size),
                self.activation,
                self.kernel_init,
                self.bias_init,
                activate_last=False,
            )

    def pre_code(self, x: jax.Array) -> jax.Array:
        """The code before its nonlinearity: [..., D] -> [..., H]."""
        _check_width(x.shape[-1], self.data_size, "x", "data_size", "Autoencoder")
        return self.encoder(x)

    def encode(self, x: jax.Array) -> jax.Array:
        """z = g(x): [..., D] -> [..., H]."""
        return self.code_activation(self.pre_code(x))

    def logits(self, code: jax.Array) -> jax.Array:
        """The reconstruction before its nonlinearity: [..., H] -> [..., D]."""
        _check_width(code.shape[-1], self.code_size, "code", "code_size", "Autoencoder")
        decoder: Any = self.decoder
        if not self.tied:
            return decoder(code)
        layers = self.encoder.variables["params"]
        depth = len(self.widths) + 1
        return decoder(code, [layers[f"layers_{i}"]["kernel"] for i in reversed(range(depth))])

    def decode(self, code: jax.Array) -> jax.Array:
        """x' = f(z): [..., H] -> [..., D]."""
        return output_of(self.output, self.logits(code))

    def __call__(self, x: jax.Array) -> jax.Array:
        """x' = f(g(x)): [..., D] -> [..., D]."""
        return self.decode(self.encode(x))


def _encoder_of(network: "Autoencoder | Classifier") -> DenseStack:
    sizes = (*network.widths, network.code_size)
    return DenseStack(sizes, network.activation, network.kernel_init, network.bias_init, activate_last=False)


class Classifier(nn.Module):
    """logits = g(x) V + c: an `Autoencoder`'s encoder with a linear softmax head.

    Parameters: `encoder`, as the Autoencoder's, and `head` with `kernel` [H, num_classes] and
    `bias`. The fields are those of the Autoencoder whose encoder drops in
    (`classifier_params`); the head starts at zero.

    Raises:
        ValueError: `x` has the wrong width.
    """

    data_size: int
    widths: Sequence[int]
    code_size: int
    num_classes: int
    activation: Callable[[jax.Array], jax.Array] = nn.sigmoid
    code_activation: Callable[[jax.Array], jax.Array] = identity
    kernel_init: nn.initializers.Initializer = nn.initializers.glorot_uniform()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()
    head_init: nn.initializers.Initializer = nn.initializers.zeros_init()

    def setup(self) -> None:
        """Declares encoder and head."""
        self.encoder = _encoder_of(self)
        self.head = nn.Dense(self.num_classes, kernel_init=self.head_init)

    def encode(self, x: jax.Array) -> jax.Array:
        """z = g(x): [..., D] -> [..., H]."""
        _check_width(x.shape[-1], self.data_size, "x", "data_size", "Classifier")
        return self.code_activation(self.encoder(x))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Class logits: [..., D] -> [..., num_classes]."""
        return self.head(self.encode(x))


def classifier_params(autoencoder_params: dict, head_params: dict) -> dict:
    """Parameters of a `Classifier` that starts from a trained `Autoencoder`'s encoder.

    Args:
        autoencoder_params: the Autoencoder's parameters.
        head_params: {"kernel" [H, num_classes], "bias" [num_classes]}, e.g. the "head" of a fresh
            Classifier's parameters.

    Raises:
        ValueError: the code's size and the head's input differ.
    """
    encoder = autoencoder_params["encoder"]
    code_size = encoder[f"layers_{len(encoder) - 1}"]["kernel"].shape[1]
    head_size = head_params["kernel"].shape[0]
    if code_size != head_size:
        raise ValueError(
            f"the encoder's code has size {code_size}, but the head's kernel takes {head_size};"
            f" make the head for code_size={code_size}"
        )
    return {"encoder": encoder, "head": head_params}
