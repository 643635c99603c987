"""Compares the results of the variants of a training."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from experiments.verify import samples, short_runs
from experiments.verify.short_runs import End, Trial
from experiments.verify.variants import VARIANTS, Group, Job, Variant
from jaxgen import training

# The largest share of the distance moved that counts as rounding; a wrong average over devices is far above.
ROUNDING = 0.02


def compare(trial: Trial, groups: Sequence[Group], kills: int, folder: Path) -> list[str]:
    """Prints the table and returns the variants that broke their promise.

    Args:
        trial: what is trained.
        groups: of variants, that are compared with a training on one device.
        kills: number of kills.
        folder: where the runs are kept.
    """
    settings = trial.config.train
    print(
        f"{trial.script.__name__}: {settings.num_steps} steps of {settings.batch_size} examples, "
        f"jax {jax.__version__}, {jax.device_count()} {jax.devices()[0].device_kind} devices, "
        f"NPROC {os.environ.get('NPROC')}"
    )
    broken = []
    for shards in dict.fromkeys((settings.exact_shards, 0)):
        print(f"\n{f'exact shards: {shards}' if shards else 'plain mean'}")
        job = Job(trial.with_settings(exact_shards=shards), folder / str(shards), kills=kills)
        names = _compare_variants(job, groups, shards)
        broken += [f"{name} ({f'exact shards {shards}' if shards else 'plain'})" for name in names]
    return broken


def _compare_variants(job: Job, groups: Sequence[Group], shards: int) -> list[str]:
    stages, reference, broken = 0, None, []
    for number, variant in enumerate((Variant("rerun", "one device"), *VARIANTS)):
        if reference and variant.group not in groups:
            continue
        if variant.changes.get("devices", 1) > jax.device_count():
            print(f"  {variant.name:34} left out: there are {jax.device_count()} devices")
            continue
        start, changed = time.perf_counter(), job.trial.with_settings(**variant.changes)
        this = job._replace(trial=changed, workdir=job.workdir / str(number), stages=stages)
        try:
            if variant.run is None:
                stages, remark = short_runs.train(this.trial, this.workdir, stages=stages), ""
            else:
                remark = variant.run(this)
            end = short_runs.read_end(this.workdir)
            reference = reference or end
            holds, verdict = judge(reference, end, rounds=variant.rounds and not shards)
        except (ValueError, FloatingPointError) as error:
            if reference is None:
                raise
            end, holds, verdict, remark = None, False, f"{type(error).__name__}: {error}", ""
        # Each variant compiles its programs anew, and the operating system limits how many memory maps they may take.
        jax.clear_caches()
        digest = training.tree_digest(end.params)[:12] if end else "-" * 12
        remarks = ", ".join(text for text in ("" if end is reference else verdict, remark) if text)
        print(f"  {variant.name:34} {digest}  {time.perf_counter() - start:4.0f} s  {remarks}", flush=True)
        broken += [] if holds else [variant.name]
    if reference and "samples" in groups:
        for row in samples.rows(job.trial, reference, shards):
            print(f"  {row.name:34} {row.digest[:12]}          {row.verdict}", flush=True)
            broken += [] if row.holds else [row.name]
    return broken


def judge(reference: End, end: End, rounds: bool) -> tuple[bool, str]:
    """(the promise holds, the verdict in words) of a run's end compared with that of the reference.

    Args:
        reference: of one device.
        end: of another variant.
        rounds: the parameters may differ by rounding.
    """
    names = reference.arrays.keys() | end.arrays.keys()
    if missing := sorted(names - (reference.arrays.keys() & end.arrays.keys())):
        return False, f"arrays are missing or extra: {', '.join(missing[:3])}"
    is_same = lambda name: training.tree_digest(reference.arrays[name]) == training.tree_digest(end.arrays[name])
    differing = sorted(name for name in names if not is_same(name))
    if not differing:
        is_same_log = reference.metrics == end.metrics
        return is_same_log or rounds, "same" if is_same_log else "same states, another metrics.jsonl"
    if shapes := [n for n in differing if reference.arrays[n].shape != end.arrays[n].shape]:
        return False, f"other shapes: {', '.join(shapes[:3])}"
    largest = max(float(np.max(np.abs(x), initial=0)) for x in _differences(reference.arrays, end.arrays, differing))
    moved = _norm(_differences(reference.arrays, reference.early, reference.params))
    share = _norm(_differences(reference.arrays, end.arrays, reference.params)) / max(moved, 1e-30)
    distance = f"up to {largest:.0e} apart in {len(differing)} arrays, parameters by {share:.0e} of the distance moved"
    if rounds:
        return share < ROUNDING, f"{'rounding' if share < ROUNDING else 'FAR'}: {distance}"
    return False, f"DIFFERS: {distance}; {differing[0]}, ..."


def _differences(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], names: Iterable[str]) -> list[np.ndarray]:
    return [np.asarray(a[n], np.float64) - np.asarray(b[n], np.float64) for n in names]


def _norm(arrays: list[np.ndarray]) -> float:
    return float(np.sqrt(sum(np.sum(np.square(x)) for x in arrays)))
