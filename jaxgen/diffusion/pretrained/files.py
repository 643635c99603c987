"""Pretrained networks in the authors' files, and in files of this library's own names.

The network that a file holds is found from the file's name (`released`, whatever the suffix), or else from the number
of values in it: no two released networks have equally many and differ in more than dropout.
"""

import dataclasses
import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.diffusion.model import DiffusionModel
from jaxgen.diffusion.pretrained.ddpm import from_ddpm
from jaxgen.diffusion.pretrained.diffusers import WEIGHTS, from_diffusers, read_diffusers, to_diffusers
from jaxgen.diffusion.pretrained.diffusers_scheduler import SCHEDULER
from jaxgen.diffusion.pretrained.diffusers_settings import CONFIG, diffusers_config, diffusers_model
from jaxgen.diffusion.pretrained.entries import parameter_shapes
from jaxgen.diffusion.pretrained.flags import ANCHORS, NO_FLAGS, ModelFlags, found_settings, layout_of, model_of_flags
from jaxgen.diffusion.pretrained.guided_diffusion import from_guided_diffusion
from jaxgen.diffusion.pretrained.pytorch_diffusion import from_pytorch_diffusion
from jaxgen.diffusion.pretrained.released import Released, released
from jaxgen.files import as_path
from jaxgen.weights import explain, flatten, read_weights, select, tree_digest, unflatten, write_weights

FILES = (
    "weights of guided-diffusion, improved-diffusion or Ho et al. (.pt, .npz, .safetensors, .index), a folder of "
    "diffusers' UNet2DModel, or a run folder"
)


class Pretrained(NamedTuple):
    """A trained network.

    Attributes:
        name: of the released file, or of the run folder.
        model: the network, and what its output means.
        params: tree of its parameters.
    """

    name: str
    model: DiffusionModel
    params: Any

    @property
    def num_parameters(self) -> int:
        """Number of parameters."""
        return sum(x.size for x in jax.tree.leaves(self.params))

    def describe(self) -> dict[str, Any]:
        """What samples of the network depend on: its name and the sha256 of its parameters."""
        return {"name": self.name, "sha256": tree_digest(self.params)}

    def in_dtype(self, dtype: str) -> "Pretrained":
        """The same network, computing in "float32" or "bfloat16"."""
        network = self.model.network.clone(dtype=jnp.bfloat16 if dtype == "bfloat16" else None)
        return self._replace(model=dataclasses.replace(self.model, network=network))

    def with_size(self, height: int, width: int) -> "Pretrained":
        """The same network for images of another size, see `DiffusionModel.with_size`."""
        return self._replace(model=self.model.with_size(height, width))


def known() -> dict[str, Released]:
    """The released networks by name: that of the file without its suffix."""
    return {name.removesuffix(".pt"): entry for name, entry in released().items()}


def load_pretrained(path: str | Path, name: str = "", flags: ModelFlags = NO_FLAGS) -> Pretrained:
    """The network in a file, or in a folder of diffusers.

    A moving average of the parameters is taken where the file holds one.

    Args:
        path: a file of weights, of `save_parameters`, or the folder of a UNet2DModel or its pipeline.
        name: which of `released()` it is, without suffix; "": found from the file.
        flags: of the repository that wrote it, for a network that is none of `released()`.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsMismatchError: entries of the file are missing, unknown or of another shape; they are listed.
        ValueError: no released network has so many values, the name is unknown, the flags do not describe the file, or
            a parameter is not finite.
    """
    path = as_path(path)
    if found := read_diffusers(path):
        if name or flags.is_given:
            raise ValueError(f"{path} has a config.json, which describes the network; leave the name and flags out")
        return _checked(_load_diffusers(path, *found), path)
    if not path.is_file():
        raise FileNotFoundError(f"no file or folder {path}; expected {FILES}")
    weights = _of_network(read_weights(path))
    ours = {key: array for key, array in weights.items() if "/" in key}
    in_tensorflow = any(key.startswith("model/") for key in ours)
    counted = weights
    if in_tensorflow:
        is_average = lambda key: key.startswith("model/") and key.endswith("/ExponentialMovingAverage")
        counted = {key: array for key, array in weights.items() if is_average(key)}
    if flags.is_given:
        if name:
            raise ValueError(f"the network is named {name!r}, and there are flags of another; give one of them")
        # The flags are part of the name, because samples depend on them.
        given = [
            f"{key} {value}" for key, value in dataclasses.asdict(flags).items() if value != getattr(NO_FLAGS, key)
        ]
        name, model = f"{path.stem} ({', '.join(given)})", _own(path, weights, flags)
    else:
        name = identify(name, path, sum(array.size for array in counted.values()), weights)
        model = known()[name].model
    network, size = model.network, model.shape[0]
    if in_tensorflow or "temb.dense.0.weight" in weights:
        if model.is_classifier:
            raise ValueError(f"{path} holds Ho et al.'s network, and {name} is a classifier")
        params = (from_ddpm if in_tensorflow else from_pytorch_diffusion)(network, weights, size)
    elif ours:
        shapes = parameter_shapes(network, size)
        params = unflatten({key: np.asarray(array, np.float32) for key, array in ours.items()}, shapes, path)
    else:
        params = from_guided_diffusion(network, weights, size)
    return _checked(Pretrained(name, model, params), path)


def check_finite(params: Any, where: str | Path) -> None:
    """Raises ValueError where a parameter, of any shape, is NaN or infinite."""
    wrong = [name for name, array in flatten(params).items() if not np.isfinite(np.asarray(array, np.float32)).all()]
    if wrong:
        more = f" and {len(wrong) - 1} others" if len(wrong) > 1 else ""
        raise ValueError(f"{where} holds parameters that are not finite: {wrong[0]}{more}; the training diverged")


def _checked(pretrained: Pretrained, path: Path) -> Pretrained:
    check_finite(pretrained.params, path)
    return pretrained


def _load_diffusers(path: Path, config: dict[str, Any], scheduler: dict[str, Any], file: Path) -> Pretrained:
    model = diffusers_model(config, scheduler)
    params = from_diffusers(model.network, _of_network(read_weights(file)), model.shape[:2], config)
    return Pretrained(path.name if path.is_dir() else path.parent.name, model, params)


def _of_network(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of the network, without prefixes; the moving average where there is one."""
    # ermongroup/ddim writes a list: the network, its optimizer, epoch, step and the moving average.
    parts = {"0": "model", "4": "ema"}
    if "0.conv_in.weight" in weights or "0.module.conv_in.weight" in weights:
        split = {key: key.partition(".") for key in weights}
        weights = {f"{parts[a]}.{b}": weights[key] for key, (a, _, b) in split.items() if a in parts}
    return select(weights, ANCHORS)


def _own(path: Path, weights: Mapping[str, np.ndarray], flags: ModelFlags) -> DiffusionModel:
    layout = layout_of(_without_averages(weights))
    if layout is None:
        raise ValueError(
            f"{path} has names of no known layout. {explain(weights)} Expected those of guided-diffusion or "
            "improved-diffusion (time_embed.0.weight), of Ho et al. (model/temb/dense0/W) or of their PyTorch ports "
            "(temb.dense.0.weight)"
        )
    return model_of_flags(_without_averages(weights), layout, flags)


def _without_averages(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """TensorFlow's names without what stands before and after them."""
    return {key.removeprefix("model/").removesuffix("/ExponentialMovingAverage"): x for key, x in weights.items()}


def identify(name: str, path: Path, num_values: int, weights: Mapping[str, np.ndarray] | None = None) -> str:
    """The name of a released network: as given, as the file is called, or by the number of values in the file.

    Args:
        name: as given, or "".
        path: of the file.
        num_values: in the file.
        weights: the file's arrays, for the message.

    Raises:
        ValueError: there is none; the message lists the released networks.
    """
    models = known()
    name = name.removesuffix(".pt")
    if name:
        if name not in models:
            near = difflib.get_close_matches(name, models, n=1, cutoff=0)[0]
            raise ValueError(f"no network {name!r}; the nearest is {near!r}, all are {', '.join(models)}")
        return name
    if path.stem in models:
        return path.stem
    found = [key for key, entry in models.items() if entry.num_parameters == num_values]
    if not found:
        listed = "\n  ".join(f"{key}: {entry.num_parameters:,}" for key, entry in models.items())
        raise ValueError(
            f"{path} holds {num_values:,} numbers, as no published network does, and its name is none of theirs. "
            f"{_hint(weights or {})} Name the published one that it is meant to be (--network) to see which entries "
            f"differ. Their numbers of parameters:\n  {listed}"
        )
    kinds = [_without_dropout(models[key].model) for key in found]
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError(f"{path} may be {' or '.join(found)}, which have equally many parameters: name it (--network)")
    return found[0]


def _hint(weights: Mapping[str, np.ndarray]) -> str:
    """What to do with a network of one's own."""
    weights = _without_averages(weights)
    layout = layout_of(weights)
    if layout is None:
        return explain(weights)
    found = found_settings(weights, layout)
    shown = {"num_channels": found["channels"], "num_res_blocks": found["num_blocks"]}
    shown["channel_mult"] = ",".join(f"{multiplier:g}" for multiplier in found["multipliers"])
    heads = ", num_heads or num_head_channels" if layout == "guided_diffusion" else ""
    return (
        f"It is a network of one's own of {', '.join(f'{key} {value}' for key, value in shown.items())}: give the "
        f"flags (--model.) that are not in the file, image_size, noise_schedule{heads}."
    )


def _without_dropout(model: DiffusionModel) -> tuple[Any, ...]:
    """All that a model's samples depend on, as values that compare."""
    settings = {f.name: getattr(model, f.name) for f in dataclasses.fields(model)}
    betas, network = settings.pop("schedule").exact_betas, settings.pop("network").clone(dropout=0.0)
    return network, betas, tuple(settings.values())


def save_parameters(path: str | Path, params: Any) -> None:
    """Writes parameters under this library's names, as .npz or .safetensors; `load_pretrained` reads them.

    Args:
        path: of the file; one that is there is replaced when the new one is complete.
        params: tree of parameters.

    Raises:
        ValueError: another suffix.
    """
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{path.name}")
    try:
        write_weights(part, flatten(params))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def save_diffusers(folder: str | Path, model: DiffusionModel, params: Any) -> None:
    """Writes a UNet2DModel of diffusers: config.json, scheduler_config.json, diffusion_pytorch_model.safetensors.

    Args:
        folder: to write; its parents are made.
        model: the network, and what its output means.
        params: tree of its parameters.

    Raises:
        ValueError: the model is none that diffusers has.
        FileExistsError: the folder holds one of the files.
    """
    folder = Path(folder).expanduser()
    config, scheduler = diffusers_config(model)
    there = [name for name in (CONFIG, SCHEDULER, *WEIGHTS) if (folder / name).exists()]
    if there:
        raise FileExistsError(f"{folder} holds {', '.join(there)}; give another folder, or remove them")
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder / WEIGHTS[0], to_diffusers(model.network, params))
    for name, settings in ((SCHEDULER, scheduler), (CONFIG, config)):
        (folder / name).write_text(json.dumps(settings, indent=2), encoding="utf-8")
