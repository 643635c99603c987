"""The names that three PyTorch ports give to a network's layers, and where they are in a checkpoint.

Source: yenchenlin/nerf-pytorch, krrish94/nerf-pytorch (nerf/models.py) and kwea123/nerf_pl (models/nerf.py).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

State = Mapping[str, np.ndarray]
"""Names of one network's arrays -> arrays."""


class Layer(NamedTuple):
    """kernel [in, out] and bias [out]."""

    kernel: np.ndarray
    bias: np.ndarray


def split_output(output: Layer) -> dict[str, Layer]:
    """A layer of four outputs as those of color and density.

    Raises:
        ValueError: another number of outputs.
    """
    if output.bias.shape != (4,):
        raise ValueError(f"the last layer has {output.bias.shape[0]} outputs; expected 4, color and density")
    return {
        "rgb": Layer(output.kernel[:, :3], output.bias[:3]),
        "density": Layer(output.kernel[:, 3:], output.bias[3:]),
    }


def prefixes_of(weights: State, first: str) -> dict[str, str]:
    """The prefixes of the name of a port's first layer: {"coarse": prefix, "fine": prefix}, without what is not there.

    Raises:
        ValueError: more than two networks, or two that cannot be told apart.
    """
    found = sorted({name.removesuffix(first) for name in weights if name == first or name.endswith(f".{first}")})
    fine = [prefix for prefix in found if "fine" in prefix]
    coarse = [prefix for prefix in found if prefix not in fine] or fine
    if len(coarse) > 1 or len(fine) > 1:
        raise ValueError(f"{first} is there under {', '.join(map(repr, found))}; expected a coarse and a fine network")
    return dict(zip(("coarse", "fine"), coarse + [p for p in fine if p not in coarse], strict=False))


def _layer(state: State, name: str) -> Layer:
    try:
        return Layer(np.asarray(state[f"{name}.weight"]).T, np.asarray(state[f"{name}.bias"]))
    except KeyError as error:
        raise ValueError(f"{error.args[0]} is missing; the other layers are there") from error


def _number(state: State, name: str) -> int:
    return len({key.split(".")[1] for key in state if key.startswith(f"{name}.")})


def _yenchenlin(state: State) -> dict[str, Layer]:
    layers = {f"trunk_{i}": _layer(state, f"pts_linears.{i}") for i in range(_number(state, "pts_linears"))}
    if "output_linear.weight" in state:
        # Its view layers are there without being used.
        return layers | split_output(_layer(state, "output_linear"))
    layers |= {f"view_{i}": _layer(state, f"views_linears.{i}") for i in range(_number(state, "views_linears"))}
    ends = {"feature": "feature_linear", "rgb": "rgb_linear", "density": "alpha_linear"}
    return layers | {name: _layer(state, key) for name, key in ends.items()}


def _krrish94(state: State) -> dict[str, Layer]:
    if "fc_out.weight" not in state and "fc_feat.weight" not in state:
        raise ValueError(
            "layer1 belongs to another of krrish94's networks, which has neither fc_feat nor fc_out; read is "
            "FlexibleNeRFModel, that of its configurations"
        )
    layers = {"trunk_0": _layer(state, "layer1")}
    layers |= {f"trunk_{i + 1}": _layer(state, f"layers_xyz.{i}") for i in range(_number(state, "layers_xyz"))}
    if "fc_out.weight" in state:
        return layers | split_output(_layer(state, "fc_out"))
    layers |= {f"view_{i}": _layer(state, f"layers_dir.{i}") for i in range(_number(state, "layers_dir"))}
    return layers | {
        n: _layer(state, k) for n, k in {"feature": "fc_feat", "rgb": "fc_rgb", "density": "fc_alpha"}.items()
    }


def _kwea123(state: State) -> dict[str, Layer]:
    depth = sum(key.startswith("xyz_encoding_") and key.endswith(".0.weight") for key in state)
    layers = {f"trunk_{i}": _layer(state, f"xyz_encoding_{i + 1}.0") for i in range(depth)}
    ends = {"feature": "xyz_encoding_final", "view_0": "dir_encoding.0", "rgb": "rgb.0", "density": "sigma"}
    return layers | {name: _layer(state, key) for name, key in ends.items()}


class Port(NamedTuple):
    """Name; name of the first layer's weight; state dict -> layers; fields of the network that shapes do not show."""

    name: str
    first: str
    layers: Callable[[State], dict[str, Layer]]
    fields: Mapping[str, Any]


PORTS = (
    Port("yenchenlin's nerf-pytorch", "pts_linears.0.weight", _yenchenlin, {}),
    Port(
        "krrish94's nerf-pytorch", "layer1.weight", _krrish94,
        {"skip_first": False, "activate_first": False, "activate_feature": True},
    ),
    Port("kwea123's nerf_pl", "xyz_encoding_1.0.weight", _kwea123, {}),
)  # fmt: skip
