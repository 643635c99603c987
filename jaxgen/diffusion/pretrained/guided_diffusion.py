"""Weights of guided-diffusion and improved-diffusion (Dhariwal & Nichol 2021, Nichol & Dhariwal 2021), both ways.

`weights.read_weights` reads the authors' files, `from_guided_diffusion` makes parameters of them, `released` says which
network a file belongs to. Both repositories name their layers alike.
"""

from collections.abc import Mapping

import numpy as np

from jaxgen.diffusion.pretrained.entries import Entry, Params, parameter_shapes, to_parameters, to_weights
from jaxgen.diffusion.pretrained.torch_layers import CONV, LINEAR, POINTWISE_1D, POINTWISE_2D, array, layer, norm
from jaxgen.diffusion.unet.base import UNetBase
from jaxgen.diffusion.unet.networks import EncoderUNet, UNet


def from_guided_diffusion(
    network: UNet | EncoderUNet, weights: Mapping[str, np.ndarray], image_size: int | tuple[int, int]
) -> Params:
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


def _block(theirs: str, name: str, params: Params) -> list[Entry]:
    entries = [
        *norm(f"{theirs}.in_layers.0", (name, "norm1")),
        *layer(f"{theirs}.in_layers.2", (name, "conv1"), CONV),
        *layer(f"{theirs}.emb_layers.1", (name, "embedding"), LINEAR),
        *norm(f"{theirs}.out_layers.0", (name, "norm2")),
        *layer(f"{theirs}.out_layers.3", (name, "conv2"), CONV),
    ]
    if "skip" in params[name]:
        entries += layer(f"{theirs}.skip_connection", (name, "skip"), POINTWISE_2D)
    return entries


def _attention(theirs: str, name: str) -> list[Entry]:
    return [
        *norm(f"{theirs}.norm", (name, "norm")),
        *layer(f"{theirs}.qkv", (name, "qkv"), POINTWISE_1D),
        *layer(f"{theirs}.proj_out", (name, "project"), POINTWISE_1D),
    ]


def _resample(theirs: str, name: str, params: Params, what: str) -> list[Entry]:
    if name not in params:  # averages and repetition have no parameters
        return []
    if "conv1" in params[name]:
        return _block(theirs, name, params)
    return layer(f"{theirs}.{what}", (name, "conv"), CONV)


def _block_and_attention(theirs: str, name: str, params: Params) -> list[Entry]:
    attention = name.replace("block", "attention")
    entries = _block(f"{theirs}.0", name, params)
    return entries + (_attention(f"{theirs}.1", attention) if attention in params else [])


def _entries(network: UNetBase, params: Params) -> list[Entry]:
    """All arrays of the network; `params` is read for what is there, not for values."""
    levels = range(len(network.multipliers))
    entries = [
        *layer("time_embed.0", ("time_0",), LINEAR),
        *layer("time_embed.2", ("time_1",), LINEAR),
        *layer("input_blocks.0.0", ("conv_in",), CONV),
    ]
    if "labels" in params:
        entries.append(array("label_emb.weight", ("labels", "embedding")))
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
    return [*entries, *norm("out.0", ("norm_out",)), *layer("out.2", ("conv_out",), CONV)]


def _pool(network: EncoderUNet) -> list[Entry]:
    if network.pool in ("spatial", "spatial_v2"):
        last = "out.2" if network.pool == "spatial" else "out.3"
        entries = [*layer("out.0", ("pool_0",), LINEAR), *layer(last, ("pool_1",), LINEAR)]
        return entries + (norm("out.1", ("pool_norm",)) if network.pool == "spatial_v2" else [])
    entries = norm("out.0", ("norm_out",))
    if network.pool == "adaptive":
        return entries + layer("out.3", ("logits",), POINTWISE_2D)
    return [
        *entries,
        array("out.2.positional_embedding", ("pool", "positions"), *LINEAR),
        *layer("out.2.qkv_proj", ("pool", "qkv"), POINTWISE_1D),
        *layer("out.2.c_proj", ("pool", "project"), POINTWISE_1D),
    ]
