"""Convolution and its derivatives as three bilinear maps, each the backward pass of the other two.

All come from one trilinear form of an image x [B, H, W, C], a kernel k [kh, kw, C, O] and an output y [B, H', W', O],

    F(x, k, y) = sum_{b,i,j,u,v,c,o} x[b, s i + u - p, s j + v - q, c] k[u, v, c, o] y[b, i, j, o]

(s the stride, (p, q) the padding, x zero outside). `output` = dF/dy is the convolution, `image` = dF/dx the transposed
convolution, `kernel_form` = dF/dk the weight gradient. F is linear in each, so the derivatives of any of them, of any
order, are the others again, and second derivatives need nothing further.

Each is evaluated as a plain forward convolution with NHWC images and HWIO kernels, because XLA on CPU has a fast
program for nothing else: its autodiff permutes the dimensions, and dilates the kernel of a transposed convolution by
the whole image. Value and both gradients on two cores (AVX-512, XLA's defaults, minima of interleaved runs), over the
time of lax's autodiff outside of a loop; inside lax.fori_loop each of ours stays within 1.1 of its time outside:

    batch x image x channels                    here    lax's autodiff inside a loop
    3x3, 64x28x28x32 -> 32                      1.02     78
    3x3, 8x32x32x128 -> 128                     0.98     52
    3x3, 8x16x16x512 -> 256                     1.01     81
    3x3, 64x14x14x64 -> 64                      1.00     45
    4x4 stride 2, 64x28x28x1 -> 64              0.92     13
    4x4 stride 2, 64x14x14x64 -> 128            1.28     43
    4x4 stride 2, 64x32x32x64 -> 128            0.83    100
    4x4 transposed, 64x7x7x128 -> 64            0.11      4
    4x4 transposed, 64x14x14x64 -> 1            0.37      5
    training step, U-Net 28x28, batch 64        0.9 to 1.0
    training step, DCGAN 28x28, batch 64        0.3 to 0.4

Tried and left: space-to-depth for stride 2 (2.2 times the time of the strided form); the weight gradient as one matrix
product for each place of the kernel (1.1 to 7 times); for `image` with stride 2, one convolution with zero-padded
phases (1.4 to 2 times for 3x3 and 5x5, the same for 4x4), and dilating y, which multiplies by the zeros (0.6 to 1.0 for
images up to 16x16 or few channels, 0.9 to 6 from 32x32 on; kept for few channels).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Pair = tuple[int, int]

# Below this many channels XLA's dilated convolution is faster than four small ones and their interleaving.
_FEW_CHANNELS = 16


class Geometry(NamedTuple):
    """The sizes that the three maps share.

    Attributes:
        stride: s, 1 or 2.
        padding: ((top, bottom), (left, right)), zeros around the image.
        image: (H, W).
        kernel: (kh, kw).
    """

    stride: int
    padding: tuple[Pair, Pair]
    image: Pair
    kernel: Pair

    @property
    def output(self) -> Pair:
        """(H', W'), the positions where the whole kernel is inside the padded image."""
        rows, columns = (
            (n + lo + hi - k) // self.stride + 1
            for n, (lo, hi), k in zip(self.image, self.padding, self.kernel, strict=True)
        )
        return rows, columns


def _correlate(x, kernel, strides=(1, 1), padding=((0, 0), (0, 0)), x_dilation=(1, 1), kernel_dilation=(1, 1)):
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        lhs_dilation=x_dilation,
        rhs_dilation=kernel_dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def plain_output(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """y = dF/dy, the convolution of x [B, H, W, C] with [kh, kw, C, O] -> [B, H', W', O]; XLA's own derivatives."""
    return _correlate(x, kernel, (geometry.stride,) * 2, geometry.padding)


def plain_image(geometry: Geometry, kernel: jax.Array, y: jax.Array) -> jax.Array:
    """x = dF/dx, the transposed convolution of y [B, H', W', O] -> [B, H, W, C]; XLA's own derivatives."""
    padding = []
    for n, (lo, _), k, m in zip(geometry.image, geometry.padding, geometry.kernel, geometry.output, strict=True):
        spread = geometry.stride * (m - 1) + 1
        padding.append((k - 1 - lo, n + lo - spread))
    return _correlate(y, _transpose(kernel), padding=padding, x_dilation=(geometry.stride,) * 2)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def output(geometry: Geometry, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """dF/dy: x [B, H, W, C], kernel [kh, kw, C, O] -> [B, H', W', O]. Derivatives in reverse mode only."""
    return plain_output(geometry, x, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def image(geometry: Geometry, kernel: jax.Array, y: jax.Array) -> jax.Array:
    """dF/dx: kernel [kh, kw, C, O], y [B, H', W', O] -> [B, H, W, C]. Derivatives in reverse mode only."""
    if geometry.stride == 2 and kernel.shape[2] >= _FEW_CHANNELS and min(geometry.kernel) > 1:
        return _image_by_phases(geometry, kernel, y)
    return plain_image(geometry, kernel, y)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def kernel_form(geometry: Geometry, x: jax.Array, y: jax.Array) -> jax.Array:
    """dF/dk: x [B, H, W, C], y [B, H', W', O] -> [kh, kw, C, O]. Derivatives in reverse mode only."""
    padding = []
    for n, (lo, _), k, m in zip(geometry.image, geometry.padding, geometry.kernel, geometry.output, strict=True):
        padding.append((lo, k + geometry.stride * (m - 1) - n - lo))
    # The batch is summed over, so it is the feature axis here, and the channels of x are the batch.
    by_channel, by_example = x.transpose(3, 1, 2, 0), y.transpose(1, 2, 0, 3)
    found = _correlate(by_channel, by_example, padding=padding, kernel_dilation=(geometry.stride,) * 2)
    return found.transpose(1, 2, 0, 3)


output.defvjp(
    lambda g, x, k: (output(g, x, k), (x, k)),
    lambda g, xk, y: (image(g, xk[1], y), kernel_form(g, xk[0], y)),
)
image.defvjp(
    lambda g, k, y: (image(g, k, y), (k, y)),
    lambda g, ky, x: (kernel_form(g, x, ky[1]), output(g, x, ky[0])),
)
kernel_form.defvjp(
    lambda g, x, y: (kernel_form(g, x, y), (x, y)),
    lambda g, xy, k: (image(g, k, xy[1]), output(g, xy[0], k)),
)


def _transpose(kernel: jax.Array) -> jax.Array:
    """Flipped in space, in- and output channels exchanged: [kh, kw, C, O] -> [kh, kw, O, C]."""
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


def _image_by_phases(geometry: Geometry, kernel: jax.Array, y: jax.Array) -> jax.Array:
    """`image` for stride 2 without multiplying by the zeros between the pixels of y.

    Even and odd rows (columns) of the padded image each see only the even or odd rows (columns) of the kernel: four
    stride-1 convolutions of y, interleaved.
    """
    height, width = geometry.image
    top, left = (lo for lo, _ in geometry.padding)
    rows, columns = -(-(height + top) // 2), -(-(width + left) // 2)

    def phase(r: int, s: int) -> jax.Array:
        part = _transpose(kernel[r::2, s::2])
        a, b = part.shape[:2]
        return _correlate(y, part, padding=((a - 1, rows - y.shape[1]), (b - 1, columns - y.shape[2])))

    by_row = [jnp.stack([phase(r, 0), phase(r, 1)], axis=3) for r in (0, 1)]
    padded = jnp.stack(by_row, axis=2).reshape(y.shape[0], 2 * rows, 2 * columns, -1)
    return padded[:, top : top + height, left : left + width]
