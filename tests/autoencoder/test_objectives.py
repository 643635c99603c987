"""Errors against NumPy and at extreme logits; losses against their parts."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, log_softmax, xlog1py, xlogy

from jaxgen.autoencoder import (
    Autoencoder,
    Classifier,
    classification_loss,
    cross_entropy,
    masking_noise,
    reconstruction_loss,
    squared_error,
)
from tests.programs import in_float32, in_float64

CONTEXT = SimpleNamespace(step=np.int32(0), model_state=None, statistics=None)


def _batch(size=6, width=5):
    return {
        "x": np.random.default_rng(1).uniform(size=(size, width)).astype(np.float32),
        "label": np.arange(size, dtype=np.int32) % 3,
    }


def _keys(size=6):
    return jax.random.split(jax.random.key(2), size)


def test_squared_error_is_summed_over_features():
    x = np.array([[1.0, 2, 3], [0, 0, 0]])
    y = np.array([[1.0, 0, 0], [0.5, 0, 0]])
    np.testing.assert_allclose(in_float32(squared_error, np.float32(x), np.float32(y)), [13, 0.25])


def test_cross_entropy_equals_its_definition():
    generator = np.random.default_rng(0)
    x, logits = generator.uniform(size=(3, 4, 7)), 3 * generator.normal(size=(3, 4, 7))
    x[0, 0], x[0, 1] = 0, 1
    found = in_float64(cross_entropy, x, logits)
    p = 1 / (1 + np.exp(-logits))
    expected = -(xlogy(x, p) + xlog1py(1 - x, -p)).sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_cross_entropy_and_its_gradient_at_any_logit():
    x, logit = (a.ravel() for a in np.meshgrid([0.0, 0.3, 1.0], [-1e4, -100.0, 0.0, 100.0, 1e4]))
    f = lambda a, x: cross_entropy(x[None], a[None])
    value, gradient = jax.jit(jax.vmap(jax.value_and_grad(f)))(np.float32(logit), np.float32(x))
    np.testing.assert_allclose(value, np.logaddexp(0, logit) - x * logit, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(gradient, expit(logit) - x, atol=1e-7)


def test_reconstruction_loss(random_params):
    network = Autoencoder(5, (4,), 2)
    batch = _batch()
    params = random_params(network, 5)
    errors = ("cross_entropy", "squared_error")
    reconstruction, found = in_float32(
        lambda p, batch: (
            network.apply({"params": p}, batch["x"]),
            [reconstruction_loss(network, error)(p, batch, _keys(), None) for error in errors],
        ),
        *(params, batch),
    )
    for error, (losses, metrics) in zip(errors, found, strict=True):
        expected = np.sum((batch["x"] - reconstruction) ** 2, -1)
        np.testing.assert_allclose(metrics["squared_error"], expected, rtol=1e-5)
        if error == "cross_entropy":
            x = batch["x"]
            expected = -(xlogy(x, reconstruction) + xlog1py(1 - x, -reconstruction)).sum(-1)
        np.testing.assert_allclose(losses, expected, rtol=1e-5, err_msg=error)
        np.testing.assert_array_equal(metrics[error], losses)


def test_denoising_loss_compares_the_clean_input_with_the_corrupted_ones_reconstruction(
    random_params,
):
    network = Autoencoder(5, (4,), 2)
    batch = _batch()
    params = random_params(network, 5)
    everything_masked = reconstruction_loss(network, "squared_error", corrupt=partial(masking_noise, fraction=1.0))
    losses, reconstruction = in_float32(
        lambda p, batch: (
            everything_masked(p, batch, _keys(), CONTEXT)[0],
            network.apply({"params": p}, jnp.zeros((6, 5))),
        ),
        *(params, batch),
    )
    np.testing.assert_allclose(losses, np.sum((batch["x"] - reconstruction) ** 2, -1), rtol=1e-6)


def test_each_example_is_corrupted_by_its_own_key(random_params):
    network = Autoencoder(5, (4,), 2)
    batch = _batch()
    params = random_params(network, 5)
    loss = reconstruction_loss(network, corrupt=partial(masking_noise, fraction=0.5))
    part = slice(2, 4)
    losses, some, others = in_float32(
        lambda params, batch: (
            loss(params, batch, _keys(), None)[0],
            loss(params, jax.tree.map(lambda a: a[part], batch), _keys()[part], None)[0],
            loss(params, batch, _keys()[::-1], None)[0],
        ),
        *(params, batch),
    )
    np.testing.assert_allclose(some, losses[part], rtol=1e-6)
    assert np.all(others != losses)


def test_classification_loss(random_params):
    network = Classifier(5, (4,), 2, 3)
    batch = _batch()
    params = random_params(network, 5)
    (losses, metrics), logits = in_float32(
        lambda p, batch: (
            classification_loss(network)(p, batch, _keys(), CONTEXT),
            network.apply({"params": p}, batch["x"]),
        ),
        *(params, batch),
    )
    logits, label = np.asarray(logits, np.float64), batch["label"]
    np.testing.assert_allclose(losses, -log_softmax(logits, -1)[np.arange(6), label], rtol=1e-5)
    np.testing.assert_array_equal(metrics["error_rate"], logits.argmax(-1) != label)


def test_wrong_inputs():
    with pytest.raises(ValueError, match=r"\(2, 1\).*\(2, 3\)"):
        squared_error(np.zeros((2, 3)), np.zeros((2, 1)))
    with pytest.raises(ValueError, match=r"\(1, 3\).*\(2, 3\)"):
        cross_entropy(np.zeros((2, 3)), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="'mse'.*squared_error"):
        reconstruction_loss(Autoencoder(4, (), 2), "mse")
    with pytest.raises(ValueError, match="output='linear'"):
        reconstruction_loss(Autoencoder(4, (), 2, output="linear"), "cross_entropy")
