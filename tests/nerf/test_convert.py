"""Weights from nerf-pytorch and from the authors: what their networks compute, ours computes."""

import jax
import numpy as np
import pytest

from jaxgen.nerf import NeRF, convert
from jaxgen.weights import write_weights
from tests.parameters import random_parameters
from tests.programs import in_float32

SHAPES = [
    {"depth": 4, "skips": (1,), "view_width": 6, "position_frequencies": 3, "direction_frequencies": 2},
    {"depth": 3, "skips": (), "view_dependent": False, "position_frequencies": 2},
]


def state_dict(depth, skips, position_frequencies, direction_frequencies=0, view_width=0, view_dependent=True, seed=0):
    """Random weights under nerf-pytorch's names; width 12."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: (0.3 * rng.normal(size=shape)).astype(np.float32)
    x, d = 3 + 6 * position_frequencies, 3 + 6 * direction_frequencies
    sizes = {f"pts_linears.{i}": (12, x if i == 0 else 12 + x * (i - 1 in skips)) for i in range(depth)}
    if view_dependent:
        sizes |= {"views_linears.0": (view_width, d + 12), "feature_linear": (12, 12), "alpha_linear": (1, 12)}
        sizes |= {"rgb_linear": (3, view_width)}
    else:
        sizes |= {"views_linears.0": (6, 15), "output_linear": (4, 12)}
    layers = {name: (draw(*shape), draw(shape[0])) for name, shape in sizes.items()}
    return {f"{n}.{part}": a for n, pair in layers.items() for part, a in zip(("weight", "bias"), pair, strict=True)}


def encode(p, frequencies):
    parts = [p]
    for k in range(frequencies):
        parts += [np.sin(2.0**k * p), np.cos(2.0**k * p)]
    return np.concatenate(parts, axis=-1)


def forward(state, points, view, skips, position_frequencies, direction_frequencies=0, **_):
    """nerf-pytorch's network in NumPy: (rgb before the sigmoid, density before relu)."""
    layer = lambda name, h: h @ state[f"{name}.weight"].T + state[f"{name}.bias"]
    x = h = encode(points, position_frequencies)
    for i in range(sum(name.startswith("pts_") for name in state) // 2):
        h = np.maximum(layer(f"pts_linears.{i}", h), 0)
        if i in skips:
            h = np.concatenate([x, h], axis=-1)
    if "output_linear.weight" in state:
        output = layer("output_linear", h)
        return output[..., :3], output[..., 3]
    density = layer("alpha_linear", h)[..., 0]
    d = np.broadcast_to(encode(view, direction_frequencies)[:, None], (*h.shape[:-1], 3 + 6 * direction_frequencies))
    h = np.concatenate([layer("feature_linear", h), d], axis=-1)
    return layer("rgb_linear", np.maximum(layer("views_linears.0", h), 0)), density


@pytest.mark.parametrize("shape", SHAPES, ids=["view", "no view"])
def test_a_converted_network_computes_the_same(shape):
    states = {"network_fn_state_dict": state_dict(**shape), "network_fine_state_dict": state_dict(**shape, seed=7)}
    weights = {f"{top}.{name}": array for top, state in states.items() for name, array in state.items()}
    weights |= {"global_step": np.array(5), "optimizer_state_dict.state.0.step": np.array(5)}
    network, params = convert.from_nerf_pytorch(weights)
    rng = np.random.default_rng(1)
    points, view = rng.uniform(-1, 1, (2, 5, 3)).astype(np.float32), rng.normal(size=(2, 3)).astype(np.float32)
    found = in_float32(
        lambda params: {name: network.apply({"params": of}, points, view) for name, of in params.items()}, params
    )
    for name, top in (("coarse", "network_fn_state_dict"), ("fine", "network_fine_state_dict")):
        rgb, density = found[name]
        raw_rgb, raw_density = forward(states[top], points, view, **shape)
        np.testing.assert_allclose(rgb, 1 / (1 + np.exp(-raw_rgb)), rtol=2e-4, atol=1e-6)
        np.testing.assert_allclose(density, np.maximum(raw_density, 0), rtol=2e-4, atol=1e-4)
    expected = (4, (1,)) if shape["depth"] == 4 else (3, ())
    assert (network.depth, network.skips, network.width) == (*expected, 12)


@pytest.mark.parametrize("shape", SHAPES, ids=["view", "no view"])
def test_there_and_back_through_files(shape, tmp_path):
    network = NeRF(width=12, **shape)
    point, view = np.zeros((1, 1, 3), np.float32), np.zeros((1, 3), np.float32)
    params = {name: random_parameters(network, point, view, seed=seed) for seed, name in enumerate(("coarse", "fine"))}
    write_weights(tmp_path / "torch.npz", convert.to_nerf_pytorch(params))
    for name, tree in params.items():
        # As numpy.save writes a list of arrays of different shapes, the authors' way.
        ragged = np.empty(len(listed := convert.to_authors(tree)), object)
        ragged[:] = listed
        np.save(tmp_path / f"{name}.npy", ragged)
    for found in (
        convert.read_checkpoint(tmp_path / "torch.npz"),
        convert.read_checkpoint(tmp_path / "coarse.npy", tmp_path / "fine.npy"),
    ):
        assert found.network == network
        jax.tree.map(np.testing.assert_array_equal, found.params, params)
    alone = convert.read_checkpoint(tmp_path / "coarse.npy", skip_first=False)
    assert alone.params.keys() == {"coarse"} and not alone.network.skip_first


def test_both_skip_orders():
    """The same numbers, with the rows after the skip in the other order, compute the same with skip_first=False."""
    state = state_dict(**SHAPES[0])
    first = convert.from_nerf_pytorch(state)
    kernel = state["pts_linears.2.weight"]
    size = 3 + 6 * SHAPES[0]["position_frequencies"]
    swapped = np.concatenate([kernel[:, size:], kernel[:, :size]], axis=1)
    last = convert.from_nerf_pytorch(state | {"pts_linears.2.weight": swapped}, skip_first=False)
    points, view = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32), np.ones((2, 3), np.float32)
    one, other = in_float32(
        lambda *params: [
            found.network.apply({"params": of}, points, view) for found, of in zip((first, last), params, strict=True)
        ],
        *(first.params["coarse"], last.params["coarse"]),
    )
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"alpha_linear.weight": None}, "alpha_linear.weight is missing"),
        ({"rgb_linear.weight": np.zeros((3, 5), np.float32)}, r"rgb has a kernel of shape \(5, 3\); expected \(6, 3\)"),
        ({"pts_linears.0.weight": np.zeros((12, 20), np.float32)}, "an encoding has 20 features"),
        ({"pts_linears.3.weight": np.zeros((12, 13), np.float32)}, r"trunk_3 has a kernel of shape \(13, 12\)"),
        ({"pts_linears.1.bias": np.zeros(11, np.float32)}, r"a bias of shape \(11,\)"),
    ],
)
def test_what_is_not_such_a_network_is_refused(change, message):
    state = {k: v for k, v in (state_dict(**SHAPES[0]) | change).items() if v is not None}
    with pytest.raises(ValueError, match=message):
        convert.from_nerf_pytorch(state)


def random_state(sizes, seed):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: (0.4 * rng.normal(size=shape)).astype(np.float32)
    return {f"{n}.{p}": draw(*s) for n, shape in sizes.items() for p, s in (("weight", shape), ("bias", shape[:1]))}


def flexible_state(seed, num_layers=6, hidden=10, skip_every=2, x=21, d=15, viewdirs=True):
    """krrish94's FlexibleNeRFModel: names and shapes."""
    sizes = {"layer1": (hidden, x)}
    for i in range(num_layers - 1):
        wide = i % skip_every == 0 and 0 < i < num_layers - 2
        sizes[f"layers_xyz.{i}"] = (hidden, hidden + x * wide)
    if not viewdirs:
        return random_state(sizes | {"fc_out": (4, hidden)}, seed)
    sizes |= {"layers_dir.0": (hidden // 2, d + hidden), "fc_alpha": (1, hidden), "fc_rgb": (3, hidden // 2)}
    return random_state(sizes | {"fc_feat": (hidden, hidden)}, seed)


def flexible_forward(state, points, view, num_layers=6, skip_every=2, viewdirs=True):
    """Its forward pass: no activation after layer1, [h, x] at the skips, and one after fc_feat."""
    layer = lambda name, h: h @ state[f"{name}.weight"].T.astype(np.float64) + state[f"{name}.bias"]
    xyz = encode(points.astype(np.float64), 3)
    h = layer("layer1", xyz)
    for i in range(num_layers - 1):
        if i % skip_every == 0 and 0 < i < num_layers - 2:
            h = np.concatenate([h, xyz], axis=-1)
        h = np.maximum(layer(f"layers_xyz.{i}", h), 0)
    if not viewdirs:
        output = layer("fc_out", h)
        return output[..., :3], output[..., 3]
    d = np.broadcast_to(encode(view.astype(np.float64), 2)[:, None], (*h.shape[:-1], 15))
    y = np.concatenate([np.maximum(layer("fc_feat", h), 0), d], axis=-1)
    return layer("fc_rgb", np.maximum(layer("layers_dir.0", y), 0)), layer("fc_alpha", h)[..., 0]


def lightning_state(seed, depth=4, width=8, skip=2):
    """kwea123's network: names and shapes."""
    sizes = {f"xyz_encoding_{i + 1}.0": (width, 21 if i == 0 else width + 21 * (i == skip)) for i in range(depth)}
    sizes |= {"xyz_encoding_final": (width, width), "dir_encoding.0": (width // 2, width + 15), "sigma": (1, width)}
    return random_state(sizes | {"rgb.0": (3, width // 2)}, seed)


def lightning_forward(state, points, view, depth=4, skip=2):
    """Its forward pass: [x, h] before the layer of the skip, and a linear feature."""
    layer = lambda name, h: h @ state[f"{name}.weight"].T.astype(np.float64) + state[f"{name}.bias"]
    xyz = h = encode(points.astype(np.float64), 3)
    for i in range(depth):
        h = np.concatenate([xyz, h], axis=-1) if i == skip else h
        h = np.maximum(layer(f"xyz_encoding_{i + 1}.0", h), 0)
    d = np.broadcast_to(encode(view.astype(np.float64), 2)[:, None], (*h.shape[:-1], 15))
    y = np.concatenate([layer("xyz_encoding_final", h), d], axis=-1)
    return layer("rgb.0", np.maximum(layer("dir_encoding.0", y), 0)), layer("sigma", h)[..., 0]


def others_of(kind):
    """What else the checkpoint holds, its prefixes, its states and their forward pass."""
    if kind == "kwea123":
        states = [lightning_state(seed) for seed in (1, 2)]
        return (
            {"epoch": 3, "global_step": 7},
            ("state_dict.nerf_coarse", "state_dict.nerf_fine"),
            states,
            lightning_forward,
        )
    settings = {"viewdirs": kind == "krrish94"}
    states = [flexible_state(seed, **settings) for seed in (5, 6)]
    more = {"iter": 199_999, "loss": 0.01, "psnr": 20.0, "optimizer_state_dict.state.0.step": 5}
    forward = lambda *arguments: flexible_forward(*arguments, **settings)
    return more, ("model_coarse_state_dict", "model_fine_state_dict"), states, forward


@pytest.mark.parametrize("kind", ["krrish94", "krrish94 without view", "kwea123"])
def test_checkpoints_of_other_ports_compute_the_same(kind, tmp_path):
    more, prefixes, states, forward = others_of(kind)
    weights = {f"{p}.{n}": a for p, state in zip(prefixes, states, strict=True) for n, a in state.items()}
    write_weights(tmp_path / "checkpoint.npz", weights | {name: np.array(value) for name, value in more.items()})
    network, params = convert.read_checkpoint(tmp_path / "checkpoint.npz")
    rng = np.random.default_rng(3)
    points, view = rng.uniform(-1, 1, (3, 6, 3)).astype(np.float32), rng.normal(size=(3, 3)).astype(np.float32)
    found = in_float32(
        lambda params: {name: network.apply({"params": of}, points, view) for name, of in params.items()}, params
    )
    assert found.keys() == {"coarse", "fine"}
    for name, state in zip(("coarse", "fine"), states, strict=True):
        raw_rgb, raw_density = forward(state, points, view)
        np.testing.assert_allclose(found[name][0], 1 / (1 + np.exp(-raw_rgb)), rtol=3e-4, atol=1e-6)
        np.testing.assert_allclose(found[name][1], np.maximum(raw_density, 0), rtol=3e-4, atol=1e-4)
        assert found[name][1].max() > 0.1, name
    expected = (4, (1,), 8) if kind == "kwea123" else (6, (2,), 10)
    assert (network.depth, network.skips, network.width) == expected
    assert (network.position_frequencies, network.view_dependent) == (3, "without" not in kind)
    # The state dict alone, and the coarse network alone.
    alone = convert.from_pytorch(states[1])
    jax.tree.map(np.testing.assert_array_equal, alone.params["coarse"], params["fine"])
    coarse = {name: array for name, array in weights.items() if name.startswith(prefixes[0])}
    assert convert.from_pytorch(coarse).params.keys() == {"coarse"}


def test_other_checkpoints_are_refused_by_name(tmp_path):
    """What is not a network that is read is refused with its names and those that are read, never misread."""

    def refused(weights, message):
        write_weights(tmp_path / "x.npz", {name: np.asarray(array) for name, array in weights.items()})
        with pytest.raises(ValueError, match=message) as error:
            convert.read_checkpoint(tmp_path / "x.npz")
        assert "x.npz" in str(error.value)

    state, small = flexible_state(0), np.zeros((3, 3), np.float32)
    refused({"iter": 3, "loss": 0.1}, "names .iter, loss, ...; 2 in all. are of none .* .with layer1.weight")
    refused({}, "of none of the networks")
    # krrish94's PaperNeRFModel and ReplicateNeRFModel: the same names, other networks.
    refused({n: a for n, a in state.items() if "layer1" not in n}, "are of none of the networks")
    replicate = {f"layer{i}.weight": small for i in (1, 2, 3, 4, 5)} | {
        "fc_rgb.weight": small,
        "fc_alpha.weight": small,
    }
    refused({f"model_coarse_state_dict.{n}": a for n, a in replicate.items()}, "another of krrish94's networks")
    refused({f"a.{n}": a for n, a in state.items()} | {f"b.{n}": a for n, a in state.items()}, "under 'a.', 'b.'")
    refused(state | state_dict(**SHAPES[0]), "are of several of the networks")
    refused({n: a for n, a in state.items() if n != "fc_alpha.bias"}, "fc_alpha.bias is missing")
    refused(state | {"layers_dir.0.weight": small}, r"view_0 has a kernel of shape \(3, 3\)")


def test_lists_that_are_not_the_authors_are_refused(tmp_path):
    with pytest.raises(ValueError, match="3 arrays; expected a kernel and a bias"):
        convert.from_authors([np.zeros((3, 3))] * 3)
    with pytest.raises(
        ValueError, match="the names .weights, ...; 1 in all. are of none of the networks that are read"
    ):
        convert.from_nerf_pytorch({"weights": np.zeros(3)})
    write_weights(tmp_path / "torch.npz", state_dict(**SHAPES[0]))
    with pytest.raises(ValueError, match="holds both networks"):
        convert.read_checkpoint(tmp_path / "torch.npz", tmp_path / "torch.npz")
