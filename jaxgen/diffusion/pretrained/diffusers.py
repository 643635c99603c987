"""Weights of UNet2DModel of diffusers, both ways, and its folders.

Source: UNet2DModel and its blocks in the code of diffusers (von Platen et al. 2022).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.diffusion.pretrained.by_layer import DIFFUSERS, entries_by_layer
from jaxgen.diffusion.pretrained.diffusers_scheduler import SCHEDULER
from jaxgen.diffusion.pretrained.diffusers_settings import CONFIG, is_flipped
from jaxgen.diffusion.pretrained.entries import Entry, Params, parameter_shapes, to_parameters, to_weights
from jaxgen.diffusion.unet.networks import UNet
from jaxgen.files import read_json

WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


def from_diffusers(
    network: UNet, weights: Mapping[str, np.ndarray], image_size: int | tuple[int, int], config: Mapping[str, Any]
) -> Params:
    """The parameters of `network` from the weights of a UNet2DModel.

    Args:
        network: of `diffusers_model(config, ...)`.
        weights: name -> array; the attention's names of before diffusers 0.18 are read too.
        image_size: of the network's images, which says where there is attention.
        config: of UNet2DModel.

    Returns:
        float32 parameters for `network.apply({"params": parameters}, ...)`.

    Raises:
        WeightsMismatchError: an entry is missing, unknown, or of another shape.
    """
    old = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}

    def renamed(name: str) -> str:
        for theirs, newer in old.items() if ".attentions." in name else ():
            name = name.replace(theirs, newer)
        return name

    shapes = parameter_shapes(network, image_size)
    found = {renamed(name): array for name, array in weights.items()}
    return to_parameters(_entries(network, shapes, is_flipped(config)), found, shapes)


def to_diffusers(network: UNet, params: Params) -> dict[str, np.ndarray]:
    """The weights of the UNet2DModel of `diffusers_config`: name -> array.

    Args:
        network: of the model.
        params: tree of its parameters.
    """
    return to_weights(_entries(network, params, False), params)


def read_diffusers(path: Path) -> tuple[dict[str, Any], dict[str, Any], Path] | None:
    """(config, scheduler's settings, file of weights) of diffusers, or None where the path is nothing of diffusers.

    Args:
        path: folder of a UNet2DModel or of a pipeline, or the file of weights beside a config.json.

    Raises:
        FileNotFoundError: the weights or the scheduler's settings are not there.
        ValueError: a file of settings is damaged.
    """
    folder = path if path.is_dir() else path.parent
    root = folder / "unet" if (folder / "unet" / CONFIG).is_file() and path.is_dir() else folder
    if not (root / CONFIG).is_file() or (not path.is_dir() and path.name not in WEIGHTS):
        return None
    config = _json(root / CONFIG)
    if path.is_dir() and "_class_name" not in config and "block_out_channels" not in config:
        return None
    places = (root, root.parent / "scheduler", root / "scheduler", root.parent)
    settings = next((place / SCHEDULER for place in places if (place / SCHEDULER).is_file()), None)
    files = [path] if path.is_file() else [root / name for name in WEIGHTS if (root / name).is_file()]
    if settings is None or not files:
        missing = SCHEDULER if files else " or ".join(WEIGHTS)
        where = f"{root}, or in {root.parent / 'scheduler'}" if files else str(root)
        raise FileNotFoundError(f"{root} holds a {CONFIG} of diffusers, and there is no {missing} in {where}")
    return config, _json(settings), files[0]


def _json(path: Path) -> dict[str, Any]:
    found = read_json(path, "settings of diffusers", largest=2**20)
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}; expected a JSON object")
    return found


def _entries(network: UNet, params: Params, flipped: bool) -> list[Entry]:
    entries = entries_by_layer(network, params, DIFFUSERS)
    if not flipped:
        return entries
    half = network.channels // 2

    def turned(x: Any) -> Any:
        """The input's halves [W, ...] change places; an odd last one stays."""
        return x[np.r_[half : 2 * half, 0:half, 2 * half : network.channels]]

    def turn(entry: Entry) -> Entry:
        if entry.path != ("time_0", "kernel"):
            return entry
        ours, theirs = entry.ours, entry.theirs
        return entry._replace(ours=lambda x: turned(ours(x)), theirs=lambda x: theirs(turned(x)))

    return [turn(entry) for entry in entries]
