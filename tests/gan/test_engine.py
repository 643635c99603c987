"""The game under the engine: exact shards on any number of devices, any split into calls, and from a saved state."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen import compiler, gan, training
from tests.parameters import random_parameters

BATCH, WIDTH = 16, 12
X = np.random.default_rng(0).normal(size=(40, WIDTH)).astype(np.float32)
IMAGES = np.random.default_rng(1).uniform(-1, 1, size=(40, 8, 8, 1)).astype(np.float32)
LABELS = np.arange(40, dtype=np.int32) % 3


def take(steps):
    """Fresh examples for each discriminator step: [b, steps, ...], or [b, ...] of one."""

    def make(key, arrays, step, positions):
        numbers = positions[:, None] * steps + jnp.arange(steps, dtype=jnp.int32)[None]
        index = (numbers + 7 * step) % 40
        return jax.tree.map(lambda x: x[index if steps > 1 else index[:, 0]], arrays)

    return make


def dense(**options):
    players = gan.Players(
        gan.MLPGenerator(WIDTH, (10,), output=jnp.tanh), gan.MaxoutDiscriminator((6,), 2), gan.uniform_noise(4)
    )
    optimizer = gan.separate_optimizers(optax.adam(2e-3, b1=0.5), optax.sgd(0.1, 0.5))
    return players, {"x": X}, optimizer, options


def convolutional():
    players = gan.Players(
        gan.DCGANGenerator(8, 1, channels=8, groups=2, num_classes=3),
        gan.DCGANDiscriminator(8, channels=8, num_classes=3),
        gan.normal_noise(4),
        condition="label",
    )
    optimizer = gan.separate_optimizers(optax.adam(1e-3, b1=0.5), optax.adam(1e-3, b1=0.5))
    options = {"losses": gan.HINGE, "penalty": gan.gradient_penalty, "spectral": True}
    return players, {"x": IMAGES, "label": LABELS}, optimizer, options


CASES = {
    "alternating, two steps, R1": lambda: dense(discriminator_steps=2, penalty=gan.r1_penalty),
    "simultaneous, two steps": lambda: dense(discriminator_steps=2, order="simultaneous"),
    "simultaneous, three steps, R1": lambda: dense(discriminator_steps=3, order="simultaneous", penalty=gan.r1_penalty),
    "alternating, spectral": lambda: dense(spectral=True),
    "convolutional": convolutional,
}
FAST = ("simultaneous, three steps, R1", "convolutional")


@functools.cache
def built(name):
    players, arrays, optimizer, options = CASES[name]()
    update = gan.two_player_update(players, optimizer, ema_decay=0.9, **options)
    inputs = [arrays[name][:1] for name in ("x", "label") if name in arrays]
    params = {
        "generator": random_parameters(players.generator, np.zeros((1, 4), np.float32), *inputs[1:]),
        "discriminator": random_parameters(players.discriminator, *inputs),
    }

    @jax.jit
    def init(params):
        model_state = None
        if options.get("spectral"):
            model_state = {"spectral": gan.init_spectral(jax.random.key(2), params["discriminator"])}
        state = training.create_state(params, optimizer, model_state=model_state)
        return state.replace(ema={"generator": params["generator"]})

    state = init(params)
    return update, jax.device_get(state), arrays, options.get("discriminator_steps", 1)


@functools.cache
def compiled(name, devices, exact, options):
    """One for each way to compile, which differs between the tiers."""
    update, _, arrays, steps = built(name)
    return training.ParallelUpdate(
        update, training.DeviceBatches(take(steps), arrays), batch_size=BATCH,
        devices=jax.devices()[:devices], exact_shards=4 if exact else 0,
    )  # fmt: skip


def end(name, devices, exact=True, calls=(3,)):
    parallel, key = compiled(name, devices, exact, compiler.options), training.keys.root(0)
    state = parallel.replicate(built(name)[1])
    sums = parallel.empty_sums(state, key)
    for number in calls:
        # Through the host and back, as a checkpoint is.
        state, sums = parallel(parallel.replicate(jax.device_get(state)), sums, key, None, number)
    return jax.device_get((state, sums))


def check_devices(name, devices):
    ends = [end(name, number) for number in devices]
    assert len({training.tree_digest(e) for e in ends}) == 1
    state, sums = ends[0]
    assert int(sums.first_bad_step) == -1 and int(sums.count) == 3
    before = built(name)[1]
    for old, new in ((before.params, state.params), (before.ema, state.ema)):
        assert all((a != b).any() for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True))


@pytest.mark.parametrize("name", FAST)
def test_same_bits_on_1_and_2_devices(name):
    """Both orders and both penalties, with and without a loop of discriminator steps, labels and spectral vectors."""
    check_devices(name, (1, 2))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_same_bits_on_1_2_and_4_devices(name):
    check_devices(name, (1, 2, 4))


def test_any_split_into_calls_and_a_resume_give_the_same_bits():
    name = FAST[0]
    assert training.tree_digest(end(name, 2, calls=(1, 2))) == training.tree_digest(end(name, 2, calls=(3,)))


@pytest.mark.slow
def test_without_exact_shards_devices_agree_to_rounding():
    name = "alternating, two steps, R1"
    one, exact = end(name, 2, exact=False)[0], end(name, 2)[0]
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(exact.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)
