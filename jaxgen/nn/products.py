"""A dense layer's matrix product whose weight gradient is fast on CPU."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxgen.arguments import Float, takes
from jaxgen.nn.conv import Backward, uses_forward_form


@takes(x=Float("... C"), kernel=Float("C O"))
def matmul(x: ArrayLike, kernel: ArrayLike, *, backward: Backward = "auto") -> jax.Array:
    """x W on the last axis: [..., C] and [C, O] -> [..., O].

    The weight gradient sums over all leading axes. XLA on CPU has no fast program for that product, x^T g with x as it
    lies (59 to 85 GFLOP/s a core for 8192x128 and 2048x256, against 146 to 213 of x g), so "forward_form" lays x^T out
    first. Layer and gradients of attention's 256 -> 768 on 8x16x16 positions: 0.6 of the time.

    Args:
        x: [..., C].
        kernel: W, [C, O].
        backward: "forward_form" (reverse mode only), "xla", or "auto": the first on CPU for three and more axes, where
            the sum is long.

    Returns:
        [..., O].
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    if not uses_forward_form(backward) or (backward == "auto" and x.ndim < 3):
        return x @ kernel
    return _product(x, kernel)


def dense_dot(
    x: ArrayLike, kernel: ArrayLike, dimension_numbers: Any, precision: Any = None, preferred_element_type: Any = None
) -> jax.Array:
    """`matmul` of x [..., C] and a kernel [C, O] as the `dot_general` of a Flax Dense layer."""
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    expected = (((x.ndim - 1,), (0,)), ((), ()))
    if dimension_numbers != expected or precision is not None or preferred_element_type is not None:
        return lax.dot_general(x, kernel, dimension_numbers, precision, preferred_element_type)
    return matmul(x, kernel)


@jax.custom_vjp
def _product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return x @ kernel


def _product_backward(residuals, g):
    x, kernel = residuals
    # The barrier keeps XLA from folding the transposition into the product again.
    by_channel = lax.optimization_barrier(x.reshape(-1, x.shape[-1]).T)
    return g @ kernel.T, by_channel @ g.reshape(-1, g.shape[-1])


_product.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _product_backward)
