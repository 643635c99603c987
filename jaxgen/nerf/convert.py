"""Weights from elsewhere: the authors' files and those of three PyTorch ports, and back to two of them.

| source | file | arrays |
|---|---|---|
| nerf-pytorch (yenchenlin) | 200000.tar | network_fn_state_dict.pts_linears.0.weight [out, in], ...; network_fine_... |
| nerf-pytorch (krrish94) | checkpoint199999.ckpt | model_coarse_state_dict.layer1.weight, ...; model_fine_... |
| nerf_pl (kwea123) | epoch=15.ckpt | state_dict.nerf_coarse.xyz_encoding_1.0.weight, ...; state_dict.nerf_fine. ... |
| the authors | model_200000.npy, model_fine_200000.npy | Keras: kernel [in, out], bias, ..., in the order of layers |

The authors, yenchenlin and kwea123 lay gamma(x) before the hidden layer after a skip ([x, h]); krrish94 and later JAX
code lay it behind ([h, x]). krrish94's `FlexibleNeRFModel` has no ReLU after its first layer, and one after the
feature. Depth, widths, skips and frequencies follow from the shapes; frequencies are taken to be powers of two, the
default of all.
Read files with `jaxgen.weights.read_weights`, which runs nothing that is in them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgen.nerf.networks import NeRF
from jaxgen.nerf.state_dicts import PORTS, Layer, Port, prefixes_of, split_output
from jaxgen.weights import read_weights

_PYTORCH = {"coarse": "network_fn_state_dict", "fine": "network_fine_state_dict"}


class Converted(NamedTuple):
    """A network, and its parameters {"coarse": tree, "fine": tree} (without "fine" where there was none)."""

    network: NeRF
    params: dict[str, Any]


def read_checkpoint(path: str | Path, fine: str | Path | None = None, *, skip_first: bool | None = None) -> Converted:
    """A file of one of the PyTorch ports, or one or two files of the authors.

    Args:
        path: a port's .tar or .ckpt, or the authors' model_*.npy.
        fine: the authors' model_fine_*.npy, if there is one.
        skip_first: whether rows after a skip are [x, h], or [h, x]; None: as the code that the names belong to.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read, or its arrays are not those of such a network.
    """
    weights = read_weights(path)
    if weights and all(name.isdigit() for name in weights):
        lists = {"coarse": weights} | ({"fine": read_weights(fine)} if fine is not None else {})
        in_order = {name: [arrays[key] for key in sorted(arrays, key=int)] for name, arrays in lists.items()}
        return from_authors(in_order["coarse"], in_order.get("fine"), skip_first=skip_first is not False)
    if fine is not None:
        raise ValueError(f"{path} is a file of a PyTorch port, which holds both networks; leave fine={fine} out")
    try:
        return from_pytorch(weights, skip_first=skip_first)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def from_pytorch(weights: Mapping[str, np.ndarray], *, skip_first: bool | None = None) -> Converted:
    """A whole checkpoint of one of the ports by name, or one network's state dict (then only "coarse").

    Args:
        weights: name -> array of any shape; names that belong to no network (the optimizer's) are ignored.
        skip_first: as in `read_checkpoint`.

    Raises:
        ValueError: the names are of no port or of two, names are missing, or shapes do not fit together.
    """
    return _from_ports(weights, PORTS, skip_first)


def from_nerf_pytorch(weights: Mapping[str, np.ndarray], *, skip_first: bool = True) -> Converted:
    """As `from_pytorch`, of yenchenlin's nerf-pytorch alone.

    Args:
        weights: name -> array of any shape; other names (the optimizer's) are ignored.
        skip_first: as in `read_checkpoint`.

    Raises:
        ValueError: names are missing, or shapes do not fit together.
    """
    return _from_ports(weights, PORTS[:1], skip_first)


def from_authors(
    coarse: Sequence[np.ndarray], fine: Sequence[np.ndarray] | None = None, *, skip_first: bool = True
) -> Converted:
    """Keras weights in the authors' order: trunk, feature, view layer, rgb, density; without view: trunk, output.

    Args:
        coarse: kernel [in, out], bias [out], kernel, ....
        fine: likewise, or None.
        skip_first: as in `read_checkpoint`.

    Raises:
        ValueError: another number of arrays, or shapes that do not fit together.
    """
    lists = {"coarse": coarse} | ({"fine": fine} if fine is not None else {})
    return _converted({name: _from_list(arrays) for name, arrays in lists.items()}, {"skip_first": skip_first})


def to_nerf_pytorch(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """{"coarse": tree, "fine": tree} -> nerf-pytorch's names and arrays of any shape.

    Its `load_state_dict` takes them as tensors, each network's by its own prefix. Rows after a skip stay as they are.
    """
    weights = {}
    for name, tree in params.items():
        layers = {
            **{f"pts_linears.{i}": tree[f"trunk_{i}"] for i in range(_count(tree, "trunk"))},
            **{f"views_linears.{i}": tree[f"view_{i}"] for i in range(_count(tree, "view"))},
        }
        if "feature" in tree:
            layers |= {"feature_linear": tree["feature"], "alpha_linear": tree["density"], "rgb_linear": tree["rgb"]}
        else:
            layers["output_linear"] = _joined(tree)
        for key, layer in layers.items():
            weights[f"{_PYTORCH[name]}.{key}.weight"] = np.asarray(layer["kernel"]).T
            weights[f"{_PYTORCH[name]}.{key}.bias"] = np.asarray(layer["bias"])
    return weights


def to_authors(tree: Mapping[str, Any]) -> list[np.ndarray]:
    """One network's tree -> the authors' list of arrays of any shape.

    Raises:
        ValueError: more than one layer takes the direction of view; theirs has one.
    """
    if _count(tree, "view") > 1:
        raise ValueError(f"{_count(tree, 'view')} layers know the direction of view; the authors' network has one")
    layers = [tree[f"trunk_{i}"] for i in range(_count(tree, "trunk"))]
    if "feature" in tree:
        layers += [tree["feature"], tree["view_0"], tree["rgb"], tree["density"]]
    else:
        layers.append(_joined(tree))
    return [np.asarray(layer[part]) for layer in layers for part in ("kernel", "bias")]


def _from_ports(weights: Mapping[str, np.ndarray], ports: Sequence[Port], skip_first: bool | None) -> Converted:
    found = [(port, prefixes) for port in ports if (prefixes := prefixes_of(weights, port.first))]
    if len(found) != 1:
        names = ", ".join(sorted(weights)[:4])
        raise ValueError(
            f"the names ({names}, ...; {len(weights)} in all) are of {'several' if found else 'none'} of the networks "
            f"that are read: {', '.join(f'{port.name} (with {port.first})' for port in ports)}"
        )
    port, prefixes = found[0]
    trees = {}
    for name, prefix in prefixes.items():
        trees[name] = port.layers({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    return _converted(trees, port.fields if skip_first is None else {**port.fields, "skip_first": skip_first})


def _count(tree: Mapping[str, Any], name: str) -> int:
    return sum(key.startswith(f"{name}_") for key in tree)


def _joined(tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Without a view direction color and density come from one layer of four."""
    parts = ("kernel", "bias")
    return {part: np.concatenate([tree["rgb"][part], tree["density"][part]], axis=-1) for part in parts}


def _from_list(arrays: Sequence[np.ndarray]) -> dict[str, Layer]:
    if len(arrays) < 4 or len(arrays) % 2:
        raise ValueError(f"{len(arrays)} arrays; expected a kernel and a bias for each layer")
    pairs = [Layer(np.asarray(k), np.asarray(b)) for k, b in zip(arrays[::2], arrays[1::2], strict=True)]
    if pairs[-1].bias.shape == (4,):
        return {f"trunk_{i}": pair for i, pair in enumerate(pairs[:-1])} | split_output(pairs[-1])
    *trunk, feature, view, rgb, density = pairs
    if density.bias.shape != (1,) or rgb.bias.shape != (3,):
        raise ValueError(
            f"the last layers have {rgb.bias.shape[0]} and {density.bias.shape[0]} outputs; expected the color's 3 and "
            "the density's 1"
        )
    layers = {f"trunk_{i}": pair for i, pair in enumerate(trunk)}
    return layers | {"feature": feature, "view_0": view, "rgb": rgb, "density": density}


def _converted(trees: Mapping[str, dict[str, Layer]], fields: Mapping[str, Any]) -> Converted:
    networks = {name: _network(layers, fields) for name, layers in trees.items()}
    if len(set(networks.values())) > 1:
        raise ValueError(f"the two networks differ: {networks['coarse']} and {networks['fine']}")
    params = {
        name: {key: {part: jax.device_put(a) for part, a in layer._asdict().items()} for key, layer in layers.items()}
        for name, layers in trees.items()
    }
    return Converted(networks["coarse"], params)


def _network(layers: dict[str, Layer], more: Mapping[str, Any]) -> NeRF:
    """The network whose layers have these shapes.

    Raises:
        ValueError: there is none.
    """
    for name, (kernel, bias) in layers.items():
        if kernel.ndim != 2 or bias.shape != kernel.shape[1:]:
            raise ValueError(f"{name} has a kernel of shape {kernel.shape} and a bias of shape {bias.shape}")
    depth, view_depth = _count(layers, "trunk"), _count(layers, "view")
    position, width = layers["trunk_0"].kernel.shape
    skips = tuple(i - 1 for i in range(1, depth) if layers[f"trunk_{i}"].kernel.shape[0] != width)
    frequencies, include = _frequencies(position)
    expected = {f"trunk_{i}": (width + (position if i - 1 in skips else 0), width) for i in range(1, depth)}
    expected |= {"density": (width, 1)}
    fields: dict[str, Any] = {**more, "view_dependent": "feature" in layers}
    if fields["view_dependent"]:
        inputs, view_width = layers["view_0"].kernel.shape
        direction, include_direction = _frequencies(inputs - width)
        if include_direction != include:
            raise ValueError("position and direction are encoded differently: only one contains the input itself")
        expected |= {"feature": (width, width), "view_0": (inputs, view_width), "rgb": (view_width, 3)}
        expected |= {f"view_{i}": (view_width, view_width) for i in range(1, view_depth)}
        fields |= {"view_depth": view_depth, "view_width": view_width, "direction_frequencies": direction}
    else:
        expected |= {"rgb": (width, 3)}
    for name, shape in expected.items():
        if layers[name].kernel.shape != shape:
            raise ValueError(f"{name} has a kernel of shape {layers[name].kernel.shape}; expected {shape}")
    return NeRF(
        depth=depth,
        width=width,
        skips=skips,
        position_frequencies=frequencies,
        include_input=include,
        pi=False,
        **fields,
    )


def _frequencies(size: int) -> tuple[int, bool]:
    """(L, whether the input itself is there) of an encoding of 3 coordinates with so many features: 6 L, or 6 L + 3."""
    if size < 3 or size % 3:
        raise ValueError(f"an encoding has {size} features; expected 6 L, or 6 L + 3 with the input itself")
    return size // 6, size % 6 == 3
