"""The feature classifier's initialization, and the score of class probabilities."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import metrics
from jaxgen.metrics import feature_classifier


def test_the_kernels_are_drawn_as_he_et_al_do(monkeypatch):
    drawn = []

    def draw(key, shape, dtype=np.float32):
        drawn.append(shape)
        return jnp.zeros(shape, dtype)

    monkeypatch.setattr(feature_classifier.nn.initializers, "he_normal", lambda: draw)
    x = np.zeros((1, 8, 8, 1), np.float32)
    jax.eval_shape(lambda: metrics.FeatureClassifier(2, 8, 4).init(jax.random.key(0), x))
    assert set(drawn) == {(3, 3, 1, 4), (3, 3, 4, 8), (3, 3, 8, 16), (2 * 2 * 16, 8)}


def test_the_score_is_one_for_guesses_and_k_for_certainty_spread_evenly():
    assert metrics.inception_score(np.full((12, 4), 0.25)) == pytest.approx(1)
    assert metrics.inception_score(np.eye(4)[np.arange(12) % 4]) == pytest.approx(4)
    assert metrics.inception_score(np.eye(4)[np.zeros(5, int)]) == pytest.approx(1)
    p = np.array([[0.75, 0.25], [0.25, 0.75]])
    assert metrics.inception_score(p) == pytest.approx(
        math.exp(math.log(2) + 0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    )
