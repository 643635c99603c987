"""Configs are frozen dataclasses. This file turns them into plain data and tells two of them apart."""

import dataclasses
from typing import Any, Literal


def free(default: Any) -> Any:
    """A dataclass field that may change when a run is resumed, because no result depends on it."""
    return dataclasses.field(default=default, metadata={"free": True})


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a state is trained, whatever it is."""

    num_steps: int
    """updates in all"""
    batch_size: int
    """examples an update, over all devices"""
    accumulate: int = 1
    """micro-batches a device computes one after another for one update (saves memory, same gradient)"""
    exact_shards: int = 0
    """K > 0: always K micro-shards in one order of sums, so the bits do not depend on the number of devices"""
    log_every: int = free(100)
    """steps averaged in one line of metrics.jsonl"""
    save_every: int = free(1000)
    """steps between checkpoints"""
    keep_checkpoints: int = free(3)
    """newest checkpoints kept"""
    steps_per_call: int = free(0)
    """updates a call of the compiled program; 0: as many as take about half a second"""
    prefetch: int = free(0)
    """batches that the host makes ahead, for data too large for a device; 0: made on the device inside the step"""
    devices: int = free(0)
    """devices to use; 0: all there are"""
    model_devices: int = free(1)
    """M > 1: each M devices hold one copy of the model, cut among them, for models that do not fit on one"""
    backend: Literal["pmap", "shard_map"] = free("pmap")
    """'pmap', or 'shard_map' for jit(shard_map), which model_devices > 1 takes in any case"""
    deterministic: bool = False
    """on GPU: only kernels that give the same bits each time (CPU always does)"""

    def __post_init__(self):
        counts = ("num_steps", "batch_size", "accumulate", "log_every", "save_every", "keep_checkpoints")
        for name in (*counts, "model_devices"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("exact_shards", "steps_per_call", "prefetch", "devices"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if self.backend not in ("pmap", "shard_map"):
            raise ValueError(f"backend is {self.backend!r}; it must be 'pmap' or 'shard_map'")


def to_dict(config: Any) -> Any:
    """A config as JSON writes it: nested dicts, lists, numbers, strings."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, dict):
        return {str(k): to_dict(v) for k, v in config.items()}
    if isinstance(config, (list, tuple)):
        return [to_dict(v) for v in config]
    if config is None or isinstance(config, (bool, int, float, str)):
        return config
    raise TypeError(f"a config holds numbers, strings, tuples and dataclasses, not {type(config).__name__}")


def differences(old: dict, config: Any, may_grow: tuple[str, ...] = ()) -> list[str]:
    """The fields in which a recorded config (`to_dict`'s output) differs from `config`, as 'name: old -> new'.

    Args:
        old: what config.json holds.
        config: the dataclass of this run.
        may_grow: dotted names that may be larger than recorded.
    """
    released = set(_free_names(config))
    was, now = _leaves(old), _leaves(to_dict(config))
    found = []
    for name in [*now, *(n for n in was if n not in now)]:
        a, b = was.get(name, "(absent)"), now.get(name, "(absent)")
        if a == b or name in released or any(name.startswith(f"{r}.") for r in released):
            continue
        if name in may_grow and isinstance(a, int) and isinstance(b, int) and b > a:
            continue
        found.append(f"{name}: {a!r} -> {b!r}")
    return found


def _free_names(config: Any, prefix: str = ""):
    for field in dataclasses.fields(config):
        name = prefix + field.name
        value = getattr(config, field.name)
        if field.metadata.get("free"):
            yield name
        elif dataclasses.is_dataclass(value):
            yield from _free_names(value, f"{name}.")


def _leaves(tree: dict, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat.update(_leaves(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat
