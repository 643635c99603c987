"""The lower bound of a program's memory, counted by hand."""

import jax
import jax.numpy as jnp

from jaxgen.training.liveness import peak_bytes

X, W = jax.ShapeDtypeStruct((100, 10), jnp.float32), jax.ShapeDtypeStruct((10, 50), jnp.float32)
V = jax.ShapeDtypeStruct((50, 30), jnp.float32)


def peak(function, *arguments):
    return peak_bytes(jax.make_jaxpr(function)(*arguments))


def test_elementwise_operations_are_free_and_products_are_stored():
    assert peak(lambda x: jnp.sin(x) * 2 + 1, X) == 0
    assert peak(lambda x, w: jax.nn.relu(x @ w), X, W) == 4 * 100 * 50
    # The hidden layer and the output are alive at once.
    assert peak(lambda x, w, v: jax.nn.gelu(x @ w) @ v, X, W, V) == 4 * 100 * (50 + 30)


def test_what_was_used_is_given_back():
    square = jax.ShapeDtypeStruct((64, 64), jnp.float32)

    def chain(x):
        for _ in range(9):
            x = jnp.tanh(x @ x)
        return x

    assert peak(chain, square) == 2 * 4 * 64 * 64


def test_the_forward_pass_is_kept_for_the_backward_pass_unless_it_is_computed_again():
    square = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    size = 4 * 64 * 64

    def loss(x, layer):
        for _ in range(8):
            x = layer(x)
        return jnp.sum(x)

    layer = lambda x: jnp.sin(x @ jnp.eye(64))
    kept = peak(lambda x: jax.grad(lambda x: loss(x, layer))(x), square)
    # Eight results of layers, and up to three arrays of the backward pass; the identity is a constant.
    assert 8 * size <= kept <= 12 * size
    two = lambda x: layer(layer(x))
    again = peak(lambda x: jax.grad(lambda x: loss(x, jax.checkpoint(two)))(x), square)
    assert 8 * size <= again < 2 * 8 * size


def test_a_loop_needs_its_body_once_and_its_results():
    def body(carry, x):
        carry = jnp.tanh(carry @ carry)
        return carry, x * 2

    def loop(carry, xs):
        return jax.lax.scan(body, carry, xs)

    square, xs = jax.ShapeDtypeStruct((64, 64), jnp.float32), jax.ShapeDtypeStruct((1000, 10), jnp.float32)
    size, stacked = 4 * 64 * 64, 4 * 1000 * 10
    assert peak(loop, square, xs) == size + stacked + size
