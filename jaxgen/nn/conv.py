"""Convolutions of NHWC images with HWIO kernels: plain, transposed, sub-pixel. Fast on CPU, XLA's own elsewhere."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Float, takes
from jaxgen.nn.conv_forms import Geometry, image, output, plain_image, plain_output

Pair = tuple[int, int]
Padding = Literal["SAME"] | int | Pair | tuple[Pair, Pair]
Backward = Literal["auto", "forward_form", "xla"]
"""How gradients are computed: "forward_form" as plain convolutions (fast on CPU, also inside scan; reverse mode only),
"xla" by autodiff of lax's convolution (jvp and jacfwd too), "auto" the first on CPU and the second elsewhere."""


@takes(x=Float(), kernel=Float(), stride=Count())
def conv(
    x: ArrayLike,
    kernel: ArrayLike,
    *,
    stride: int = 1,
    padding: Padding = "SAME",
    backward: Backward = "auto",
) -> jax.Array:
    """y[b, i, j, o] = sum_{u,v,c} x[b, s i + u - p, s j + v - q, c] k[u, v, c, o], x zero outside.

    Args:
        x: [B, H, W, C].
        kernel: [kh, kw, C, O], of the dtype of x. PyTorch's weight [O, C, kh, kw], transposed by (2, 3, 1, 0).
        stride: s, 1 or 2.
        padding: "SAME" as in TensorFlow: ceil(H / s) rows, the odd zero at the bottom and right. Or zeros on each
            side as in PyTorch: p, (p, q) for rows and columns, or ((top, bottom), (left, right)); then
            floor((H + 2 p - kh) / s) + 1 rows.
        backward: see `Backward`; every choice has the same values.

    Returns:
        [B, H', W', O].

    Raises:
        ValueError: ranks, channels, dtypes, stride or padding do not fit, or the kernel exceeds the padded image.
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    _check(x, kernel, stride)
    (_, h, w, _), (kh, kw, _, _) = x.shape, kernel.shape
    pads = (_same(h, kh, stride), _same(w, kw, stride)) if padding == "SAME" else _explicit(padding)
    geometry = Geometry(stride, pads, (h, w), (kh, kw))
    if min(geometry.output) < 1:
        raise ValueError(f"the kernel {(kh, kw)} is larger than the image {(h, w)} padded by {pads}")
    if not uses_forward_form(backward):
        return plain_output(geometry, x, kernel)
    if (kh, kw) == (1, 1):
        # A matrix product, whose derivatives are fast as they are (weight gradient: 1.3 ms, as a convolution 7).
        (top, bottom), (left, right) = pads
        x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0)))
        return x[:, ::stride, ::stride] @ kernel[0, 0]
    return output(geometry, x, kernel)


@takes(x=Float(), kernel=Float(), stride=Count(), output_padding=Count(0))
def conv_transpose(
    x: ArrayLike,
    kernel: ArrayLike,
    *,
    stride: int = 2,
    padding: Padding = "SAME",
    output_padding: int = 0,
    backward: Backward = "auto",
) -> jax.Array:
    """y[b, s i + u - p, s j + v - q, o] += x[b, i, j, c] k[u, v, c, o]: the transpose of a convolution, PyTorch's.

    Args:
        x: [B, H, W, C].
        kernel: [kh, kw, C, O], of the dtype of x. PyTorch's weight [C, O, kh, kw], transposed by (2, 3, 0, 1).
        stride: s, 1 or 2.
        padding: "SAME" gives s H rows, as in TensorFlow. Otherwise the rows taken away on each side, in the forms of
            `conv`: s (H - 1) - 2 p + kh + output_padding rows.
        output_padding: rows and columns added at the bottom and right, 0 <= output_padding < s; 0 with "SAME".
        backward: see `Backward`; every choice has the same values.

    Returns:
        [B, H', W', O].

    Raises:
        ValueError: ranks, channels, dtypes, stride or padding do not fit, or nothing is left of the image.
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    _check(x, kernel, stride)
    if not 0 <= output_padding < stride:
        raise ValueError(f"output_padding is {output_padding}; it must be at least 0 and below the stride {stride}")
    (_, h, w, _), (kh, kw, _, _) = x.shape, kernel.shape
    if padding == "SAME":
        if output_padding:
            raise ValueError('padding "SAME" fixes the size; leave output_padding at 0')
        size = (stride * h, stride * w)
        pads = (_same(size[0], kh, stride), _same(size[1], kw, stride))
    else:
        pads = _explicit(padding)
        (top, bottom), (left, right) = pads
        size = (
            stride * (h - 1) + kh + output_padding - top - bottom,
            stride * (w - 1) + kw + output_padding - left - right,
        )
    if min(size) < 1:
        raise ValueError(f"padding {pads} takes away the whole image: its size would be {size}")
    geometry = Geometry(stride, pads, size, (kh, kw))
    transposed = image if uses_forward_form(backward) else plain_image
    return transposed(geometry, kernel.swapaxes(2, 3), x)


@takes(x=Float(), factor=Count(0))
def pixel_shuffle(x: ArrayLike, factor: int = 2) -> jax.Array:
    """y[b, r i + u, r j + v, c] = x[b, i, j, c r^2 + u r + v]: [B, H, W, C r^2] -> [B, r H, r W, C].

    PyTorch's order of channels; TensorFlow's depth_to_space has c innermost. After a convolution: the sub-pixel
    convolution of Shi et al., CVPR 2016, equation 3.

    Args:
        x: [B, H, W, C r^2].
        factor: r >= 1.

    Raises:
        ValueError: x is not an image, or its channels do not divide by r^2.
    """
    x = jnp.asarray(x)
    if x.ndim != 4:
        raise ValueError(f"x has shape {x.shape}; expected [B, H, W, C]")
    b, h, w, channels = x.shape
    if factor < 1 or channels % factor**2:
        raise ValueError(f"{channels} channels do not divide into {factor} x {factor} sub-pixels")
    x = x.reshape(b, h, w, channels // factor**2, factor, factor)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(b, factor * h, factor * w, -1)


def uses_forward_form(backward: Backward) -> bool:
    """Whether this choice means "forward_form" here."""
    if backward not in ("auto", "forward_form", "xla"):
        raise ValueError(f"backward is {backward!r}; expected 'auto', 'forward_form' or 'xla'")
    # Of the process, not of the array: a program placed on another device only loses the faster backward pass.
    return backward == "forward_form" or (backward == "auto" and jax.default_backend() == "cpu")


def _check(x: jax.Array, kernel: jax.Array, stride: int) -> None:
    if x.ndim != 4 or kernel.ndim != 4:
        raise ValueError(f"shapes are {x.shape} and {kernel.shape}; expected [B, H, W, C] and [kh, kw, C, O]")
    if x.shape[3] != kernel.shape[2]:
        raise ValueError(f"x has {x.shape[3]} channels, the kernel {kernel.shape} expects {kernel.shape[2]}")
    if x.dtype != kernel.dtype:
        raise ValueError(f"x is {x.dtype}, the kernel {kernel.dtype}")
    if stride not in (1, 2):
        raise ValueError(f"stride is {stride!r}; expected 1 or 2")


def _explicit(padding: int | Pair | tuple[Pair, Pair] | str) -> tuple[Pair, Pair]:
    """((top, bottom), (left, right)) of the forms that `conv` takes."""
    match padding:
        case int(p):
            pads = ((p, p), (p, p))
        case (int(p), int(q)):
            pads = ((p, p), (q, q))
        case ((int(top), int(bottom)), (int(left), int(right))):
            pads = ((top, bottom), (left, right))
        case _:
            pads = ((-1, -1), (-1, -1))
    if min(*pads[0], *pads[1]) < 0:
        raise ValueError(
            f'padding is {padding!r}; expected "SAME" or counts of at least 0: '
            "p, (p, q) or ((top, bottom), (left, right))"
        )
    return pads


def _same(n: int, k: int, stride: int) -> Pair:
    """TensorFlow's "SAME" along one axis: ceil(n / stride) outputs, the odd zero last."""
    total = max((-(-n // stride) - 1) * stride + k - n, 0)
    return total // 2, total - total // 2
