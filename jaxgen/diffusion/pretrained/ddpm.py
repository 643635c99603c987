"""Weights of Ho et al.'s TensorFlow code (2020), both ways. `weights.read_weights` reads its checkpoints (`.index`)."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxgen.diffusion.pretrained.entries import Entry, Params, parameter_shapes, to_parameters, to_weights
from jaxgen.diffusion.unet.networks import UNet

_AVERAGE = "/ExponentialMovingAverage"


def from_ddpm(network: UNet, weights: Mapping[str, np.ndarray], image_size: int, *, average: bool = True) -> Params:
    """The parameters of `network` from a checkpoint of the authors, whose layout of layers is ours.

    Args:
        network: `ddpm_unet(image_size)`, or another with the same kinds of layers.
        weights: name -> array; the step and the optimizer's entries are left out.
        image_size: of the network's images.
        average: the moving average of the parameters, with which the paper's samples are drawn; or the parameters.

    Returns:
        float32 parameters for `network.apply({"params": parameters}, ...)`.

    Raises:
        ValueError: the network has other kinds of layers than the authors'.
        WeightsMismatchError: an entry is missing, unknown, or of another shape.
    """
    suffix = _AVERAGE if average else ""
    kept = {
        name.removesuffix(suffix).removeprefix("model/"): array
        for name, array in weights.items()
        if name.startswith("model/") and name.endswith(suffix) and _is_parameter(name.removesuffix(suffix))
    }
    shapes = parameter_shapes(network, image_size)
    return to_parameters(_entries(network, shapes), kept, shapes)


def to_ddpm(network: UNet, params: Params) -> dict[str, np.ndarray]:
    """The authors' names and arrays (the parameters, not averages) from the tree of `network`'s parameters."""
    return {f"model/{name}": array for name, array in to_weights(_entries(network, params), params).items()}


def _is_parameter(name: str) -> bool:
    return name.rsplit("/", 1)[-1] in ("W", "b", "gamma", "beta")


def _entries(network: UNet, params: Params) -> list[Entry]:
    if network.num_classes is not None or network.scale_shift or network.resample != "conv" or network.num_heads != 1:
        raise ValueError("Ho et al.'s networks have no classes, no scale-shift, convolutions to resample, and one head")
    entries = [*_layer("temb/dense0", ("time_0",)), *_layer("temb/dense1", ("time_1",))]
    for name, layers in params.items():
        if name in ("time_0", "time_1"):
            continue
        place = _place(name)
        if "qkv" in layers:
            entries += _attention(place, name)
        elif "conv1" in layers:
            entries += _block(place, name, "skip" in layers)
        elif "conv" in layers:
            entries += _layer(f"{place}/conv", (name, "conv"))
        else:
            entries += _norm(place, (name,)) if "scale" in layers else _layer(place, (name,))
    return entries


def _place(name: str) -> str:
    """down_0_block_1 -> down_0/block_1, middle_block_0 -> mid/block_1, up_2_resample -> up_2/upsample."""
    parts = name.split("_")
    kind = {"attention": "attn", "block": "block"}
    match parts:
        case ["middle", "attention"]:
            return "mid/attn_1"
        case ["middle", "block", number]:
            return f"mid/block_{int(number) + 1}"
        case [direction, level, "resample"]:
            return f"{direction}_{level}/{direction}sample"
        case [direction, level, what, number]:
            return f"{direction}_{level}/{kind[what]}_{number}"
    return name


def _array(name: str, path: tuple[str, ...], ours: Callable = np.asarray, theirs: Callable = lambda x: x) -> Entry:
    return Entry((name,), path, ours, lambda x: (theirs(x),))


def _layer(place: str, path: tuple[str, ...]) -> list[Entry]:
    return [_array(f"{place}/W", (*path, "kernel")), _array(f"{place}/b", (*path, "bias"))]


def _norm(place: str, path: tuple[str, ...]) -> list[Entry]:
    return [_array(f"{place}/gamma", (*path, "scale")), _array(f"{place}/beta", (*path, "bias"))]


def _block(place: str, name: str, has_skip: bool) -> list[Entry]:
    return [
        *_norm(f"{place}/norm1", (name, "norm1")),
        *_layer(f"{place}/conv1", (name, "conv1")),
        *_layer(f"{place}/temb_proj", (name, "embedding")),
        *_norm(f"{place}/norm2", (name, "norm2")),
        *_layer(f"{place}/conv2", (name, "conv2")),
        *(_layer(f"{place}/nin_shortcut", (name, "skip")) if has_skip else []),
    ]


def _attention(place: str, name: str) -> list[Entry]:
    def three(ours: str, theirs: str) -> Entry:
        names = tuple(f"{place}/{part}/{theirs}" for part in "qkv")
        join = lambda *parts: np.concatenate(parts, axis=-1)
        return Entry(names, (name, "qkv", ours), join, lambda x: _thirds(x))

    return [
        *_norm(f"{place}/norm", (name, "norm")),
        three("kernel", "W"),
        three("bias", "b"),
        *_layer(f"{place}/proj_out", (name, "project")),
    ]


def _thirds(x: Any) -> tuple[Any, ...]:
    size = x.shape[-1] // 3
    return tuple(x[..., i * size : (i + 1) * size] for i in range(3))
