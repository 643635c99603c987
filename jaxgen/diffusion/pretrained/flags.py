"""One's own networks of guided-diffusion, improved-diffusion and Ho et al., by the flags of their repositories.

What the arrays of a file show is found from them: widths, blocks, levels with attention, classes. The rest is given by
flags, which have the repositories' names, and flags that are given must agree with the file.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from jaxgen.diffusion.betas import cosine_betas, linear_betas
from jaxgen.diffusion.model import DiffusionModel
from jaxgen.diffusion.schedule import make_schedule
from jaxgen.diffusion.unet.networks import UNet

Layout = Literal["guided_diffusion", "pytorch_diffusion", "tensorflow"]
ANCHORS: dict[str, Layout] = {
    "time_embed.0.weight": "guided_diffusion",
    "temb.dense.0.weight": "pytorch_diffusion",
    "temb/dense0/W": "tensorflow",
}
"""A name that every file of a layout holds."""


@dataclasses.dataclass(frozen=True)
class ModelFlags:
    """Flags of create_model_and_diffusion in guided-diffusion and improved-diffusion; most are found from the file."""

    image_size: int = 0
    """height and width of the images in pixels; never in the file"""
    noise_schedule: Literal["", "linear", "cosine"] = ""
    """schedule of the training; never in the file"""
    diffusion_steps: int = 1000
    """T of the training"""
    num_heads: int = 0
    """heads of attention; never in the file. 0 or -1: by num_head_channels"""
    num_head_channels: int = 0
    """channels of a head; 0 or -1: by num_heads"""
    use_new_attention_order: bool = False
    """order of the attention's channels: q, k, v, then heads"""
    num_channels: int = 0
    """base width; 0: found from the file, as are the following"""
    num_res_blocks: int = 0
    """residual blocks of each level"""
    channel_mult: str = ""
    """multiples of the base width, "1,2,3,4" """
    attention_resolutions: str = ""
    """heights with attention, "32,16,8" """
    learn_sigma: bool | None = None
    """whether the network learns the variance"""
    class_cond: bool | None = None
    """whether the network has classes"""
    use_scale_shift_norm: bool | None = None
    """whether the embedding scales and shifts the norms"""
    resblock_updown: bool | None = None
    """whether residual blocks change the resolution"""
    rescale_timesteps: bool | None = None
    """whether the network takes 1000 t / T; needed where T is not 1000"""
    predict_xstart: bool = False
    """whether the network predicts x_0 in place of the noise"""
    sigma_small: bool = False
    """whether a fixed variance is the smaller one"""
    small_size: int = 0
    """height of the small images, for an upsampler, whose large_size is image_size"""

    @property
    def is_given(self) -> bool:
        """Whether a flag differs from its default."""
        return self != ModelFlags()


NO_FLAGS = ModelFlags()
"""No flag is given."""


def layout_of(weights: Mapping[str, np.ndarray]) -> Layout | None:
    """The layout of a file's names, without prefixes, or None where it is another."""
    return next((layout for name, layout in ANCHORS.items() if name in weights), None)


def found_settings(weights: Mapping[str, np.ndarray], layout: Layout) -> dict[str, Any]:
    """What the arrays of a network show, as attributes of `UNet`, and `levels`: those with attention.

    Args:
        weights: name -> array, of the layout.
        layout: of the names.

    Raises:
        ValueError: an array that shows a setting is missing, or of another shape.
    """
    try:
        return (_guided if layout == "guided_diffusion" else _by_level)(weights)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f"the file has names of {layout}, and its arrays are of no such network: {error}") from error


def model_of_flags(weights: Mapping[str, np.ndarray], layout: Layout, flags: ModelFlags) -> DiffusionModel:
    """The model of one's own weights.

    Args:
        weights: name -> array, of the layout.
        layout: of the names.
        flags: what is not in the file, and perhaps more.

    Raises:
        ValueError: flags that are needed are missing, or disagree with the file; all of them are listed.
    """
    found = found_settings(weights, layout)
    levels, inputs = found.pop("levels"), found["in_channels"]
    images = 2 if flags.small_size else 1
    channels, learned = inputs // images, found["out_channels"] == 2 * (inputs // images)
    is_ho = layout != "guided_diffusion"
    problems = _missing(flags, is_ho) + _differing(flags, found, levels, learned)
    if found["out_channels"] not in (channels, 2 * channels) or inputs % images or (inputs == 6 and images == 1):
        problems.append(
            f"the network has {inputs} channels in and {found['out_channels']} out; "
            + ("small_size belongs to networks with twice" if flags.small_size else "an upsampler needs small_size")
        )
    size = flags.image_size
    factor = 2 ** (len(found["multipliers"]) - 1)
    if size and size % factor:
        problems.append(
            f"image_size is {size}; the network's {len(found['multipliers'])} levels need a multiple of {factor}"
        )
    if problems:
        raise ValueError("the flags do not describe the network of the file:\n  " + "\n  ".join(problems))
    if not is_ho:
        head = max(flags.num_head_channels, 0) or None
        found |= {"num_heads": max(flags.num_heads, 1), "head_channels": head, "norm_epsilon": 1e-5}
        found |= {"embedding": "cos_sin", "stride_padding": "symmetric", "initialization": "fan_in"}
        found["qkv_order"] = "qkv_first" if flags.use_new_attention_order else "heads_first"
    network = UNet(**found, attention_resolutions=tuple(size >> level for level in levels), dropout=0.0)
    betas = (cosine_betas if flags.noise_schedule == "cosine" else linear_betas)(flags.diffusion_steps)
    fixed = "fixed_small" if flags.sigma_small else "fixed_large"
    return DiffusionModel(
        network,
        make_schedule(betas),
        prediction="x0" if flags.predict_xstart else "noise",
        variance="learned_range" if learned else fixed,
        shape=(size, size, channels),
        rescaled_timesteps=bool(flags.rescale_timesteps),
        low_resolution=flags.small_size or None,
    )


def _missing(flags: ModelFlags, is_ho: bool) -> list[str]:
    """What is needed and not given, or given and of no use."""
    heads, head_channels = max(flags.num_heads, 0), max(flags.num_head_channels, 0)
    return [
        text
        for text, is_wrong in (
            ("image_size is needed", flags.image_size < 1),
            ("noise_schedule is needed: linear or cosine", not flags.noise_schedule),
            ("diffusion_steps is below 1", flags.diffusion_steps < 1),
            ("num_heads or num_head_channels is needed", not is_ho and not heads and not head_channels),
            ("Ho et al.'s networks have one head", is_ho and (heads > 1 or head_channels)),
            ("Ho et al.'s networks have no use_new_attention_order", is_ho and flags.use_new_attention_order),
            (
                f"rescale_timesteps is needed where diffusion_steps is not 1000, and it is {flags.diffusion_steps}",
                not is_ho and flags.rescale_timesteps is None and flags.diffusion_steps != 1000,
            ),
            ("sigma_small is of a fixed variance, and learn_sigma is given", flags.sigma_small and flags.learn_sigma),
        )
        if is_wrong
    ]


def _differing(flags: ModelFlags, found: Mapping[str, Any], levels: list[int], learned: bool) -> list[str]:
    """What is given and is not what the file shows."""
    shown: dict[str, Any] = {
        "num_channels": found["channels"],
        "num_res_blocks": found["num_blocks"],
        "learn_sigma": learned,
        "class_cond": found["num_classes"] is not None,
        "use_scale_shift_norm": found["scale_shift"],
        "resblock_updown": found["resample"] == "residual",
    }
    problems = [
        f"{name} is {getattr(flags, name)}; the file's is {value}"
        for name, value in shown.items()
        if getattr(flags, name) not in (None, value) and not (getattr(flags, name) == 0 and type(value) is int)
    ]
    widths = [round(found["channels"] * multiplier) for multiplier in found["multipliers"]]
    if flags.channel_mult:
        given = [round(found["channels"] * number) for number in _numbers("channel_mult", flags.channel_mult)]
        if given != widths:
            file = ",".join(f"{multiplier:g}" for multiplier in found["multipliers"])
            problems.append(f"channel_mult is {flags.channel_mult}; the file's is {file}")
    if flags.attention_resolutions and flags.image_size:
        ratios = {
            flags.image_size // max(int(x), 1) for x in _numbers("attention_resolutions", flags.attention_resolutions)
        }
        if [level for level in range(len(widths)) if 2**level in ratios] != levels:
            file = ",".join(str(flags.image_size >> level) for level in levels) or "none"
            problems.append(
                f"attention_resolutions is {flags.attention_resolutions}; the file's, at image_size "
                f"{flags.image_size}, are {file}"
            )
    return problems


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{name} is {text!r}; expected numbers like 1,2,3") from None


def _guided(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The settings of a UNetModel of guided-diffusion or improved-diffusion."""
    outputs = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("output_blocks."))
    ups = {}
    for name in weights:
        match = re.fullmatch(r"output_blocks\.(\d+)\.[12]\.(conv|in_layers\.2)\.weight", name)
        if match:
            ups[int(match[1])] = match[2]
    inputs = {int(name.split(".")[1]) for name in weights if name.startswith("input_blocks.")}
    gaps = sorted(set(range(max(inputs) + 1)) - inputs)
    num_blocks = min(ups) if ups else (gaps[0] - 1 if gaps else outputs - 1)
    num_levels = outputs // (num_blocks + 1)
    position = lambda level, i: 1 + level * (num_blocks + 1) + i
    widths = [len(weights[f"input_blocks.{position(level, 0)}.0.out_layers.3.bias"]) for level in range(num_levels)]
    attends = lambda level: f"input_blocks.{position(level, 0)}.1.qkv.weight" in weights
    channels = weights["time_embed.0.weight"].shape[1]
    table = weights.get("label_emb.weight")
    kinds = {"conv": "conv", "in_layers.2": "residual"}
    return {
        "in_channels": weights["input_blocks.0.0.weight"].shape[1],
        "out_channels": len(weights["out.2.bias"]),
        "channels": channels,
        "multipliers": tuple(width / channels for width in widths),
        "num_blocks": num_blocks,
        "scale_shift": len(weights["input_blocks.1.0.emb_layers.1.bias"]) == 2 * widths[0],
        "resample": kinds[min(ups.values())] if ups else "plain" if gaps else "conv",
        "num_classes": None if table is None else len(table),
        "levels": [level for level in range(num_levels) if attends(level)],
    }


def _by_level(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The settings of a network of Ho et al., in TensorFlow's names or those of the PyTorch ports."""
    flat = {name.replace("/", ".").replace("down_", "down.", 1): array for name, array in weights.items()}
    in_tensorflow = "temb/dense0/W" in weights
    kernel, bias, dot = ("W", "b", "_") if in_tensorflow else ("weight", "bias", ".")
    num_levels = 1 + max(int(name.split(".")[1]) for name in flat if name.startswith("down."))
    starts = [f"down.{level}.block{dot}" for level in range(num_levels)]
    num_blocks = len({name[len(starts[0]) :].split(".")[0] for name in flat if name.startswith(starts[0])})
    widths = [len(flat[f"{start}0.conv1.{bias}"]) for start in starts]
    first = flat[f"conv_in.{kernel}"]
    channels = len(flat[f"conv_in.{bias}"])
    return {
        "in_channels": first.shape[2 if in_tensorflow else 1],
        "out_channels": len(flat[f"conv_out.{bias}"]),
        "channels": channels,
        "multipliers": tuple(width / channels for width in widths),
        "num_blocks": num_blocks,
        "scale_shift": False,
        "resample": "conv" if num_levels == 1 or f"down.0.downsample.conv.{kernel}" in flat else "plain",
        "num_classes": None,
        "levels": [level for level in range(num_levels) if f"down.{level}.attn{dot}0.q.{kernel}" in flat],
    }
