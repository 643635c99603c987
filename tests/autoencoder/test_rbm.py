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

GENERATOR = np.random.default_rng(0)
W, B, C = GENERATOR.normal(size=(3, 2)), GENERATOR.normal(size=3), GENERATOR.normal(size=2)
V = np.array(list(itertools.product([0.0, 1.0], repeat=3)))
H = np.array(list(itertools.product([0.0, 1.0], repeat=2)))


def _params(dtype=jnp.float64):
    names = ("kernel", "visible_bias", "hidden_bias")
    return {n: jnp.asarray(a, dtype) for n, a in zip(names, (W, B, C), strict=True)}


def _joint():
    """exp(-E) of all 8 x 4 states."""
    return np.exp((V @ B)[:, None] + (H @ C)[None, :] + V @ W @ H.T)


def test_conditionals_equal_those_of_the_enumerated_joint():
    joint = _joint()
    with jax.enable_x64(True):
        hidden = hidden_given_visible(_params(), jnp.asarray(V))
        visible = visible_given_hidden(_params(), jnp.asarray(H))
    np.testing.assert_allclose(hidden, joint @ H / joint.sum(1)[:, None], rtol=1e-12)
    np.testing.assert_allclose(visible, joint.T @ V / joint.sum(0)[:, None], rtol=1e-12)


def test_free_energy_sums_the_hidden_units_out():
    with jax.enable_x64(True):
        found = free_energy(_params(), jnp.asarray(V))
    np.testing.assert_allclose(found, -np.log(_joint().sum(1)), rtol=1e-12)


def test_gaussian_hidden_units():
    v = V[5]
    energy = lambda h: -B @ v + np.sum((h - C) ** 2) / 2 - v @ W @ h
    with jax.enable_x64(True):
        free = free_energy(_params(), jnp.asarray(v), "gaussian")
        mean = np.asarray(hidden_given_visible(_params(), jnp.asarray(v), "gaussian"))
    total, _ = dblquad(lambda a, b: np.exp(-energy(np.array([a, b]))), -12, 12, -12, 12)
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
    v = jnp.asarray(np.tile(V, (repeats, 1)), jnp.float32)
    found, _ = jax.jit(contrastive_divergence)(jax.random.key(0), _params(jnp.float32), v)
    for name, value in zip(("kernel", "visible_bias", "hidden_bias"), expected, strict=True):
        np.testing.assert_allclose(found[name], value, atol=4 / np.sqrt(8 * repeats))


def test_contrastive_divergence_with_gaussian_units_uses_means_and_one_draw():
    keys = lambda: jax.random.split(jax.random.key(0), 8)
    with jax.enable_x64(True):
        params, v = _params(), jnp.asarray(V)
        found, reconstruction = contrastive_divergence(keys(), params, v, "gaussian")
        noise = jax.vmap(lambda k: jax.random.normal(k, (2,), jnp.float64))(keys())
    mean = V @ W + C
    v1 = 1 / (1 + np.exp(-((mean + np.asarray(noise)) @ W.T + B)))
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
    with jax.enable_x64(True):
        params, v = _params(), jnp.asarray(V)
        draws = jax.vmap(lambda k: draw(k, (2,), jnp.float64))(keys())
        found, reconstruction = contrastive_divergence(None, params, v, hidden, **{name: draws})
        by_key = contrastive_divergence(keys(), params, v, hidden)
        jax.tree.map(np.testing.assert_array_equal, (found, reconstruction), by_key)
        # The same by way of a batch of the update, whose step of size 1 is the difference.
        optimizer = optax.sgd(1.0)
        update = contrastive_divergence_update(optimizer, hidden)
        state = State(jnp.int32(0), params, optimizer.init(params))
        end, _ = update(state, {"x": v, name: draws}, None, lambda f, batch, keys: f(batch, keys))
    sigmoid = lambda a: 1 / (1 + np.exp(-a))
    mean_of = (lambda v: sigmoid(v @ W + C)) if hidden == "bernoulli" else (lambda v: v @ W + C)
    draws, mean = np.asarray(draws), mean_of(V)
    h = (draws < mean).astype(float) if hidden == "bernoulli" else mean + draws
    v1 = sigmoid(h @ W.T + B)
    h1 = mean_of(v1)
    kernel = (v1.T @ h1 - V.T @ mean) / 8
    expected = {"kernel": kernel, "visible_bias": (v1 - V).mean(0), "hidden_bias": (h1 - mean).mean(0)}
    np.testing.assert_allclose(reconstruction, v1, rtol=1e-12)
    for part, value in expected.items():
        np.testing.assert_allclose(found[part], value, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(end.params[part], np.asarray(params[part]) - value, rtol=1e-10)
    params, v = _params(jnp.float32), jnp.asarray(V, jnp.float32)
    other = {"noise" if name == "uniforms" else "uniforms": np.zeros((8, 2))}
    with pytest.raises(ValueError, match=f"but hidden is '{hidden}'"):
        contrastive_divergence(None, params, v, hidden, **other)
    with pytest.raises(ValueError, match=rf"{name} has shape \(2,\); expected \(8, 2\)"):
        contrastive_divergence(None, params, v, hidden, **{name: np.zeros(2)})
    with pytest.raises(ValueError, match=f"no key and no {name}"):
        contrastive_divergence(None, params, v, hidden)


def test_update_learns_two_patterns():
    x = jnp.asarray(np.tile([[1.0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], (10, 1)), jnp.float32)
    params = rbm_params(jax.random.key(0), 6, 4)
    assert abs(float(jnp.std(rbm_params(jax.random.key(1), 200, 200)["kernel"])) - 0.1) < 0.002
    optimizer = momentum_sgd(0.3, two_stage_momentum(50))
    update = contrastive_divergence_update(optimizer)
    mean = lambda f, batch, keys: f(batch, keys)
    state = State(jnp.int32(0), params, optimizer.init(params))

    @jax.jit
    def run(params, opt_state):
        def step(carry, i):
            keys = jax.random.split(jax.random.fold_in(jax.random.key(2), i), 20)
            state, metrics = update(State(i, *carry), {"x": x}, keys, mean)
            return (state.params, state.opt_state), (state.step, metrics["squared_error"])

        return jax.lax.scan(step, (params, opt_state), jnp.arange(300))

    (learned, _), (steps, errors) = run(state.params, state.opt_state)
    np.testing.assert_array_equal(steps, np.arange(300) + 1)
    assert errors[0] > 1 and errors[-1] < 0.1
    others = jnp.asarray([[1.0, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 1]])
    assert float(free_energy(learned, x[:2]).max()) < float(free_energy(learned, others).min()) - 3


def test_momentum_sgd_is_the_released_codes_update():
    schedule = two_stage_momentum(2)
    optimizer = momentum_sgd(0.1, schedule, weight_decay=0.5)
    params = {"kernel": jnp.array([[2.0]]), "hidden_bias": jnp.array([2.0])}
    state, expected = optimizer.init(params), {"kernel": 2.0, "hidden_bias": 2.0}
    velocity = dict.fromkeys(expected, 0.0)
    for step in range(4):
        changes, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params)
        params = optax.apply_updates(params, changes)
        for name, decay in (("kernel", 0.5), ("hidden_bias", 0.0)):
            descent = -0.1 * (1 + decay * expected[name])
            velocity[name] = (0.5 if step < 2 else 0.9) * velocity[name] + descent
            expected[name] += velocity[name]
            np.testing.assert_allclose(params[name].ravel(), [expected[name]], rtol=1e-6)


def test_unrolled_autoencoder_passes_probabilities_through_the_rbms():
    sizes = (7, 6, 4, 3)
    rbms = []
    for i, (d, h) in enumerate(itertools.pairwise(sizes)):
        rbm = rbm_params(jax.random.key(i), d, h, scale=1.0)
        biases = {"visible_bias": GENERATOR.normal(size=d), "hidden_bias": GENERATOR.normal(size=h)}
        rbms.append(rbm | jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), biases))
    network = Autoencoder(7, (6, 4), 3)
    params = unroll(rbms)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 7)))["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(lambda a: a.shape, shapes)
    x = jnp.asarray(GENERATOR.uniform(size=(5, 7)), jnp.float32)
    code = x
    for rbm, hidden in zip(rbms, ("bernoulli", "bernoulli", "gaussian"), strict=True):
        code = hidden_given_visible(rbm, code, hidden)
    encoded = network.apply({"params": params}, x, method="encode")
    np.testing.assert_allclose(encoded, code, rtol=1e-5)
    down = code
    for rbm in reversed(rbms):
        down = visible_given_hidden(rbm, down)
    np.testing.assert_allclose(network.apply({"params": params}, x), down, rtol=1e-5)


def test_wrong_inputs():
    params = rbm_params(jax.random.key(0), 4, 3)
    with pytest.raises(ValueError, match="'relu'.*bernoulli, gaussian"):
        hidden_given_visible(params, jnp.zeros((1, 4)), "relu")
    with pytest.raises(ValueError, match="'relu'"):
        contrastive_divergence_update(optax.sgd(0.1), "relu")
    with pytest.raises(ValueError, match="width 5.*4 visible"):
        contrastive_divergence(jax.random.key(0), params, jnp.zeros((2, 5)))
    with pytest.raises(ValueError, match="RBM 0 has 3 hidden.*RBM 1 has 5"):
        unroll([params, rbm_params(jax.random.key(1), 5, 2)])
    with pytest.raises(ValueError, match="at least one"):
        unroll([])
