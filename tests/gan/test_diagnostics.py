"""Diagnostics of GAN training, on small exact cases."""

import math

import numpy as np
import pytest

from jaxgen import data, gan

HEALTHY = {
    "discriminator_loss": 1.3, "generator_loss": 0.8, "value": -1.3, "real_probability": 0.55, "fake_probability": 0.45,
    "variance": 0.9, "shift": 0.01,
}  # fmt: skip


def sigmoid(logit):
    return 1 / (1 + math.exp(-logit))


def test_the_diagnosis_of_a_game():
    real, fake = np.array([[0.0, 0.0], [2.0, 4.0]], np.float32), np.array([[3.0, 2.0], [3.0, 2.0]], np.float32)
    found = gan.diagnose(gan.NON_SATURATING, np.array([2, 2], np.float32), np.array([-1, -1], np.float32), real, fake)
    value = math.log(sigmoid(2)) + math.log(1 - sigmoid(-1))
    expected = {
        "value": value, "discriminator_loss": -value, "generator_loss": -math.log(sigmoid(-1)),
        "real_probability": sigmoid(2), "fake_probability": sigmoid(-1), "variance": 0.0, "shift": 4 / 5,
    }  # fmt: skip
    assert found.keys() == expected.keys()
    for name, number in expected.items():
        np.testing.assert_allclose(found[name], number, rtol=1e-6, err_msg=name)


def test_the_diagnosis_is_a_mean_over_examples_with_the_losses_that_are_given():
    logits = np.array([0.0, 2.0], np.float32), np.array([-3.0, 1.0], np.float32)
    x = np.array([[[0.0]], [[2.0]]], np.float32)
    found = gan.diagnose(gan.HINGE, *logits, x, 3 * x)
    np.testing.assert_allclose(found["discriminator_loss"], (1 + 0) / 2 + (0 + 2) / 2, rtol=1e-6)
    np.testing.assert_allclose(found["generator_loss"], (3 - 1) / 2, rtol=1e-6)
    np.testing.assert_allclose(found["real_probability"], (0.5 + sigmoid(2)) / 2, rtol=1e-6)
    np.testing.assert_allclose([found["variance"], found["shift"]], [9, 4], rtol=1e-6)


def test_logits_of_different_numbers_of_examples_are_refused():
    x = np.zeros((2, 1), np.float32)
    with pytest.raises(ValueError, match="shape"):
        gan.diagnose(gan.NON_SATURATING, np.zeros(2, np.float32), np.zeros(3, np.float32), x, x)


@pytest.mark.parametrize(
    ("changed", "loss", "kinds"),
    [
        ({}, "non_saturating", []),
        ({"variance": 0.01, "fake_probability": 0.3}, "non_saturating", ["collapsed"]),
        ({"variance": 0.3, "modes": 1, "modes_in_all": 8}, "non_saturating", ["collapsed"]),
        ({"variance": 0.3, "modes": 1, "modes_in_all": 1}, "non_saturating", []),
        ({"real_probability": 0.999, "fake_probability": 0.001}, "saturating", ["certain"]),
        ({"real_probability": 0.999, "fake_probability": 0.5}, "saturating", []),
        ({"real_probability": 0.999, "fake_probability": 0.001}, "wasserstein", []),
        ({"discriminator_loss": 0.001}, "hinge", ["certain"]),
        ({"real_probability": 0.5, "fake_probability": 0.501, "shift": 2.0}, "non_saturating", ["indifferent"]),
        ({"real_probability": 0.5, "fake_probability": 0.501}, "non_saturating", []),
    ],
)
def test_what_is_wrong_with_a_game(changed, loss, kinds):
    found = gan.warnings({**HEALTHY, **changed}, loss)
    assert list(found) == kinds
    assert all("Try" in text for text in found.values())


def test_a_certain_discriminator_of_the_saturating_game_leaves_no_gradient():
    certain = {**HEALTHY, "real_probability": 0.999, "fake_probability": 0.001}
    note = "the saturating loss has no gradient there"
    assert note in gan.warnings(certain, "saturating")["certain"]
    assert note not in gan.warnings(certain)["certain"]


def test_a_warning_is_reported_at_its_second_step_and_again_only_after_it_was_gone():
    lasting, found = gan.LastingWarnings(), {"collapsed": "c"}
    both = {**found, "certain": "d"}
    reported = [lasting(step) for step in (found, found, both, both, both, {}, found, found)]
    assert reported == [{}, found, {}, {"certain": "d"}, {}, {}, {}, found]


def log_density(mixture, width):
    smoothed = data.Mixture(mixture.means, math.hypot(mixture.std, width))
    return lambda x: data.mixture_log_density(smoothed, x)


RING = data.Mixture(
    2 * np.stack([f(np.pi / 4 * np.arange(8)) for f in (np.cos, np.sin)], axis=1, dtype=np.float32), 0.02
)


def draws(seed, means):
    return means + RING.std * np.random.default_rng(seed).normal(size=(20_000, 2)).astype(np.float32)


def test_optimal_logits_of_known_generators():
    x, density = RING.means, log_density(RING, RING.std)
    same = draws(1, x[np.random.default_rng(0).integers(0, 8, 20_000)])
    np.testing.assert_allclose(gan.estimate_optimal_logits(density, same, x, RING.std), 0, atol=0.1)
    # A generator of the first mode alone is eight times as dense there, and nothing elsewhere.
    one = draws(0, x[:1])
    found = gan.estimate_optimal_logits(density, one, x, RING.std)
    assert abs(found[0] + math.log(8)) < 0.05 and found[1:].min() > 100
    in_parts = gan.estimate_optimal_logits(density, one, x, RING.std, batch_size=3)
    np.testing.assert_allclose(in_parts, found, rtol=1e-6)
    # Far from both, a floor makes the two densities equal.
    floored = gan.estimate_optimal_logits(density, one, 3 * x, RING.std, floor=-7.0)
    np.testing.assert_allclose(floored, 0, atol=1e-6)


def test_the_comparison_with_the_optimal_discriminator():
    logit = lambda p: np.array([math.log(p / (1 - p))], np.float32)
    found = gan.compare_to_optimal(logit(0.7), logit(0.4), logit(0.8), logit(0.1))
    np.testing.assert_allclose(found["distance_from_best_discriminator"], (0.1 + 0.3) / 2, rtol=1e-5)
    expected = (math.log(0.8) + math.log(0.9) + 2 * math.log(2)) / 2
    np.testing.assert_allclose(found["jensen_shannon"], expected, rtol=1e-5)


def test_the_optimal_discriminator_has_no_distance_from_itself_and_equal_densities_no_divergence():
    logits = np.random.default_rng(0).normal(size=(2, 50)).astype(np.float32)
    assert gan.compare_to_optimal(*logits, *logits)["distance_from_best_discriminator"] == 0
    equal = gan.compare_to_optimal(*logits, *np.zeros((2, 50), np.float32))
    np.testing.assert_allclose(equal["jensen_shannon"], 0, atol=1e-6)
