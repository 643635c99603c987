"""Layers of PyTorch modules as entries of a conversion: `name.weight`, `name.bias`, and the layout of kernels."""

from collections.abc import Callable
from typing import Any

from jaxgen.diffusion.pretrained.entries import Entry

Kernel = tuple[Callable[[Any], Any], Callable[[Any], Any]]
"""(theirs -> ours, ours -> theirs)"""


def same(x: Any) -> Any:
    """x, of any shape."""
    return x


def _swap(x: Any) -> Any:
    return x.T


CONV: Kernel = (lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))
LINEAR: Kernel = (_swap, _swap)
POINTWISE_1D: Kernel = (lambda x: x[:, :, 0].T, lambda x: x.T[:, :, None])
POINTWISE_2D: Kernel = (lambda x: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None])


def array(name: str, path: tuple[str, ...], ours: Callable[[Any], Any] = same, theirs: Callable = same) -> Entry:
    """One array that is one parameter, any shapes."""
    return Entry((name,), path, ours, lambda x: (theirs(x),))


def layer(theirs: str, path: tuple[str, ...], kernel: Kernel) -> list[Entry]:
    """A convolution or dense layer."""
    return [array(f"{theirs}.weight", (*path, "kernel"), *kernel), array(f"{theirs}.bias", (*path, "bias"))]


def norm(theirs: str, path: tuple[str, ...]) -> list[Entry]:
    """A group normalisation, scale and bias [C]."""
    return [array(f"{theirs}.weight", (*path, "scale")), array(f"{theirs}.bias", (*path, "bias"))]
