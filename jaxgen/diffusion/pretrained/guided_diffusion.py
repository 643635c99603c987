"""Weights of guided-diffusion and improved-diffusion (Dhariwal & Nichol 2021, Nichol & Dhariwal 2021), both ways.

`weights.read_weights` reads the authors' files, `from_guided_diffusion` makes parameters of them, `released` says which
network a file belongs to. Both repositories name their layers alike.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxgen.diffusion.pretrained.entries import Entry, Params, parameter_shapes, to_parameters, to_weights
from jaxgen.diffusion.unet.base import UNetBase
from jaxgen.diffusion.unet.networks import EncoderUNet, UNet


def from_guided_diffusion(network: UNet | EncoderUNet, weights: Mapping[str, np.ndarray], image_size: int) -> Params:
    """The parameters of `network` from the authors' state dictionary.

    Args:
        network: with the options of the authors' model: `adm_unet`, `iddpm_unet`, `adm_classifier`, ...
        weights: name -> array, as `weights.read_weights` gives them.
        image_size: of the network's images, which says where there is attention.

    Returns:
        float32 parameters for `network.apply({"params": parameters}, ...)`.

    Raises:
        WeightsMismatchError: an entry is missing, unknown, or of another shape.
    """
    shapes = parameter_shapes(network, image_size)
    return to_parameters(_entries(network, shapes), weights, shapes)


def to_guided_diffusion(network: UNet | EncoderUNet, params: Params) -> dict[str, np.ndarray]:
    """The authors' state dictionary from the parameters of `network`: the inverse of `from_guided_diffusion`.

    Args:
        network: as there.
        params: tree of its parameters.
    """
    return to_weights(_entries(network, params), params)


def _array(name: str, path: tuple[str, ...], ours: Callable[[Any], Any], theirs: Callable[[Any], Any]) -> Entry:
    return Entry((name,), path, ours, lambda x: (theirs(x),))


def _same(x):
    return x


def _swap(x):
    return x.T


_CONV = (lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))
_LINEAR = (_swap, _swap)
_POINTWISE_1D = (lambda x: x[:, :, 0].T, lambda x: x.T[:, :, None])
_POINTWISE_2D = (lambda x: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None])


def _layer(theirs: str, path: tuple[str, ...], kernel) -> list[Entry]:
    return [
        _array(f"{theirs}.weight", (*path, "kernel"), *kernel),
        _array(f"{theirs}.bias", (*path, "bias"), _same, _same),
    ]


def _norm(theirs: str, path: tuple[str, ...]) -> list[Entry]:
    return [
        _array(f"{theirs}.weight", (*path, "scale"), _same, _same),
        _array(f"{theirs}.bias", (*path, "bias"), _same, _same),
    ]


def _block(theirs: str, name: str, params: Params) -> list[Entry]:
    entries = [
        *_norm(f"{theirs}.in_layers.0", (name, "norm1")),
        *_layer(f"{theirs}.in_layers.2", (name, "conv1"), _CONV),
        *_layer(f"{theirs}.emb_layers.1", (name, "embedding"), _LINEAR),
        *_norm(f"{theirs}.out_layers.0", (name, "norm2")),
        *_layer(f"{theirs}.out_layers.3", (name, "conv2"), _CONV),
    ]
    if "skip" in params[name]:
        entries += _layer(f"{theirs}.skip_connection", (name, "skip"), _POINTWISE_2D)
    return entries


def _attention(theirs: str, name: str) -> list[Entry]:
    return [
        *_norm(f"{theirs}.norm", (name, "norm")),
        *_layer(f"{theirs}.qkv", (name, "qkv"), _POINTWISE_1D),
        *_layer(f"{theirs}.proj_out", (name, "project"), _POINTWISE_1D),
    ]


def _resample(theirs: str, name: str, params: Params, layer: str) -> list[Entry]:
    if name not in params:  # averages and repetition have no parameters
        return []
    if "conv1" in params[name]:
        return _block(theirs, name, params)
    return _layer(f"{theirs}.{layer}", (name, "conv"), _CONV)


def _block_and_attention(theirs: str, name: str, params: Params) -> list[Entry]:
    attention = name.replace("block", "attention")
    entries = _block(f"{theirs}.0", name, params)
    return entries + (_attention(f"{theirs}.1", attention) if attention in params else [])


def _entries(network: UNetBase, params: Params) -> list[Entry]:
    """All arrays of the network; `params` is read for what is there, not for values."""
    levels = range(len(network.multipliers))
    entries = [
        *_layer("time_embed.0", ("time_0",), _LINEAR),
        *_layer("time_embed.2", ("time_1",), _LINEAR),
        *_layer("input_blocks.0.0", ("conv_in",), _CONV),
    ]
    if "labels" in params:
        entries.append(_array("label_emb.weight", ("labels", "embedding"), _same, _same))
    position = 1
    for level in levels:
        for i in range(network.num_blocks):
            entries += _block_and_attention(f"input_blocks.{position}", f"down_{level}_block_{i}", params)
            position += 1
        if level != levels[-1]:
            entries += _resample(f"input_blocks.{position}.0", f"down_{level}_resample", params, "op")
            position += 1
    entries += _block("middle_block.0", "middle_block_0", params)
    entries += _attention("middle_block.1", "middle_attention")
    entries += _block("middle_block.2", "middle_block_1", params)
    if isinstance(network, EncoderUNet):
        return entries + _pool(network)
    position = 0
    for level in reversed(levels):
        for i in range(network.num_blocks + 1):
            theirs, name = f"output_blocks.{position}", f"up_{level}_block_{i}"
            entries += _block_and_attention(theirs, name, params)
            if level and i == network.num_blocks:
                last = 2 if name.replace("block", "attention") in params else 1
                entries += _resample(f"{theirs}.{last}", f"up_{level}_resample", params, "conv")
            position += 1
    return [*entries, *_norm("out.0", ("norm_out",)), *_layer("out.2", ("conv_out",), _CONV)]


def _pool(network: EncoderUNet) -> list[Entry]:
    if network.pool in ("spatial", "spatial_v2"):
        last = "out.2" if network.pool == "spatial" else "out.3"
        entries = [*_layer("out.0", ("pool_0",), _LINEAR), *_layer(last, ("pool_1",), _LINEAR)]
        return entries + (_norm("out.1", ("pool_norm",)) if network.pool == "spatial_v2" else [])
    entries = _norm("out.0", ("norm_out",))
    if network.pool == "adaptive":
        return entries + _layer("out.3", ("logits",), _POINTWISE_2D)
    return [
        *entries,
        _array("out.2.positional_embedding", ("pool", "positions"), _swap, _swap),
        *_layer("out.2.qkv_proj", ("pool", "qkv"), _POINTWISE_1D),
        *_layer("out.2.c_proj", ("pool", "project"), _POINTWISE_1D),
    ]
