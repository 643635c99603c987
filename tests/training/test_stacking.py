"""Programs that differ in constants alone become one with arguments, and nothing else does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxpr_as_fun

from jaxgen.training.stacking import constants_as_arguments, describe

X = np.random.default_rng(0).normal(size=5).astype(np.float32)


def traced(function):
    return jax.make_jaxpr(function)(X)


def together(*functions):
    return constants_as_arguments([traced(function) for function in functions])


def test_the_constants_that_differ_are_the_only_new_arguments():
    make = lambda a, b: lambda x: jnp.where(x > b, a * x, 2.0 - x)
    program, values = together(make(3.0, 0.5), make(5.0, 0.5), make(7.0, 0.5))
    assert [value.tolist() for value in values] == [[3, 5, 7]]
    for i, a in enumerate((3.0, 5.0, 7.0)):
        np.testing.assert_array_equal(jaxpr_as_fun(program)(values[0][i], X)[0], np.where(X > 0.5, a * X, 2 - X))


def test_the_same_program_has_no_new_arguments():
    program, values = together(lambda x: 2.0 * x, lambda x: 2.0 * x)
    assert values == []
    np.testing.assert_array_equal(jaxpr_as_fun(program)(X)[0], 2 * X)


TABLES = np.arange(5, dtype=np.float32), np.arange(5, dtype=np.float32)[::-1].copy()


@pytest.mark.parametrize(
    "first, second",
    [
        (lambda x: 2.0 * x, lambda x: 2.0 + x),
        (lambda x: 2.0 * x, lambda x: 2.0 * x + 0.0 * x),
        (lambda x: x - 2.0 * x[0], lambda x: x - 2.0 * x[1]),
        (lambda x: (x * x) - x, lambda x: x - (x * x)),
        # Divisions and powers by constants are compiled as something else.
        (lambda x: x / 3.0, lambda x: x / 7.0),
        (lambda x: jnp.abs(x) ** 0.5, lambda x: jnp.abs(x) ** 0.7),
        (lambda x: x * TABLES[0], lambda x: x * TABLES[1]),
        # Constants of a loop's body stay in it.
        (lambda x: jax.lax.map(lambda y: 2.0 * y, x), lambda x: jax.lax.map(lambda y: 3.0 * y, x)),
        (lambda x: (x, 2.0), lambda x: (x, 3.0)),
        (lambda x: 2.0 * x, lambda x: jnp.float32(2.0) * x.astype(jnp.float16).astype(jnp.float32)),
    ],
)
def test_other_programs_are_not_joined(first, second):
    assert describe(traced(first))[0] != describe(traced(second))[0]
    with pytest.raises(ValueError, match="differ in more than constants"):
        together(first, second)


def test_rules_of_derivatives_do_not_tell_programs_apart():
    """They are new functions at each trace, and a traced program is not differentiated again."""
    make = lambda a: lambda x: a * jax.nn.relu(x)
    _, values = together(make(2.0), make(3.0))
    assert [value.tolist() for value in values] == [[2, 3]]


def test_functions_that_the_host_runs_tell_programs_apart():
    def make(number):
        on_host = lambda x: np.asarray(x) * number
        return lambda x: jax.pure_callback(on_host, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    assert describe(traced(make(2)))[0] != describe(traced(make(3)))[0]
