"""Samples compared by experiments.verify: number 37 is the same drawn alone, among 64, in chunks, on all devices."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

from experiments.verify.short_runs import End, Trial
from jaxgen import training

NUMBER, ALONE, CHUNK = 64, 37, 24
# The largest share of the samples' norm by which they may differ without a fixed batch size.
ROUNDING = 0.01


class Row(NamedTuple):
    """One way of drawing: its name, the samples' sha256, whether its promise holds, the verdict in words."""

    name: str
    digest: str
    holds: bool
    verdict: str


def rows(trial: Trial, end: End, fixed_batch_size: int) -> Iterator[Row]:
    """One way of drawing after another; none for an experiment without `make_sample_fn`, or where that returns None.

    Args:
        trial: what was trained. The module's `make_sample_fn(config, prepared)` returns what
            `training.ParallelSampler` takes; `params` are those of the training state.
        end: of a training.
        fixed_batch_size: as for `training.ParallelSampler`.
    """
    make_sample_fn = getattr(trial.script, "make_sample_fn", lambda config, prepared: None)
    sample_fn = make_sample_fn(trial.config, trial.prepared)
    if sample_fn is None:
        return
    params = first_params(end)
    key = training.keys.stream(training.keys.root(trial.config.seed), "sample")

    def draw(numbers: Any, devices: int, chunk: int = NUMBER) -> list[np.ndarray]:
        sampler = training.ParallelSampler(
            sample_fn, devices=jax.devices()[:devices], batch_size=chunk, fixed_batch_size=fixed_batch_size
        )
        return jax.tree.leaves(sampler(params, key, numbers))

    whole, together, devices = draw(np.arange(NUMBER), 1), f"{NUMBER} samples", jax.device_count()
    yield Row(together, training.tree_digest(whole), True, "")
    exact = fixed_batch_size > 0
    yield _judge(f"sample {ALONE} alone", draw([ALONE], 1), [x[[ALONE]] for x in whole], exact)
    if not exact:
        # With a fixed batch size all samples are drawn in chunks.
        yield _judge(f"{together}, {CHUNK} at a time", draw(np.arange(NUMBER), 1, CHUNK), whole, exact)
    yield _judge(f"{together}, {devices} devices", draw(np.arange(NUMBER), devices), whole, exact)


def first_params(end: End) -> Any:
    """The parameters of a run's first training, as nested dicts."""
    stage = min(name.partition(": ")[0] for name in end.params)
    prefix = f"{stage}: state/params/"
    flat = {name.removeprefix(prefix): x for name, x in end.params.items() if name.startswith(prefix)}
    return traverse_util.unflatten_dict(flat, sep="/")


def _judge(name: str, samples: list[np.ndarray], expected: list[np.ndarray], exact: bool) -> Row:
    digest = training.tree_digest(samples)
    if digest == training.tree_digest(expected):
        return Row(name, digest, True, "same")
    norm = lambda arrays: float(np.sqrt(sum(np.sum(np.square(x, dtype=np.float64)) for x in arrays)))
    share = norm([a.astype(np.float64) - b for a, b in zip(samples, expected, strict=True)]) / norm(expected)
    if exact:
        return Row(name, digest, False, f"DIFFERS by {share:.0e} of the norm")
    return Row(name, digest, share < ROUNDING, f"{'rounding' if share < ROUNDING else 'FAR'}: {share:.0e} of the norm")
