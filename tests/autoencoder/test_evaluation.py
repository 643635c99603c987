"""The measures against scikit-learn, NumPy and cases whose answer is known."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from jaxgen.autoencoder import linear_probe_error, neighbour_error, reconstruction_error

GENERATOR = np.random.default_rng(0)


def _blobs(n, width, spread):
    labels = GENERATOR.integers(0, 3, n)
    centres = np.random.default_rng(1).normal(size=(3, width))
    return centres[labels] + spread * GENERATOR.normal(size=(n, width)), labels


def test_reconstruction_error_is_the_mean_of_the_sums_whatever_the_batch():
    x = GENERATOR.uniform(size=(23, 7)).astype(np.float32)
    expected = np.mean(np.sum((x - x**2) ** 2, axis=1))
    for batch_size in (5, 23, 100):
        found = reconstruction_error(jnp.square, x, batch_size)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_linear_probe_equals_scikit_learn():
    train, train_labels = _blobs(300, 4, 1.0)
    test, test_labels = _blobs(300, 4, 1.0)
    scale = np.array([1.0, 100.0, 0.01, 1.0])  # Standardised away.
    found = linear_probe_error(5 + train * scale, train_labels, 5 + test * scale, test_labels, l2=0.01)
    mean, std = train.mean(0), train.std(0)
    model = LogisticRegression(C=1 / (0.01 * 300), tol=1e-8).fit((train - mean) / std, train_labels)
    expected = 100 * (1 - model.score((test - mean) / std, test_labels))
    assert 5 < expected < 50
    assert abs(found - expected) <= 100 / 300 + 1e-6  # At most one image apart (float32).


def test_linear_probe_leaves_dead_units_out():
    codes, labels = _blobs(300, 4, 0.01)
    codes[:, 2] = 0.1  # Its mean is not exact in float32.
    other = codes.copy()
    other[:, 2] = 1e6
    assert linear_probe_error(codes, labels, other, labels) == 0


@pytest.mark.parametrize("width", [2, 20])
def test_neighbour_error_equals_scikit_learn(width):
    spread = 0.6 if width == 2 else 2.0
    train, train_labels = _blobs(300, width, spread)
    test, test_labels = _blobs(250, width, spread)
    model = KNeighborsClassifier(1).fit(train, train_labels)
    expected = 100 * (1 - model.score(test, test_labels))
    assert expected > 3
    found = neighbour_error(1000 + train, train_labels, 1000 + test, test_labels, batch_size=99)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_wrong_inputs():
    codes, labels = _blobs(6, 4, 1.0)
    with pytest.raises(ValueError, match="N at least 1"):
        reconstruction_error(jnp.square, codes[:0])
    for measure in (linear_probe_error, neighbour_error):
        with pytest.raises(ValueError, match=r"test_labels has shape \(5,\), and test_codes has shape \(6, 4\)"):
            measure(codes, labels, codes, labels[:5])
        with pytest.raises(ValueError, match=r"test_codes has shape \(6, 3\), and train_codes has shape \(6, 4\)"):
            measure(codes, labels, codes[:, :3], labels)
