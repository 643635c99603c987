"""Convolution layers. One layout for all kernels: [kh, kw, channels in, channels out]."""

from typing import Any

import jax
from flax import linen as nn

from jaxgen.nn.conv import Backward, Padding, Pair, conv, conv_transpose, pixel_shuffle
from jaxgen.nn.upsampling import upsampled_conv


class Conv(nn.Module):
    """conv(x, kernel) + bias on [B, H, W, C] -> [B, H', W', features].

    Parameters: `kernel` [kh, kw, C, features], `bias` [features].

    Attributes:
        features: channels of the result.
        kernel_size: k, or (kh, kw).
        stride: 1 or 2.
        padding: as in `conv`.
        use_bias: whether a bias is added.
        kernel_init: initializer of the kernel.
        bias_init: initializer of the bias.
        backward: as in `conv`.
        upsample: whether the image is first doubled by repetition (3x3, stride 1, "SAME"), see `upsampled_conv`.
        dtype: of the computation; None leaves x and the float32 parameters as they are, which must then match.
    """

    features: int
    kernel_size: int | Pair = 3
    stride: int = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()
    backward: Backward = "auto"
    upsample: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H', W', features]."""
        shape = (*_window(self.kernel_size), x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        if self.dtype is not None:
            x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if self.upsample:
            if (self.stride, self.padding) != (1, "SAME"):
                raise ValueError(f'upsample needs stride 1 and padding "SAME", not {self.stride} and {self.padding!r}')
            y = upsampled_conv(x, kernel, backward=self.backward)
        else:
            y = conv(x, kernel, stride=self.stride, padding=self.padding, backward=self.backward)
        if not self.use_bias:
            return y
        return y + self.param("bias", self.bias_init, y.shape[-1:]).reshape(1, 1, 1, -1).astype(y.dtype)


class ConvTranspose(nn.Module):
    """conv_transpose(x, kernel) + bias on [B, H, W, C] -> [B, H', W', features].

    Parameters: `kernel` [kh, kw, C, features], `bias` [features].

    Attributes:
        features: channels of the result.
        kernel_size: k, or (kh, kw).
        stride: 1 or 2.
        padding: as in `conv_transpose`.
        output_padding: as in `conv_transpose`.
        use_bias: whether a bias is added.
        kernel_init: initializer of the kernel.
        bias_init: initializer of the bias.
        backward: as in `conv_transpose`.
    """

    features: int
    kernel_size: int | Pair = 4
    stride: int = 2
    padding: Padding = "SAME"
    output_padding: int = 0
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()
    backward: Backward = "auto"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H', W', features]."""
        shape = (*_window(self.kernel_size), x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        y = conv_transpose(
            x,
            kernel,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            backward=self.backward,
        )
        return y + self.param("bias", self.bias_init, y.shape[-1:]).reshape(1, 1, 1, -1) if self.use_bias else y


class SubPixelConv(nn.Module):
    """pixel_shuffle(conv(x)) on [B, H, W, C] -> [B, r H, r W, features] (Shi et al., CVPR 2016).

    Parameters: `conv`, as of `Conv` with features r^2.

    Attributes:
        features: channels of the result.
        kernel_size: k, or (kh, kw).
        factor: r.
        use_bias: whether a bias is added.
        kernel_init: initializer of the kernel.
        bias_init: initializer of the bias.
        backward: as in `conv`.
    """

    features: int
    kernel_size: int | Pair = 3
    factor: int = 2
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros_init()
    backward: Backward = "auto"

    def setup(self) -> None:
        """Declares the convolution."""
        self.conv = Conv(
            self.features * self.factor**2,
            self.kernel_size,
            use_bias=self.use_bias,
            kernel_init=self.kernel_init,
            bias_init=self.bias_init,
            backward=self.backward,
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, r H, r W, features]."""
        return pixel_shuffle(self.conv(x), self.factor)


def _window(size: int | Pair) -> Pair:
    return (size, size) if isinstance(size, int) else size
