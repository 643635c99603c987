"""The whole game on a 1-D Gaussian: with R1 and an averaged generator, D cannot tell the two apart."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen import gan, training
from jaxgen.training.mean import plain_mean

MEAN, STD, BATCH, STEPS, SEEDS = 1.0, 0.5, 128, 2000, 3


def trained(players, update, optimizer, key):
    """The state after STEPS updates; the batches are fresh draws."""

    def one(state, step):
        for_data, for_update = jax.random.split(jax.random.fold_in(key, step))
        x = MEAN + STD * jax.random.normal(for_data, (BATCH, 1))
        state, metrics = update(state, {"x": x}, jax.random.split(for_update, BATCH), plain_mean)
        return state, metrics["value"]

    params = players.init(jax.random.fold_in(key, STEPS), {"x": jnp.zeros((1, 1))})
    state = training.create_state(params, optimizer, ema=True)
    return jax.lax.scan(one, state, jnp.arange(STEPS))


@pytest.mark.slow
def test_three_seeds_end_at_one_half():
    players = gan.Players(
        gan.MLPGenerator(1, (16,), output=lambda x: x, kernel_init=jax.nn.initializers.glorot_uniform()),
        gan.MLPDiscriminator((16, 16), jnp.tanh),
        gan.normal_noise(1),
    )
    rate = optax.cosine_decay_schedule(5e-3, STEPS)
    optimizer = gan.separate_optimizers(optax.adam(rate, b1=0.5), optax.adam(rate, b1=0.5))
    update = gan.two_player_update(players, optimizer, penalty=gan.r1_penalty, penalty_weight=0.3, ema_decay=0.99)
    keys = jax.random.split(jax.random.key(0), SEEDS)
    ends, values = jax.jit(jax.vmap(lambda key: trained(players, update, optimizer, key)))(keys)
    x = jnp.linspace(MEAN - 2 * STD, MEAN + 2 * STD, 101)[:, None]
    for seed in range(SEEDS):
        state = jax.tree.map(lambda leaf, seed=seed: leaf[seed], ends)
        d = jax.nn.sigmoid(players.discriminate(state.params["discriminator"], None, x))
        assert np.abs(d - 0.5).max() <= 0.05
        # Not because nothing was learnt: D told them apart at first, and the samples have come to the data.
        assert values[seed, :50].mean() > gan.VALUE_AT_EQUILIBRIUM + 0.01
        assert abs(values[seed, -200:].mean() - gan.VALUE_AT_EQUILIBRIUM) < 0.005
        drawn = gan.sample(jax.random.key(9), players, state.ema["generator"], 4000)
        assert abs(drawn.mean() - MEAN) < 0.08 and abs(drawn.std() - STD) < 0.08
