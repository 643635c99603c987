"""The network against an independent rendering of the published layers, and its size."""

import itertools
from typing import Any

import jax
import numpy as np
import pytest
from flax import linen as nn
from scipy import special

from jaxgen import nerf
from tests.programs import in_float32, in_float64

POINTS = np.random.default_rng(0).uniform(-1, 1, size=(5, 4, 3))
VIEW = np.random.default_rng(1).normal(size=(5, 3))
VIEW = VIEW / np.linalg.norm(VIEW, axis=-1, keepdims=True)
SMALL: dict[str, Any] = dict(
    depth=4, width=7, skips=(1,), view_width=5, position_frequencies=3, direction_frequencies=2
)


def shapes(network, views=(1, 3)):
    arguments = jax.ShapeDtypeStruct((1, 1, 3), np.float32), jax.ShapeDtypeStruct(views, np.float32)
    return jax.eval_shape(network.init, jax.random.key(0), *arguments)["params"]


def random_params(network, scale=0.7):
    generator = np.random.default_rng(2)
    return jax.tree.map(lambda s: scale * generator.normal(size=s.shape), shapes(network))


def apply(network, params, *arguments):
    return in_float64(lambda params, *a: network.apply({"params": params}, *a), params, *arguments)


def gamma(x, num_frequencies):
    """The released code's embedding: x, then for each frequency sines and cosines of all coordinates; no pi."""
    return np.concatenate([x, *(f(2.0**k * x) for k in range(num_frequencies) for f in (np.sin, np.cos))], -1)


def dense(layer, *inputs):
    return np.concatenate(inputs, -1) @ layer["kernel"] + layer["bias"]


def published_layers(params, depth, skips, skip_first=True, view_depth=1, noise: Any = 0.0):
    """init_nerf_model of the released code, layer by layer: raw color and raw density."""
    relu = lambda a: np.maximum(a, 0)
    position = gamma(POINTS, 3)
    h = position
    for i in range(depth):
        h = relu(dense(params[f"trunk_{i}"], h))
        if i in skips:
            h = np.concatenate([position, h] if skip_first else [h, position], -1)
    density = dense(params["density"], h)[..., 0] + noise
    view = np.broadcast_to(gamma(VIEW, 2)[:, None, :], (5, 4, 15))
    h = np.concatenate([dense(params["feature"], h), view], -1)
    for i in range(view_depth):
        h = relu(dense(params[f"view_{i}"], h))
    return dense(params["rgb"], h), density


SKIPS = [((1,), 1), ((0, 2), 2), ((), 1)]


def test_equals_the_published_layers():
    """In one program for all places of the skips and both orders of a skip's input."""
    cases = list(itertools.product(SKIPS, (True, False)))
    networks = [
        nerf.NeRF(**{**SMALL, "skips": skips}, skip_first=skip_first, view_depth=view_depth)
        for (skips, view_depth), skip_first in cases
    ]
    every = list(map(random_params, networks))
    raw = lambda params, case: published_layers(params, 4, case[0][0], case[1], case[0][1])
    for case, params in zip(cases, every, strict=True):
        # As many densities below zero as above.
        params["density"]["bias"] -= np.median(raw(params, case)[1])
    found = in_float64(
        lambda every: [n.apply({"params": p}, POINTS, VIEW) for n, p in zip(networks, every, strict=True)], every
    )
    for case, params, (rgb, density) in zip(cases, every, found, strict=True):
        raw_rgb, raw_density = raw(params, case)
        np.testing.assert_allclose(rgb, special.expit(raw_rgb), rtol=1e-10, err_msg=str(case))
        np.testing.assert_allclose(density, np.maximum(raw_density, 0), rtol=1e-10, atol=1e-12, err_msg=str(case))
        assert (raw_density < 0).any() and (raw_density > 0).any(), case


def test_noise_is_added_before_the_activation():
    network = nerf.NeRF(**SMALL)
    params = random_params(network)
    noise = 5 * np.random.default_rng(3).normal(size=(5, 4))
    _, density = apply(network, params, POINTS, VIEW, noise)
    expected = np.maximum(published_layers(params, 4, (1,), noise=noise)[1], 0)
    np.testing.assert_allclose(density, expected, rtol=1e-10, atol=1e-12)


def test_the_softplus_option_and_the_padded_color():
    network = nerf.NeRF(**SMALL, density_activation=nerf.shifted_softplus, rgb_padding=0.01)
    params = random_params(network, 0.4)
    rgb, density = apply(network, params, POINTS, VIEW)
    raw_rgb, raw_density = published_layers(params, 4, (1,))
    np.testing.assert_allclose(density, np.log1p(np.exp(raw_density - 1)), rtol=1e-10)
    np.testing.assert_allclose(rgb, 1.02 * special.expit(raw_rgb) - 0.01, rtol=1e-10)


def test_without_view_dependence_the_color_is_linear_in_the_last_layer():
    network = nerf.NeRF(**SMALL, view_dependent=False)
    params = random_params(network)
    assert set(params) == {"trunk_0", "trunk_1", "trunk_2", "trunk_3", "density", "rgb"}
    rgb, other = in_float64(
        lambda *params: [network.apply({"params": params[0]}, POINTS, view)[0] for view in (VIEW, -VIEW)], params
    )
    h = position = gamma(POINTS, 3)
    for i in range(4):
        h = np.maximum(dense(params[f"trunk_{i}"], *([position, h] if i == 2 else [h])), 0)
    np.testing.assert_allclose(rgb, special.expit(dense(params["rgb"], h)), rtol=1e-10)
    np.testing.assert_array_equal(rgb, other)


def test_the_encodings_options_reach_the_encoding():
    """A linear network whose only weight reads one feature of gamma(x)."""
    options: dict[str, Any] = dict(pi=True, include_input=False, encoding_order="blocks")
    network = nerf.NeRF(depth=1, width=1, skips=(), position_frequencies=2, view_dependent=False, **options)
    params = jax.tree.map(lambda s: np.zeros(s.shape), shapes(network))
    params["trunk_0"]["kernel"][4, 0] = 1  # blocks of D = 3: sin(2 pi y)
    params["trunk_0"]["bias"][0] = 2
    params["density"]["kernel"][0, 0] = 1
    _, density = apply(network, params, POINTS, VIEW)
    np.testing.assert_allclose(density, 2 + np.sin(2 * np.pi * POINTS[..., 1]), rtol=1e-12)


def test_the_papers_network_has_its_number_of_parameters():
    sizes = shapes(nerf.NeRF())
    assert sum(leaf.size for leaf in jax.tree.leaves(sizes)) == 595_844
    assert sizes["trunk_5"]["kernel"].shape == (256 + 63, 256)
    assert sizes["view_0"]["kernel"].shape == (256 + 27, 128)


def test_a_joined_layer_is_a_dense_layer_on_the_concatenation():
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(4, 6, 3)).astype(np.float32), generator.normal(size=(4, 1, 2)).astype(np.float32)
    together = np.concatenate([a, np.broadcast_to(b, (4, 6, 2))], -1)
    plain = nn.Dense(5, kernel_init=nn.initializers.glorot_uniform())
    joined = nerf.JoinedDense(5)
    params, others = (
        jax.eval_shape(layer.init, jax.random.key(0), *inputs) for layer, *inputs in ((plain, together), (joined, a, b))
    )
    for x, y in zip(jax.tree.leaves(params), jax.tree.leaves(others), strict=True):
        assert x.shape == y.shape
    params = jax.tree.map(lambda s: generator.normal(size=s.shape).astype(np.float32), params)
    parts, whole = in_float32(lambda p: (joined.apply(p, a, b), plain.apply(p, together)), params)
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)


def test_kernels_start_glorot_uniform_and_biases_at_zero():
    """Of the fan of the whole layer, also where its input is in parts."""
    parts = np.ones((1, 300), np.float32), np.ones((1, 100), np.float32)
    kernel = in_float32(lambda: nerf.JoinedDense(400).init(jax.random.key(0), *parts))["params"]
    limit = np.sqrt(6 / 800)
    assert limit * 0.999 < np.abs(kernel["kernel"]).max() <= limit and not np.any(kernel["bias"])


def test_wrong_inputs():
    network = nerf.NeRF(**SMALL)
    params = random_params(network)
    with pytest.raises(ValueError, match=r"view has shape \(5, 4, 3\)"):
        apply(network, params, POINTS, np.ones((5, 4, 3)))
    with pytest.raises(ValueError, match=r"points has shape \(5, 4, 2\)"):
        apply(network, params, POINTS[..., :2], VIEW)
    with pytest.raises(ValueError, match=r"skips are \(7,\); with depth 8 they are in 0..6"):
        shapes(nerf.NeRF(skips=(7,)))
