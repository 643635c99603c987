"""UNet2DModel of diffusers in float64 NumPy for one example, on its own names; and random weights for it."""

from typing import Any

import numpy as np

from tests.diffusion.unet import numpy_unet as layers

DDPM: dict[str, Any] = {
    "_class_name": "UNet2DModel", "sample_size": 8, "in_channels": 3, "out_channels": 3, "block_out_channels": [8, 16],
    "layers_per_block": 1, "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "norm_num_groups": 4,
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "attention_head_dim": None, "norm_eps": 1e-6,
    "flip_sin_to_cos": False, "freq_shift": 1, "downsample_padding": 0,
}  # fmt: skip
"""As google/ddpm-cifar10-32, smaller."""
GUIDED = DDPM | {
    "out_channels": 6, "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D"], "downsample_type": "resnet",
    "up_block_types": ["AttnUpBlock2D", "ResnetUpsampleBlock2D"], "upsample_type": "resnet", "attention_head_dim": 4,
    "norm_eps": 1e-5, "flip_sin_to_cos": True, "freq_shift": 0, "downsample_padding": 1, "num_class_embeds": 5,
    "resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 4, "sample_size": [8, 12],
}  # fmt: skip
"""The options of guided-diffusion, on images that are not square."""


def random_weights(config, seed=0):
    """name -> array, with the shapes of PyTorch."""
    rng = np.random.default_rng(seed)
    weights = {}

    def layer(name, *shape):
        weights[f"{name}.weight"] = rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))
        weights[f"{name}.bias"] = 0.3 * rng.normal(size=shape[0])

    def norm(name, width):
        weights[f"{name}.weight"], weights[f"{name}.bias"] = 1 + 0.1 * rng.normal(size=width), rng.normal(size=width)

    def resnet(name, width, out):
        norm(f"{name}.norm1", width)
        layer(f"{name}.conv1", out, width, 3, 3)
        layer(f"{name}.time_emb_proj", out * (2 if "num_class_embeds" in config else 1), 4 * widths[0])
        norm(f"{name}.norm2", out)
        layer(f"{name}.conv2", out, out, 3, 3)
        if width != out:
            layer(f"{name}.conv_shortcut", out, width, 1, 1)

    def attention(name, width):
        norm(f"{name}.group_norm", width)
        for part in ("to_q", "to_k", "to_v", "to_out.0"):
            layer(f"{name}.{part}", width, width)

    def change(name, width):
        if config.get("downsample_type") == "resnet":
            resnet(name, width, width)
        else:
            layer(f"{name}.conv", width, width, 3, 3)

    widths = config["block_out_channels"]
    small, large = widths
    layer("conv_in", small, config["in_channels"], 3, 3)
    layer("time_embedding.linear_1", 4 * small, small)
    layer("time_embedding.linear_2", 4 * small, 4 * small)
    if "num_class_embeds" in config:
        weights["class_embedding.weight"] = rng.normal(size=(config["num_class_embeds"], 4 * small))
    resnet("down_blocks.0.resnets.0", small, small)
    change("down_blocks.0.downsamplers.0", small)
    resnet("down_blocks.1.resnets.0", small, large)
    attention("down_blocks.1.attentions.0", large)
    resnet("mid_block.resnets.0", large, large)
    attention("mid_block.attentions.0", large)
    resnet("mid_block.resnets.1", large, large)
    for i, skip in enumerate((large, small)):
        resnet(f"up_blocks.0.resnets.{i}", large + skip, large)
        attention(f"up_blocks.0.attentions.{i}", large)
    change("up_blocks.0.upsamplers.0", large)
    for i, below in enumerate((large, small)):
        resnet(f"up_blocks.1.resnets.{i}", below + small, small)
    norm("conv_norm_out", small)
    layer("conv_out", config["out_channels"], small, 3, 3)
    return {name: array.astype(np.float32) for name, array in weights.items()}


def unet(x, t, weights, config, label=None):
    """The forward pass of UNet2DModel with two levels of one block each: x [H, W, C]."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    groups, epsilon = config["norm_num_groups"], config["norm_eps"]
    scale_shift = config.get("resnet_time_scale_shift") == "scale_shift"

    def dense(name, h):
        return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def conv(name, h, stride=1, pad=((1, 1), (1, 1))):
        kernel = {"kernel": w[f"{name}.weight"].transpose(2, 3, 1, 0), "bias": w[f"{name}.bias"]}
        return layers.conv3(h, kernel, stride, pad)

    def norm(name, h):
        return layers.group_norm(h, {"scale": w[f"{name}.weight"], "bias": w[f"{name}.bias"]}, groups, epsilon)

    def resnet(name, x, resample=lambda x: x):
        h = conv(f"{name}.conv1", resample(layers.swish(norm(f"{name}.norm1", x))))
        e = dense(f"{name}.time_emb_proj", layers.swish(embedding))
        if scale_shift:
            scale, shift = np.split(e, 2)
            h = norm(f"{name}.norm2", h) * (1 + scale) + shift
        else:
            h = norm(f"{name}.norm2", h + e)
        x, h = resample(x), conv(f"{name}.conv2", layers.swish(h))
        shortcut = w.get(f"{name}.conv_shortcut.weight")
        return h + (x if shortcut is None else x @ shortcut[:, :, 0, 0].T + w[f"{name}.conv_shortcut.bias"])

    def attention(name, x):
        h = norm(f"{name}.group_norm", x).reshape(-1, x.shape[-1])
        q, k, v = (dense(f"{name}.to_{part}", h) for part in "qkv")
        size = config["attention_head_dim"] or x.shape[-1]
        heads = [slice(i, i + size) for i in range(0, x.shape[-1], size)]
        parts = [layers.softmax(q[:, s] @ k[:, s].T / np.sqrt(size)) @ v[:, s] for s in heads]
        return x + dense(f"{name}.to_out.0", np.concatenate(parts, axis=1)).reshape(x.shape)

    half = config["block_out_channels"][0] // 2
    angles = t / 10000 ** (np.arange(half) / (half - config["freq_shift"]))
    parts = [np.sin(angles), np.cos(angles)]
    embedding = np.concatenate(parts[::-1] if config["flip_sin_to_cos"] else parts)
    embedding = dense("time_embedding.linear_2", layers.swish(dense("time_embedding.linear_1", embedding)))
    if label is not None:
        embedding = embedding + w["class_embedding.weight"][label]

    skips = [conv("conv_in", x)]
    skips.append(resnet("down_blocks.0.resnets.0", skips[-1]))
    if config.get("downsample_type") == "resnet":
        skips.append(resnet("down_blocks.0.downsamplers.0", skips[-1], layers.halve))
    else:
        pad = ((1, 1), (1, 1)) if config["downsample_padding"] else ((0, 1), (0, 1))
        skips.append(conv("down_blocks.0.downsamplers.0.conv", skips[-1], 2, pad))
    h = attention("down_blocks.1.attentions.0", resnet("down_blocks.1.resnets.0", skips[-1]))
    skips.append(h)
    h = attention("mid_block.attentions.0", resnet("mid_block.resnets.0", h))
    h = resnet("mid_block.resnets.1", h)
    for i in range(2):
        h = resnet(f"up_blocks.0.resnets.{i}", np.concatenate([h, skips.pop()], axis=-1))
        h = attention(f"up_blocks.0.attentions.{i}", h)
    if config.get("upsample_type") == "resnet":
        h = resnet("up_blocks.0.upsamplers.0", h, layers.double)
    else:
        h = conv("up_blocks.0.upsamplers.0.conv", layers.double(h))
    for i in range(2):
        h = resnet(f"up_blocks.1.resnets.{i}", np.concatenate([h, skips.pop()], axis=-1))
    return conv("conv_out", layers.swish(norm("conv_norm_out", h)))
