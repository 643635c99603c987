"""Conversion against the authors' code: the same weights give the numbers that guided-diffusion's own modules gave."""

import functools
import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion, weights
from tests.programs import values

BASE: dict[str, Any] = dict(
    out_channels=6, channels=32, multipliers=(1, 2), num_blocks=1, attention_resolutions=(4,), dropout=0.0,
    embedding="cos_sin", stride_padding="symmetric", norm_epsilon=1e-5, scale_shift=True,
)  # fmt: skip
RESIDUAL: dict[str, Any] = BASE | {"resample": "residual"}
CLASSIFIER: dict[str, Any] = RESIDUAL | {"out_channels": 7, "head_channels": 16}
NETWORKS = {
    "adm64": diffusion.UNet(**RESIDUAL, head_channels=16, qkv_order="qkv_first", num_classes=10),
    "adm128": diffusion.UNet(**dict(RESIDUAL, attention_resolutions=(8, 4)), num_heads=4),
    "iddpm": diffusion.UNet(**BASE, num_heads=4),
    "lsun": diffusion.UNet(**dict(BASE, scale_shift=False)),
    "plain": diffusion.UNet(**dict(BASE, scale_shift=False), num_heads=2, resample="plain"),
    "upsampler": diffusion.UNet(**RESIDUAL, num_heads=4, in_channels=6, num_classes=10),
    **{
        f"pool_{pool}": diffusion.EncoderUNet(**CLASSIFIER, pool=pool)
        for pool in ("attention", "adaptive", "spatial", "spatial_v2")
    },
}
FAST = ("adm64", "pool_attention")
# Root mean square, and the first and last number of both examples, of the authors' modules in float64 (PyTorch 2.13).
GOLD = {
    "adm64": (0.33265538, 0.33593742, 0.66847717, 0.17553872, 0.51353624),
    "adm128": (0.2776842, -0.19542159, -0.49366296, -0.11315199, -0.32139825),
    "iddpm": (0.4120998, 0.0082609296, 0.18434556, 0.0014629925, 0.18525707),
    "lsun": (0.66071927, 0.29110522, -0.28970085, -0.32682908, -0.57911006),
    "plain": (0.37121047, 0.32877115, -0.49808848, 0.16467875, -0.43129225),
    "upsampler": (0.45401474, 0.094344792, -0.19274252, 0.27910991, -0.17396205),
    "pool_attention": (0.41188093, 0.057214853, 0.24730582, 0.064896924, 0.25747462),
    "pool_adaptive": (0.32703439, 0.70855193, -0.048600559, 0.69603006, -0.048690038),
    "pool_spatial": (4.3441797, 7.8645411, -5.7132164, 7.244627, -5.7219727),
    "pool_spatial_v2": (1.0236079, -0.92954795, -0.99504685, -0.87675918, -0.99146658),
}


@pytest.fixture(scope="module", autouse=True)
def shapes_are_traced_once():
    """Tracing a network takes most of the time of a conversion, and several tests convert the same."""
    cached = functools.cache(diffusion.parameter_shapes)
    with pytest.MonkeyPatch.context() as patch:
        for module in (
            "jaxgen.diffusion.pretrained.guided_diffusion",
            "jaxgen.diffusion.pretrained.ddpm",
            "jaxgen.diffusion",
        ):
            patch.setattr(importlib.import_module(module), "parameter_shapes", cached)
        yield


@functools.cache
def authors_weights(network):
    """Names and shapes of the authors, values as when GOLD was made."""
    shapes = diffusion.parameter_shapes(network, 8)
    zeros = jax.tree.map(lambda s: np.zeros(s.shape, np.float32), shapes)
    names = diffusion.to_guided_diffusion(network, zeros)
    rng = np.random.default_rng(0)
    draw = lambda shape: (rng.normal(size=shape) * (0.1 if len(shape) > 1 else 0.3)).astype(np.float32)
    return {name: draw(names[name].shape) for name in sorted(names)}


@pytest.mark.parametrize(
    "name",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS],
)
def test_converted_weights_compute_what_the_authors_modules_computed(name):
    network = NETWORKS[name]
    params = diffusion.from_guided_diffusion(network, authors_weights(network), 8)
    rng = np.random.default_rng(1)
    x, low = (rng.normal(size=(2, size, size, 3)) for size in (8, 4))
    labels = (np.array([2, 9]),) if getattr(network, "num_classes", None) else ()

    def program(params, x, low, *labels):
        x = diffusion.with_low_resolution(x, low) if name == "upsampler" else x
        return network.apply({"params": params}, x, jnp.asarray([3, 700]), *labels)

    found = values(program, params, x, low, *labels).astype(np.float64)
    numbers = [np.sqrt(np.mean(found**2)), *found.reshape(2, -1)[:, [0, -1]].ravel()]
    np.testing.assert_allclose(numbers, GOLD[name], rtol=2e-4, atol=2e-4 * GOLD[name][0])


@pytest.mark.parametrize("name", ["adm64", "lsun", "upsampler", "pool_adaptive", "pool_spatial_v2"])
def test_there_and_back_is_the_identity(name):
    network = NETWORKS[name]
    weights = authors_weights(network)
    params = diffusion.from_guided_diffusion(network, weights, 8)
    again = diffusion.to_guided_diffusion(network, jax.device_get(params))
    assert list(again) != sorted(again) and set(again) == set(weights)
    for key, value in weights.items():
        np.testing.assert_array_equal(again[key], value)
    shapes = diffusion.parameter_shapes(network, 8)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(lambda s: s.shape, shapes)


def test_what_does_not_fit_is_listed_by_name(tmp_path):
    network = NETWORKS["lsun"]
    arrays = dict(authors_weights(network))
    arrays["extra.weight"] = np.zeros(3)
    arrays["out.2.bias"] = np.zeros(7)
    del arrays["middle_block.1.qkv.bias"]
    weights.write_weights(tmp_path / "w.npz", arrays)
    with pytest.raises(diffusion.WeightsMismatchError) as error:
        diffusion.from_guided_diffusion(network, weights.read_weights(tmp_path / "w.npz"), 8)
    for line in (
        "missing: middle_block.1.qkv.bias",
        "unknown: extra.weight",
        r"shape: out.2.bias is (7,), expected (6,)",
    ):
        assert line in str(error.value)


@pytest.mark.parametrize("prefix", ["module.", "model.", "state_dict.", "ema."])
def test_prefixes_are_taken_off(prefix):
    network, arrays = NETWORKS["lsun"], authors_weights(NETWORKS["lsun"])
    others = {
        "epoch": np.asarray(3),
        **({f"model.{name}": x + 1 for name, x in arrays.items()} if prefix == "ema." else {}),
    }
    file = {f"{prefix}{name}": array for name, array in arrays.items()} | others
    found, expected = (diffusion.from_guided_diffusion(network, given, 8) for given in (file, arrays))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_file_of_other_names_shows_them_first():
    other = {f"conv_in.{i}.weight": np.zeros(3) for i in range(9)}
    with pytest.raises(diffusion.WeightsMismatchError) as error:
        diffusion.from_guided_diffusion(NETWORKS["lsun"], other, 8)
    text = str(error.value)
    assert "The file holds 9 arrays: 'conv_in.0.weight', 'conv_in.1.weight'" in text.split("missing:")[0]
    state = {f"state.{i}.{kind}": np.zeros(3) for i in range(4) for kind in ("exp_avg", "exp_avg_sq", "step")}
    with pytest.raises(diffusion.WeightsMismatchError, match="this is an optimizer's state, not the network"):
        diffusion.from_guided_diffusion(NETWORKS["lsun"], state, 8)


def test_another_architecture_is_refused():
    weights = authors_weights(NETWORKS["adm64"])
    with pytest.raises(diffusion.WeightsMismatchError, match="another architecture.*(?s:.*)and [0-9]+ more"):
        diffusion.from_guided_diffusion(NETWORKS["lsun"], weights, 8)


# Ho et al.'s TensorFlow code.

DDPM = diffusion.UNet(
    in_channels=2,
    out_channels=2,
    channels=8,
    multipliers=(1, 2),
    num_blocks=1,
    attention_resolutions=(4,),
    num_groups=4,
)


def ddpm_weights():
    """Names and shapes as their graph for this network would have them, without its moving averages."""

    def block(place, width, out):
        names = {f"{place}/norm1/gamma": (width,), f"{place}/norm1/beta": (width,)}
        names |= {f"{place}/norm2/gamma": (out,), f"{place}/norm2/beta": (out,)}
        names |= {f"{place}/conv1/W": (3, 3, width, out), f"{place}/conv1/b": (out,)}
        names |= {f"{place}/conv2/W": (3, 3, out, out), f"{place}/conv2/b": (out,)}
        names |= {f"{place}/temb_proj/W": (32, out), f"{place}/temb_proj/b": (out,)}
        return names | (
            {f"{place}/nin_shortcut/W": (width, out), f"{place}/nin_shortcut/b": (out,)} if width != out else {}
        )

    def attention(place, width):
        names = {f"{place}/norm/gamma": (width,), f"{place}/norm/beta": (width,)}
        for part in ("q", "k", "v", "proj_out"):
            names |= {f"{place}/{part}/W": (width, width), f"{place}/{part}/b": (width,)}
        return names

    def conv(place, width, out):
        return {f"{place}/W": (3, 3, width, out), f"{place}/b": (out,)}

    names = {"temb/dense0/W": (8, 32), "temb/dense0/b": (32,), "temb/dense1/W": (32, 32), "temb/dense1/b": (32,)}
    names |= conv("conv_in", 2, 8) | block("down_0/block_0", 8, 8) | conv("down_0/downsample/conv", 8, 8)
    names |= block("down_1/block_0", 8, 16) | attention("down_1/attn_0", 16)
    names |= block("mid/block_1", 16, 16) | attention("mid/attn_1", 16) | block("mid/block_2", 16, 16)
    names |= block("up_1/block_0", 32, 16) | attention("up_1/attn_0", 16)
    names |= block("up_1/block_1", 24, 16) | attention("up_1/attn_1", 16) | conv("up_1/upsample/conv", 16, 16)
    names |= block("up_0/block_0", 24, 8) | block("up_0/block_1", 16, 8)
    names |= {"norm_out/gamma": (8,), "norm_out/beta": (8,)} | conv("conv_out", 8, 2)
    rng = np.random.default_rng(0)
    return {f"model/{name}": rng.normal(size=shape).astype(np.float32) for name, shape in names.items()}


def test_the_tensorflow_names_are_read_and_written():
    weights = ddpm_weights()
    average = {f"{name}/ExponentialMovingAverage": 2 * array for name, array in weights.items()}
    others = {"global_step": np.asarray(790000), "model/conv_in/W/Adam": np.zeros(3), "beta1_power": np.asarray(0.5)}
    params = diffusion.from_ddpm(DDPM, weights | average | others, 8, average=False)
    params = jax.device_get(params)
    again = diffusion.to_ddpm(DDPM, params)
    assert set(again) == set(weights)
    for name, array in weights.items():
        np.testing.assert_array_equal(again[name], array)
    kernel = params["middle_attention"]["qkv"]["kernel"]
    np.testing.assert_array_equal(kernel[:, 16:32], weights["model/mid/attn_1/k/W"])
    doubled = jax.device_get(diffusion.from_ddpm(DDPM, weights | average | others, 8))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, 2 * b), doubled, params)
    with pytest.raises(diffusion.WeightsMismatchError, match="missing: temb/dense0/W"):
        diffusion.from_ddpm(DDPM, weights | others, 8)
    with pytest.raises(ValueError, match="one head"):
        diffusion.from_ddpm(DDPM.clone(num_heads=2), weights, 8)
