"""Sparse penalties against SciPy, the k largest against NumPy, and the two-pass gradient."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.stats import entropy

from jaxgen.autoencoder import (
    Autoencoder,
    annealed_k,
    dead_units,
    k_sparse_encode,
    k_sparse_loss,
    kl_sparsity,
    kl_sparsity_loss,
    kl_sparsity_statistics,
    l1_sparsity,
    l1_sparsity_loss,
    linearized_kl_sparsity,
    squared_error,
    top_k,
)


def _context(step=0, statistics=None):
    return SimpleNamespace(step=jnp.int32(step), model_state=None, statistics=statistics)


def test_kl_sparsity_equals_scipy():
    m = np.random.default_rng(0).uniform(0.001, 0.999, (3, 8))
    with jax.enable_x64(True):
        found = jax.jit(kl_sparsity)(m, 0.05)
    expected = entropy(np.array([0.05, 0.95])[:, None, None], np.stack([m, 1 - m])).sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert kl_sparsity(jnp.full(4, 0.05), 0.05) == 0


def test_linearized_kl_has_the_value_and_gradient_of_the_kl_of_the_batch_mean(
    random_params,
):
    network = Autoencoder(5, (), 7, code_activation=nn.sigmoid)
    params = jax.tree.map(lambda a: a.astype(np.float64), random_params(network, 5))
    x = np.random.default_rng(1).uniform(size=(12, 5))
    rho, weight = 0.1, 3.0
    with jax.enable_x64(True):
        x = jnp.asarray(x)

        def direct(params):
            code = network.apply({"params": params}, x, method="encode")
            reconstruction = network.apply({"params": params}, code, method="decode")
            error = jnp.mean(squared_error(x, reconstruction))
            return error + weight * kl_sparsity(jnp.mean(code, axis=0), rho)

        statistics = kl_sparsity_statistics(network)(params, {"x": x}, None, _context())
        means = jax.tree.map(lambda a: jnp.mean(a, axis=0), statistics)
        loss = kl_sparsity_loss(network, rho, weight)

        def two_pass(params, shard):
            context = _context(statistics=means)
            return jnp.mean(loss(params, {"x": shard}, None, context)[0])

        value, gradient = jax.jit(jax.value_and_grad(direct))(params)
        half = jax.jit(jax.value_and_grad(two_pass))
        halves = half(params, x[:6]), half(params, x[6:])
        found = jax.tree.map(lambda a, b: (a + b) / 2, *halves)
    np.testing.assert_allclose(found[0], value, rtol=1e-13)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)
    jax.tree.map(close, found[1], gradient)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_dead_or_saturated_unit_gets_a_finite_gradient_towards_rho(value):
    code = jnp.full((2, 3), value)
    f = lambda a: jnp.mean(linearized_kl_sparsity(a, jnp.mean(code, axis=0), 0.1))
    loss, gradient = jax.jit(jax.value_and_grad(f))(code)
    assert np.isfinite(loss) and np.all(np.isfinite(gradient))
    assert np.all(np.sign(gradient) == (1 if value else -1))


def test_l1_sparsity(random_params):
    np.testing.assert_allclose(l1_sparsity(jnp.array([[1.0, -2, 0], [0, 0, 3]])), [3, 3])
    network = Autoencoder(4, (), 6)
    batch = {"x": np.random.default_rng(1).uniform(size=(3, 4)).astype(np.float32)}
    params = random_params(network, 4)
    losses, metrics = jax.jit(l1_sparsity_loss(network, 0.5))(params, batch, None, None)
    code = np.asarray(network.apply({"params": params}, batch["x"], method="encode"))
    np.testing.assert_allclose(metrics["penalty"], np.abs(code).sum(-1), rtol=1e-6)
    expected = metrics["squared_error"] + 0.5 * metrics["penalty"]
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


def _numpy_top_k(x, k):
    order = np.argsort(-x, axis=-1, kind="stable")[..., :k]
    out = np.zeros_like(x)
    np.put_along_axis(out, order, np.take_along_axis(x, order, -1), -1)
    return out


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_top_k_equals_numpy_with_ties(dtype):
    generator = np.random.default_rng(0)
    # Multiples of a half in [-2, 2]: many ties, both zeros, both signs; and tiny distinct values.
    ties = generator.integers(-4, 5, (60, 20)) / 2 * generator.choice([-1, 1], (60, 20))
    assert np.any((ties == 0) & np.signbit(ties))
    x = np.concatenate([ties, 1e-30 * generator.normal(size=(60, 20))]).reshape(4, 30, 20)
    x = x.astype(dtype)
    with jax.enable_x64(True):
        traced = jax.jit(top_k)
        for k in (0, 1, 5, 19, 20):
            found = traced(jnp.asarray(x), jnp.int32(k))
            np.testing.assert_array_equal(found, _numpy_top_k(x, k))
            assert found.dtype == dtype
        np.testing.assert_array_equal(top_k(jnp.asarray(x), 5), _numpy_top_k(x, 5))


def test_gradient_of_top_k_passes_through_the_kept_alone():
    x = jnp.array([[3.0, 1, 3, 3], [-1, -5, -2, -1]])
    weight = jnp.arange(8.0).reshape(2, 4) + 1
    gradient = jax.grad(lambda a: jnp.sum(weight * top_k(a, 2)))(x)
    np.testing.assert_array_equal(gradient, [[1, 0, 3, 0], [5, 0, 0, 8]])
    zeros = jnp.array([-0.0, 0.0, -1.0])  # Equal, whatever their signs: the first counts.
    np.testing.assert_array_equal(jax.grad(lambda a: top_k(a, 1).sum())(zeros), [1, 0, 0])
    found = jax.vmap(top_k)(x, jnp.array([1, 3]))
    np.testing.assert_array_equal(found, [[3, 0, 0, 0], [-1, 0, -2, -1]])


def test_annealed_k():
    steps = (0, 100, 250, 499, 500, 501, 1000, 9999)
    ks = [int(annealed_k(jnp.int32(s), 25, 100, 1000)) for s in steps]
    assert ks == [100, 85, 62, 25, 25, 25, 25, 25]
    assert int(jax.jit(annealed_k, static_argnums=(1, 2, 3))(jnp.int32(3), 2, 8, 12)) == 5


def test_k_sparse_encode_and_loss(random_params):
    network = Autoencoder(4, (), 8, tied=True, output="linear")
    batch = {"x": np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)}
    params = random_params(network, 4)
    pre_code = network.apply({"params": params}, batch["x"], method="pre_code")
    code = k_sparse_encode(network, params, batch["x"], 2)
    np.testing.assert_array_equal(code, top_k(pre_code, 2))
    wider = k_sparse_encode(network, params, batch["x"], 2, alpha=1.5)
    np.testing.assert_array_equal(wider, top_k(pre_code, 3))
    annealed = k_sparse_loss(network, 2, start=6, num_steps=8)
    at_step = jax.jit(lambda step: annealed(params, batch, None, SimpleNamespace(step=step)))
    for step, k in ((0, 6), (2, 4), (4, 2), (7, 2)):
        losses, metrics = at_step(jnp.int32(step))
        decoded = network.apply({"params": params}, top_k(pre_code, k), method="decode")
        np.testing.assert_allclose(losses, squared_error(batch["x"], decoded), rtol=1e-5)
        np.testing.assert_array_equal(metrics["k"], np.full(5, k))


def test_k_sparse_code_is_zero_where_not_kept_whatever_the_activation(random_params):
    network = Autoencoder(4, (), 8, code_activation=nn.sigmoid)
    x = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    params = random_params(network, 4)
    code = k_sparse_encode(network, params, x, 3)
    np.testing.assert_array_equal((code != 0).sum(-1), np.full(5, 3))


def test_dead_units():
    codes = jnp.array([[0.0, 1, -4, 2], [0, 1, 0, 2], [0, 1, 0, 4], [0, 1, 0, 0]])
    found = dead_units(codes)
    np.testing.assert_allclose(found["dead_share"], 0.25)
    np.testing.assert_allclose(found["active_share"], 8 / 16)
    np.testing.assert_allclose(found["mean_activation"], 0.5)
    # Units: constant 0, single example 1, and (2, 2, 4, 0): (1 - 4/6) / (3/4) = 4/9.
    np.testing.assert_allclose(found["lifetime_sparsity"], (0 + 1 + 4 / 9) / 3, rtol=1e-6)
    np.testing.assert_allclose(dead_units(codes, threshold=2.0)["dead_share"], 0.5)


def test_wrong_inputs(random_params):
    network = Autoencoder(4, (), 8)
    for rho in (0, 1, -0.1, 1.5):
        with pytest.raises(ValueError, match="rho is"):
            kl_sparsity(jnp.full(3, 0.5), rho)
        with pytest.raises(ValueError, match="rho is"):
            kl_sparsity_loss(network, rho, 1.0)
    with pytest.raises(ValueError, match="k is 9.*8"):
        top_k(jnp.zeros((2, 8)), 9)
    with pytest.raises(ValueError, match="k is 9.*8"):
        k_sparse_loss(network, 9)
    with pytest.raises(ValueError, match="start is 20"):
        k_sparse_loss(network, 2, start=20, num_steps=10)
    with pytest.raises(ValueError, match="num_steps"):
        k_sparse_loss(network, 2, start=4)
    with pytest.raises(ValueError, match="kl_sparsity_statistics"):
        params = random_params(network, 4)
        kl_sparsity_loss(network, 0.1, 1.0)(params, {"x": jnp.zeros((2, 4))}, None, _context())
    with pytest.raises(ValueError, match="at least 2"):
        dead_units(jnp.zeros((1, 3)))
