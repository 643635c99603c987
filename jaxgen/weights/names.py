"""Which arrays of a file belong to a network: prefixes that programs put before names, and what other files hold."""

import logging
from collections.abc import Collection, Mapping
from typing import Any

_log = logging.getLogger(__name__)
_PARTS = ("module", "model", "network", "net", "_orig_mod", "state_dict", "model_state_dict", "params")
_AVERAGES = (
    "ema", "model_ema", "ema_model", "ema_state_dict", "params_ema", "state_dict_ema", "ema_params", "shadow_params",
)  # fmt: skip
_DEPTH = 4


def select(weights: Mapping[str, Any], expected: Collection[str]) -> dict[str, Any]:
    """The arrays of a network, without what stands before its names in the file.

    Programs that train put `module.` (several devices), `model.` (Lightning), `state_dict.` or `ema.` (a dict of
    several networks) before every name. Where a moving average and the parameters are there, the average is taken, and
    a line of the log says so.

    Args:
        weights: name -> array of any shape.
        expected: the names of the network.

    Returns:
        the arrays after the prefix under which most of the expected names stand, or all of `weights` where that is no
        prefix.
    """
    expected = set(expected)
    counts: dict[str, int] = {}
    for name in weights:
        parts = name.split(".")
        prefix = ""
        for part in parts[: _DEPTH + 1]:
            if name[len(prefix) :] in expected:
                counts[prefix] = counts.get(prefix, 0) + 1
            if part not in _PARTS and part not in _AVERAGES:
                break
            prefix += f"{part}."
    if not counts:
        return dict(weights)
    most = max(counts.values())
    best = max(
        (prefix for prefix, count in counts.items() if count == most),
        key=lambda prefix: (_is_average(prefix), -len(prefix)),
    )
    if not best:
        return dict(weights)
    if len(counts) > 1 or _is_average(best):
        kind = "the moving average" if _is_average(best) else "the entries"
        _log.info("of the file's %s, %s under %r is taken", _listed(sorted(counts)), kind, best)
    return {name.removeprefix(best): array for name, array in weights.items() if name.startswith(best)}


def explain(names: Collection[str]) -> str:
    """What a file that does not fit holds: its first names, and its kind where that is known, in one sentence."""
    found = list(names)
    if not found:
        return "The file holds no arrays."
    is_optimizer = all(name.startswith(("param_groups.", "state.", "optimizer.", "opt.")) for name in found)
    kind = "; this is an optimizer's state, not the network" if is_optimizer else ""
    return f"The file holds {len(found)} arrays: {_listed(found)}{kind}."


def _is_average(prefix: str) -> bool:
    return any(part in _AVERAGES for part in prefix.split("."))


def _listed(names: list[str]) -> str:
    shown = [repr(name[:100]) for name in names[:6]]
    return ", ".join(shown) + (" and others" if len(names) > 6 else "")
