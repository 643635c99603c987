"""Conversion of PyTorch weights whose modules are named by level, as in Ho et al.'s code, in two spellings.

`PYTORCH_DIFFUSION` is that of pesser/pytorch_diffusion and ermongroup/ddim (`down.0.block.1.conv1`), `DIFFUSERS` that
of diffusers' UNet2DModel (`down_blocks.0.resnets.1.conv1`). Both repositories' modules are the source.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxgen.diffusion.pretrained.entries import Entry, Params
from jaxgen.diffusion.pretrained.torch_layers import CONV, LINEAR, POINTWISE_2D, Kernel, array, layer, norm
from jaxgen.diffusion.unet.attention import num_heads
from jaxgen.diffusion.unet.networks import UNet


@dataclasses.dataclass(frozen=True)
class Spelling:
    """The names of one of the repositories.

    Attributes:
        place: (our name of a block or layer, number of levels) -> theirs.
        parts: our names of the layers of blocks and attention -> theirs.
        attention: layout of the attention's kernels.
    """

    place: Callable[[str, int], str]
    parts: Mapping[str, str]
    attention: Kernel


def _pytorch_diffusion_place(name: str, num_levels: int) -> str:
    """down_0_block_1 -> down.0.block.1, middle_block_0 -> mid.block_1, up_2_resample -> up.2.upsample."""
    match name.split("_"):
        case ["time", number]:
            return f"temb.dense.{number}"
        case ["middle", "attention"]:
            return "mid.attn_1"
        case ["middle", "block", number]:
            return f"mid.block_{int(number) + 1}"
        case [direction, level, "resample"]:
            return f"{direction}.{level}.{direction}sample"
        case [direction, level, what, number]:
            return f"{direction}.{level}.{'attn' if what == 'attention' else what}.{number}"
    return name


def _diffusers_place(name: str, num_levels: int) -> str:
    """down_0_block_1 -> down_blocks.0.resnets.1, middle_block_0 -> mid_block.resnets.0; up blocks count from below."""
    kinds = {"block": "resnets", "attention": "attentions"}
    match name.split("_"):
        case ["time", number]:
            return f"time_embedding.linear_{int(number) + 1}"
        case ["labels"]:
            return "class_embedding"
        case ["norm", "out"]:
            return "conv_norm_out"
        case ["middle", "attention"]:
            return "mid_block.attentions.0"
        case ["middle", "block", number]:
            return f"mid_block.resnets.{number}"
        case [direction, level, *rest] if direction in ("down", "up"):
            block = level if direction == "down" else num_levels - 1 - int(level)
            what = f"{direction}samplers.0" if rest == ["resample"] else f"{kinds[rest[0]]}.{rest[1]}"
            return f"{direction}_blocks.{block}.{what}"
    return name


_SHARED = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2"}
PYTORCH_DIFFUSION = Spelling(
    _pytorch_diffusion_place,
    _SHARED
    | {"embedding": "temb_proj", "skip": "nin_shortcut", "norm": "norm", "project": "proj_out"}
    | {"q": "q", "k": "k", "v": "v"},
    POINTWISE_2D,
)
DIFFUSERS = Spelling(
    _diffusers_place,
    _SHARED
    | {"embedding": "time_emb_proj", "skip": "conv_shortcut", "norm": "group_norm", "project": "to_out.0"}
    | {"q": "to_q", "k": "to_k", "v": "to_v"},
    LINEAR,
)


def entries_by_layer(network: UNet, params: Params, spelling: Spelling) -> list[Entry]:
    """All arrays of a network.

    Args:
        network: what `params` belongs to.
        params: tree of parameters or of their shapes.
        spelling: the names.
    """
    kernels = {"skip": POINTWISE_2D, "embedding": LINEAR}
    entries: list[Entry] = []
    for name, layers in params.items():
        place = spelling.place(name, len(network.multipliers))
        if "qkv" in layers:
            entries += _attention(network, place, name, layers["qkv"]["bias"].shape[0] // 3, spelling)
        elif "conv1" in layers:
            for part, arrays in layers.items():
                theirs, path = f"{place}.{spelling.parts[part]}", (name, part)
                is_norm = "scale" in arrays
                entries += norm(theirs, path) if is_norm else layer(theirs, path, kernels.get(part, CONV))
        elif "conv" in layers:
            entries += layer(f"{place}.conv", (name, "conv"), CONV)
        elif "embedding" in layers:
            entries.append(array(f"{place}.weight", (name, "embedding")))
        elif "scale" in layers:
            entries += norm(place, (name,))
        else:
            entries += layer(place, (name,), CONV if len(layers["kernel"].shape) == 4 else LINEAR)
    return entries


def _attention(network: UNet, place: str, name: str, width: int, spelling: Spelling) -> list[Entry]:
    heads = num_heads(width, network.num_heads, network.head_channels)
    heads_first = network.qkv_order == "heads_first"
    names = [f"{place}.{spelling.parts[part]}" for part in "qkv"]

    def joined(parts: list[Any]) -> Any:
        """Three [..., C] as one [..., 3 C] in the network's order."""
        shape = (*parts[0].shape[:-1], heads, width // heads)
        return np.stack([x.reshape(shape) for x in parts], -2 if heads_first else -3).reshape(*shape[:-2], 3 * width)

    def apart(x: Any) -> list[Any]:
        axis = len(x.shape) - (1 if not heads_first else 0)
        shape = (heads, 3, width // heads) if heads_first else (3, heads, width // heads)
        x = x.reshape(*x.shape[:-1], *shape)
        return [x[(slice(None),) * axis + (i,)].reshape(*x.shape[:-3], width) for i in range(3)]

    ours, theirs = spelling.attention
    weights, biases = (tuple(f"{each}.{kind}" for each in names) for kind in ("weight", "bias"))
    return [
        *norm(f"{place}.{spelling.parts['norm']}", (name, "norm")),
        Entry(
            weights,
            (name, "qkv", "kernel"),
            lambda *parts: joined([ours(x) for x in parts]),
            lambda x: tuple(theirs(part) for part in apart(x)),
        ),
        Entry(biases, (name, "qkv", "bias"), lambda *parts: joined(list(parts)), lambda x: tuple(apart(x))),
        *layer(f"{place}.{spelling.parts['project']}", (name, "project"), spelling.attention),
    ]
