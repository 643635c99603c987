"""Every public function of the mathematics with the inputs that users give: right, or an error that says what is right.

Lists, integers, booleans, bytes and legacy keys give the value of the floating arrays and keys that they stand for, or
a ValueError. An argument of another shape or kind is a ValueError: no error from inside JAX, and nothing is broadcast.
"""

import importlib
import inspect
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytestmark = pytest.mark.inputs

ROOMS = ("nn", "autoencoder", "vae", "gan", "diffusion", "nerf", "metrics")
TABLES = {room: importlib.import_module(f"tests.inputs.{room}") for room in ROOMS}


def functions(room):
    package = importlib.import_module(f"jaxgen.{room}")
    things = {name: getattr(package, name) for name in package.__all__}
    return {name: thing for name, thing in things.items() if inspect.isfunction(inspect.unwrap(thing))}


def names():
    return [(room, name) for room in ROOMS for name in functions(room) if name not in TABLES[room].EXEMPT]


CALLS: dict[str, Any] = {room: None for room in ROOMS}


def call_of(room, name):
    """The function, its right arguments, and the free ones."""
    CALLS[room] = CALLS[room] or TABLES[room].calls()
    assert name in CALLS[room], f"{room}.{name} is public; add a call to tests/inputs/{room}.py"
    return functions(room)[name], *CALLS[room][name]


@pytest.mark.parametrize("room", ROOMS)
def test_the_tables_name_public_functions(room):
    known = functions(room)
    assert not (TABLES[room].calls().keys() | TABLES[room].EXEMPT.keys()) - known.keys()
    assert not TABLES[room].calls().keys() & TABLES[room].EXEMPT.keys()
    assert all(TABLES[room].EXEMPT.values())


def is_array(x):
    return isinstance(x, np.ndarray)


def is_key(x):
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def changed(arguments, change, only=None):
    """The arguments with every array (or those of one name), also inside tuples, changed."""

    def one(x):
        if is_array(x):
            return change(x)
        if isinstance(x, tuple) and x and all(map(is_array, x)) and type(x) is tuple:
            return tuple(map(change, x))
        return x

    return {name: one(x) if only in (None, name) else x for name, x in arguments.items()}


def flat(result):
    """The numbers of a result."""
    if callable(result) and not hasattr(result, "dtype"):
        return []
    leaves = jax.tree.leaves(result)
    leaves = [jax.random.key_data(x) if is_key(x) else x for x in leaves if not callable(x)]
    return [np.asarray(x, np.float64) for x in leaves if isinstance(x, (jax.Array, np.ndarray, float, int))]


def run(function, arguments):
    """The result; keys are used once a call."""
    return function(**{name: jax.random.clone(x) if is_key(x) else x for name, x in arguments.items()})


def outcome(function, arguments):
    """The numbers of the result, or the ValueError's text."""
    try:
        return flat(run(function, arguments))
    except ValueError as error:
        return str(error)


def assert_same(found, expected):
    """The same numbers, or a refusal."""
    if isinstance(found, str) or isinstance(expected, str):
        assert isinstance(found, str), "a refused value was accepted as another type"
        return
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("room, name", names())
def test_natural_inputs(room, name):
    function, arguments, free = call_of(room, name)
    right = flat(run(function, arguments))
    # Lists and legacy keys, in one call: some functions compile a program in each.
    natural = changed(arguments, lambda x: x.tolist())
    natural = {name: jax.random.key_data(cast(jax.Array, x)) if is_key(x) else x for name, x in natural.items()}
    assert_same(flat(function(**natural)), right)

    # Whole numbers as other types.
    def whole(dtype):
        def convert(x):
            return np.minimum(np.abs(np.round(x)), 1).astype(dtype) if np.issubdtype(x.dtype, np.floating) else x

        return outcome(function, changed(arguments, convert))

    if any(is_array(x) and x.dtype == np.float32 for x in jax.tree.leaves(list(arguments.values()))):
        expected = whole(np.float32)
        for dtype in (np.uint8, bool):
            found = whole(dtype)
            if not isinstance(found, str):
                assert_same(found, expected)

    # Other shapes and kinds.
    arrays = {k: x for k, x in arguments.items() if is_array(x) or is_key(x)}
    for argument, x in arrays.items():
        odd = ["text", object(), np.array(["a"]), 1j * np.ones(np.shape(x))]
        if is_key(x):
            odd += [0, 0.5, np.zeros(3, np.float32)]
        for value in odd:
            with pytest.raises(ValueError, match=argument):
                run(function, {**arguments, argument: value})
        if argument in free or is_key(x):
            continue
        wrong = [np.stack([x, x], axis=-1), x[..., None]] + (
            [x[:1]] if x.ndim and len(x) > 1 and len(arrays) > 1 and f"{argument}:1" not in free else []
        )
        for value in wrong:
            with pytest.raises(ValueError):
                run(function, {**arguments, argument: value})


@pytest.mark.parametrize("name", [name for room, name in names() if room == "metrics"])
def test_metrics_refuse_values_that_are_not_finite(name):
    function, arguments, _ = call_of("metrics", name)

    def damaged(bad):
        def damage(x):
            x = np.array(x)
            if x.dtype == np.float32 and x.size:
                x.ravel()[0] = bad
            return x

        return damage

    for argument, x in arguments.items():
        if is_array(x) and x.dtype == np.float32:
            for bad in (np.nan, np.inf):
                with pytest.raises(ValueError, match="finite"):
                    run(function, changed(arguments, damaged(bad), argument))
