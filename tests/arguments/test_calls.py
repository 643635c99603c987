"""What `takes` converts, what it refuses, and that it leaves arrays of JAX and traced values alone."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.arguments import Count, Each, Float, Host, Int, Key, Real, as_float, as_key, concrete, same_shape, takes


@takes(x=Float("B D"), y=Float("... D"), z=Float("...1"))
def received(x: object, y: Any = None, z: Any = None) -> Any:
    return x, y, z


def test_floating_arrays_of_jax_are_passed_on_as_they_are():
    for dtype in (jnp.float32, jnp.bfloat16):
        x = jnp.ones((2, 3), dtype)
        assert received(x)[0] is x


def test_whole_numbers_become_the_floating_dtype_of_the_call():
    x = jnp.ones((2, 3), jnp.bfloat16)
    for y in (np.ones(3, np.uint8), [True, False, True], np.arange(3), jnp.arange(3)):
        assert received(x, y)[1].dtype == jnp.bfloat16
        np.testing.assert_array_equal(received(x, y)[1].astype(np.float32), np.asarray(y, np.float32))
    assert received([[1, 2], [3, 4]])[0].dtype == jnp.float32
    assert as_float("x", 3).dtype == jnp.float32 and as_float("x", 3, jnp.float16).dtype == jnp.float16


@pytest.mark.parametrize(
    "x, message",
    [
        ("text", "x is 'text'; expected an array of numbers"),
        (object(), "x is of type object"),
        ([[1.0], [2.0, 3.0]], "x is of type list; expected an array of numbers"),
        (1j * np.ones((2, 3)), "x has dtype complex128; expected real numbers"),
        (None, "x is None"),
        (np.ma.array(np.ones((2, 3)), mask=np.eye(2, 3) == 1), "x is a masked array; .*x.filled"),
        (np.ones(3), r"x has shape \(3,\); expected \[B, D\]"),
        (np.ones((2, 3, 4)), r"x has shape \(2, 3, 4\); expected \[B, D\]; flatten each example"),
    ],
)
def test_what_is_no_array_of_this_shape_is_refused(x, message):
    with pytest.raises(ValueError, match=message):
        received(x)


def test_sizes_are_the_same_in_a_whole_call():
    x = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"y has shape \(5, 4\), and x has shape \(2, 3\); expected \[\.\.\., D\]"):
        received(x, np.ones((5, 4)))
    with pytest.raises(ValueError, match=r"z has shape \(2, 2\), and y has shape \(5, 3\); expected \[\.\.\.\]"):
        received(x, np.ones((5, 3)), np.ones((2, 2)))
    assert received(x, np.ones((5, 3)), np.ones((1,)))[2].shape == (1,)
    with pytest.raises(ValueError, match="a has|b has|shapes are a"):
        same_shape(a=np.ones(2), b=np.ones(3), c=None)


def test_shapes_are_checked_under_jit_and_values_are_not():
    f = takes(x=Float("B D", low=0, high=1, hint=": scale it"))(lambda x: x)
    with pytest.raises(ValueError, match=r"x runs from 2 to 2; expected values in \[0, 1\]: scale it"):
        f(np.full((2, 3), 2.0))
    with pytest.raises(ValueError, match="x runs from nan"):
        f(np.full((2, 3), np.nan))
    assert jax.eval_shape(f, jnp.full((2, 3), 2.0)).shape == (2, 3)
    with pytest.raises(ValueError, match="x has shape"):
        jax.eval_shape(f, jnp.ones(3))
    # No training waits for the values of a large array.
    assert concrete(jnp.ones(3)) and not concrete(np.broadcast_to(np.float32(0), (1025, 1024)))


def test_keys():
    legacy = jax.random.PRNGKey(3)
    assert as_key(legacy).dtype == jax.random.key(3).dtype
    draw = lambda key: jax.random.normal(as_key(key), (4,))
    np.testing.assert_array_equal(draw(legacy), draw(jax.random.key(3)))
    assert as_key(jax.random.split(jax.random.PRNGKey(0), 5)).shape == (5,)
    f = takes(key=Key("|B"), x=Float("B"))(lambda key, x: key)
    assert f(None, [1.0]) is None and f(legacy, [1.0, 2.0]).shape == ()
    for key, message in (
        (0, "key is 0; expected a key"),
        (np.zeros(3, np.uint32), r"key is uint32 \(3,\)"),
        (jnp.zeros(2), r"key is float32 \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            f(key, [1.0])
    with pytest.raises(ValueError, match=r"x has shape \(3,\), and key has shape \(2,\)"):
        f(jax.random.split(jax.random.key(0), 2), np.ones(3))


def everything(n: Any = 2, r: Any = 0.0, i: Any = None, h: Any = None, each: Any = None) -> Any:
    return n, r, i, h, each


def test_the_other_kinds():
    f = takes(n=Count(2), r=Real(low=0), i=Int("B", low=0), h=Host("B D"), each=Each(Float("B")))(everything)
    assert f(n=np.int64(3))[0] == 3 and f(r=np.float32(2))[1] == 2
    assert f(h=[[1, 2]])[3].dtype == np.float64 and f(i=[True, False])[2].dtype == jnp.int32
    assert len(f(each=([1.0], [2.0]))[4]) == 2
    for arguments, message in (
        ({"n": 2.5}, "n is 2.5; expected a whole number"),
        ({"n": 1}, "n is 1; expected at least 2"),
        ({"r": -1}, "r runs from -1"),
        ({"r": "1"}, "r is '1'"),
        ({"r": [1.0]}, r"r has shape \(1,\); expected a number"),
        ({"i": [1.0]}, "i has dtype float64; expected integers"),
        ({"i": [-1]}, "i runs from -1"),
        ({"i": np.array([2**40])}, "expected integers that fit int32"),
        ({"h": [[np.nan, 1.0]]}, "h holds 1 values that are not finite"),
        ({"each": np.ones(3)}, "each is float64.*expected a tuple"),
    ):
        with pytest.raises(ValueError, match=message):
            f(**arguments)
    with pytest.raises(ValueError, match="h is traced"):
        jax.eval_shape(lambda h: f(h=h)[3], jnp.ones((1, 2)))


class Pair(NamedTuple):
    first: jax.Array
    second: jax.Array


def test_named_tuples_keep_their_kind():
    f = takes(pair=Each(Float("... 2"), Pair))(lambda pair: pair)
    found = f(([[1, 2]], np.ones((1, 2), bool)))
    assert isinstance(found, Pair) and found.first.dtype == found.second.dtype == jnp.float32
    np.testing.assert_array_equal(found.first, [[1, 2]])
    for pair, message in (
        (np.ones((2, 2)), r"pair is float64.*expected Pair\(first, second\)"),
        ((np.ones(2),), "pair has 1 parts; expected Pair"),
        (Pair(jnp.ones(2), jnp.ones(3)), r"pair.second has shape \(3,\)"),
        (Pair(jnp.ones((3, 2)), jnp.ones((1, 2))), r"pair.second has shape \(1, 2\), and pair.first"),
    ):
        with pytest.raises(ValueError, match=message):
            f(pair)


def test_batches_and_classes():
    f = takes(batch={"x": Float("B D"), "label": Int("B")}, owner=list)(lambda batch, owner: batch)
    batch = f({"x": [[1, 2]], "label": [0], "other": "kept"}, [])
    assert batch["x"].dtype == jnp.float32 and batch["other"] == "kept"
    for arguments, message in (
        (({"y": 1}, []), 'batch is the entries y; expected a dictionary with the entry "x"'),
        (({"x": [[1.0]], "label": [0, 1]}, []), r"batch\['label'\] has shape \(2,\)"),
        (({"x": [[1.0]]}, 3), "owner is 3; expected list"),
    ):
        with pytest.raises(ValueError, match=message):
            f(*arguments)


def test_a_misnamed_argument_is_found_at_import():
    with pytest.raises(TypeError, match="no arguments y"):
        takes(y=Float())(lambda x: x)
