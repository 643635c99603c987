import jax
import numpy as np
import pytest

from jaxgen import diffusion
from tests.programs import compiled, values

RNG = np.random.default_rng(0)


def full_history(moments, length=4):
    """A history whose losses at t all equal moments[t]."""
    losses = np.tile(np.array(moments, np.float32)[:, None], (1, length))
    return diffusion.LossHistory(losses, np.full(len(moments), length, np.int32))


def test_the_history_is_that_of_the_published_algorithm():
    """Lists of the last losses, appended one by one; a batch may hold a timestep more often than there is room."""
    history = diffusion.init_history(3, 2)
    lists = {t: [] for t in range(3)}
    update = compiled(diffusion.update_history)
    for batch in ([0, 1, 0, 0, 0, 2], [2, 2, 1, 1, 1, 1], [0, 2, 2, 2, 0, 1], [1, 1, 1, 0, 0, 0]):
        losses = RNG.random(6).astype(np.float32)
        history = jax.device_get(update(history, np.array(batch), losses))
        for t, loss in zip(batch, losses, strict=True):
            lists[t] = [*lists[t], loss][-2:]
        for t in range(3):
            np.testing.assert_array_equal(np.sort(history.losses[t])[::-1][: len(lists[t])], sorted(lists[t])[::-1])
    np.testing.assert_array_equal(history.counts, [9, 9, 6])
    moments = np.sqrt([np.mean(np.square(lists[t])) for t in range(3)])
    expected = 0.9 * moments / moments.sum() + 0.1 / 3
    found = values(lambda history: diffusion.timestep_probabilities(history, 0.1), history)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_timesteps_are_equally_likely_until_every_history_is_full():
    history = full_history([1.0, 2.0, 5.0])
    early = history._replace(counts=np.array([4, 3, 4], np.int32))
    probabilities = diffusion.timestep_probabilities
    early, full, nothing, floor = values(
        lambda early, full, zeros, one: (
            probabilities(early), probabilities(full, 0.0), probabilities(zeros), probabilities(one)
        ),
        early, history, full_history([0.0, 0.0]), full_history([1.0, 0.0]),
    )  # fmt: skip
    np.testing.assert_allclose(early, [1 / 3] * 3, rtol=1e-6)
    np.testing.assert_allclose(full, [1 / 8, 2 / 8, 5 / 8], rtol=1e-6)
    np.testing.assert_allclose(nothing, [0.5] * 2, rtol=1e-6)
    np.testing.assert_allclose(floor, [0.9995, 0.0005], rtol=1e-4)


def test_weights_make_the_estimate_unbiased():
    def program(key, history):
        p = diffusion.timestep_probabilities(history, 0.01)
        return *diffusion.sample_timesteps(jax.random.split(key, 20000), p), p

    loss = np.array([3.0, 1.0, 7.0, 2.0])
    t, weights, p = values(program, jax.random.key(0), full_history([1.0, 2.0, 5.0, 0.5]))
    # Exactly: sum_t p_t loss_t / (T p_t) is the mean loss.
    np.testing.assert_allclose(weights, 1 / (4 * p[t]), rtol=1e-5)
    frequencies = np.bincount(t, minlength=4) / 20000
    assert np.all(np.abs(frequencies - p) < 4 * np.sqrt(p * (1 - p) / 20000))
    terms = weights * loss[t]
    assert abs(terms.mean() - loss.mean()) < 4 * terms.std() / np.sqrt(20000)


def test_losses_in_proportion_to_the_probabilities_have_no_variance():
    moments = np.array([1.0, 2.0, 5.0])

    def program(key, history):
        p = diffusion.timestep_probabilities(history, 0.0)
        return diffusion.sample_timesteps(jax.random.split(key, 100), p)

    t, weights = values(program, jax.random.key(1), full_history(moments))
    np.testing.assert_allclose(weights * moments[t], 8 / 3, rtol=1e-5)


def test_given_uniforms_choose_the_timesteps():
    p = np.array([0.1, 0.6, 0.3], np.float32)
    uniforms = np.array([0.0, 0.05, 0.15, 0.69, 0.8, 0.999])

    def program(key, p, uniforms):
        keys = jax.random.split(key, 9)
        drawn = jax.vmap(jax.random.uniform)(jax.random.clone(keys))
        sample = diffusion.sample_timesteps
        return sample(None, p, uniforms=uniforms), sample(None, p, uniforms=drawn), sample(keys, p)

    (t, weights), given, by_key = values(program, jax.random.key(1), p, uniforms)
    np.testing.assert_array_equal(t, [0, 0, 1, 1, 2, 2])
    np.testing.assert_allclose(weights, 1 / (3 * p[t]), rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, given, by_key)
    with pytest.raises(ValueError, match=r"uniforms has shape \(3,\); expected \(9,\)"):
        diffusion.sample_timesteps(jax.random.split(jax.random.key(1), 9), p, uniforms=np.zeros(3))
    with pytest.raises(ValueError, match="no keys and no uniforms"):
        diffusion.sample_timesteps(None, p)


def test_an_empty_history_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        diffusion.init_history(0)
