"""A tiny RBM against enumeration of all its states, and unrolling."""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.integrate import dblquad

from jaxgen.autoencoder import (
    Autoencoder,
    contrastive_divergence,
    contrastive_divergence_update,
    free_energy,
    hidden_given_visible,
    momentum_sgd,
    rbm_params,
    two_stage_momentum,
    unroll,
    visible_given_hidden,
)
from tests.programs import compiled, in_float32, in_float64

GENERATOR = np.random.default_rng(0)
W, B, C = GENERATOR.normal(size=(3, 2)), GENERATOR.normal(size=3), GENERATOR.normal(size=2)
V = np.array(list(itertools.product([0.0, 1.0], repeat=3)))
H = np.array(list(itertools.product([0.0, 1.0], repeat=2)))


PARAMS = {"kernel": W, "visible_bias": B, "hidden_bias": C}


def _joint():
    """exp(-E) of all 8 x 4 states."""
    return np.exp((V @ B)[:, None] + (H @ C)[None, :] + V @ W @ H.T)


def test_conditionals_and_free_energy_equal_those_of_the_enumerated_joint():
    joint = _joint()
    hidden, visible, energy = in_float64(
        lambda params, v, h: (hidden_given_visible(params, v), visible_given_hidden(params, h), free_energy(params, v)),
        *(PARAMS, V, H),
    )
    np.testing.assert_allclose(hidden, joint @ H / joint.sum(1)[:, None], rtol=1e-12)
    np.testing.assert_allclose(visible, joint.T @ V / joint.sum(0)[:, None], rtol=1e-12)
    # The free energy sums the hidden units out.
    np.testing.assert_allclose(energy, -np.log(joint.sum(1)), rtol=1e-12)


def test_gaussian_hidden_units():
    v = V[5]
    energy = lambda h: -B @ v + np.sum((h - C) ** 2) / 2 - v @ W @ h
    free, mean = in_float64(
        lambda p, v: (free_energy(p, v, "gaussian"), hidden_given_visible(p, v, "gaussian")), PARAMS, v
    )
    total = dblquad(lambda a, b: np.exp(-energy(np.array([a, b]))), -12, 12, -12, 12)[0]
    np.testing.assert_allclose(free, -np.log(total), rtol=1e-8)
    np.testing.assert_allclose(mean, v @ W + C, rtol=1e-12)
    # The mean is where the energy is least.
    step = 1e-5
    slope = [energy(mean + step * e) - energy(mean - step * e) for e in np.eye(2)]
    np.testing.assert_allclose(slope, [0, 0], atol=1e-9)


def _expected_difference(hidden_states, weights):
    """CD-1 for the data V, each once, with the expectation over h given as states and weights."""
    sigmoid = lambda a: 1 / (1 + np.exp(-a))
    total = [np.zeros((3, 2)), np.zeros(3), np.zeros(2)]
    for v, states, weight in zip(V, hidden_states, weights, strict=True):
        for h, p in zip(states, weight, strict=True):
            v1 = sigmoid(h @ W.T + B)
            h1 = sigmoid(v1 @ W + C)
            h0 = sigmoid(v @ W + C)
            terms = (np.outer(v1, h1) - np.outer(v, h0), v1 - v, h1 - h0)
            total = [t + p * term / len(V) for t, term in zip(total, terms, strict=True)]
    return total


def test_contrastive_divergence_has_the_enumerated_expectation():
    joint = _joint()
    expected = _expected_difference([H] * 8, joint / joint.sum(1)[:, None])
    repeats = 20_000
    v = np.tile(np.float32(V), (repeats, 1))
    params = jax.tree.map(np.float32, PARAMS)
    found, _ = in_float32(lambda *a: contrastive_divergence(jax.random.key(0), *a), params, v)
    for name, value in zip(("kernel", "visible_bias", "hidden_bias"), expected, strict=True):
        np.testing.assert_allclose(found[name], value, atol=4 / np.sqrt(8 * repeats))


def test_contrastive_divergence_with_gaussian_units_uses_means_and_one_draw():
    keys = lambda: jax.random.split(jax.random.key(0), 8)
    (found, reconstruction), noise = in_float64(
        lambda p, v: (
            contrastive_divergence(keys(), p, v, "gaussian"),
            jax.vmap(lambda k: jax.random.normal(k, (2,), jnp.float64))(keys()),
        ),
        *(PARAMS, V),
    )
    mean = V @ W + C
    v1 = 1 / (1 + np.exp(-((mean + noise) @ W.T + B)))
    np.testing.assert_allclose(reconstruction, v1, rtol=1e-12)
    expected = (v1.T @ (v1 @ W + C) - V.T @ mean) / 8
    np.testing.assert_allclose(found["kernel"], expected, rtol=1e-10)
    np.testing.assert_allclose(found["hidden_bias"], np.mean((v1 - V) @ W, axis=0), rtol=1e-10)


@dataclass(frozen=True)
class State:
    step: Any
    params: Any
    opt_state: Any
    replace = replace


@pytest.mark.parametrize("hidden", ["bernoulli", "gaussian"])
def test_contrastive_divergence_with_given_draws(hidden):
    """One Gibbs half-step is random: the states of h. NumPy in float64, and the key that makes the draws."""
    keys = lambda: jax.random.split(jax.random.key(0), 8)
    name, draw = ("uniforms", jax.random.uniform) if hidden == "bernoulli" else ("noise", jax.random.normal)
    optimizer = optax.sgd(1.0)

    def program(params, v):
        draws = jax.vmap(lambda k: draw(k, (2,), jnp.float64))(keys())
        # The same by way of a batch of the update, whose step of size 1 is the difference.
        update = contrastive_divergence_update(optimizer, hidden)
        state = State(jnp.int32(0), params, optimizer.init(params))
        end, _ = update(state, {"x": v, name: draws}, None, lambda f, batch, keys: f(batch, keys))
        given = contrastive_divergence(None, params, v, hidden, **{name: draws})
        return draws, given, contrastive_divergence(keys(), params, v, hidden), end.params

    draws, (found, reconstruction), by_key, end = in_float64(program, PARAMS, V)
    jax.tree.map(np.testing.assert_array_equal, (found, reconstruction), by_key)
    sigmoid = lambda a: 1 / (1 + np.exp(-a))
    mean_of = (lambda v: sigmoid(v @ W + C)) if hidden == "bernoulli" else (lambda v: v @ W + C)
    mean = mean_of(V)
    h = (draws < mean).astype(float) if hidden == "bernoulli" else mean + draws
    v1 = sigmoid(h @ W.T + B)
    h1 = mean_of(v1)
    kernel = (v1.T @ h1 - V.T @ mean) / 8
    expected = {"kernel": kernel, "visible_bias": (v1 - V).mean(0), "hidden_bias": (h1 - mean).mean(0)}
    np.testing.assert_allclose(reconstruction, v1, rtol=1e-12)
    for part, value in expected.items():
        np.testing.assert_allclose(found[part], value, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(end[part], PARAMS[part] - value, rtol=1e-10)
    check = lambda **given: jax.eval_shape(lambda p, v: contrastive_divergence(None, p, v, hidden, **given), PARAMS, V)
    other = {"noise" if name == "uniforms" else "uniforms": np.zeros((8, 2))}
    with pytest.raises(ValueError, match=f"but hidden is '{hidden}'"):
        check(**other)
    with pytest.raises(ValueError, match=rf"{name} has shape \(2,\); expected \(8, 2\)"):
        check(**{name: np.zeros(2)})
    with pytest.raises(ValueError, match=f"no key and no {name}"):
        check()


def test_update_learns_two_patterns():
    x = np.tile(np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], np.float32), (10, 1))
    others = np.array([[1, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 1]], np.float32)
    optimizer = momentum_sgd(0.3, two_stage_momentum(50))
    update = contrastive_divergence_update(optimizer)
    mean = lambda f, batch, keys: f(batch, keys)

    def run(x):
        def step(carry, i):
            keys = jax.random.split(jax.random.fold_in(jax.random.key(2), i), 20)
            state, metrics = update(State(i, *carry), {"x": x}, keys, mean)
            return (state.params, state.opt_state), (state.step, metrics["squared_error"])

        params = rbm_params(jax.random.key(0), 6, 4)
        (learned, _), history = jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(300))
        spread = jnp.std(rbm_params(jax.random.key(1), 200, 200)["kernel"])
        return history, free_energy(learned, x[:2]), free_energy(learned, others), spread

    (steps, errors), of_patterns, of_others, spread = in_float32(run, x)
    assert abs(spread - 0.1) < 0.002
    np.testing.assert_array_equal(steps, np.arange(300) + 1)
    assert errors[0] > 1 and errors[-1] < 0.1
    assert of_patterns.max() < of_others.min() - 3


def test_momentum_sgd_is_the_released_codes_update():
    schedule = two_stage_momentum(2)
    optimizer = momentum_sgd(0.1, schedule, weight_decay=0.5)
    params = {"kernel": np.array([[2.0]], np.float32), "hidden_bias": np.array([2.0], np.float32)}
    expected = {"kernel": 2.0, "hidden_bias": 2.0}
    velocity = dict.fromkeys(expected, 0.0)
    state = optimizer.init(params)

    @compiled
    def update(params, state):
        changes, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
        return optax.apply_updates(params, changes), state

    for step in range(4):
        params, state = update(params, state)
        for name, decay in (("kernel", 0.5), ("hidden_bias", 0.0)):
            descent = -0.1 * (1 + decay * expected[name])
            velocity[name] = (0.5 if step < 2 else 0.9) * velocity[name] + descent
            expected[name] += velocity[name]
            np.testing.assert_allclose(np.ravel(params[name]), [expected[name]], rtol=1e-6)


def test_unrolled_autoencoder_passes_probabilities_through_the_rbms():
    sizes = (7, 6, 4, 3)
    draw = lambda *shape: GENERATOR.normal(size=shape).astype(np.float32)
    rbms = [
        {"kernel": draw(d, h), "visible_bias": draw(d), "hidden_bias": draw(h)} for d, h in itertools.pairwise(sizes)
    ]
    network = Autoencoder(7, (6, 4), 3)
    x = GENERATOR.uniform(size=(5, 7)).astype(np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), x)["params"]
    assert jax.tree.map(jnp.shape, unroll(rbms)) == jax.tree.map(lambda a: a.shape, shapes)

    def program(rbms, x):
        params = {"params": unroll(rbms)}
        code = x
        for rbm, hidden in zip(rbms, ("bernoulli", "bernoulli", "gaussian"), strict=True):
            code = hidden_given_visible(rbm, code, hidden)
        down = code
        for rbm in reversed(rbms):
            down = visible_given_hidden(rbm, down)
        return (network.apply(params, x, method="encode"), code), (network.apply(params, x), down)

    for found, expected in in_float32(program, rbms, x):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_wrong_inputs():
    rbm = lambda d, h: jax.eval_shape(lambda: rbm_params(jax.random.key(0), d, h))
    params = rbm(4, 3)
    with pytest.raises(ValueError, match="'relu'.*bernoulli, gaussian"):
        hidden_given_visible(params, np.zeros((1, 4)), "relu")
    with pytest.raises(ValueError, match="'relu'"):
        contrastive_divergence_update(optax.sgd(0.1), "relu")
    with pytest.raises(ValueError, match="width 5.*4 visible"):
        contrastive_divergence(None, params, np.zeros((2, 5)))
    with pytest.raises(ValueError, match="RBM 0 has 3 hidden.*RBM 1 has 5"):
        unroll([params, rbm(5, 2)])
    with pytest.raises(ValueError, match="at least one"):
        unroll([])
