"""One step of the game against NumPy, on players with closed-form gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen import gan, training
from jaxgen.training.mean import plain_mean
from tests.parameters import random_parameters
from tests.programs import compiled

B, D = 6, 3
RATE_D, MOMENTUM, RATE_G, GAMMA = 0.3, 0.9, 0.7, 0.2
SIGMOID = lambda a: 1 / (1 + np.exp(-a))
SOFTPLUS = lambda a: np.logaddexp(a, 0)


class LinearPlayers:
    """G(z) = m + s z; D's logit is <a x, w> + b, with a random factor a [D] an example in place of dropout."""

    condition = None

    def labels(self, batch):
        return None

    def generate(self, params, keys, labels, noise=None):
        return params["m"][None] + params["s"][None] * (normal(keys) if noise is None else noise)

    def discriminate(self, params, keys, x, labels):
        return (factors(keys) * x) @ params["w"] + params["b"]


LINEAR: Any = LinearPlayers()


def normal(keys):
    """[B, D] float64, a function of each key's bits; random numbers of JAX would take most of the compile time."""
    bits = jax.random.key_data(keys).astype(jnp.float64) / 2**32
    return 2 * jnp.sin(bits @ (100 + np.arange(2 * D, dtype=np.float64).reshape(2, D) ** 2))


def factors(keys):
    return 1.5 + normal(keys) / 4


@jax.jit
def draws(keys, step):
    """noise, factors of real, of fake, of penalised examples: what one step sees."""
    by_use = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, step), 5))(keys)
    return normal(by_use[:, 0]), *(factors(by_use[:, i]) for i in (1, 2, 4))


class ByHand:
    def __init__(self, params, real: Any = None, keys: Any = None):
        self.p = {k: np.array(v) for k, v in {**params["generator"], **params["discriminator"]}.items()}
        self.trace, self.real, self.keys = {"w": 0.0, "b": 0.0}, real, keys

    def gradients(self, step, real):
        """Of both players at the present parameters, with the draws of one step."""
        p, (z, on_real, on_fake, on_penalised) = self.p, jax.device_get(draws(jax.random.clone(self.keys), step))
        fake = p["m"] + p["s"] * z
        r, f = (on_real * real) @ p["w"] + p["b"], (on_fake * fake) @ p["w"] + p["b"]
        by_r, by_f = (SIGMOID(r) - 1)[:, None], SIGMOID(f)[:, None]
        w = (by_r * on_real * real + by_f * on_fake * fake + GAMMA * on_penalised**2 * p["w"]).mean(axis=0)
        by_x = (SIGMOID(f) - 1)[:, None] * on_fake * p["w"]
        metrics = {
            "discriminator_loss": (SOFTPLUS(-r) + SOFTPLUS(f)).mean(),
            "generator_loss": SOFTPLUS(-f).mean(),
            "value": -(SOFTPLUS(-r) + SOFTPLUS(f)).mean(),
            "real_probability": SIGMOID(r).mean(),
            "fake_probability": SIGMOID(f).mean(),
            "penalty": ((on_penalised * p["w"]) ** 2).sum(axis=1).mean() / 2,
        }
        discriminator, generator = {"w": w, "b": (by_r + by_f).mean()}, {"m": by_x.mean(0), "s": (by_x * z).mean(0)}
        for name, tree in (("discriminator", discriminator), ("generator", generator)):
            metrics[f"{name}_gradient_norm"] = np.sqrt(sum(np.sum(v**2) for v in tree.values()))
        return discriminator, generator, metrics

    def move_discriminator(self, gradient):
        for name, g in gradient.items():
            self.trace[name] = MOMENTUM * self.trace[name] + g
            self.p[name] = self.p[name] - RATE_D * self.trace[name]

    def move_generator(self, gradient):
        for name, g in gradient.items():
            self.p[name] = self.p[name] - RATE_G * g

    def step(self, order, k):
        for i in range(k):
            own, joint, metrics = self.gradients(i, self.real[:, i])
            self.move_discriminator(own)
        if order == "alternating":
            _, joint, found = self.gradients(k, self.real[:, 0])
            metrics |= {name: found[name] for name in ("generator_loss", "generator_gradient_norm")}
        self.move_generator(joint)
        return metrics


@jax.jit
def keys_of(seed):
    return jax.random.split(jax.random.key(seed), B)


OPTIMIZER = gan.separate_optimizers(optax.sgd(RATE_G), optax.sgd(RATE_D, MOMENTUM))


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("order", ["simultaneous", "alternating"])
def test_steps_are_those_written_by_hand(order, k):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        params = {
            "generator": {"m": rng.normal(size=D), "s": rng.normal(size=D)},
            "discriminator": {"w": rng.normal(size=D), "b": np.float64(0.3)},
        }
        update = compiled(
            gan.two_player_update(
                LINEAR, OPTIMIZER, order=order, discriminator_steps=k,
                penalty=gan.r1_penalty, penalty_weight=GAMMA, ema_decay=lambda n: 0.5 + 0.25 * n.astype(float),
            ),
            static_argnums=3,
        )  # fmt: skip
        init = lambda p: training.create_state(p, OPTIMIZER).replace(ema={"generator": p["generator"]})
        state = jax.jit(init)(params)
        hand = ByHand(params)
        ema = {name: np.array(v) for name, v in params["generator"].items()}
        for step in range(2):
            hand.keys = keys_of(step)
            hand.real = rng.normal(size=(B, k, D)) + 1
            x = hand.real if k > 1 else hand.real[:, 0]
            state, metrics = update(state, {"x": x}, jax.random.clone(hand.keys), plain_mean)
            expected = hand.step(order, k)
            assert metrics.keys() == expected.keys()
            for name, number in expected.items():
                assert float(metrics[name]) == pytest.approx(number, rel=1e-10), name
            for name in ema:
                ema[name] = (0.5 + 0.25 * step) * ema[name] + (0.5 - 0.25 * step) * hand.p[name]
        for player in ("generator", "discriminator"):
            for name, leaf in state.params[player].items():
                np.testing.assert_allclose(leaf, hand.p[name], rtol=1e-10)
        for name, leaf in state.ema["generator"].items():
            np.testing.assert_allclose(leaf, ema[name], rtol=1e-10)
        assert int(state.step) == 2 and state.ema.keys() == {"generator"}


@pytest.mark.parametrize("order, k", [("simultaneous", 1), ("alternating", 2)])
def test_a_batch_may_hold_the_draws(order, k):
    """The step by the keys is checked above; with the noise and uniforms that they make, it is the same."""

    class CurvedPlayers(LinearPlayers):
        def discriminate(self, params, keys, x, labels):
            return jnp.tanh(super().discriminate(params, keys, x, labels))

    rng = np.random.default_rng(0)
    turns = k + (order == "alternating")
    with jax.enable_x64(True):
        params = {
            "generator": {"m": rng.normal(size=D), "s": rng.normal(size=D)},
            "discriminator": {"w": rng.normal(size=D), "b": np.float64(0.3)},
        }
        x = rng.normal(size=(B, k, D)) if k > 1 else rng.normal(size=(B, D))
        options: dict[str, Any] = dict(order=order, discriminator_steps=k, penalty=gan.gradient_penalty)
        curved: Any = CurvedPlayers()
        update = gan.two_player_update(curved, OPTIMIZER, **options)

        def run(params, batch):
            keys = jax.random.split(jax.random.key(0), B)
            return update(training.create_state(params, OPTIMIZER), batch, keys, plain_mean)

        @compiled
        def both(params, x):
            keys = lambda: jax.random.split(jax.random.key(0), B)
            uniform = lambda key, i: jax.random.uniform(
                jax.random.split(jax.random.fold_in(key, i), 5)[3], (), jnp.float64
            )
            uniforms = [jax.vmap(uniform, (0, None))(keys(), i) for i in range(k)]
            noise = [draws(keys(), i)[0] for i in range(turns)]
            given = {"noise": jnp.stack(noise, axis=1), "uniforms": jnp.stack(uniforms, axis=1)}
            return run(params, {"x": x}), run(params, {"x": x, **given})

        expected, found = both(params, x)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), found, expected)
        with pytest.raises(ValueError, match=rf"'noise'\] has shape .*; expected \[B, {turns}, Z\]"):
            jax.eval_shape(lambda: run(params, {"x": x, "noise": np.zeros((B, turns - 1, D))}))
        with pytest.raises(ValueError, match=rf"'uniforms'\] has shape .*; expected \[B, {k}\]"):
            jax.eval_shape(lambda: run(params, {"x": x, "uniforms": np.zeros(B)}))


def test_spectral_normalisation_is_in_the_loss_and_its_vectors_advance_in_the_state():
    x = np.random.default_rng(0).normal(size=(B, 2)).astype(np.float32)
    players = gan.Players(gan.MLPGenerator(2, (4,)), gan.MLPDiscriminator((5,), jnp.tanh), gan.normal_noise(3))
    optimizer = gan.separate_optimizers(optax.sgd(0.0), optax.sgd(0.0))
    plain = gan.two_player_update(players, optimizer)
    spectral = gan.two_player_update(players, optimizer, spectral=True, discriminator_steps=1)
    params = {
        "generator": random_parameters(players.generator, np.zeros((1, 3), np.float32)),
        "discriminator": random_parameters(players.discriminator, x),
    }

    @compiled
    def run(params, x):
        keys = lambda: jax.random.split(jax.random.key(2), B)
        vectors = gan.init_spectral(jax.random.key(1), params["discriminator"])
        state = training.create_state(params, optimizer, model_state={"spectral": vectors, "other": jnp.ones(2)})
        end, metrics = spectral(state, {"x": x}, keys(), plain_mean)
        advanced = gan.advance_spectral(params["discriminator"], vectors)
        divided = {**params, "discriminator": gan.spectrally_normalized(params["discriminator"], advanced)}
        _, expected = plain(state.replace(params=divided), {"x": x}, keys(), plain_mean)
        return end.model_state, advanced, metrics, expected

    model_state, advanced, metrics, expected = jax.device_get(run(params, x))
    for got, wanted in zip(jax.tree.leaves(model_state["spectral"]), jax.tree.leaves(advanced), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5)
    np.testing.assert_array_equal(model_state["other"], 1)
    for name in ("discriminator_loss", "generator_loss", "value", "generator_gradient_norm"):
        assert float(metrics[name]) == pytest.approx(float(expected[name]), rel=1e-5) and abs(metrics[name]) > 1e-4
    # The gradient passes through sigma, so it differs.
    name = "discriminator_gradient_norm"
    assert float(metrics[name]) != pytest.approx(float(expected[name]), rel=1e-2)


def test_labels_reach_both_players_and_each_discriminator_step_has_its_own():
    """With labels known to D, the real loss of a batch tells which labels it was given."""

    class Labelled(LinearPlayers):
        condition = "label"

        def labels(self, batch):
            return batch["label"]

        def generate(self, params, keys, labels):
            return super().generate(params, keys, labels) + labels[:, None].astype(jnp.float64)

        def discriminate(self, params, keys, x, labels):
            return 0 * super().discriminate(params, keys, x, labels) + labels.astype(jnp.float64)

    with jax.enable_x64(True):
        params = {
            "generator": {"m": np.zeros(D), "s": np.zeros(D)},
            "discriminator": {"w": np.ones(D), "b": np.float64(0.0)},
        }
        players: Any = Labelled()
        batch = {"x": np.zeros((B, 2, D)), "label": np.tile([1, 4], (B, 1))}
        update = gan.two_player_update(players, OPTIMIZER, discriminator_steps=2)

        @compiled
        def run(params, batch):
            keys = jax.random.split(jax.random.key(0), B)
            return update(training.create_state(params, OPTIMIZER), batch, keys, plain_mean)[1]

        metrics = run(params, batch)
    assert float(metrics["real_probability"]) == pytest.approx(SIGMOID(4.0))
    assert float(metrics["generator_loss"]) == pytest.approx(SOFTPLUS(-4.0))


def test_bad_settings_are_refused():
    make = lambda **options: gan.two_player_update(LINEAR, OPTIMIZER, **options)
    with pytest.raises(ValueError, match="discriminator_steps is 0"):
        make(discriminator_steps=0)
    with pytest.raises(ValueError, match="order is 'both'"):
        make(order="both")
    params = {"generator": {"m": np.zeros(D)}, "discriminator": {"w": np.zeros(D)}}
    state, keys = jax.eval_shape(lambda: training.create_state(params, OPTIMIZER)), None
    with pytest.raises(ValueError, match=r"with 3 discriminator steps it must be \[B, 3, ...\]"):
        make(discriminator_steps=3)(state, {"x": np.zeros((B, D + 1))}, keys, plain_mean)
    with pytest.raises(ValueError, match="model_state"):
        make(spectral=True)(state, {"x": np.zeros((B, D))}, keys, plain_mean)
    with pytest.raises(ValueError, match="no ema"):
        make(ema_decay=0.9)(state, {"x": np.zeros((B, D))}, keys, plain_mean)
