"""Samples that depend on other samples of their batch are found."""

import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.verify import samples, short_runs
from experiments.verify.short_runs import Trial
from tests.experiments.verify.test_comparison import Config


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
    no_end: Any = None
    draw = np.random.default_rng(0).normal
    weights = {"first/w": (4, 32), "second/w": (32, 8)}
    arrays = {f": state/params/{n}": draw(size=shape).astype(np.float32) for n, shape in weights.items()}
    script = types.SimpleNamespace(make_sample_fn=lambda config, prepared: function)
    rows = list(samples.rows(Trial(script, Config(), None), short_runs.End(arrays, {}, b""), exact))
    assert len(rows) == (3 if exact else 4)
    wrong = [row.name for row in rows if not row.holds]
    broken = [] if holds else ["alone", "24", "2 devices"]
    assert len(wrong) == len(broken) and all(part in name for part, name in zip(broken, wrong, strict=True))
    assert not list(samples.rows(Trial(types.SimpleNamespace(), Config(), None), no_end, exact))
