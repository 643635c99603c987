"""How large a run is, from shapes alone and before anything is written: refused where this machine cannot hold it."""

import dataclasses
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import training
from jaxgen.training.hosts import is_multihost
from jaxgen.training.liveness import peak_bytes
from jaxgen.training.memory_limit import device_bytes, host_bytes

GIB = 2**30
# Whole numbers that count time or choose something, and take no memory.
TIMES = ("seed", "steps", "every", "epochs", "rounds", "bound_at", "interval", "_t", "start")
# Whole numbers that are sides of images or of a cube, with the power that their memory grows with.
SIDES = {"size": 2, "width": 2, "mesh_resolution": 3, "low_resolution": 2}
SIDES_OF = ("data.", "evaluation.", "low_resolution")
COUNTS = ("samples", "images", "batch_size", "examples", "centres", "classified", "frames")
LEAST = 64
"""Bytes that one unit, example or step of a chain takes at least, with its gradient and optimizer."""
MOST_TRAININGS = 2
# A training whose state and batch are smaller than these shares of the memory is not traced: it is small.
STATE_SHARE, BATCH_SHARE = 100, 100_000
HINT = "Make it smaller, or set --allow-large to go on all the same."


def refuse_huge(config: Any) -> None:
    """Refuses single numbers of a config that no array of this machine could have as its length.

    Raises:
        ValueError: there are such numbers; all are named, with the memory that they need at least.
    """
    problems = []
    for name, value in _whole_numbers(config):
        last = name.rpartition(".")[2]
        if last.endswith(TIMES) and name != "process.steps":
            continue
        side = SIDES.get(last) if name.startswith(SIDES_OF) else None
        needed = 3 * value**side if side else LEAST * value
        if needed > host_bytes():
            problems.append(f"{name} is {value}, which needs at least {_gib(needed)}")
    if problems:
        raise ValueError("\n".join(problems) + f"\nA run on this machine may take {_gib(host_bytes())}. {HINT}")


class Training(NamedTuple):
    """Bytes of one training, over all devices; at least so many are needed.

    Attributes:
        stage: its name.
        parts: {what: bytes}.
        example: values in one example.
    """

    stage: str
    parts: dict[str, int]
    example: int

    @property
    def total(self) -> int:
        return sum(self.parts.values())


class ShapeRun:
    """In place of a `training.Run`: nothing is trained, measured or kept, and the shapes of the trainings are noted.

    Args:
        config: of the run.
        preset: its name.
        folder: what is written goes here.

    Attributes:
        found: the trainings.
    """

    def __init__(self, config: Any, preset: str, folder: Path):
        self.config, self.preset, self.workdir, self.figures = config, preset, folder, folder
        self.found: list[Training] = []
        self.limits = training.Limits(instead=self._note)

    def cached(self, what: str, measure: Callable, **depends_on: Any) -> dict[str, float]:
        """Measures nothing."""
        return {}

    def record_dataset(self, name: str, fingerprint: str) -> None:
        """Records nothing."""

    def finish(self, **_: Any) -> NoReturn:
        """Ends the tracing."""
        raise training.StoppedEarly

    def _note(self, settings: training.Settings, update: Any, state: Any, batches: Any, stage: str) -> Any:
        made = state if isinstance(state, training.TrainState) else jax.eval_shape(state)
        self.found.append(_training(settings, update, made, batches, stage))
        if len(self.found) == MOST_TRAININGS:
            raise training.StoppedEarly
        return made


def trainings(train: Callable, config: Any, prepared: Any, preset: str = "") -> list[Training]:
    """The trainings of `train(config, prepared, run)` as far as they can be traced without values, at most two."""
    with tempfile.TemporaryDirectory(prefix="jaxgen-") as folder:
        run = ShapeRun(config, preset, Path(folder))
        try:
            jax.eval_shape(lambda: train(config, prepared, run) and None)
        except Exception:  # where values are needed, of whatever kind; what was found stands
            pass
    return run.found


def refuse_large(train: Callable, config: Any, prepared: Any, preset: str = "") -> None:
    """Refuses a run whose training needs more memory than this machine has.

    Raises:
        ValueError: with the numbers.
    """
    if is_multihost():
        return
    devices = training.pick_devices(config.train.devices)
    on_host = devices[0].platform == "cpu"
    limit = host_bytes() if on_host else device_bytes(devices[0]) * len(devices)
    for found in trainings(train, config, prepared, preset):
        where = f" of {found.stage}" if found.stage else ""
        if found.total > limit:
            parts = ", ".join(f"{what} {_gib(size)}" for what, size in found.parts.items())
            raise ValueError(
                f"the training{where} needs at least {_gib(found.total)} ({parts}); "
                f"it may take {_gib(limit)} {'here' if on_host else 'of the devices'}. A smaller batch "
                f"(train.batch_size is {config.train.batch_size}), train.accumulate "
                f"or a smaller network needs less. {HINT}"
            )
        for name, value in _whole_numbers(config):
            needed = value * found.example
            if name.endswith(COUNTS) and needed > host_bytes():
                raise ValueError(
                    f"{name} is {value}, which needs at least {_gib(needed)} for {found.example} values each; it "
                    f"may take {_gib(host_bytes())} here. {HINT}"
                )


def _training(settings: training.Settings, update: Any, state: Any, batches: Any, stage: str) -> Training:
    rows = training.data_parallel_size(len(training.pick_devices(settings.devices)), settings.model_parallel_size)
    parts = {
        "parameters": _bytes(state.params) * rows,
        "optimizer": _bytes(state.opt_state) * rows,
        "moving average": _bytes(state.ema) * rows,
    }
    parts = {what: size for what, size in parts.items() if size}
    number, key, example = settings.batch_size // rows, jax.random.key(0), 1
    try:
        positions = jax.ShapeDtypeStruct((number,), jnp.int32)
        if isinstance(batches, training.DeviceBatches):
            batch = jax.eval_shape(batches.make, key, batches.arrays, jnp.int32(0), positions)
        else:
            one = batches.make(key, 0, np.zeros(1, np.int32))
            batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((number, *x.shape[1:]), x.dtype), one)
        values = sum(math.prod(x.shape) for x in jax.tree.leaves(batch))
        parts["batch"], example = _bytes(batch) * rows, values // number
        if sum(parts.values()) * STATE_SHARE > host_bytes() or 4 * values * rows * BATCH_SHARE > host_bytes():
            keys = jax.eval_shape(lambda key: jax.random.split(key, number), key)
            mean = training.device_mean(None, max(settings.accumulate, settings.exact_shards // rows))
            step = jax.make_jaxpr(lambda state, batch, keys: update(state, batch, keys, mean))(state, batch, keys)
            parts["gradient and activations"] = peak_bytes(step) * rows
    except Exception:  # where values are needed, of whatever kind; what was found stands
        pass
    return Training(stage, parts, example)


def _whole_numbers(config: Any, prefix: str = "") -> Iterator[tuple[str, int]]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _whole_numbers(value, f"{prefix}{field.name}.")
            continue
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and not isinstance(number, bool):
                yield prefix + field.name, number


def _bytes(tree: Any) -> int:
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _gib(size: float) -> str:
    return f"{size / GIB:,.3g} GiB" if size < 1000 * GIB else f"{size / GIB:,.0f} GiB"
