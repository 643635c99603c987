"""Attention's program for CPU against the plain one: values, gradients, second derivatives."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.diffusion import attention


def test_the_program_for_cpu_is_the_plain_one():
    with jax.enable_x64(True):
        q, k, v = (np.random.default_rng(i).normal(size=(2, n, 4)) for i, n in enumerate((3, 5, 5)))

        def derivatives(attend):
            gradient = jax.grad(lambda *a: jnp.sum(jnp.sin(attend(*a))), (0, 1, 2))
            norm = lambda *a: sum(jnp.sum(jnp.square(g)) for g in gradient(*a))
            return attend(q, k, v), gradient(q, k, v), jax.grad(norm, (0, 1, 2))(q, k, v)

        pair = derivatives(attention._attend_on_cpu), derivatives(attention._plain_attend)
        for one, other in zip(*map(jax.tree.leaves, pair), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13)


def test_queries_keys_and_values_are_where_each_order_has_them():
    qkv = jnp.arange(2 * 3 * 12.0).reshape(2, 3, 12)
    numbers = np.asarray(qkv)
    q, k, v = attention.split_qkv(qkv, 2, "qkv_first")
    np.testing.assert_array_equal(np.stack([q, k, v], 2).reshape(2, 3, 12), numbers)
    q, k, v = attention.split_qkv(qkv, 2, "heads_first")
    np.testing.assert_array_equal(np.stack([q, k, v], 3).reshape(2, 3, 12), numbers)
