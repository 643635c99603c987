"""One's own networks: what is found from a file, and flags that must agree with it."""

import re
from typing import Any

import jax
import numpy as np
import pytest

from jaxgen import diffusion, weights
from jaxgen.diffusion.pretrained import flags as flags_module
from tests.diffusion.pretrained.toys import described

GUIDED: dict[str, Any] = dict(
    out_channels=6, channels=32, num_blocks=2, dropout=0.0, embedding="cos_sin", stride_padding="symmetric",
    norm_epsilon=1e-5, initialization="fan_in", num_heads=2, scale_shift=True,
)  # fmt: skip
NETWORKS = {
    "iddpm": diffusion.UNet(**GUIDED, multipliers=(1, 2, 2), attention_resolutions=(4, 2)),
    "adm": diffusion.UNet(**GUIDED | {"num_blocks": 1, "channels": 64, "resample": "residual"},
                          multipliers=(0.5, 1, 2), attention_resolutions=(4,), num_classes=7),
    "plain": diffusion.UNet(**GUIDED | {"scale_shift": False, "out_channels": 3}, multipliers=(1, 1),
                            attention_resolutions=(), resample="plain"),
    "one level": diffusion.UNet(**GUIDED, multipliers=(2,), attention_resolutions=(8,)),
}  # fmt: skip
DDPM = diffusion.UNet(channels=32, multipliers=(1, 2), num_blocks=1, attention_resolutions=(4,), dropout=0.0)
OWN = diffusion.ModelFlags(image_size=8, noise_schedule="cosine", num_heads=2)


def random_params(network, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), diffusion.parameter_shapes(network, 8))


def in_pytorch(arrays):
    """Arrays under the names and layouts of the PyTorch ports, from those of Ho et al.'s code."""
    found = {}
    for name, array in arrays.items():
        *place, kind = name.removeprefix("model/").split("/")
        place = re.sub(r"(down|up)_(\d+)", r"\1.\2", ".".join(place)).replace("dense", "dense.")
        place = place if place.startswith("mid") else re.sub(r"(block|attn)_(\d+)", r"\1.\2", place)
        if kind == "W" and array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
        elif kind == "W" and "temb" in place:
            array = array.T
        elif kind == "W":
            array = array.T[:, :, None, None]
        found[f"{place}.{'bias' if kind in ('b', 'beta') else 'weight'}"] = array
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_guided_diffusion_is_found_from_its_arrays(name, tmp_path):
    network, params = NETWORKS[name], random_params(NETWORKS[name])
    weights.write_weights(tmp_path / "model.safetensors", diffusion.to_guided_diffusion(network, params))
    found = diffusion.load_pretrained(tmp_path / "model.safetensors", flags=OWN)
    schedule = diffusion.make_schedule(diffusion.cosine_betas(1000))
    variance = "learned_range" if network.out_channels == 6 else "fixed_large"
    expected = diffusion.DiffusionModel(network, schedule, "noise", variance, (8, 8, 3))
    # Heights that no level has are not in the file.
    assert described(found.model) == described(expected)
    assert (
        weights.tree_digest(found.params) == weights.tree_digest(params)
        and found.name == "model (image_size 8, noise_schedule cosine, num_heads 2)"
    )


@pytest.mark.parametrize("layout", ["tensorflow", "pytorch", "list of ermongroup/ddim"])
def test_a_network_of_ho_et_al_is_found_from_its_arrays(layout, tmp_path):
    params = random_params(DDPM)
    arrays = diffusion.to_ddpm(DDPM, params)
    if layout == "tensorflow":
        arrays = {f"{name}/ExponentialMovingAverage": array for name, array in arrays.items()} | {
            name: 0 * array for name, array in arrays.items()
        }
    else:
        arrays = in_pytorch(arrays)
        again = diffusion.to_pytorch_diffusion(DDPM, params)
        assert set(again) == set(arrays) and all(np.array_equal(again[name], arrays[name]) for name in arrays)
    if layout == "list of ermongroup/ddim":
        average = {f"4.{name}": array for name, array in arrays.items()}
        arrays = {f"0.module.{name}": 0 * array for name, array in arrays.items()} | average
        arrays |= {"1.state.0.exp_avg": np.zeros(3), "2": np.asarray(7), "3": np.asarray(900)}
    weights.write_weights(tmp_path / "ckpt.npz", arrays)
    flags = diffusion.ModelFlags(image_size=8, noise_schedule="linear", diffusion_steps=50, sigma_small=True)
    found = diffusion.load_pretrained(tmp_path / "ckpt.npz", flags=flags)
    schedule = diffusion.make_schedule(diffusion.linear_betas(50))
    expected = diffusion.DiffusionModel(DDPM, schedule, "noise", "fixed_small", (8, 8, 3))
    assert described(found.model) == described(expected)
    assert weights.tree_digest(found.params) == weights.tree_digest(params)


@pytest.mark.parametrize("prefix", ["module.", "model.", "state_dict.", "ema."])
def test_prefixes_are_taken_off_before_a_network_is_found(prefix, tmp_path):
    network, params = NETWORKS["plain"], random_params(NETWORKS["plain"])
    arrays = diffusion.to_guided_diffusion(network, params)
    file = {f"{prefix}{name}": array for name, array in arrays.items()} | {"epoch": np.asarray(3)}
    if prefix == "ema.":
        file |= {f"model.{name}": array + 1 for name, array in arrays.items()}
    weights.write_weights(tmp_path / "m.npz", file)
    found = diffusion.load_pretrained(tmp_path / "m.npz", flags=OWN)
    assert weights.tree_digest(found.params) == weights.tree_digest(params)


AGREEING: dict[str, Any] = dict(
    num_channels=64, num_res_blocks=1, channel_mult="0.5,1,2", attention_resolutions="4", learn_sigma=True,
    class_cond=True, use_scale_shift_norm=True, resblock_updown=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def adm_arrays():
    return diffusion.to_guided_diffusion(NETWORKS["adm"], random_params(NETWORKS["adm"]))


def model_of(arrays, **changes):
    base: dict[str, Any] = dict(image_size=8, noise_schedule="linear", num_head_channels=16)
    return flags_module.model_of_flags(arrays, "guided_diffusion", diffusion.ModelFlags(**base | changes))


def test_flags_that_agree_with_the_file(adm_arrays):
    model = model_of(adm_arrays, **AGREEING, use_new_attention_order=True, predict_xstart=True)
    network = NETWORKS["adm"].clone(num_heads=1, head_channels=16, qkv_order="qkv_first")
    assert (model.network, model.prediction, model.num_classes) == (network, "x0", 7)
    assert not model.rescaled_timesteps
    assert model_of(adm_arrays, diffusion_steps=400, rescale_timesteps=True).rescaled_timesteps
    larger = model_of(adm_arrays, image_size=16, attention_resolutions="8")
    assert (larger.network.attention_resolutions, larger.shape) == ((8,), (16, 16, 3))


def test_an_upsampler_has_small_images():
    network = NETWORKS["one level"].clone(in_channels=6)
    arrays = diffusion.to_guided_diffusion(network, random_params(network))
    model = model_of(arrays, small_size=4, num_heads=2)
    assert (model.low_resolution, model.shape, model.variance) == (4, (8, 8, 3), "learned_range")
    with pytest.raises(ValueError, match="6 channels in and 6 out; an upsampler needs small_size"):
        model_of(arrays)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_channels": 32}, "num_channels is 32; the file's is 64"),
        ({"num_res_blocks": 2}, "num_res_blocks is 2; the file's is 1"),
        ({"channel_mult": "1,2,3"}, "channel_mult is 1,2,3; the file's is 0.5,1,2"),
        ({"channel_mult": "1;2"}, "channel_mult is '1;2'; expected numbers"),
        ({"attention_resolutions": "8,4"}, "attention_resolutions is 8,4; the file's, at image_size 8, are 4"),
        ({"learn_sigma": False}, "learn_sigma is False; the file's is True"),
        ({"class_cond": False}, "class_cond is False; the file's is True"),
        ({"use_scale_shift_norm": False}, "use_scale_shift_norm is False; the file's is True"),
        ({"resblock_updown": False}, "resblock_updown is False; the file's is True"),
        ({"small_size": 4}, "the network has 3 channels in and 6 out; small_size belongs"),
        ({"image_size": 10}, "image_size is 10; the network's 3 levels need a multiple of 4"),
        ({"diffusion_steps": 400}, "rescale_timesteps is needed where diffusion_steps is not 1000, and it is 400"),
        (
            {"image_size": 0, "noise_schedule": "", "num_head_channels": -1},
            r"image_size is needed\n  noise_schedule is needed: linear or cosine\n  num_heads or num_head_channels is",
        ),
    ],
)
def test_flags_that_do_not_describe_the_file_are_listed(adm_arrays, changes, message):
    with pytest.raises(ValueError, match=f"the flags do not describe(?s:.*){message}|^{message}"):
        model_of(adm_arrays, **changes)


def test_a_file_without_flags_says_which_are_needed(adm_arrays, tmp_path):
    weights.write_weights(tmp_path / "own.npz", adm_arrays)
    needed = "It is a network of one's own of num_channels 64, num_res_blocks 1, channel_mult 0.5,1,2: give the flags"
    with pytest.raises(ValueError, match=f"{needed} .*image_size, noise_schedule, num_heads or num_head_channels"):
        diffusion.load_pretrained(tmp_path / "own.npz")
    with pytest.raises(ValueError, match="and there are flags of another"):
        diffusion.load_pretrained(tmp_path / "own.npz", "64x64_diffusion", OWN)
    weights.write_weights(tmp_path / "other.npz", {"encoder.0.weight": np.zeros(3), "encoder.0.bias": np.zeros(3)})
    with pytest.raises(ValueError, match="no known layout. The file holds 2 arrays: 'encoder.0.weight', 'encoder.0"):
        diffusion.load_pretrained(tmp_path / "other.npz", flags=OWN)
    cut = {name: x for name, x in adm_arrays.items() if name != "input_blocks.1.0.out_layers.3.bias"}
    weights.write_weights(tmp_path / "cut.npz", cut)
    with pytest.raises(ValueError, match="names of guided_diffusion, and its arrays are of no such network"):
        diffusion.load_pretrained(tmp_path / "cut.npz", flags=OWN)


def test_networks_that_compute_otherwise_are_not_written_for_the_ports():
    network = NETWORKS["one level"]
    with pytest.raises(ValueError, match=r"no networks with num_heads 2 \(expected 1\), scale_shift True"):
        diffusion.to_pytorch_diffusion(network, {})


def test_another_size_keeps_attention_at_its_levels(adm_arrays):
    model = model_of(adm_arrays)
    other = model.with_size(16, 12)
    assert (other.shape, other.network.attention_resolutions) == ((16, 12, 3), (8,))
    shapes = [diffusion.parameter_shapes(each.network, each.shape[:2]) for each in (model, other)]
    assert shapes[0] == shapes[1]
    assert described(other.with_size(8, 8)) == described(model)
    with pytest.raises(ValueError, match="the size is 18 x 3, and the network halves images 2 times; .* 16 x 4"):
        model.with_size(18, 3)
    pooled = diffusion.DiffusionModel(diffusion.adm_classifier(64), model.schedule, shape=(64, 64, 3))
    with pytest.raises(ValueError, match="which pools by attention, takes 64 pixels"):
        pooled.with_size(128, 128)
