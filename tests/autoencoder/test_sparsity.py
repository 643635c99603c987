"""Sparse penalties against SciPy, the k largest against NumPy, and the two-pass gradient."""

import functools
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
    auxk_error,
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
from tests.parameters import apply
from tests.programs import in_float32, in_float64


def _context(step=0, statistics=None):
    return SimpleNamespace(step=np.int32(step), model_state=None, statistics=statistics)


def test_kl_sparsity_equals_scipy():
    m = np.random.default_rng(0).uniform(0.001, 0.999, (3, 8))
    found, zero = in_float64(lambda m: (kl_sparsity(m, 0.05), kl_sparsity(jnp.full(4, 0.05, jnp.float32), 0.05)), m)
    expected = entropy(np.array([0.05, 0.95])[:, None, None], np.stack([m, 1 - m])).sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert zero == 0


def test_linearized_kl_has_the_value_and_gradient_of_the_kl_of_the_batch_mean(
    random_params,
):
    network = Autoencoder(5, (), 7, code_activation=nn.sigmoid)
    params = jax.tree.map(lambda a: a.astype(np.float64), random_params(network, 5))
    x = np.random.default_rng(1).uniform(size=(12, 5))
    rho, weight = 0.1, 3.0
    loss = kl_sparsity_loss(network, rho, weight)

    def direct(params, x):
        code = apply(network, params, x, method="encode")
        reconstruction = apply(network, params, code, method="decode")
        error = jnp.mean(squared_error(x, reconstruction))
        return error + weight * kl_sparsity(jnp.mean(code, axis=0), rho)

    def program(params, x):
        statistics = kl_sparsity_statistics(network)(params, {"x": x}, None, _context())
        context = _context(statistics=jax.tree.map(lambda a: jnp.mean(a, axis=0), statistics))
        two_pass = lambda params, shard: jnp.mean(loss(params, {"x": shard}, None, context)[0])
        halves = [jax.value_and_grad(two_pass)(params, shard) for shard in (x[:6], x[6:])]
        return jax.value_and_grad(direct)(params, x), jax.tree.map(lambda a, b: (a + b) / 2, *halves)

    (value, gradient), found = in_float64(program, params, x)
    np.testing.assert_allclose(found[0], value, rtol=1e-13)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)
    jax.tree.map(close, found[1], gradient)


def test_a_dead_or_saturated_unit_gets_a_finite_gradient_towards_rho():
    f = lambda a: jnp.mean(linearized_kl_sparsity(a, jnp.mean(a, axis=0), 0.1))
    codes = np.stack([np.full((2, 3), value, np.float32) for value in (0, 1)])
    losses, gradients = in_float32(jax.vmap(jax.value_and_grad(f)), codes)
    assert np.all(np.isfinite(losses)) and np.all(np.isfinite(gradients))
    assert np.all(np.sign(gradients[0]) == -1) and np.all(np.sign(gradients[1]) == 1)


def test_l1_sparsity(random_params):
    network = Autoencoder(4, (), 6)
    batch = {"x": np.random.default_rng(1).uniform(size=(3, 4)).astype(np.float32)}
    (losses, metrics), code, by_hand = in_float32(
        lambda params: (
            l1_sparsity_loss(network, 0.5)(params, batch, None, None),
            apply(network, params, batch["x"], method="encode"),
            l1_sparsity(jnp.array([[1.0, -2, 0], [0, 0, 3]])),
        ),
        random_params(network, 4),
    )
    np.testing.assert_allclose(by_hand, [3, 3])
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
    ks = np.array([0, 1, 5, 19, 20], np.int32)
    traced, five = in_float64(lambda x, ks: (jax.lax.map(lambda k: top_k(x, k), ks), top_k(x, 5)), x, ks)
    assert traced.dtype == dtype
    for k, found in zip(ks, traced, strict=True):
        np.testing.assert_array_equal(found, _numpy_top_k(x, k), err_msg=f"k = {k}")
    np.testing.assert_array_equal(five, _numpy_top_k(x, 5))


def test_gradient_of_top_k_passes_through_the_kept_alone():
    x = np.array([[3.0, 1, 3, 3], [-1, -5, -2, -1]], np.float32)
    zeros = np.array([-0.0, 0.0, -1.0], np.float32)  # Equal, whatever their signs: the first counts.
    weight = jnp.arange(8.0).reshape(2, 4) + 1
    gradient, of_zeros, found = in_float32(
        lambda x, zeros: (
            jax.grad(lambda a: jnp.sum(weight * top_k(a, 2)))(x),
            jax.grad(lambda a: top_k(a, 1).sum())(zeros),
            jax.vmap(top_k)(x, jnp.array([1, 3])),
        ),
        *(x, zeros),
    )
    np.testing.assert_array_equal(gradient, [[1, 0, 3, 0], [5, 0, 0, 8]])
    np.testing.assert_array_equal(of_zeros, [1, 0, 0])
    np.testing.assert_array_equal(found, [[3, 0, 0, 0], [-1, 0, -2, -1]])


def test_annealed_k():
    steps = np.array([0, 100, 250, 499, 500, 501, 1000, 9999], np.int32)
    ks, other = in_float32(
        lambda steps: (jax.vmap(lambda s: annealed_k(s, 25, 100, 1000))(steps), annealed_k(jnp.int32(3), 2, 8, 12)),
        steps,
    )
    assert ks.tolist() == [100, 85, 62, 25, 25, 25, 25, 25]
    assert other == 5


def test_k_sparse_encode_and_loss(random_params):
    network = Autoencoder(4, (), 8, tied=True, output="linear")
    batch = {"x": np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)}
    params = random_params(network, 4)
    annealed = k_sparse_loss(network, 2, start=6, num_steps=8)
    steps_to_k = {0: 6, 2: 4, 4: 2, 7: 2}

    def program(params, steps):
        pre_code = apply(network, params, batch["x"], method="pre_code")
        decode = lambda k: apply(network, params, top_k(pre_code, k), method="decode")
        return (
            pre_code,
            k_sparse_encode(network, params, batch["x"], 2),
            k_sparse_encode(network, params, batch["x"], 2, alpha=1.5),
            jax.lax.map(lambda step: annealed(params, batch, None, SimpleNamespace(step=step)), steps),
            [decode(k) for k in steps_to_k.values()],
        )

    pre_code, code, wider, (losses, metrics), decoded = in_float32(program, params, np.array([*steps_to_k], np.int32))
    np.testing.assert_array_equal(code, _numpy_top_k(pre_code, 2))
    np.testing.assert_array_equal(wider, _numpy_top_k(pre_code, 3))
    for i, (step, k) in enumerate(steps_to_k.items()):
        expected = np.sum((batch["x"] - decoded[i]) ** 2, -1)
        np.testing.assert_allclose(losses[i], expected, rtol=1e-5, err_msg=f"step {step}")
        np.testing.assert_array_equal(metrics["k"][i], np.full(5, k))


def test_k_sparse_code_is_zero_where_not_kept_whatever_the_activation(random_params):
    network = Autoencoder(4, (), 8, code_activation=nn.sigmoid)
    x = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    params = random_params(network, 4)
    code = in_float32(lambda params: k_sparse_encode(network, params, x, 3), params)
    np.testing.assert_array_equal((code != 0).sum(-1), np.full(5, 3))


def test_dead_units():
    codes = np.array([[0, 1, -4, 2], [0, 1, 0, 2], [0, 1, 0, 4], [0, 1, 0, 0]], np.float32)
    found, above = in_float32(lambda codes: (dead_units(codes), dead_units(codes, threshold=2.0)), codes)
    np.testing.assert_allclose(found["dead_share"], 0.25)
    np.testing.assert_allclose(found["active_share"], 8 / 16)
    np.testing.assert_allclose(found["mean_activation"], 0.5)
    # Units: constant 0, single example 1, and (2, 2, 4, 0): (1 - 4/6) / (3/4) = 4/9.
    np.testing.assert_allclose(found["lifetime_sparsity"], (0 + 1 + 4 / 9) / 3, rtol=1e-6)
    np.testing.assert_allclose(above["dead_share"], 0.5)


def test_wrong_inputs(random_params):
    network = Autoencoder(4, (), 8, code_activation=nn.sigmoid)
    for rho in (0, 1, -0.1, 1.5):
        with pytest.raises(ValueError, match="rho is"):
            kl_sparsity(np.full(3, 0.5), rho)
        with pytest.raises(ValueError, match="rho is"):
            kl_sparsity_loss(network, rho, 1.0)
    with pytest.raises(ValueError, match="k is 9.*8"):
        top_k(np.zeros((2, 8)), 9)
    with pytest.raises(ValueError, match="k is 9.*8"):
        k_sparse_loss(network, 9)
    with pytest.raises(ValueError, match="start is 20"):
        k_sparse_loss(network, 2, start=20, num_steps=10)
    with pytest.raises(ValueError, match="num_steps"):
        k_sparse_loss(network, 2, start=4)
    with pytest.raises(ValueError, match="kl_sparsity_statistics"):
        params = random_params(network, 4)
        kl_sparsity_loss(network, 0.1, 1.0)(params, {"x": np.zeros((2, 4))}, None, _context())
    with pytest.raises(ValueError, match="at least 2"):
        dead_units(np.zeros((1, 3)))


def test_dead_units_explain_what_is_left_over():
    """Gao et al. 2024, section 2.4: the k largest dead units are decoded to the error, which is held constant."""
    rng = np.random.default_rng(6)
    x, rebuilt, pre = rng.normal(size=(3, 4)), rng.normal(size=(3, 4)), rng.normal(size=(3, 6))
    kernel, dead = rng.normal(size=(6, 4)), np.array([1, 0, 1, 1, 0, 0])

    def f(x, rebuilt, pre, kernel, k):
        return auxk_error(x, rebuilt, pre, dead, k, lambda code: code @ kernel)

    for k in (1, 2, 5):
        code = np.zeros_like(pre)
        for i, row in enumerate(np.where(dead, pre, -np.inf)):
            kept = [j for j in np.argsort(-row)[:k] if dead[j]]
            code[i, kept] = pre[i, kept]
        expected = ((x - rebuilt - code @ kernel) ** 2).sum(axis=1)
        found = in_float64(functools.partial(f, k=k), x, rebuilt, pre, kernel)
        np.testing.assert_allclose(found, expected, rtol=1e-10, err_msg=str(k))
    slope = in_float64(jax.grad(lambda rebuilt, x: jnp.sum(f(x, rebuilt, pre, kernel, 2))), rebuilt, x)
    assert not slope.any()
    x, rebuilt, pre = x.astype(np.float32), rebuilt.astype(np.float32), pre.astype(np.float32)
    none = auxk_error(x, rebuilt, pre, 0 * dead, 2, lambda code: code[:, :4])
    np.testing.assert_array_equal(none, 0)
