"""The samples' part of experiments.verify: number 37 is the same drawn alone, among 64, in chunks, on all devices."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import verify_runs
from jaxgen import training

NUMBER, ALONE, CHUNK = 64, 37, 24
# The largest share of the samples' norm by which they may be apart without exact shards.
ROUNDING = 0.01


class Row(NamedTuple):
    """What one way of drawing gave: its name, the samples' sha256, whether it holds, what to say."""

    name: str
    digest: str
    holds: bool
    said: str


def rows(script: Any, config: Any, prepared: Any, end: verify_runs.End, exact_shard: int) -> Iterator[Row]:
    """One way of drawing after another; none for an experiment without `drawing`, or where that is None.

    Args:
        script: the experiment's module. Its `drawing(config, prepared)` returns what `training.ParallelDraw` takes,
            where `params` are those of the training state.
        config: a small config.
        prepared: what `script.prepare` returned.
        end: of a training.
        exact_shard: as for `training.ParallelDraw`.
    """
    function = script.drawing(config, prepared) if hasattr(script, "drawing") else None
    if function is None:
        return
    params = params_of(end)
    key = training.keys.stream(training.keys.root(config.seed), "sample")

    def draw(numbers, devices, chunk=NUMBER):
        drawing = training.ParallelDraw(
            function, devices=jax.devices()[:devices], batch_size=chunk, exact_shard=exact_shard
        )
        return jax.tree.leaves(drawing(params, key, numbers))

    whole, together = draw(np.arange(NUMBER), 1), f"{NUMBER} samples"
    yield Row(together, training.tree_digest(whole), True, "")
    alone = draw([ALONE], 1)
    yield _judged(f"sample {ALONE} alone", alone, [x[[ALONE]] for x in whole], exact_shard)
    if not exact_shard:
        # With exact shards they always are chunks.
        yield _judged(f"{together}, {CHUNK} at a time", draw(np.arange(NUMBER), 1, CHUNK), whole, exact_shard)
    devices = jax.device_count()
    yield _judged(f"{together}, {devices} devices", draw(np.arange(NUMBER), devices), whole, exact_shard)


def params_of(end: verify_runs.End) -> dict[str, Any]:
    """The parameters of a run's first training, as nested dicts."""
    stage = min(name.partition(": ")[0] for name in end.params)
    tree: dict[str, Any] = {}
    for name, x in end.params.items():
        if name.partition(": ")[0] == stage:
            *outer, last = name.partition("state/params/")[2].split("/")
            inner = tree
            for key in outer:
                inner = inner.setdefault(key, {})
            inner[last] = x
    return tree


def _judged(name: str, got: list[np.ndarray], expected: list[np.ndarray], exact: int) -> Row:
    digest = training.tree_digest(got)
    if digest == training.tree_digest(expected):
        return Row(name, digest, True, "same")
    norm = lambda arrays: float(np.sqrt(sum(np.sum(np.square(x, dtype=np.float64)) for x in arrays)))
    share = norm([a.astype(np.float64) - b for a, b in zip(got, expected, strict=True)]) / norm(expected)
    if exact:
        return Row(name, digest, False, f"DIFFERS by {share:.0e} of the norm")
    return Row(name, digest, share < ROUNDING, f"{'rounding' if share < ROUNDING else 'FAR'}: {share:.0e} of the norm")
