"""verify finds what it should: a toy experiment that keeps the promises, and the same with each promise broken."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from one_program import slow_tests_optimized, unoptimized  # noqa: F401 (fixtures)

from experiments import (
    contractive_autoencoder,
    deep_autoencoder,
    guided_diffusion,
    sparse_autoencoder,
    vae,
    verify,
    verify_runs,
    verify_samples,
)
from jaxgen import training

BATCH, FEATURES = 16, 3
DATA = np.random.default_rng(0).normal(size=(40, FEATURES)).astype(np.float32)
OPTIMIZER = optax.sgd(0.1)


@dataclasses.dataclass(frozen=True)
class Config:
    seed: int = 0
    train: training.Settings = training.Settings(num_steps=500, batch_size=100)


def make_batch(key, arrays, step, positions):
    return arrays[(step * BATCH + positions) % 40]


def toy(objective, make=make_batch, update=None, stages=("only",)):
    """An experiment of trainings of which each starts where the one before ended."""

    def train(config, prepared, run):
        params = {"w": np.ones(FEATURES, np.float32)}
        for stage in stages:
            state = training.fit(
                run,
                config.train,
                update=update or training.update_from_objective(objective, OPTIMIZER),
                state=training.create_state(params, OPTIMIZER),
                batches=training.DeviceBatches(make, DATA),
                key=training.keys.root(config.seed),
                stage=stage,
                also=[training.Every(1, pytest.fail)],
            )
            params = jax.device_get(state.params)
            run.once("never", pytest.fail)
        return run.finish(step=1, params=params, metrics={})

    return types.SimpleNamespace(__name__="toy", PRESETS={"quick": Config()}, prepare=lambda config: None, train=train)


def honest(params, batch, keys, context):
    noise = jax.vmap(lambda key: jax.random.normal(key, (FEATURES,)))(keys)
    losses = jnp.sum((params["w"][None] * batch - 0.1 * noise) ** 2, axis=-1)
    return losses, {}


@pytest.fixture
def broken_by(tmp_path, monkeypatch):
    """The ways of these names that break a promise of an experiment."""

    def compare(script, *names, shards=0):
        monkeypatch.setattr(verify, "WAYS", tuple(way for way in verify.WAYS if way.name in names))
        assert len(verify.WAYS) == len(names)
        config = verify_runs.small(Config())
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, exact_shards=shards))
        return verify.compare(script, config, None, verify.Options(), tmp_path, [])

    return compare


@pytest.mark.parametrize(
    "ways, shards, stages",
    [
        (("SIGTERM at step 5, then resumed",), 0, ("first", "second")),
        (("4 devices, shard_map",), 4, ("only",)),
        pytest.param(
            ("SIGTERM at step 5, then resumed", "4 devices, shard_map"), 4, ("first", "second"), marks=pytest.mark.slow
        ),
        pytest.param(
            ("3 steps per call", "fed by the host, 2 ahead"), 8, ("first", "second"), marks=pytest.mark.slow
        ),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, tuple) else value,
)  # fmt: skip
def test_promises_that_are_kept(ways, shards, stages, broken_by, capsys):
    assert broken_by(toy(honest, stages=stages), *ways, shards=shards) == []
    first, *others = capsys.readouterr().out.split("plain mean")
    tables = [first, *others] if shards else others
    assert len(tables) == (2 if shards else 1)
    digests = {line.split("  ")[-3] for line in tables[0].splitlines() if " s  " in line}
    assert len(digests) == 1
    assert ("2 stops" in tables[0]) == any("SIGTERM" in way for way in ways)
    # Other numbers of devices round differently without exact shards.
    assert "same" in tables[0] and ("same" in tables[-1] or all("devices" in way for way in ways))
    assert "DIFFERS" not in tables[-1] and "FAR" not in tables[-1]


def test_noise_that_depends_on_the_clock_is_found(broken_by):
    times = iter(range(1000))

    def make(key, arrays, step, positions):
        late = jax.pure_callback(lambda: np.float32(next(times)), jax.ShapeDtypeStruct((), np.float32))
        return arrays[positions] + 1e-3 * late

    assert broken_by(toy(honest, make), "1 step per call") == ["1 step per call (plain)"]


def test_a_gradient_that_is_summed_and_not_averaged_is_found(broken_by):
    """Adam would hide it; so does a single device."""

    def update(state, batch, keys, mean):
        share = mean(lambda batch, keys: jnp.float32(len(batch) / BATCH), batch, keys)
        loss = lambda params: jnp.mean(honest(params, batch, keys, None)[0])
        gradient = mean(lambda batch, keys: jax.grad(loss)(state.params), batch, keys)
        params = jax.tree.map(lambda p, g: p - 0.01 * g / share, state.params, gradient)
        return state.replace(step=state.step + 1, params=params), {"loss": share}

    broken = broken_by(toy(None, update=update), "1 step per call", "2 devices")
    assert broken == ["2 devices (plain)"]


def test_a_batch_that_depends_on_the_device_is_found(broken_by):
    make = lambda key, arrays, step, positions: arrays[positions - positions[0]]
    broken = broken_by(toy(honest, make), "2 devices", shards=2)
    assert broken == ["2 devices (exact shards 2)", "2 devices (plain)"]


def end(**changes):
    arrays = {": state/params/w": np.float32([1, 2]), ": state/opt_state/m": np.float32([0.0]), **changes}
    return verify_runs.End(arrays, {": state/params/w": np.float32([0, 2])}, b"")


@pytest.mark.parametrize(
    "changes, rounds, holds, said",
    [
        ({}, False, True, "same"),
        (
            {": state/params/w": np.float32([1, 2.001])},
            False,
            False,
            "DIFFERS: up to 1e-03 apart in 1 arrays, .* 1e-03",
        ),
        ({": state/params/w": np.float32([1, 2.001])}, True, True, "rounding: up to 1e-03"),
        ({": state/params/w": np.float32([1, 2.1])}, True, False, "FAR: up to 1e-01"),
        ({": state/opt_state/m": np.float32([-0.0])}, False, False, "DIFFERS: up to 0e[+]00 apart in 1 arrays"),
        ({": state/params/b": np.float32([1])}, True, False, "missing or extra: : state/params/b"),
    ],
)
def test_verdicts(changes, rounds, holds, said):
    import re

    found = verify.judged(end(), end(**changes), rounds)
    assert found[0] == holds and re.match(f".*{said}", found[1])


def honest_samples(params, keys, numbers):
    noise = jax.vmap(lambda key: jax.random.normal(key, (4,)))(keys)
    return jnp.tanh(noise @ params["first"]["w"]) @ params["second"]["w"]


def of_the_batch(params, keys, numbers):
    """Samples shifted by a statistic of their batch."""
    return honest_samples(params, keys, numbers) + jnp.mean(numbers.astype(jnp.float32))


def of_the_place(params, keys, numbers):
    """Samples from keys of their places in the batch."""
    return honest_samples(params, jax.random.split(jax.random.key(0), len(numbers)), numbers)


@pytest.mark.parametrize(
    "function, exact, holds",
    [
        (honest_samples, 8, True),
        pytest.param(honest_samples, 0, True, marks=pytest.mark.slow),
        (of_the_batch, 0, False),
        pytest.param(of_the_place, 0, False, marks=pytest.mark.slow),
    ],
)
def test_samples_that_depend_on_others_are_found(function, exact, holds, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    draw = np.random.default_rng(0).normal
    weights = {"first/w": (4, 32), "second/w": (32, 8)}
    arrays = {f": state/params/{n}": np.float32(draw(size=shape)) for n, shape in weights.items()}
    script = types.SimpleNamespace(drawing=lambda config, prepared: function)
    rows = list(verify_samples.rows(script, Config(), None, verify_runs.End(arrays, {}, b""), exact))
    assert len(rows) == (3 if exact else 4)
    wrong = [row.name for row in rows if not row.holds]
    broken = [] if holds else ["alone", "24", "2 devices"]
    assert len(wrong) == len(broken) and all(part in name for part, name in zip(broken, wrong, strict=True))
    assert not list(verify_samples.rows(types.SimpleNamespace(), Config(), None, None, exact))


@pytest.mark.parametrize("script", [deep_autoencoder, sparse_autoencoder, contractive_autoencoder, vae])
def test_every_preset_is_made_small(script):
    for config in script.PRESETS.values():
        small = verify_runs.small(config)
        assert small.train.num_steps == 12 and small.train.batch_size <= 16
        numbers = [v for value in vars(small.model).values() for v in (value if isinstance(value, tuple) else (value,))]
        assert all(v <= 32 for v in numbers if isinstance(v, int))
        assert dataclasses.replace(small.data) == config.data and small.seed == config.seed
    assert deep_autoencoder.PRESETS["paper"].pretraining.batch_size == 100
    assert verify_runs.small(deep_autoencoder.PRESETS["paper"]).pretraining.batch_size == 16
    assert verify_runs.small(vae.PRESETS["mnist"]).optimizer.warmup_steps == 6


@pytest.mark.parametrize("preset", guided_diffusion.PRESETS)
def test_timesteps_are_drawn_by_losses_that_a_few_steps_have_seen(preset):
    small = verify_runs.small(guided_diffusion.PRESETS[preset])
    number = small.timesteps.history * small.process.steps
    assert small.timesteps.sampler == "loss_second_moment" and 4 * number < 12 * small.train.batch_size
    schedule = guided_diffusion.make_schedule(small.process)
    for sampler in (small.preview, small.evaluation.sampler, small.evaluation.second):
        assert sampler.schedule(schedule).num_steps == 5
