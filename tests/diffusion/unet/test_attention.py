"""Attention's program for CPU against the plain one: values, gradients, second derivatives."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.diffusion.unet import attention
from tests.programs import values


def test_the_program_for_cpu_is_the_plain_one():
    inputs = [np.random.default_rng(i).normal(size=(2, n, 4)) for i, n in enumerate((3, 5, 5))]

    def derivatives(attend, *inputs):
        gradient = jax.grad(lambda *a: jnp.sum(jnp.sin(attend(*a))), (0, 1, 2))
        norm = lambda *a: sum(jnp.sum(jnp.square(g)) for g in gradient(*a))
        return attend(*inputs), gradient(*inputs), jax.grad(norm, (0, 1, 2))(*inputs)

    forms = attention._attend_on_cpu, attention._plain_attend
    pair = values(lambda *inputs: [derivatives(attend, *inputs) for attend in forms], *inputs, x64=True)
    for one, other in zip(*map(jax.tree.leaves, pair), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13)


def test_queries_keys_and_values_are_where_each_order_has_them():
    numbers = np.arange(2 * 3 * 12.0).reshape(2, 3, 12)
    axes: dict[attention.QKVOrder, int] = {"qkv_first": 2, "heads_first": 3}
    found = values(lambda qkv: {order: attention.split_qkv(qkv, 2, order) for order in axes}, numbers)
    for order, axis in axes.items():
        np.testing.assert_array_equal(np.stack(found[order], axis).reshape(2, 3, 12), numbers, err_msg=order)
