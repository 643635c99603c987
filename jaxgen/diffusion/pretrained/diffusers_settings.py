"""Settings of UNet2DModel and DDPMScheduler of diffusers (config.json, scheduler_config.json), both ways.

Source: UNet2DModel, its blocks and DDPMScheduler in the code of diffusers (von Platen et al. 2022).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxgen.diffusion.model import DiffusionModel
from jaxgen.diffusion.pretrained.diffusers_scheduler import PREDICTIONS, SCHEDULER, read_betas, read_output
from jaxgen.diffusion.schedule import exact_betas, make_schedule
from jaxgen.diffusion.unet.networks import UNet

CONFIG = "config.json"
# Settings whose other values compute what this library's networks do not.
_FIXED: dict[str, tuple[Any, ...]] = {
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "time_embedding_dim": (None,),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "act_fn": ("silu", "swish"),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "attention_legacy_order": (False,),
    "add_attention": (True,),
    "class_embed_type": (None,),
    "downsample_padding": (0, 1),
    "downsample_type": ("conv", "resnet"),
    "upsample_type": ("conv", "resnet"),
    "freq_shift": (0, 1),
}
_REFUSED = f"{CONFIG} is of a network that is not in this library:\n  "
_UNET = {
    "in_channels": 3,
    "out_channels": 3,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (224, 448, 672, 896),
    "layers_per_block": 2,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "num_class_embeds": None,
}
_BLOCKS = {
    "DownBlock2D": (False, "conv"),
    "AttnDownBlock2D": (True, "downsample_type"),
    "ResnetDownsampleBlock2D": (False, "resnet"),
    "UpBlock2D": (False, "conv"),
    "AttnUpBlock2D": (True, "upsample_type"),
    "ResnetUpsampleBlock2D": (False, "resnet"),
}


def diffusers_model(config: Mapping[str, Any], scheduler: Mapping[str, Any]) -> DiffusionModel:
    """The model that a UNet2DModel and its scheduler are.

    Args:
        config: of UNet2DModel, as in its config.json; missing settings have the values of diffusers.
        scheduler: of DDPMScheduler or DDIMScheduler, as in scheduler_config.json.

    Raises:
        ValueError: a setting whose networks or schedules are not in this library; all such settings are listed.
    """
    try:
        network, (height, width) = _network(config)
        prediction, variance = read_output(scheduler, network)
        schedule = make_schedule(read_betas(scheduler))
    except (TypeError, KeyError, IndexError, OverflowError) as error:
        raise ValueError(f"{CONFIG} or {SCHEDULER} holds a value of another type: {error}") from error
    return DiffusionModel(
        network,
        schedule,
        prediction=prediction,
        variance=variance,
        shape=(height, width, network.in_channels),
        clip=bool(scheduler.get("clip_sample", True)),
    )


def _network(config: Mapping[str, Any]) -> tuple[UNet, tuple[int, int]]:
    """The network, and the height and width of its images."""
    kind = config.get("_class_name", "UNet2DModel")
    if kind != "UNet2DModel":
        raise ValueError(f"{CONFIG} is of {kind!r}; expected 'UNet2DModel'")
    given = {**_UNET, **config}
    problems = [
        f"{name} is {config[name]!r}; expected {' or '.join(map(repr, values))}"
        for name, values in _FIXED.items()
        if name in config and config[name] not in values
    ]
    widths, size = list(given["block_out_channels"]), given.get("sample_size")
    sides = [size, size] if isinstance(size, int) else list(size or ())
    counts = {name: given[name] for name in ("in_channels", "out_channels", "layers_per_block", "norm_num_groups")}
    counts |= {f"block_out_channels[{i}]": width for i, width in enumerate(widths)}
    problems += [
        f"{name} is {value!r}; expected a positive integer"
        for name, value in counts.items()
        if type(value) is not int or value < 1
    ]
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        problems.append(f"sample_size is {size!r}; expected the height and width of the images")
    if problems:
        raise ValueError(_REFUSED + "\n  ".join(problems))
    down, up = _blocks(given, "down"), _blocks(given, "up")[::-1]
    kinds = {way for _, way in (*down[:-1], *up[1:])}
    problems = _unlike(given)
    if not len(down) == len(up) == len(widths):
        problems.append(f"{len(widths)} block_out_channels, {len(down)} down and {len(up)} up blocks; expected as many")
    elif [attends for attends, _ in down] != [attends for attends, _ in up]:
        problems.append("a level has attention on one way only")
    if len(kinds) > 1:
        problems.append("levels change resolution in different ways")
    if problems:
        raise ValueError(_REFUSED + "\n  ".join(problems))
    network = UNet(
        in_channels=given["in_channels"],
        out_channels=given["out_channels"],
        channels=widths[0],
        multipliers=tuple(width / widths[0] for width in widths),
        num_blocks=given["layers_per_block"],
        attention_resolutions=tuple(sides[0] >> level for level, (attends, _) in enumerate(down) if attends),
        head_channels=given["attention_head_dim"],
        qkv_order="qkv_first",
        dropout=float(given["dropout"]),
        scale_shift=given["resnet_time_scale_shift"] == "scale_shift",
        resample="residual" if kinds == {"resnet"} else "conv",
        embedding="sin_cos" if given["freq_shift"] else "cos_sin",
        stride_padding="symmetric" if given["downsample_padding"] else "same",
        num_groups=given["norm_num_groups"],
        norm_epsilon=float(given["norm_eps"]),
        initialization="fan_in",
        num_classes=given["num_class_embeds"],
    )
    return network, (sides[0], sides[1])


def diffusers_config(model: DiffusionModel) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings (config.json, scheduler_config.json) with which diffusers computes what the model does.

    Raises:
        ValueError: the model is none that diffusers has; what it lacks is listed.
    """
    network = model.network
    if not isinstance(network, UNet):
        raise ValueError("diffusers' UNet2DModel is a denoiser, and this is a classifier")
    widths = [round(network.channels * multiplier) for multiplier in network.multipliers]
    attends = [model.shape[0] >> level in network.attention_resolutions for level in range(len(widths))]
    attended = {width for width, has in zip(widths, attends, strict=True) if has} | {widths[-1]}
    many = network.num_heads > 1 and network.head_channels is None
    schedule = model.schedule
    problems = [
        text
        for text, is_wrong in (
            ("resampling without convolutions", network.resample == "plain"),
            (f"{network.num_heads} heads at several widths", many and len(attended) > 1),
            ("timesteps in other units", model.rescaled_timesteps and schedule.num_original_steps != 1000),
            ("a network that enlarges small images", model.low_resolution is not None),
            ("a learned variance that is left out", model.ignored_variance is not None),
            ("a prediction of the mean", model.prediction == "mean"),
            ("a respaced schedule", schedule.num_steps != schedule.num_original_steps),
        )
        if is_wrong
    ]
    if problems:
        raise ValueError(f"diffusers' UNet2DModel has no {', no '.join(problems)}")
    head = network.head_channels
    if many:
        head = widths[-1] // network.num_heads
    way = "resnet" if network.resample == "residual" else "conv"
    plain = {"conv": ("DownBlock2D", "UpBlock2D"), "resnet": ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D")}[way]
    betas = exact_betas(schedule)
    is_linear = np.allclose(betas, np.linspace(betas[0], betas[-1], len(betas)), rtol=1e-12, atol=0)
    config = {
        "_class_name": "UNet2DModel",
        "sample_size": model.shape[0] if model.shape[0] == model.shape[1] else list(model.shape[:2]),
        "in_channels": network.in_channels,
        "out_channels": network.out_channels,
        "block_out_channels": widths,
        "layers_per_block": network.num_blocks,
        "down_block_types": ["AttnDownBlock2D" if has else plain[0] for has in attends],
        "up_block_types": ["AttnUpBlock2D" if has else plain[1] for has in reversed(attends)],
        "downsample_type": way,
        "upsample_type": way,
        "downsample_padding": int(network.stride_padding == "symmetric"),
        "attention_head_dim": head,
        "norm_num_groups": network.num_groups,
        "attn_norm_num_groups": network.num_groups,
        "norm_eps": network.norm_epsilon,
        "resnet_time_scale_shift": "scale_shift" if network.scale_shift else "default",
        "dropout": network.dropout,
        "flip_sin_to_cos": network.embedding == "cos_sin",
        "freq_shift": int(network.embedding == "sin_cos"),
        "num_class_embeds": network.num_classes,
    }
    scheduler = {
        "_class_name": "DDPMScheduler",
        "num_train_timesteps": len(betas),
        "beta_schedule": "linear",
        "beta_start": betas[0],
        "beta_end": betas[-1],
        "trained_betas": None if is_linear else betas.tolist(),
        "variance_type": model.variance,
        "prediction_type": {ours: theirs for theirs, ours in PREDICTIONS.items()}[model.prediction],
        "clip_sample": model.clip,
    }
    return config, scheduler


def _unlike(given: Mapping[str, Any]) -> list[str]:
    """What of the settings is no network here, although each value alone is."""
    problems = []
    widths, groups = given["block_out_channels"], given["attn_norm_num_groups"]
    if groups != given["norm_num_groups"] and (groups or given["resnet_time_scale_shift"] == "scale_shift"):
        problems.append(
            f"attn_norm_num_groups is {groups!r}: the attention in the middle has no norm like the others; expected "
            f"{given['norm_num_groups']}"
        )
    head = given["attention_head_dim"]
    has = [kind.startswith("Attn") for kind in given["down_block_types"]]
    attended = {width for width, attends in zip(widths, has, strict=False) if attends} | {widths[-1]}
    if head is not None and any(width % head for width in attended):
        problems.append(f"attention_head_dim is {head}, which does not divide {sorted(attended)}")
    return problems


def _blocks(given: Mapping[str, Any], direction: str) -> list[tuple[bool, str]]:
    """(whether there is attention, how resolution changes) of each block."""
    found = []
    for kind in given[f"{direction}_block_types"]:
        if kind not in _BLOCKS or direction not in kind.lower():
            known = [name for name in _BLOCKS if direction in name.lower()]
            raise ValueError(f"{direction}_block_types holds {kind!r}; expected {', '.join(known)}")
        attends, way = _BLOCKS[kind]
        found.append((attends, given.get(way, way)))
    return found


def is_flipped(config: Mapping[str, Any]) -> bool:
    """Whether the time embedding has its sines and cosines in the other order than this library's."""
    return config.get("flip_sin_to_cos", True) == bool(config.get("freq_shift", 0))
