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
    higher_order_contractive_penalty,
    hutchinson_contractive_penalty,
    jacobian_spectrum,
    probed_contractive_penalty,
    reconstruction_loss,
    saturation,
    sigmoid_contractive_penalty,
)
from tests.programs import in_float32, in_float64

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


def test_closed_form_exact_penalty_and_spectrum_equal_numpy():
    """To 1e-12. The penalty of 8 -> 5 goes backward, that of 8 -> 12 forward."""

    def program(x, kernel):
        closed = sigmoid_contractive_penalty(jax.vmap(_one_layer)(x), kernel)
        both = lambda encode: (contractive_penalty(encode, x), jacobian_spectrum(encode, x))
        return closed, both(_one_layer), both(_two_layers)

    closed, *found = in_float64(program, X, W1)
    for deep, (penalty, spectrum) in enumerate(found):
        jacobians = _numpy_jacobians(X, deep)
        case = f"{1 + deep} layers"
        np.testing.assert_allclose(penalty, np.sum(jacobians**2, axis=(1, 2)), rtol=1e-12, err_msg=case)
        singular = np.linalg.svd(jacobians, compute_uv=False)
        np.testing.assert_allclose(spectrum, singular, atol=1e-13, err_msg=case)
        assert spectrum.shape == (6, 8 if deep else 5)
    np.testing.assert_allclose(closed, np.sum(_numpy_jacobians(X, False) ** 2, axis=(1, 2)), rtol=1e-12)


def test_orthogonal_probes_give_the_exact_penalty():
    probes = np.broadcast_to(hadamard(8).astype(float), (6, 8, 8))
    found = in_float64(partial(probed_contractive_penalty, _two_layers), X, probes)
    expected = np.sum(_numpy_jacobians(X, True) ** 2, axis=(1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_hutchinson_is_unbiased():
    num = 4000
    x = np.repeat(X[:1], num, 0).astype(np.float32)
    estimates = in_float32(lambda x: hutchinson_contractive_penalty(jax.random.key(0), _two_layers, x, 2), x)
    jacobian = _numpy_jacobians(X[:1], True)[0]
    gram = jacobian.T @ jacobian
    assert abs(estimates.mean() - np.trace(gram)) < 4 * estimates.std() / np.sqrt(num)
    # Variance of a Rademacher quadratic form, over two probes.
    variance = 2 * (np.sum(gram**2) - np.sum(np.diag(gram) ** 2)) / 2
    np.testing.assert_allclose(estimates.var(), variance, rtol=0.15)


def test_hutchinson_takes_one_key_or_one_for_each_example():
    keys = lambda: jax.random.split(jax.random.key(3), 6)
    penalty = lambda key, x: hutchinson_contractive_penalty(key, _one_layer, x, 3)
    whole, each, backwards = in_float32(
        lambda x: (penalty(jax.random.key(3), x), penalty(keys(), x), penalty(jax.random.clone(keys()[::-1]), x[::-1])),
        np.float32(X),
    )
    np.testing.assert_allclose(each, whole, rtol=1e-6)
    np.testing.assert_allclose(backwards, whole[::-1], rtol=1e-5)


def test_saturation():
    hidden = np.array([[0.01, 0.5, 0.96, 0.99], [0.05, 0.95, 0.5, 0.5]], np.float32)
    default, narrow = in_float32(lambda hidden: (saturation(hidden), saturation(hidden, 0.1, 0.9)), hidden)
    np.testing.assert_allclose(default, [0.75, 0])
    np.testing.assert_allclose(narrow, [0.75, 0.5])


def test_contraction_ratio_of_a_linear_map_and_at_a_small_radius():
    """The factor of a scaled rotation; and near one point, the mean square of the Jacobian's stretching."""
    rotation = np.linalg.qr(GENERATOR.normal(size=(8, 8)))[0]
    linear, near = in_float64(
        lambda rotation, x, point: (
            contraction_ratio(jax.random.key(0), lambda x: 0.3 * (x @ rotation), x, 2.5),
            contraction_ratio(jax.random.key(0), _one_layer, point, 1e-6),
        ),
        *(rotation, X, np.repeat(X[:1], 2000, 0)),
    )
    np.testing.assert_allclose(linear, np.full(6, 0.3), rtol=1e-12)
    squared = near**2
    expected = np.sum(_numpy_jacobians(X[:1], False) ** 2) / 8
    assert abs(squared.mean() - expected) < 4 * squared.std() / np.sqrt(2000)


def test_contractive_loss_adds_the_weighted_penalty_whichever_way_it_is_computed(random_params):
    network = Autoencoder(8, (), 5, code_activation=nn.sigmoid, tied=True)
    params = random_params(network, 8)
    layer = params["encoder"]["layers_0"]
    slope = np.square((h := _sigmoid(X @ layer["kernel"] + layer["bias"])) * (1 - h))
    expected = slope @ np.sum(layer["kernel"] ** 2, axis=0)
    corrupt = partial(gaussian_noise, sigma=0.3)
    tolerances = {"closed_form": 1e-5, "exact": 1e-5, "hutchinson": 0.1}
    losses_of = {
        name: contractive_loss(network, 0.5, name, num_probes=3000, corrupt=corrupt) for name in tolerances
    } | {"base": reconstruction_loss(network, corrupt=corrupt)}
    keys = lambda: jax.random.split(jax.random.key(1), 6)
    found = in_float32(
        lambda p, batch: {name: loss(p, batch, keys(), None) for name, loss in losses_of.items()},
        params,
        {"x": np.float32(X)},
    )
    base, _ = found["base"]
    for penalty, rtol in tolerances.items():
        losses, metrics = found[penalty]
        np.testing.assert_allclose(metrics["penalty"], expected, rtol=rtol, err_msg=penalty)
        np.testing.assert_allclose(losses, base + 0.5 * metrics["penalty"], rtol=1e-5, err_msg=penalty)


def test_given_probes_and_directions():
    """The definitions in float64, and the same values as by the key that makes the draws."""
    jacobians = _numpy_jacobians(X, False)
    key = lambda: jax.random.key(3)

    def program(x):
        keys = jax.random.split(key(), 6)
        probes = jax.vmap(lambda k: jax.random.rademacher(k, (2, 8), jnp.float64))(keys)
        noise = jax.vmap(lambda k: jax.random.normal(k, (8,), jnp.float64))(jax.random.clone(keys))
        return (
            (probes, noise),
            hutchinson_contractive_penalty(None, _one_layer, x, 2, probes=probes),
            hutchinson_contractive_penalty(key(), _one_layer, x, 2),
            contraction_ratio(None, _one_layer, x, 0.5, noise=noise),
            contraction_ratio(key(), _one_layer, x, 0.5),
        )

    (probes, noise), given, by_key, ratio, ratio_by_key = in_float64(program, X)
    along = np.einsum("bji,bpi->bpj", jacobians, probes)
    np.testing.assert_allclose(given, np.sum(along**2, axis=-1).mean(-1), rtol=1e-12)
    unit = noise / np.linalg.norm(noise, axis=1, keepdims=True)
    moved = _sigmoid((X + 0.5 * unit) @ W1 + C1) - _sigmoid(X @ W1 + C1)
    np.testing.assert_allclose(ratio, np.linalg.norm(moved, axis=1) / 0.5, rtol=1e-12)
    np.testing.assert_allclose(given, by_key, rtol=1e-14)
    np.testing.assert_allclose(ratio, ratio_by_key, rtol=1e-14)
    with pytest.raises(ValueError, match=r"probes has shape \(6, 8\); expected \(6, 2, 8\)"):
        hutchinson_contractive_penalty(None, _one_layer, np.zeros((6, 8)), 2, probes=np.zeros((6, 8)))
    with pytest.raises(ValueError, match="no key and no noise"):
        contraction_ratio(None, _one_layer, np.zeros((6, 8)), 0.5)


def test_a_batch_may_hold_the_draws_of_the_contractive_loss(random_params):
    network = Autoencoder(8, (), 5, code_activation=nn.sigmoid)
    params, x = random_params(network, 8), np.asarray(X, np.float32)
    corrupt = partial(gaussian_noise, sigma=0.3)
    make = lambda corrupt: contractive_loss(network, 0.5, "hutchinson", num_probes=2, corrupt=corrupt)

    def program(params, x):
        keys = lambda: jax.random.split(jax.random.key(1), 6)
        folded = lambda number: jax.vmap(jax.random.fold_in, (0, None))(keys(), number)
        probes = jax.vmap(lambda k: jax.random.rademacher(k, (2, 8), jnp.float32))(folded(1))
        batch = {"x": x, "corrupted": jax.vmap(corrupt)(folded(0), x), "probes": probes}
        return (
            make(corrupt)(params, {"x": x}, keys(), None),
            make(corrupt)(params, batch, None, None),
            make(None)(params, batch, None, None),
        )

    expected, *given = in_float32(program, params, x)
    for found in given:
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), found, expected)
    with pytest.raises(ValueError, match=r"corrupted has shape \(6, 1\); expected \(6, 8\)"):
        batch = {"x": x, "corrupted": x[:, :1]}
        jax.eval_shape(lambda params: make(None)(params, batch, None, None), params)


def test_wrong_inputs():
    deep = Autoencoder(8, (4,), 3)
    with pytest.raises(ValueError, match=r"widths=\(4,\).*exact"):
        contractive_loss(deep, 0.1)
    with pytest.raises(ValueError, match="code_activation"):
        contractive_loss(Autoencoder(8, (), 3), 0.1)
    with pytest.raises(ValueError, match="'frobenius'.*closed_form"):
        contractive_loss(deep, 0.1, penalty="frobenius")
    with pytest.raises(ValueError, match="num_probes is 0"):
        hutchinson_contractive_penalty(jax.random.key(0), _one_layer, np.zeros((2, 8)), 0)


def test_the_higher_order_penalty_is_the_change_of_the_jacobian():
    """Rifai et al. 2011, equation 6; for a small sigma it is sigma^2 |Hessian|^2 (here of tanh, elementwise)."""
    rng = np.random.default_rng(5)
    x, kernel, noise = rng.normal(size=(4, 3)), rng.normal(size=(3, 5)), rng.normal(size=(4, 2, 3))

    def jacobian(x):
        return (1 - np.tanh(x @ kernel) ** 2)[..., :, None] * kernel.T

    def f(x, kernel, noise):
        return higher_order_contractive_penalty(None, lambda x: jnp.tanh(x @ kernel), x, 0.3, 2, noise=noise)

    change = jacobian(x[:, None] + 0.3 * noise) - jacobian(x)[:, None]
    np.testing.assert_allclose(in_float64(f, x, kernel, noise), (change**2).sum(axis=(2, 3)).mean(axis=1), rtol=1e-9)
