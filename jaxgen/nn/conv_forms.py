"""Convolution and its derivatives as three bilinear maps, each the backward pass of the other two.

All come from one trilinear form of an image x [B, H, W, C], a kernel k [kh, kw, C, O] and an output y [B, H', W', O],

    F(x, k, y) = sum_{b,i,j,u,v,c,o} x[b, s i + u - p, s j + v - q, c] k[u, v, c, o] y[b, i, j, o]

(s the stride, (p, q) the padding, x zero outside). `output` = dF/dy is the convolution, `image` = dF/dx the transposed
convolution, `kernel_form` = dF/dk the weight gradient. F is linear in each, so the derivatives of any of them, of any
order, are the others again, and second derivatives need nothing further.

Each is evaluated as a plain forward convolution with NHWC images and HWIO kernels, because XLA on CPU has a fast
program for nothing else: what its own autodiff emits has permuted dimension numbers. One backward pass over lax's, on
two cores (AVX-512), without / with YNNPACK fusions (`jaxgen.training.compiler`), minima of interleaved runs:

@TABLE@
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
