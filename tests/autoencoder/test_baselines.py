"""PCA against the eigenvalues, logistic PCA against SciPy's minimum and its own monotony."""

import gzip
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from jaxgen.autoencoder import (
    Autoencoder,
    logistic_pca,
    logistic_pca_codes,
    logistic_pca_reconstruct,
    pca,
    pca_reconstruct,
    reconstruction_loss,
)
from tests.programs import in_float64

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(200, 8)) @ GENERATOR.normal(size=(8, 8)) + GENERATOR.normal(size=8)


def test_pca_error_is_the_sum_of_the_trailing_eigenvalues():
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(X.T, bias=True)))[::-1]
    with jax.enable_x64(True):
        fits = {k: jax.device_get(pca(X, k)) for k in (1, 3, 8)}
    found = in_float64(lambda fits, x: {k: pca_reconstruct(x, *fit) for k, fit in fits.items()}, fits, X)
    for k, (_, components) in fits.items():
        error = np.mean(np.sum((found[k] - X) ** 2, 1))
        np.testing.assert_allclose(error, eigenvalues[k:].sum(), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(components @ components.T, np.eye(k), atol=1e-12)
    mean, components = fits[8]
    variances = np.var((X - mean) @ components.T, axis=0)
    np.testing.assert_allclose(variances, eigenvalues, rtol=1e-10)


def test_linear_autoencoder_at_the_pca_solution_has_that_error_and_no_gradient():
    network = Autoencoder(8, (), 3, output="linear", tied=True)
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(X.T, bias=True)))
    with jax.enable_x64(True):
        mean, components = jax.device_get(pca(X, 3))
    kernel, bias = components.T, -(components @ mean)
    params = {
        "encoder": {"layers_0": {"kernel": kernel, "bias": bias}},
        "decoder": {"layers_0": {"bias": mean}},
    }
    loss = reconstruction_loss(network, "squared_error")
    mean_loss = lambda p, x: jnp.mean(loss(p, {"x": x}, None, None)[0])
    value, gradient = in_float64(jax.value_and_grad(mean_loss), params, X)
    np.testing.assert_allclose(value, eigenvalues[:5].sum(), rtol=1e-12)
    jax.tree.map(lambda g: np.testing.assert_allclose(g, np.zeros(g.shape), atol=1e-11), gradient)


def _binary(n):
    logits = 3 * GENERATOR.normal(size=(n, 2)) @ LOADINGS + OFFSET
    return (GENERATOR.uniform(size=logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)


LOADINGS, OFFSET = GENERATOR.normal(size=(2, 12)), GENERATOR.normal(size=12)
BINARY, HELD_OUT = _binary(70), _binary(5)


def _as_many(x):
    """As many rows as BINARY has, repeated, so that the same program serves."""
    return np.resize(x, BINARY.shape)


def _objective(z, w, b, x, ridge):
    logits = z @ w + b
    penalty = ridge / 2 * sum(np.sum(a**2) for a in (z, w, b))
    return np.sum(np.logaddexp(0, logits) - x * logits) + penalty


def test_no_half_step_of_logistic_pca_raises_its_objective_which_is_the_stated_one():
    with jax.enable_x64(True):
        params, history = logistic_pca(BINARY, 2, ridge=0.1, num_iterations=60, tolerance=0)
        codes = logistic_pca_codes(BINARY, params, ridge=0.1)
    assert len(history) == 120
    assert np.all(np.diff(history) <= 1e-9)
    assert history[0] - history[-1] > 0.1 * history[0]
    codes, kernel, bias = (np.asarray(a) for a in (codes, params["kernel"], params["bias"]))
    value = _objective(codes, kernel, bias, BINARY, 0.1)
    np.testing.assert_allclose(value, history[-1], rtol=1e-4)


def test_logistic_pca_converges_to_a_minimum_of_its_objective():
    with jax.enable_x64(True):
        params, history = logistic_pca(BINARY, 2, ridge=0.5, num_iterations=300, tolerance=1e-12)
        codes = logistic_pca_codes(BINARY, params, ridge=0.5)
    w, b, z = (np.asarray(a) for a in (params["kernel"], params["bias"], codes))

    def flat(a):
        z, w, b = a[:140].reshape(70, 2), a[140:164].reshape(2, 12), a[164:]
        logits = z @ w + b
        r = 1 / (1 + np.exp(-logits)) - BINARY
        gradient = (r @ w.T + 0.5 * z, z.T @ r + 0.5 * w, r.sum(0) + 0.5 * b)
        return _objective(z, w, b, BINARY, 0.5), np.concatenate([g.ravel() for g in gradient])

    found = np.concatenate([z.ravel(), w.ravel(), b])
    polished = minimize(flat, found, jac=True, options={"gtol": 1e-9})
    assert history[-1] - polished.fun < 1e-3


def test_codes_of_new_data_are_the_minimum_that_scipy_finds():
    with jax.enable_x64(True):
        params, _ = logistic_pca(BINARY, 2, ridge=0.1, num_iterations=20)
        # Newton's method doubles the digits at each step.
        codes = np.asarray(logistic_pca_codes(_as_many(HELD_OUT), params, ridge=0.1, num_iterations=9))[:5]
        reconstruction = in_float64(logistic_pca_reconstruct, codes, params)
    w, b = np.asarray(params["kernel"]), np.asarray(params["bias"])
    for x, code in zip(HELD_OUT, codes, strict=True):
        np.testing.assert_allclose(code, _best_code(x, w, b, 0.1), atol=1e-6)
    np.testing.assert_allclose(reconstruction, 1 / (1 + np.exp(-(codes @ w + b))), rtol=1e-12)


def _best_code(x, w, b, ridge):
    f = lambda z: np.sum(np.logaddexp(0, z @ w + b) - x * (z @ w + b)) + ridge / 2 * z @ z
    gradient = lambda z: w @ (1 / (1 + np.exp(-(z @ w + b))) - x) + ridge * z
    return minimize(f, np.zeros(len(w)), jac=gradient, options={"gtol": 1e-10}).x


def test_newton_steps_that_overshoot_are_halved():
    x, b = (np.arange(12.0) < 5) * np.ones((1, 12)), np.full(12, -8.0)
    params = {"kernel": LOADINGS, "bias": b}
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, params)
        codes = np.asarray(logistic_pca_codes(_as_many(x), params, ridge=0.1, num_iterations=40))
    # A full first step from zero would raise the objective.
    p = 1 / (1 + np.exp(8.0))
    full = np.linalg.solve(p * (1 - p) * LOADINGS @ LOADINGS.T + 0.1 * np.eye(2), LOADINGS @ (x[0] - p))
    best = _best_code(x[0], LOADINGS, b, 0.1)
    objective = lambda z: _objective(z, LOADINGS, b, x[0], 0.1)
    assert objective(full) > objective(np.zeros(2)) > objective(best)
    np.testing.assert_allclose(codes[0], best, atol=1e-6)


def test_chunks_do_not_change_the_fit(monkeypatch):
    from jaxgen.autoencoder import baselines

    with jax.enable_x64(True):
        whole = logistic_pca(BINARY, 2, num_iterations=3)
        monkeypatch.setattr(baselines, "_rows", lambda x: 11)  # 70 = 6 * 11 + 4, padded.
        parts = logistic_pca(BINARY, 2, num_iterations=3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), whole, parts)


@pytest.mark.parametrize("fit", [pca, logistic_pca])
def test_wrong_inputs(fit):
    with pytest.raises(ValueError, match="uint8.*scale"):
        fit(np.zeros((5, 4), np.uint8), 2)
    with pytest.raises(ValueError, match="num_components is 5.*1 to 4"):
        fit(np.zeros((6, 4)), 5)


@pytest.mark.real_data
def test_pca_30_on_mnist_is_the_papers_13_87():
    folder = os.environ.get("JAXGEN_DATA")
    if not folder or not (Path(folder) / "mnist").is_dir():
        pytest.skip("JAXGEN_DATA names no folder with mnist/ (IDX files)")

    def images(name):
        path = Path(folder) / "mnist" / f"{name}-images-idx3-ubyte.gz"
        return (
            np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16).reshape(-1, 784).astype(np.float32)
            / 255
        )

    mean, components = pca(images("train"), 30)
    test = images("t10k")
    reconstruction = np.asarray(pca_reconstruct(jnp.asarray(test), mean, components))
    assert abs(np.mean(np.sum((test - reconstruction) ** 2, 1)) - 13.866) < 0.001
