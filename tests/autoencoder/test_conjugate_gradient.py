"""Conjugate gradients: on a quadratic of dimension n, n exact line searches find the minimum."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.autoencoder import conjugate_gradient_update
from tests.programs import in_float32

CENTRES = np.array([[1.0, -2.0, 0.5], [3.0, 0.0, 1.5], [2.0, 1.0, -0.5], [0.0, 1.0, 0.5]], np.float32)
CURVATURE = np.array([1.0, 6.0, 20.0], np.float32)


class State(SimpleNamespace):
    def replace(self, **changes):
        return State(**{**vars(self), **changes})


def quadratic(params, batch, keys, context):
    offset = params["w"][None, :] - batch["x"]
    return 0.5 * jnp.sum(CURVATURE[None, :] * offset**2, axis=-1), {"size": jnp.sum(offset**2, axis=-1)}


def plain(f, batch, keys):
    return f(batch, keys)


def halves(f, batch, keys):
    parts = [f({"x": batch["x"][i : i + 2]}, keys[i : i + 2]) for i in (0, 2)]
    return jax.tree.map(lambda a, b: (a + b) / 2, *parts)


@functools.cache
def run(num, mean=plain):
    """The parameters after an update with `num` line searches, and its metrics."""
    update = conjugate_gradient_update(quadratic, num)

    def program(w, x):
        state = State(step=jnp.int32(0), params={"w": w}, opt_state=(), ema=None, model_state=None)
        state, metrics = update(state, {"x": x}, jax.random.split(jax.random.key(0), len(CENTRES)), mean)
        return state.params["w"], metrics

    return in_float32(program, np.full(3, 5, np.float32), CENTRES)


def error_after(num):
    w, metrics = run(num)
    return np.abs(w - CENTRES.mean(axis=0)).max(), metrics


def test_three_searches_solve_three_dimensions():
    """Nearly, as the line searches are not exact; steepest descent with exact ones is far from it."""
    w = np.full(3, 5.0)
    for _ in range(3):
        g = CURVATURE * (w - CENTRES.mean(axis=0))
        w = w - (g @ g) / (g @ (CURVATURE * g)) * g
    steepest = np.abs(w - CENTRES.mean(axis=0)).max()
    assert error_after(3)[0] < 0.35 * steepest
    assert error_after(8)[0] < 2e-3


def test_metrics_and_descent():
    _, metrics = error_after(3)
    offset = 5.0 - CENTRES
    np.testing.assert_allclose(metrics["loss"], 0.5 * (CURVATURE * offset**2).sum(axis=1).mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["size"], (offset**2).sum(axis=1).mean(), rtol=1e-6)
    assert metrics["loss_after"] < metrics["loss"]
    gradient = CURVATURE * offset.mean(axis=0)
    np.testing.assert_allclose(metrics["gradient_norm"], np.linalg.norm(gradient), rtol=1e-6)


def test_the_line_search_sees_the_average_not_a_shard():
    """Two shards averaged: the same end as the whole batch, though each shard has another minimum."""
    np.testing.assert_allclose(run(3)[0], run(3, halves)[0], rtol=1e-4, atol=1e-4)


def test_numbers_below_one():
    with pytest.raises(ValueError, match="num_line_searches is 0"):
        conjugate_gradient_update(quadratic, 0)
