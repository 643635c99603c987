"""Nested containers as one dict of named arrays, within limits."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxgen.files import Budget

_DEPTH = 64
_NAME = 1000


def flat(tree: Any, resolve: Callable[[Any], Any], budget: Budget) -> dict[str, np.ndarray]:
    """The arrays and numbers of a tree, any shapes, under their keys joined by dots.

    Text, None and integers beyond 64 bits are left out.

    Args:
        tree: of dicts, lists and tuples.
        resolve: a node as a container, a number or an array.
        budget: each node takes one object, each name its length.

    Raises:
        ValueError: two names are equal, or a container is nested too deeply, as is one that holds itself.
    """
    found: dict[str, np.ndarray] = {}
    seen: set[int] = set()
    stack: list[tuple[Any, str, int]] = [(tree, "", 0)]
    while stack:
        node, name, depth = stack.pop()
        budget.spend(objects=1, size=len(name))
        node = resolve(node)
        if isinstance(node, (dict, list, tuple)):
            if depth >= _DEPTH or len(name) > _NAME:
                raise ValueError(f"its containers are nested more than {_DEPTH} deep, or its names too long")
            budget.spend(objects=len(node))
            items = list(node.items() if isinstance(node, dict) else enumerate(node))
            stack += [(child, _join(name, key), depth + 1) for key, child in reversed(items)]
        elif isinstance(node, np.ndarray | bool | int | float):
            if type(node) is int and not -(1 << 63) <= node < 1 << 64:
                continue
            if isinstance(node, np.ndarray) and id(node) not in seen:
                seen.add(id(node))
                budget.spend(shared=node.nbytes)
            name = name.removesuffix(".")
            if name in found:
                raise ValueError(f"it has two entries named {name[:200]!r}")
            found[name] = np.asarray(node)
    return found


def _join(name: str, key: Any) -> str:
    key = key.decode("latin1") if isinstance(key, bytes) else str(key)
    return f"{name}.{key}" if name else key
