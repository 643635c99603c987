"""The contractive penalties against each other and against NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.linalg import hadamard

from jaxgen.autoencoder import (
    Autoencoder,
    contraction_ratio,
    contractive_loss,
    contractive_penalty,
    gaussian_noise,
    hutchinson_contractive_penalty,
    jacobian_spectrum,
    probed_contractive_penalty,
    reconstruction_loss,
    saturation,
    sigmoid_contractive_penalty,
)

GENERATOR = np.random.default_rng(0)
W1, C1 = GENERATOR.normal(size=(8, 5)), GENERATOR.normal(size=5)
W2 = GENERATOR.normal(size=(5, 12))
X = GENERATOR.uniform(size=(6, 8))


def _sigmoid(a):
    return 1 / (1 + np.exp(-a))


def _one_layer(x):
    return jax.nn.sigmoid(x @ jnp.asarray(W1, x.dtype) + jnp.asarray(C1, x.dtype))


def _two_layers(x):
    return jnp.tanh(_one_layer(x) @ jnp.asarray(W2, x.dtype))


def _numpy_jacobians(x, deep):
    h = _sigmoid(x @ W1 + C1)
    first = np.einsum("bj,ij->bji", h * (1 - h), W1)
    if not deep:
        return first
    return np.einsum("bk,jk,bji->bki", 1 - np.tanh(h @ W2) ** 2, W2, first)


def test_closed_form_and_automatic_differentiation_agree_to_1e_12():
    with jax.enable_x64(True):
        x, kernel = jnp.asarray(X), jnp.asarray(W1)
        hidden = jax.vmap(_one_layer)(x)
        closed = sigmoid_contractive_penalty(hidden, kernel)
        exact = contractive_penalty(_one_layer, x)
    expected = np.sum(_numpy_jacobians(X, False) ** 2, axis=(1, 2))
    np.testing.assert_allclose(closed, expected, rtol=1e-12)
    np.testing.assert_allclose(exact, expected, rtol=1e-12)


@pytest.mark.parametrize("deep", [False, True])  # 8 -> 5 goes backward, 8 -> 12 forward.
def test_exact_penalty_and_spectrum_equal_numpy(deep):
    encode = _two_layers if deep else _one_layer
    jacobians = _numpy_jacobians(X, deep)
    with jax.enable_x64(True):
        penalty, spectrum = jax.jit(
            lambda x: (contractive_penalty(encode, x), jacobian_spectrum(encode, x))
        )(jnp.asarray(X))
    np.testing.assert_allclose(penalty, np.sum(jacobians**2, axis=(1, 2)), rtol=1e-12)
    np.testing.assert_allclose(spectrum, np.linalg.svd(jacobians, compute_uv=False), atol=1e-13)
    assert spectrum.shape == (6, 8 if deep else 5)


def test_orthogonal_probes_give_the_exact_penalty():
    probes = np.broadcast_to(hadamard(8).astype(float), (6, 8, 8))
    with jax.enable_x64(True):
        found = jax.jit(partial(probed_contractive_penalty, _two_layers))(X, probes)
    expected = np.sum(_numpy_jacobians(X, True) ** 2, axis=(1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_hutchinson_is_unbiased():
    num = 4000
    x = jnp.asarray(np.repeat(X[:1], num, 0), jnp.float32)
    estimates = np.asarray(
        jax.jit(lambda k: hutchinson_contractive_penalty(k, _two_layers, x, 2))(jax.random.key(0))
    )
    jacobian = _numpy_jacobians(X[:1], True)[0]
    gram = jacobian.T @ jacobian
    assert abs(estimates.mean() - np.trace(gram)) < 4 * estimates.std() / np.sqrt(num)
    # Variance of a Rademacher quadratic form, over two probes.
    variance = 2 * (np.sum(gram**2) - np.sum(np.diag(gram) ** 2)) / 2
    np.testing.assert_allclose(estimates.var(), variance, rtol=0.15)


def test_hutchinson_takes_one_key_or_one_for_each_example():
    x = jnp.asarray(X, jnp.float32)
    keys = lambda: jax.random.split(jax.random.key(3), 6)
    penalty = jax.jit(lambda k, x: hutchinson_contractive_penalty(k, _one_layer, x, 3))
    whole = penalty(jax.random.key(3), x)
    np.testing.assert_allclose(penalty(keys(), x), whole, rtol=1e-6)
    backwards = jax.random.clone(keys()[::-1])
    np.testing.assert_allclose(penalty(backwards, x[::-1]), whole[::-1], rtol=1e-5)


def test_saturation():
    hidden = jnp.array([[0.01, 0.5, 0.96, 0.99], [0.05, 0.95, 0.5, 0.5]])
    np.testing.assert_allclose(saturation(hidden), [0.75, 0])
    np.testing.assert_allclose(saturation(hidden, 0.1, 0.9), [0.75, 0.5])


def test_contraction_ratio_of_a_linear_map():
    rotation = np.linalg.qr(GENERATOR.normal(size=(8, 8)))[0]
    with jax.enable_x64(True):
        encode = lambda x: 0.3 * (x @ jnp.asarray(rotation))
        found = contraction_ratio(jax.random.key(0), encode, jnp.asarray(X), 2.5)
    np.testing.assert_allclose(found, np.full(6, 0.3), rtol=1e-12)


def test_contraction_ratio_at_a_small_radius_is_that_of_the_jacobian():
    with jax.enable_x64(True):
        x = jnp.asarray(np.repeat(X[:1], 2000, 0))
        found = contraction_ratio(jax.random.key(0), _one_layer, x, 1e-6)
    squared = np.asarray(found) ** 2
    expected = np.sum(_numpy_jacobians(X[:1], False) ** 2) / 8
    assert abs(squared.mean() - expected) < 4 * squared.std() / np.sqrt(2000)


def test_contractive_loss_adds_the_weighted_penalty_whichever_way_it_is_computed(random_params):
    network = Autoencoder(8, (), 5, code_activation=nn.sigmoid, tied=True)
    params = random_params(network, 8)
    batch = {"x": jnp.asarray(X, jnp.float32)}
    keys = jax.random.split(jax.random.key(1), 6)
    layer = params["encoder"]["layers_0"]
    slope = np.square((h := _sigmoid(X @ layer["kernel"] + layer["bias"])) * (1 - h))
    expected = slope @ np.sum(layer["kernel"] ** 2, axis=0)
    corrupt = partial(gaussian_noise, sigma=0.3)
    base, _ = jax.jit(reconstruction_loss(network, corrupt=corrupt))(params, batch, keys, None)
    for penalty, rtol in (("closed_form", 1e-5), ("exact", 1e-5), ("hutchinson", 0.1)):
        loss = contractive_loss(network, 0.5, penalty, num_probes=3000, corrupt=corrupt)
        losses, metrics = jax.jit(loss)(params, batch, keys, None)
        np.testing.assert_allclose(metrics["penalty"], expected, rtol=rtol)
        np.testing.assert_allclose(losses, base + 0.5 * metrics["penalty"], rtol=1e-5)


def test_given_probes_and_directions():
    """The definitions in float64, and the same values as by the key that makes the draws."""
    jacobians = _numpy_jacobians(X, False)
    keys = lambda: jax.random.split(jax.random.key(3), 6)
    with jax.enable_x64(True):
        x = jnp.asarray(X)
        probes = jax.vmap(lambda k: jax.random.rademacher(k, (2, 8), jnp.float64))(keys())
        noise = jax.vmap(lambda k: jax.random.normal(k, (8,), jnp.float64))(keys())
        given, by_key, ratio, ratio_by_key = jax.jit(
            lambda key, probes, noise: (
                hutchinson_contractive_penalty(None, _one_layer, x, 2, probes=probes),
                hutchinson_contractive_penalty(jax.random.clone(key), _one_layer, x, 2),
                contraction_ratio(None, _one_layer, x, 0.5, noise=noise),
                contraction_ratio(key, _one_layer, x, 0.5),
            )
        )(jax.random.key(3), probes, noise)
    along = np.einsum("bji,bpi->bpj", jacobians, np.asarray(probes))
    np.testing.assert_allclose(given, np.sum(along**2, axis=-1).mean(-1), rtol=1e-12)
    unit = np.asarray(noise) / np.linalg.norm(noise, axis=1, keepdims=True)
    moved = _sigmoid((X + 0.5 * unit) @ W1 + C1) - _sigmoid(X @ W1 + C1)
    np.testing.assert_allclose(ratio, np.linalg.norm(moved, axis=1) / 0.5, rtol=1e-12)
    np.testing.assert_allclose(given, by_key, rtol=1e-14)
    np.testing.assert_allclose(ratio, ratio_by_key, rtol=1e-14)
    with pytest.raises(ValueError, match=r"probes has shape \(6, 8\); expected \(6, 2, 8\)"):
        hutchinson_contractive_penalty(None, _one_layer, jnp.zeros((6, 8)), 2, probes=np.zeros((6, 8)))
    with pytest.raises(ValueError, match="no key and no noise"):
        contraction_ratio(None, _one_layer, jnp.zeros((6, 8)), 0.5)


def test_a_batch_may_hold_the_draws_of_the_contractive_loss(random_params):
    network = Autoencoder(8, (), 5, code_activation=nn.sigmoid)
    params, x = random_params(network, 8), jnp.asarray(X, jnp.float32)
    corrupt = partial(gaussian_noise, sigma=0.3)
    keys = jax.random.split(jax.random.key(1), 6)
    folded = lambda number: jax.vmap(jax.random.fold_in, (0, None))(jax.random.clone(keys), number)
    probes = jax.vmap(lambda k: jax.random.rademacher(k, (2, 8), jnp.float32))(folded(1))
    corrupted = jax.vmap(corrupt)(folded(0), x)
    make = lambda corrupt: contractive_loss(network, 0.5, "hutchinson", num_probes=2, corrupt=corrupt)
    batch = {"x": x, "corrupted": corrupted, "probes": probes}
    expected, *given = jax.jit(
        lambda batch: (
            make(corrupt)(params, {"x": x}, keys, None),
            make(corrupt)(params, batch, None, None),
            make(None)(params, batch, None, None),
        )
    )(batch)
    for found in given:
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), found, expected)
    with pytest.raises(ValueError, match=r"corrupted has shape \(6, 1\); expected \(6, 8\)"):
        make(None)(params, {"x": x, "corrupted": corrupted[:, :1]}, None, None)


def test_wrong_inputs():
    deep = Autoencoder(8, (4,), 3)
    with pytest.raises(ValueError, match=r"widths=\(4,\).*exact"):
        contractive_loss(deep, 0.1)
    with pytest.raises(ValueError, match="code_activation"):
        contractive_loss(Autoencoder(8, (), 3), 0.1)
    with pytest.raises(ValueError, match="'frobenius'.*closed_form"):
        contractive_loss(deep, 0.1, penalty="frobenius")
    with pytest.raises(ValueError, match="num_probes is 0"):
        hutchinson_contractive_penalty(jax.random.key(0), _one_layer, jnp.zeros((2, 8)), 0)
