"""A stack of fully connected layers."""

from collections.abc import Callable, Sequence

import jax
from flax import linen as nn


class DenseStack(nn.Module):
    """h_l = activation(h_{l-1} W_l + b_l), l = 1..L, on [..., D] -> [..., widths[-1]].

    Parameters: `layers_0` .. `layers_{L-1}`, each with `kernel` [in, out] and `bias` [out].

    Attributes:
        widths: width of each layer; empty gives the identity.
        activation: elementwise nonlinearity.
        kernel_init: initializer of the kernels.
        bias_init: initializer of the biases.
        activate_last: whether the last layer is followed by the activation.
    """

    widths: Sequence[int]
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    kernel_init: nn.initializers.Initializer = nn.initializers.glorot_uniform()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()
    activate_last: bool = True

    def setup(self) -> None:
        """Declares the layers."""
        self.layers = [nn.Dense(width, kernel_init=self.kernel_init, bias_init=self.bias_init) for width in self.widths]

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] -> [..., widths[-1]]."""
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if self.activate_last or i + 1 < len(self.layers):
                x = self.activation(x)
        return x
