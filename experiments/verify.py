"""Trains a few steps of an experiment in every way that must not matter, and compares the bits.

    python -m experiments.verify vae quick
    python -m experiments.verify sparse_autoencoder quick --ways resume kill --methods kl

Any preset is made small by one rule: trainings of 12 steps of 16 examples, numbers of the model at most 32 (see
`verify_runs.small`); the command line overrides single fields of what comes out. The hashes are of the parameters in
the last checkpoints of all trainings of the run; "same" says that the whole states and metrics.jsonl are the same too.

With exact shards every way must give the same bits. Without, so must every way but two: other numbers of devices, and
batches made by the host, must agree to rounding, and the table says how far they are apart: in any number of the state,
and of the parameters as a share of the way that they went between the first checkpoint and the last. Samples of the
trained model are drawn alone, together and on all devices, in exact shards too. Ends with 1 where a promise is broken.
"""

import dataclasses
import importlib
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from experiments import command, verify_processes, verify_runs, verify_samples
from jaxgen import training

Group = Literal["rerun", "resume", "calls", "prefetch", "shard_map", "devices", "processes", "kill", "samples"]
# The largest share for which "rounding" is believed; a wrong average over devices is far above.
ROUNDING = 0.02


@dataclasses.dataclass(frozen=True)
class Options:
    """What is compared."""

    ways: tuple[Group, ...] = (
        "rerun", "resume", "calls", "prefetch", "shard_map", "devices", "processes", "kill", "samples",
    )  # fmt: skip
    """which ways"""
    kills: int = 5
    """how often the run is killed"""
    alone: str = ""
    """train once in this folder, and nothing else: what the ways in processes of their own start"""
    distributed: str = ""
    """with --alone: as for every experiment"""
    stages: int = 0
    """with --alone: the number of trainings, where it is known"""


class Way(NamedTuple):
    """One way to train: `changes` of the settings, `run` that does it, whether the plain mean only rounds alike."""

    group: Group
    name: str
    changes: dict[str, Any] = {}
    run: Callable[..., str] | None = None
    rounds: bool = False


WAYS = (
    Way("rerun", "a new process, compiled anew", run=verify_processes.rerun),
    Way("resume", "SIGTERM at step 5, then resumed", run=verify_runs.train_with_stops),
    Way("calls", "1 step per call", {"steps_per_call": 1}),
    Way("calls", "3 steps per call", {"steps_per_call": 3}),
    Way("calls", "10 steps per call", {"steps_per_call": 10}),
    # XLA fuses what it can see of the batch's making into the update.
    Way("prefetch", "fed by the host, 2 ahead", {"prefetch": 2}, rounds=True),
    Way("shard_map", "shard_map", {"backend": "shard_map"}),
    Way("devices", "2 devices", {"devices": 2}, rounds=True),
    Way("devices", "4 devices", {"devices": 4}, rounds=True),
    Way("devices", "4 devices, shard_map", {"devices": 4, "backend": "shard_map"}, rounds=True),
    Way("devices", "8 devices", {"devices": 8}, rounds=True),
    Way("processes", "2 processes x 2 devices", run=verify_processes.joined, rounds=True),
    Way(
        "processes",
        "2 processes x 2 devices, shard_map",
        {"backend": "shard_map"},
        run=verify_processes.joined,
        rounds=True,
    ),
    Way("kill", "SIGKILL at random moments", run=verify_processes.killed),
)


def main() -> None:
    name, script = _script(sys.argv[1:])
    presets = {preset: verify_runs.small(config) for preset, config in script.PRESETS.items()}
    arguments = sys.argv[2:]
    module = f"experiments.verify {name}"
    _, config, options = command.parse(module, presets, arguments, __doc__ or "", Options())
    jax.config.update("jax_num_cpu_devices", int(os.environ.get("JAX_NUM_CPU_DEVICES", 8)))
    try:
        training.hosts.join(options.distributed)
        prepared = command.checked(config, script.prepare)
        if options.alone:
            say = lambda: print(verify_runs.OPENED, flush=True)
            verify_runs.train(script, config, prepared, Path(options.alone), stages=options.stages, opened=say)
            return
        with tempfile.TemporaryDirectory(prefix="verify-") as folder:
            # The ways share most of their programs.
            jax.config.update("jax_compilation_cache_dir", str(Path(folder) / "cache"))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
            jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
            broken = compare(script, config, prepared, options, Path(folder), [name, *arguments])
    except (ValueError, OSError, FloatingPointError, training.HostLost) as error:
        if os.environ.get("JAXGEN_TRACEBACK"):
            traceback.print_exc()
        print(f"{type(error).__name__}: {error}\n(JAXGEN_TRACEBACK=1 shows where)", file=sys.stderr)
        training.hosts.leave(2)
        return
    if broken:
        print(f"BROKEN: {', '.join(broken)}")
        sys.exit(1)
    print("every promise held")


def compare(script, config, prepared, options: Options, folder: Path, arguments: list[str]) -> list[str]:
    """Prints the table and returns the ways that broke their promise."""
    settings = config.train
    print(
        f"{script.__name__}: {settings.num_steps} steps of {settings.batch_size} examples, jax {jax.__version__}, "
        f"{jax.device_count()} {jax.devices()[0].device_kind} devices, NPROC {os.environ.get('NPROC')}"
    )
    broken = []
    for shards in dict.fromkeys((settings.exact_shards, 0)):
        print(f"\n{f'exact shards: {shards}' if shards else 'plain mean'}")
        broken += _compare(script, config, prepared, options, folder / str(shards), arguments, shards)
    return broken


def _compare(script, config, prepared, options, folder: Path, arguments, shards: int) -> list[str]:
    stages, reference, broken = 0, None, []
    for number, way in enumerate((Way("rerun", "one device"), *WAYS)):
        if reference and way.group not in options.ways:
            continue
        if way.changes.get("devices", 1) > jax.device_count():
            print(f"  {way.name:34} left out: there are {jax.device_count()} devices")
            continue
        start, workdir = time.perf_counter(), folder / str(number)
        changes = {"exact_shards": shards, **way.changes}
        changed = dataclasses.replace(config, train=dataclasses.replace(config.train, **changes))
        try:
            if way.run is verify_runs.train_with_stops:
                note = verify_runs.train_with_stops(script, changed, prepared, workdir, stages=stages)
            elif way.run:
                flags = [*arguments, "--train.exact-shards", str(shards)]
                flags += [f for n, v in way.changes.items() for f in (f"--train.{n}", str(v))]
                note = way.run(flags, workdir, stages=stages, kills=options.kills)
            else:
                stages, note = verify_runs.train(script, changed, prepared, workdir, stages=stages), ""
            end = verify_runs.read_end(workdir)
            reference = reference or end
            holds, verdict = judged(reference, end, rounds=way.rounds and not shards)
        except (ValueError, FloatingPointError) as error:
            if reference is None:
                raise
            end, holds, verdict, note = None, False, f"{type(error).__name__}: {error}", ""
        # Each way compiles its programs anew, and the operating system limits how many pieces of memory they may take.
        jax.clear_caches()
        seconds = time.perf_counter() - start
        digest = training.tree_digest(end.params)[:12] if end else "-" * 12
        verdict = "" if end is reference else verdict
        print(f"  {way.name:34} {digest}  {seconds:4.0f} s  {', '.join(s for s in (verdict, note) if s)}", flush=True)
        if not holds:
            broken.append(f"{way.name} ({f'exact shards {shards}' if shards else 'plain'})")
    if reference and "samples" in options.ways:
        for row in verify_samples.rows(script, config, prepared, reference, shards):
            print(f"  {row.name:34} {row.digest[:12]}          {row.said}", flush=True)
            broken += [] if row.holds else [f"{row.name} ({f'exact shards {shards}' if shards else 'plain'})"]
    return broken


def judged(reference: verify_runs.End, end: verify_runs.End, rounds: bool) -> tuple[bool, str]:
    """(the promise holds, what to say) of a run's end beside the reference's.

    Args:
        reference: of one device.
        end: of another way.
        rounds: the parameters may differ by rounding.
    """
    names = reference.arrays.keys() | end.arrays.keys()
    if missing := sorted(names - (reference.arrays.keys() & end.arrays.keys())):
        return False, f"arrays are missing or extra: {', '.join(missing[:3])}"
    same = lambda n: training.tree_digest(reference.arrays[n]) == training.tree_digest(end.arrays[n])
    differ = sorted(n for n in names if not same(n))
    if not differ:
        if reference.metrics == end.metrics:
            return True, "same"
        return rounds, "same states, another metrics.jsonl"
    if shapes := [n for n in differ if reference.arrays[n].shape != end.arrays[n].shape]:
        return False, f"other shapes: {', '.join(shapes[:3])}"
    largest = max(float(np.max(np.abs(x), initial=0)) for x in _apart(reference.arrays, end.arrays, differ))
    went = _norm(_apart(reference.arrays, reference.early, reference.params))
    share = _norm(_apart(reference.arrays, end.arrays, reference.params)) / max(went, 1e-30)
    said = f"up to {largest:.0e} apart in {len(differ)} arrays, parameters by {share:.0e} of their way"
    if rounds:
        return share < ROUNDING, f"rounding: {said}" if share < ROUNDING else f"FAR: {said}"
    return False, f"DIFFERS: {said}; {differ[0]}, ..."


def _apart(a: dict[str, np.ndarray], b: dict[str, np.ndarray], names: Iterable[str]) -> list[np.ndarray]:
    return [np.asarray(a[n], np.float64) - np.asarray(b[n], np.float64) for n in names]


def _norm(arrays: list[np.ndarray]) -> float:
    return float(np.sqrt(sum(np.sum(np.square(x)) for x in arrays)))


def _script(arguments: list[str]) -> tuple[str, Any]:
    """(name, module) of the experiment that the command line names."""
    here = Path(__file__).parent
    known = sorted(p.stem for p in here.glob("*.py") if "\nPRESETS" in p.read_text())
    if not arguments or arguments[0] not in known:
        print(f"usage: python -m experiments.verify {{{','.join(known)}}} PRESET [--any.field value]", file=sys.stderr)
        sys.exit(2)
    return arguments[0], importlib.import_module(f"experiments.{arguments[0]}")


if __name__ == "__main__":
    main()
