"""UNet2DModel of diffusers, both ways: `config.json`, the scheduler's settings, and the weights.

Source: the modules UNet2DModel, its blocks and DDPMScheduler of huggingface/diffusers.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.diffusion.betas import cosine_betas, linear_betas, quadratic_betas
from jaxgen.diffusion.model import DiffusionModel
from jaxgen.diffusion.pretrained.by_layer import DIFFUSERS, entries_by_layer
from jaxgen.diffusion.pretrained.entries import Entry, Params, parameter_shapes, to_parameters, to_weights
from jaxgen.diffusion.schedule import make_schedule
from jaxgen.diffusion.unet.networks import UNet

CONFIG, SCHEDULER = "config.json", "scheduler_config.json"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_PREDICTIONS = {"epsilon": "noise", "sample": "x0", "v_prediction": "v"}
_VARIANCES = {
    "fixed_small": "fixed_small",
    "fixed_small_log": "fixed_small",
    "fixed_large": "fixed_large",
    "fixed_large_log": "fixed_large",
    "learned": "learned",
    "learned_range": "learned_range",
}
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
    kind = config.get("_class_name", "UNet2DModel")
    if kind != "UNet2DModel":
        raise ValueError(f"{CONFIG} is of {kind!r}; expected 'UNet2DModel'")
    given = {**_UNET, **config}
    problems = [
        f"{name} is {config[name]!r}; expected {' or '.join(map(repr, values))}"
        for name, values in _FIXED.items()
        if name in config and config[name] not in values
    ]
    lists = ("block_out_channels", "down_block_types", "up_block_types")
    problems += _mistyped(given, ("in_channels", "out_channels", "layers_per_block", "norm_num_groups"), lists)
    widths = given["block_out_channels"]
    if not problems:
        problems += _mistyped(dict(enumerate(widths)), tuple(range(len(widths))), ()) or _unlike(given)
    if problems:
        raise ValueError(_REFUSED + "\n  ".join(problems))
    levels = range(len(widths))
    down, up = _blocks(given, "down"), _blocks(given, "up")[::-1]
    size = given.get("sample_size")
    sides = (size, size) if isinstance(size, int) else tuple(size or ())
    if len(sides) != 2:
        problems.append(f"sample_size is {size!r}; expected the height and width of the images")
    if len(down) != len(widths) or len(up) != len(widths):
        problems.append(f"{len(widths)} block_out_channels, {len(down)} down and {len(up)} up blocks; expected as many")
    elif [attends for attends, _ in down] != [attends for attends, _ in up]:
        problems.append("a level has attention on one way only")
    kinds = {way for _, way in (*down[:-1], *up[1:])}
    if len(kinds) > 1:
        problems.append("levels change resolution in different ways")
    if problems:
        raise ValueError(_REFUSED + "\n  ".join(problems))
    head = given["attention_head_dim"]
    network = UNet(
        in_channels=given["in_channels"],
        out_channels=given["out_channels"],
        channels=widths[0],
        multipliers=tuple(width / widths[0] for width in widths),
        num_blocks=given["layers_per_block"],
        attention_resolutions=tuple(sides[0] >> level for level in levels if down[level][0]),
        head_channels=head,
        qkv_order="qkv_first",
        dropout=given["dropout"],
        scale_shift=given["resnet_time_scale_shift"] == "scale_shift",
        resample="residual" if kinds == {"resnet"} else "conv",
        embedding="sin_cos" if given["freq_shift"] else "cos_sin",
        stride_padding="symmetric" if given["downsample_padding"] else "same",
        num_groups=given["norm_num_groups"],
        norm_epsilon=given["norm_eps"],
        initialization="fan_in",
        num_classes=given["num_class_embeds"],
    )
    variance = _VARIANCES.get(scheduler.get("variance_type", "fixed_small"))
    prediction = _PREDICTIONS.get(scheduler.get("prediction_type", "epsilon"))
    wrong = [
        f"{name} is {scheduler[name]!r}"
        for name, value in (
            ("variance_type", variance),
            ("prediction_type", prediction),
            ("thresholding", not scheduler.get("thresholding")),
            ("rescale_betas_zero_snr", not scheduler.get("rescale_betas_zero_snr")),
            (
                "clip_sample_range",
                scheduler.get("clip_sample_range", 1.0) == 1 or not scheduler.get("clip_sample", True),
            ),
        )
        if not value
    ]
    if wrong:
        raise ValueError(f"{SCHEDULER} is of sampling that is not in this library: {', '.join(wrong)}")
    learns = variance in ("learned", "learned_range")
    if given["out_channels"] != given["in_channels"] * (2 if learns else 1):
        raise ValueError(
            f"the network has {given['in_channels']} channels in and {given['out_channels']} out, which does not fit "
            f"the scheduler's variance_type {scheduler.get('variance_type', 'fixed_small')!r}"
        )
    return DiffusionModel(
        network,
        make_schedule(_betas(scheduler)),
        prediction=prediction,  # type: ignore[arg-type]
        variance=variance,  # type: ignore[arg-type]
        shape=(*sides, given["in_channels"]),
        clip=scheduler.get("clip_sample", True),
    )


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
    return to_parameters(_entries(network, shapes, _is_flipped(config)), found, shapes)


def to_diffusers(network: UNet, params: Params) -> dict[str, np.ndarray]:
    """The weights of the UNet2DModel of `diffusers_config`: name -> array, from the parameters of `network`."""
    return to_weights(_entries(network, params, False), params)


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
    betas = np.frombuffer(schedule.exact_betas, np.float64)
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
        "prediction_type": {ours: theirs for theirs, ours in _PREDICTIONS.items()}[model.prediction],
        "clip_sample": model.clip,
    }
    return config, scheduler


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
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}; expected a JSON object")
    return found


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


def _mistyped(given: Mapping[str, Any], whole: tuple[str, ...], lists: tuple[str, ...]) -> list[str]:
    def positive(x: Any) -> bool:
        return type(x) is int and x > 0

    problems = [
        f"{name} is {given[name]!r}; expected a positive integer" for name in whole if not positive(given[name])
    ]
    return problems + [
        f"{name} is {given[name]!r}; expected a list"
        for name in lists
        if not isinstance(given[name], list | tuple) or not given[name]
    ]


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


def _betas(scheduler: Mapping[str, Any]) -> np.ndarray:
    steps, kind = scheduler.get("num_train_timesteps", 1000), scheduler.get("beta_schedule", "linear")
    start, end = scheduler.get("beta_start", 1e-4), scheduler.get("beta_end", 0.02)
    if scheduler.get("trained_betas") is not None:
        return np.asarray(scheduler["trained_betas"], np.float64)
    if kind == "linear":
        return linear_betas(steps, start, end)
    if kind == "scaled_linear":
        return quadratic_betas(steps, start, end)
    if kind == "squaredcos_cap_v2":
        return cosine_betas(steps)
    if kind == "sigmoid":
        return (end - start) / (1 + np.exp(-np.linspace(-6, 6, steps))) + start
    raise ValueError(f"beta_schedule is {kind!r}; expected 'linear', 'scaled_linear', 'squaredcos_cap_v2' or 'sigmoid'")


def _is_flipped(config: Mapping[str, Any]) -> bool:
    """Whether the time embedding has its sines and cosines in the other order than this library's."""
    return config.get("flip_sin_to_cos", True) == bool(config.get("freq_shift", 0))


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
