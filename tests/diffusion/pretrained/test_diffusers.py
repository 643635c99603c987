"""Networks of diffusers, against its forward pass in NumPy, and both ways."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion, weights
from jaxgen.diffusion.unet.attention import split_qkv
from tests.diffusion.pretrained.numpy_diffusers import DDPM, GUIDED, random_weights, unet
from tests.programs import values

LEARNED = {"variance_type": "learned_range", "beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 400}


def folder_of(path, config, scheduler, arrays, pipeline=False):
    unet, settings = (path / "unet", path / "scheduler") if pipeline else (path, path)
    for folder in (unet, settings):
        folder.mkdir(parents=True, exist_ok=True)
    (unet / "config.json").write_text(json.dumps(config))
    (settings / "scheduler_config.json").write_text(json.dumps(scheduler))
    weights.write_weights(unet / "diffusion_pytorch_model.safetensors", arrays)
    return path


@pytest.mark.parametrize(
    "config, scheduler, label", [(DDPM, {}, None), pytest.param(GUIDED, LEARNED, 3, marks=pytest.mark.slow)]
)
def test_a_converted_network_computes_what_diffusers_computes(config, scheduler, label, tmp_path):
    arrays = random_weights(config)
    found = diffusion.load_pretrained(folder_of(tmp_path / "model", config, scheduler, arrays, label is not None))
    assert found.name == "model"
    height, width, _ = found.model.shape
    x = np.random.default_rng(1).normal(size=(2, height, width, 3))
    labels = () if label is None else (np.full(2, label),)
    program = lambda params, x, *labels: found.model.network.apply({"params": params}, x, jnp.array([3, 300]), *labels)
    computed = values(program, found.params, x, *labels)
    for i, t in enumerate((3, 300)):
        expected = unet(x[i], t, arrays, config, label)
        np.testing.assert_allclose(computed[i], expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("config, scheduler", [(DDPM, {}), (GUIDED, LEARNED)])
def test_there_and_back_is_the_identity(config, scheduler, tmp_path):
    arrays = random_weights(config)
    model = diffusion.diffusers_model(config, scheduler)
    params = diffusion.from_diffusers(model.network, arrays, model.shape[:2], config)
    again = diffusion.to_diffusers(model.network, jax.device_get(params))
    assert set(again) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)
    diffusion.save_diffusers(tmp_path / "out", model, params)
    found = diffusion.load_pretrained(tmp_path / "out")
    assert found.model.network.clone(dropout=0.0) == model.network.clone(dropout=0.0)
    betas = [np.frombuffer(each.schedule.exact_betas) for each in (found.model, model)]
    np.testing.assert_allclose(*betas, rtol=1e-15)
    assert (found.model.variance, found.model.shape) == (model.variance, model.shape)
    assert weights.tree_digest(found.params) == weights.tree_digest(params)
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    same = lambda name: written[name] == config[name]
    assert all(same(name) for name in config if name not in ("downsample_padding",) or config is DDPM)
    with pytest.raises(FileExistsError, match=r"out holds config.json, scheduler_config.json, diffusion_pytorch_model"):
        diffusion.save_diffusers(tmp_path / "out", model, params)


def test_names_of_before_0_18_and_sines_in_the_other_order():
    arrays = random_weights(DDPM)
    model = diffusion.diffusers_model(DDPM, {})
    params = diffusion.from_diffusers(model.network, arrays, 8, DDPM)
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def renamed(name):
        for new, old in older.items():
            name = name.replace(f".{new}.", f".{old}.")
        return name

    assert len({renamed(name) for name in arrays} - set(arrays)) == 4 * 4 * 2
    found = diffusion.from_diffusers(model.network, {renamed(name): x for name, x in arrays.items()}, 8, DDPM)
    assert weights.tree_digest(found) == weights.tree_digest(params)
    for flip, shift in ((True, 1), (False, 0)):
        config = DDPM | {"flip_sin_to_cos": flip, "freq_shift": shift}
        network = diffusion.diffusers_model(config, {}).network
        kernel = diffusion.from_diffusers(network, arrays, 8, config)["time_0"]["kernel"]
        angles = 123 / 10000 ** (np.arange(4) / (4 - shift))
        sines = [np.sin(angles), np.cos(angles)]
        expected = np.concatenate(sines[::-1] if flip else sines) @ arrays["time_embedding.linear_1.weight"].T
        ours = diffusion.timestep_embedding(jnp.array([123]), 8, network.embedding)[0]
        np.testing.assert_allclose(np.asarray(ours) @ np.asarray(kernel), expected, rtol=1e-3, atol=1e-5)


def test_heads_of_another_order_are_put_in_that_of_diffusers():
    network = diffusion.diffusers_model(GUIDED, LEARNED).network.clone(qkv_order="heads_first")
    shapes = diffusion.parameter_shapes(network, (8, 12))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), shapes)
    arrays = diffusion.to_diffusers(network, params)
    q, k, v = split_qkv(params["middle_attention"]["qkv"]["kernel"][None], 4, "heads_first")
    for part, kernel in (("q", q), ("k", k), ("v", v)):
        expected = np.asarray(kernel).reshape(16, 16).T
        np.testing.assert_array_equal(arrays[f"mid_block.attentions.0.to_{part}.weight"], expected)
    back = diffusion.from_diffusers(network, arrays, (8, 12), GUIDED)
    assert weights.tree_digest(back) == weights.tree_digest(params)


@pytest.mark.parametrize(
    "config, scheduler, message",
    [
        ({"_class_name": "UNet2DConditionModel"}, {}, "is of 'UNet2DConditionModel'"),
        ({"center_input_sample": True, "act_fn": "gelu"}, {}, "center_input_sample is True(?s:.*)act_fn is 'gelu'"),
        ({"resnet_time_scale_shift": "scale_shift"}, {}, "attn_norm_num_groups is None: the attention in the middle"),
        ({"attention_head_dim": 5}, {}, r"attention_head_dim is 5, which does not divide \[16\]"),
        ({"sample_size": None}, {}, "sample_size is None"),
        ({"block_out_channels": [8, "x"]}, {}, r"block_out_channels\[1\] is 'x'; expected a positive integer"),
        ({"norm_eps": None}, {}, "holds a value of another type: float"),
        ({}, {"beta_start": "x"}, "start is 'x'; expected"),
        ({"layers_per_block": 0}, {}, "layers_per_block is 0; expected a positive integer"),
        ({"up_block_types": ["UpBlock2D", "UpBlock2D"]}, {}, "a level has attention on one way only"),
        ({"up_block_types": ["AttnUpBlock2D"]}, {}, "2 block_out_channels, 2 down and 1 up blocks"),
        ({"down_block_types": ["SkipDownBlock2D", "AttnDownBlock2D"]}, {}, "down_block_types holds 'SkipDownBlock2D'"),
        ({"upsample_type": "resnet"}, {}, "levels change resolution in different ways"),
        ({}, {"variance_type": "learned_range"}, "3 channels in and 3 out, which does not fit the"),
        ({}, {"beta_schedule": "laplace"}, "beta_schedule is 'laplace'"),
        ({}, {"thresholding": True, "prediction_type": "flow"}, "prediction_type is 'flow', thresholding is True"),
    ],
)
def test_what_is_not_in_this_library_is_named(config, scheduler, message):
    with pytest.raises(ValueError, match=message):
        diffusion.diffusers_model(DDPM | config, scheduler)


def test_what_diffusers_lacks_is_named():
    model = diffusion.diffusers_model(DDPM, {"prediction_type": "v_prediction", "clip_sample": False})
    assert (model.prediction, model.clip, model.options.clip) == ("v", False, False)
    settings = diffusion.diffusers_config(model)[1]
    assert (settings["prediction_type"], settings["clip_sample"]) == ("v_prediction", False)
    wrong = diffusion.DiffusionModel(model.network.clone(resample="plain"), model.schedule, low_resolution=4)
    with pytest.raises(ValueError, match="no resampling without convolutions, no a network that enlarges"):
        diffusion.diffusers_config(wrong)


def test_files_that_are_missing_or_damaged(tmp_path):
    folder = folder_of(tmp_path / "m", DDPM, {}, random_weights(DDPM))
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json: line 1, .*not a whole JSON file"):
        diffusion.load_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(DDPM))
    (folder / "scheduler_config.json").unlink()
    with pytest.raises(FileNotFoundError, match="there is no scheduler_config.json in"):
        diffusion.load_pretrained(folder)
    (folder / "scheduler_config.json").write_text("{}")
    with pytest.raises(ValueError, match="leave the name and flags out"):
        diffusion.load_pretrained(folder, "ddpm_cifar10")
    arrays = random_weights(DDPM)
    arrays["conv_out.bias"][1] = np.inf
    weights.write_weights(folder / "diffusion_pytorch_model.safetensors", arrays)
    with pytest.raises(ValueError, match="not finite: conv_out/bias; the training diverged"):
        diffusion.load_pretrained(folder / "diffusion_pytorch_model.safetensors")
