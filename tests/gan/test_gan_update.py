"""One step of the game against NumPy, on players with closed-form gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen import gan, training
from jaxgen.training.mean import plain_mean

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


def normal(keys):
    return jax.vmap(lambda k: jax.random.normal(k, (D,), jnp.float64))(keys)


def factors(keys):
    return 1 + jax.vmap(lambda k: jax.random.uniform(k, (D,), jnp.float64))(keys)


def draws(keys, step):
    """noise, factors of real, of fake, of penalised examples: what one step sees, NumPy."""
    data = jax.random.key_data(keys)
    at = [jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(k), step), 5) for k in data]
    by_use = [jnp.stack([jax.random.key_data(k)[i] for k in at]) for i in range(5)]
    wrapped = [jax.random.wrap_key_data(k) for k in by_use]
    return np.asarray(normal(wrapped[0])), *(np.asarray(factors(wrapped[i])) for i in (1, 2, 4))


class ByHand:
    def __init__(self, params, real, keys):
        self.p = {k: np.array(v) for k, v in {**params["generator"], **params["discriminator"]}.items()}
        self.trace, self.real, self.keys = {"w": 0.0, "b": 0.0}, real, keys

    def gradients(self, step, real):
        """Of both players at the present parameters, with the draws of one step."""
        p, (z, on_real, on_fake, on_penalised) = self.p, draws(self.keys, step)
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


OPTIMIZER = gan.separate_optimizers(optax.sgd(RATE_G), optax.sgd(RATE_D, MOMENTUM))


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("order", ["simultaneous", "alternating"])
def test_steps_are_those_written_by_hand(order, k):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        params = {
            "generator": {"m": jnp.asarray(rng.normal(size=D)), "s": jnp.asarray(rng.normal(size=D))},
            "discriminator": {"w": jnp.asarray(rng.normal(size=D)), "b": jnp.asarray(0.3)},
        }
        update = jax.jit(
            gan.two_player_update(
                LinearPlayers(), OPTIMIZER, order=order, discriminator_steps=k,
                penalty=gan.r1_penalty, penalty_weight=GAMMA, ema_decay=lambda n: 0.5 + 0.25 * n.astype(float),
            ),
            static_argnums=3,
        )  # fmt: skip
        state = training.create_state(params, OPTIMIZER)
        state = state.replace(ema={"generator": jax.tree.map(jnp.copy, params["generator"])})
        hand = ByHand(params, None, None)
        ema = {name: np.array(v) for name, v in params["generator"].items()}
        for step in range(2):
            hand.keys = jax.random.split(jax.random.key(step), B)
            hand.real = rng.normal(size=(B, k, D)) + 1
            x = jnp.asarray(hand.real if k > 1 else hand.real[:, 0])
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
            "generator": {"m": jnp.asarray(rng.normal(size=D)), "s": jnp.asarray(rng.normal(size=D))},
            "discriminator": {"w": jnp.asarray(rng.normal(size=D)), "b": jnp.asarray(0.3)},
        }
        keys = jax.random.split(jax.random.key(0), B)
        uniform = lambda key, i: jax.random.uniform(jax.random.split(jax.random.fold_in(key, i), 5)[3], (), jnp.float64)
        uniforms = jax.vmap(lambda key: jnp.stack([uniform(jax.random.clone(key), i) for i in range(k)]))(keys)
        noise = np.stack([draws(keys, i)[0] for i in range(turns)], axis=1)
        given = {"noise": jnp.asarray(noise), "uniforms": uniforms}
        x = jnp.asarray(rng.normal(size=(B, k, D)) if k > 1 else rng.normal(size=(B, D)))
        options = dict(order=order, discriminator_steps=k, penalty=gan.gradient_penalty)
        update = gan.two_player_update(CurvedPlayers(), OPTIMIZER, **options)
        state = training.create_state(params, OPTIMIZER)
        run = jax.jit(lambda batch: update(state, batch, jax.random.clone(keys), plain_mean))
        expected, found = run({"x": x}), run({"x": x, **given})
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), found, expected)
        with pytest.raises(ValueError, match=rf"'noise'\] has shape .*; expected \[B, {turns}, Z\]"):
            run({"x": x, "noise": given["noise"][:, :-1]})
        with pytest.raises(ValueError, match=rf"'uniforms'\] has shape .*; expected \[B, {k}\]"):
            run({"x": x, "uniforms": given["uniforms"][:, 0]})


def test_spectral_normalisation_is_in_the_loss_and_its_vectors_advance_in_the_state():
    rng = np.random.default_rng(0)
    players = gan.Players(gan.MLPGenerator(2, (4,)), gan.MLPDiscriminator((5,), jnp.tanh), gan.normal_noise(3))
    batch = {"x": jnp.asarray(rng.normal(size=(B, 2)), jnp.float32)}
    params = players.init(jax.random.key(0), batch)
    optimizer = gan.separate_optimizers(optax.sgd(0.0), optax.sgd(0.0))
    vectors = gan.init_spectral(jax.random.key(1), params["discriminator"])
    state = training.create_state(params, optimizer, model_state={"spectral": vectors, "other": jnp.ones(2)})
    plain = gan.two_player_update(players, optimizer)
    spectral = gan.two_player_update(players, optimizer, spectral=True, discriminator_steps=1)
    keys = jax.random.split(jax.random.key(2), B)
    end, metrics = jax.jit(spectral, static_argnums=3)(state, batch, jax.random.clone(keys), plain_mean)
    advanced = gan.advance_spectral(params["discriminator"], vectors)
    for got, wanted in zip(
        jax.tree.leaves(end.model_state["spectral"]), jax.tree.leaves(advanced), strict=True
    ):
        np.testing.assert_allclose(got, wanted, rtol=1e-5)
    np.testing.assert_array_equal(end.model_state["other"], 1)
    divided = {**params, "discriminator": gan.spectrally_normalized(params["discriminator"], advanced)}
    _, expected = jax.jit(plain, static_argnums=3)(state.replace(params=divided), batch, keys, plain_mean)
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
            "generator": {"m": jnp.zeros(D), "s": jnp.zeros(D)},
            "discriminator": {"w": jnp.ones(D), "b": jnp.asarray(0.0)},
        }
        labels = jnp.stack([jnp.full(B, 1), jnp.full(B, 4)], axis=1)
        update = gan.two_player_update(Labelled(), OPTIMIZER, discriminator_steps=2)
        keys = jax.random.split(jax.random.key(0), B)
        batch = {"x": jnp.zeros((B, 2, D)), "label": labels}
        state = training.create_state(params, OPTIMIZER)
        _, metrics = jax.jit(update, static_argnums=3)(state, batch, keys, plain_mean)
    assert float(metrics["real_probability"]) == pytest.approx(SIGMOID(4.0))
    assert float(metrics["generator_loss"]) == pytest.approx(SOFTPLUS(-4.0))


def test_bad_settings_are_refused():
    make = lambda **options: gan.two_player_update(LinearPlayers(), OPTIMIZER, **options)
    with pytest.raises(ValueError, match="discriminator_steps is 0"):
        make(discriminator_steps=0)
    with pytest.raises(ValueError, match="order is 'both'"):
        make(order="both")
    params = {"generator": {"m": jnp.zeros(D)}, "discriminator": {"w": jnp.zeros(D)}}
    state, keys = training.create_state(params, OPTIMIZER), jax.random.split(jax.random.key(0), B)
    with pytest.raises(ValueError, match=r"with 3 discriminator steps it must be \[B, 3, ...\]"):
        make(discriminator_steps=3)(state, {"x": jnp.zeros((B, D + 1))}, keys, plain_mean)
    with pytest.raises(ValueError, match="model_state"):
        make(spectral=True)(state, {"x": jnp.zeros((B, D))}, keys, plain_mean)
    with pytest.raises(ValueError, match="no ema"):
        make(ema_decay=0.9)(state, {"x": jnp.zeros((B, D))}, keys, plain_mean)
