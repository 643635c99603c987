"""Doubling an image by repetition, alone and together with the convolution that follows it."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxgen.arguments import Float, takes
from jaxgen.nn.conv import Backward, conv, conv_transpose, uses_forward_form

# Row u of the 4x4 kernel that spreads a pixel over the doubled image, from rows of the 3x3 kernel: of the four rows
# of the doubled image that see pixel i, 2 i - 1 sees it through the last row alone, 2 i through the last two, ...
_ROWS = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])


@takes(x=Float("B H W C"))
def nearest(x: ArrayLike) -> jax.Array:
    """Each pixel four times: [B, H, W, C] -> [B, 2 H, 2 W, C]."""
    x = jnp.asarray(x)
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)


@takes(x=Float(), kernel=Float())
def upsampled_conv(x: ArrayLike, kernel: ArrayLike, *, backward: Backward = "auto") -> jax.Array:
    """conv(nearest(x), kernel): 3x3 after doubling the image.

    Repeated pixels are multiplied by sums of the kernel's entries instead: a transposed convolution 4x4 of stride 2,
    with 16 products for each pixel of x instead of 36. On CPU; elsewhere as it is defined.

    Args:
        x: [B, H, W, C].
        kernel: [3, 3, C, O], of the dtype of x.
        backward: as in `conv`; "forward_form" also chooses the transposed convolution.

    Returns:
        [B, 2 H, 2 W, O].

    Raises:
        ValueError: the kernel is not 3x3, or what `conv` refuses.
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    if kernel.shape[:2] != (3, 3):
        raise ValueError(f"the kernel is {kernel.shape[:2]}; expected (3, 3)")
    if not uses_forward_form(backward):
        return conv(nearest(x), kernel, backward=backward)
    rows = jnp.asarray(_ROWS, kernel.dtype)
    spread = jnp.einsum("ur,vs,rsco->uvco", rows, rows, kernel)
    return conv_transpose(x, spread, stride=2, backward=backward)
