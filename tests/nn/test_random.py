"""Draws that are given or made from a key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn.random import checked_draws, given_or_drawn, per_example


def test_given_draws_take_precedence_over_the_key():
    given = np.arange(6.0).reshape(2, 3)
    draw = lambda given, key: given_or_drawn("noise", given, key, jax.random.normal, (2, 3), jnp.float32)
    for key in (None, jax.random.key(0)):
        found = draw(given, key)
        assert found.dtype == jnp.float32
        np.testing.assert_array_equal(found, given)
    drawn, expected = jax.jit(lambda: (draw(None, jax.random.key(0)), jax.random.normal(jax.random.key(0), (2, 3))))()
    np.testing.assert_array_equal(drawn, expected)


def test_missing_and_misshapen_draws_are_refused_under_jit_too():
    with pytest.raises(ValueError, match=r"no key and no uniforms; expected a key, or uniforms of shape \(2, 3\)"):
        given_or_drawn("uniforms", None, None, jax.random.uniform, (2, 3), jnp.float32)
    with pytest.raises(ValueError, match=r"noise has shape \(3,\); expected \(2, 3\)"):
        jax.jit(lambda noise: checked_draws("noise", noise, (2, 3), jnp.float32))(jnp.zeros(3))
    with pytest.raises(ValueError, match=r"noise has shape \(\); expected \(2, 3\)"):
        given_or_drawn("noise", 0.0, jax.random.key(0), jax.random.normal, (2, 3), jnp.float32)


def test_each_example_is_drawn_from_its_own_key():
    draw = per_example(jax.random.normal)
    keys = lambda: jax.random.split(jax.random.key(0), 3)

    @jax.jit
    def program():
        expected = [jax.random.normal(key, (2,)) for key in keys()]
        return draw(keys(), (3, 2), jnp.float32), draw(jax.random.key(0), (3, 2), jnp.float32), jnp.stack(expected)

    of_keys, of_one, expected = program()
    np.testing.assert_array_equal(of_keys, expected)
    np.testing.assert_array_equal(of_one, expected)
