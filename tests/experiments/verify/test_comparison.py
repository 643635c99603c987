"""verify finds what it should: a toy experiment that keeps the promises, and the same with each promise broken."""

import dataclasses
import re
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.verify import comparison, short_runs
from experiments.verify.short_runs import Trial
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
                callbacks=[(1, lambda step, state: pytest.fail())],
            )
            params = jax.device_get(state.params)
            run.cached("never", pytest.fail)
        return run.finish(step=1, params=params, metrics={})

    return types.SimpleNamespace(
        __name__="toy", PRESETS={"quick": Config()}, validate_and_load=lambda config: None, train=train
    )


def honest(params, batch, keys, context):
    noise = jax.vmap(lambda key: jax.random.normal(key, (FEATURES,)))(keys)
    losses = jnp.sum((params["w"][None] * batch - 0.1 * noise) ** 2, axis=-1)
    return losses, {}


@pytest.fixture
def broken_by(tmp_path, monkeypatch):
    """The variants of these names that break a promise of an experiment."""

    def compare(script, *names, shards=0):
        variants = tuple(variant for variant in comparison.VARIANTS if variant.name in names)
        assert len(variants) == len(names)
        monkeypatch.setattr(comparison, "VARIANTS", variants)
        config = short_runs.reduce_config(Config())
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, exact_shards=shards))
        groups: list[Any] = [variant.group for variant in variants]
        return comparison.compare(Trial(script, config, None), groups, 5, tmp_path)

    return compare


@pytest.mark.parametrize(
    "variants, shards, stages",
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
def test_promises_that_are_kept(variants, shards, stages, broken_by, capsys):
    assert broken_by(toy(honest, stages=stages), *variants, shards=shards) == []
    first, *others = capsys.readouterr().out.split("plain mean")
    tables = [first, *others] if shards else others
    assert len(tables) == (2 if shards else 1)
    digests = {line.split("  ")[-3] for line in tables[0].splitlines() if " s  " in line}
    assert len(digests) == 1
    assert ("2 stops" in tables[0]) == any("SIGTERM" in variant for variant in variants)
    # Other numbers of devices round differently without exact shards.
    assert "same" in tables[0] and ("same" in tables[-1] or all("devices" in variant for variant in variants))
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
    arrays = {
        ": state/params/w": np.array([1, 2], np.float32),
        ": state/opt_state/m": np.array([0.0], np.float32),
        **changes,
    }
    return short_runs.End(arrays, {": state/params/w": np.array([0, 2], np.float32)}, b"")


@pytest.mark.parametrize(
    "changes, rounds, holds, said",
    [
        ({}, False, True, "same"),
        (
            {": state/params/w": np.array([1, 2.001], np.float32)},
            False,
            False,
            "DIFFERS: up to 1e-03 apart in 1 arrays, .* 1e-03",
        ),
        ({": state/params/w": np.array([1, 2.001], np.float32)}, True, True, "rounding: up to 1e-03"),
        ({": state/params/w": np.array([1, 2.1], np.float32)}, True, False, "FAR: up to 1e-01"),
        (
            {": state/opt_state/m": np.array([-0.0], np.float32)},
            False,
            False,
            "DIFFERS: up to 0e[+]00 apart in 1 arrays",
        ),
        ({": state/params/b": np.array([1], np.float32)}, True, False, "missing or extra: : state/params/b"),
    ],
)
def test_verdicts(changes, rounds, holds, said):
    found = comparison.judge(end(), end(**changes), rounds)
    assert found[0] == holds and re.match(f".*{said}", found[1])
