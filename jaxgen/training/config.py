"""Configs are frozen dataclasses. This file turns them into plain data and back, and compares them."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def untracked(default: Any, *, old_names: tuple[str, ...] = ()) -> Any:
    """A dataclass field that may change when a run is resumed, because no result depends on it."""
    return dataclasses.field(default=default, metadata={"untracked": True, "old_names": old_names})


def renamed(default: Any, *old_names: str) -> Any:
    """A dataclass field that is also read under the names it had before, in records and on the command line."""
    return dataclasses.field(default=default, metadata={"old_names": old_names})


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
    log_every: int = untracked(100)
    """steps averaged in one line of metrics.jsonl"""
    save_every: int = untracked(1000)
    """steps between checkpoints"""
    keep_checkpoints: int = untracked(3)
    """newest checkpoints kept"""
    steps_per_call: int = untracked(0)
    """updates a call of the compiled program; 0: as many as take about half a second"""
    prefetch: int = untracked(0)
    """batches that the host makes ahead, for data too large for a device; 0: made on the device inside the step"""
    devices: int = untracked(0)
    """devices to use; 0: all there are"""
    model_parallel_size: int = untracked(1, old_names=("model_devices",))
    """M > 1: each M devices share one copy of the model, for models that do not fit on one device"""
    backend: Literal["pmap", "shard_map"] = untracked("pmap")
    """'pmap', or 'shard_map' for jit(shard_map), which model_parallel_size > 1 always uses"""
    deterministic: bool = False
    """on GPU: only kernels that give the same bits each time (CPU always does)"""

    def __post_init__(self):
        counts = ("num_steps", "batch_size", "accumulate", "log_every", "save_every", "keep_checkpoints")
        for name in (*counts, "model_parallel_size"):
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


def from_dict(default: Any, recorded: Mapping[str, Any]) -> Any:
    """The config that `to_dict` recorded, from one of its kind.

    Args:
        default: a config; fields that the record lacks are as their classes define them.
        recorded: what config.json holds, perhaps under names that fields had before.

    Raises:
        ValueError: the record has a field that such a config does not have, or a value of another type.
    """
    return _from_dict(default, recorded, "")


def _from_dict(default: Any, recorded: Mapping[str, Any], prefix: str) -> Any:
    recorded, changes = _upgraded(default, recorded), {}
    types = get_type_hints(type(default))
    for field in dataclasses.fields(default):
        (found, value), name = _take(recorded, field), prefix + field.name
        if not found:
            value = _class_default(field, getattr(default, field.name))
        elif dataclasses.is_dataclass(getattr(default, field.name)) and isinstance(value, dict):
            value = _from_dict(getattr(default, field.name), value, f"{name}.")
        value = _tuples(value)
        if found and not _is_of(value, types[field.name]):
            kind = getattr(types[field.name], "__name__", types[field.name])
            raise ValueError(f"the run's config has {name} {_short(value)}; expected {kind}")
        changes[field.name] = value
    if recorded:
        raise ValueError(f"the run's config has a field {next(iter(recorded))!r} that {type(default).__name__} lacks")
    return dataclasses.replace(default, **changes)


def not_finite(config: Any, prefix: str = "") -> list[str]:
    """The problems of fields that are NaN or infinite, also inside tuples; a field may be `infinite`.

    Such a field is made by `dataclasses.field(default=..., metadata={"infinite": True})`; NaN is refused there too.
    """
    problems = []
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            problems += not_finite(value, f"{name}.")
            continue
        for number in value if isinstance(value, tuple) else (value,):
            is_bad = isinstance(number, float) and not math.isfinite(number)
            if is_bad and not (field.metadata.get("infinite") and not math.isnan(number)):
                problems.append(f"{name} is {number}; it must be a finite number")
    return problems


def differences(recorded: Mapping[str, Any], config: Any, extendable_fields: tuple[str, ...] = ()) -> list[str]:
    """The fields in which a recorded config differs from `config`, as 'name: recorded -> now'.

    A field that the record lacks counts as the default of its class, since the run was made before there was one.

    Args:
        recorded: what config.json holds (`to_dict`), perhaps under names that fields had before.
        config: the dataclass of this run.
        extendable_fields: dotted names that may be larger than recorded.
    """
    return list(_differences(recorded, config, extendable_fields, ""))


def _differences(recorded: Mapping[str, Any], config: Any, extendable: tuple[str, ...], prefix: str) -> Iterator[str]:
    recorded = _upgraded(config, recorded)
    for field in dataclasses.fields(config):
        name, now = prefix + field.name, getattr(config, field.name)
        found, before = _take(recorded, field)
        if field.metadata.get("untracked"):
            continue
        if not found:
            default = _class_default(field, dataclasses.MISSING)
            before = "(absent)" if default is dataclasses.MISSING else to_dict(default)
        if dataclasses.is_dataclass(now) and isinstance(before, dict):
            yield from _differences(before, now, extendable, f"{name}.")
            continue
        now = to_dict(now)
        grows = name in extendable and isinstance(before, int) and isinstance(now, int) and now > before
        if before != now and not grows:
            yield f"{name}: {_short(before)} -> {_short(now)}"
    yield from (f"{prefix}{name}: {_short(value)} -> '(absent)'" for name, value in recorded.items())


def untracked_fields(config: Any, prefix: str = "") -> list[str]:
    """Dotted names of the untracked fields, also of those inside an untracked dataclass."""
    names = []
    for field in dataclasses.fields(config):
        if field.metadata.get("untracked"):
            names.append(prefix + field.name)
        if dataclasses.is_dataclass(value := getattr(config, field.name)):
            names += untracked_fields(value, f"{prefix}{field.name}.")
    return names


def old_names(config: Any, prefix: str = "") -> dict[str, str]:
    """{dotted name that a field had before: its name now}."""
    names = {}
    for field in dataclasses.fields(config):
        names |= {prefix + old: prefix + field.name for old in field.metadata.get("old_names", ())}
        if dataclasses.is_dataclass(value := getattr(config, field.name)):
            names |= old_names(value, f"{prefix}{field.name}.")
    return names


def _upgraded(config: Any, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the record, with values of earlier versions translated by the config's `upgrade`, if it has one."""
    upgrade = getattr(config, "upgrade", dict)
    try:
        return upgrade(dict(recorded))
    except TypeError as error:  # a list or an object where every version wrote a name
        raise ValueError(f"the record of {type(config).__name__} is damaged: {_short(recorded)}") from error


def _take(recorded: dict[str, Any], field: dataclasses.Field) -> tuple[bool, Any]:
    """Whether the record has the field, under whatever name, and its value; it is taken out of the record."""
    for name in (field.name, *field.metadata.get("old_names", ())):
        if name in recorded:
            return True, recorded.pop(name)
    return False, None


def _class_default(field: dataclasses.Field, otherwise: Any) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return otherwise if field.default_factory is dataclasses.MISSING else field.default_factory()


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value is of the type of a field; a whole number is a float too, and True is no number."""
    match get_origin(kind):
        case None if kind in (int, float):
            return isinstance(value, (int, kind)) and not isinstance(value, bool)
        case None:
            return not isinstance(kind, type) or isinstance(value, kind)
        case origin if origin is Literal:
            return any(value is choice or (type(value), value) == (type(choice), choice) for choice in get_args(kind))
        case origin if origin in (Union, UnionType):
            return any(_is_of(value, one) for one in get_args(kind))
        case origin if origin is tuple:
            kinds = get_args(kind)
            if not isinstance(value, tuple) or (kinds[-1] is not ... and len(value) != len(kinds)):
                return False
            return all(map(_is_of, value, kinds if kinds[-1] is not ... else (kinds[0],) * len(value)))
    return True


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
