"""Trained diffusion networks from the authors' files, with all that sampling has to know.

Which network a file holds is known from its name (`diffusion.released`, whatever the suffix), or else from how many
numbers are in it: no two published networks have equally many and differ in more than dropout.
"""

import difflib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxgen import diffusion, training
from jaxgen.nn import weight_files
from jaxgen.training.checkpoints import flatten, unflatten

FILES = (
    "weights of guided-diffusion, improved-diffusion or Ho et al. (.pt, .npz, .safetensors, .index), or a run folder"
)
# Ho et al.'s files are called model.ckpt-790000 and the like; these are names for --network.
TENSORFLOW = {
    "ddpm_cifar10": diffusion.Released(diffusion.ddpm_unet(32), 32, 35_746_307, "linear"),
    "ddpm_256": diffusion.Released(diffusion.ddpm_unet(256), 256, 113_673_219, "linear"),
}


class Trained(NamedTuple):
    """A network with parameters, and what its output means.

    Attributes:
        name: of the released file that it is, or of the run folder.
        network: `UNet`, or `EncoderUNet` for a classifier.
        params: tree of its parameters.
        schedule: the chain that it was trained for.
        size: pixels a side of its images.
        prediction: what it puts out.
        variance: of p.
        rescaled: whether it sees `rescaled_timesteps`.
        low_resolution: pixels a side of the small images that an upsampler starts from, or None.
        null_label: the label that stands for none, or None where it was not trained without labels.
    """

    name: str
    network: diffusion.UNet | diffusion.EncoderUNet
    params: Any
    schedule: diffusion.Schedule
    size: int
    prediction: diffusion.Prediction = "noise"
    variance: diffusion.Variance = "learned_range"
    rescaled: bool = False
    low_resolution: int | None = None
    null_label: int | None = None

    @property
    def channels(self) -> int:
        """C of the images."""
        return self.network.in_channels // (1 if self.low_resolution is None else 2)

    @property
    def num_classes(self) -> int | None:
        """How many classes a label may name, or None for a network without."""
        if isinstance(self.network, diffusion.EncoderUNet):
            return self.network.out_channels
        if self.network.num_classes is None or self.null_label is None:
            return self.network.num_classes
        return self.null_label

    def __call__(self, params: Any, x: jax.Array, t: jax.Array, *labels: jax.Array) -> jax.Array:
        """The output for x [B, H, W, in_channels] at original timesteps t [B]; labels [B] where there are classes."""
        if self.rescaled:
            t = diffusion.rescaled_timesteps(t, self.schedule.num_original_steps)
        return self.network.apply({"params": params}, x, t, *labels)  # type: ignore[return-value]


def known() -> dict[str, diffusion.Released]:
    """The published networks by name: that of the file without its suffix."""
    return {name.removesuffix(".pt"): model for name, model in diffusion.released().items()} | TENSORFLOW


def load(path: str | Path, name: str = "") -> Trained:
    """The network in a file.

    Args:
        path: of the authors' weights, or of `save`.
        name: which of `known()` it is; "": found out.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsMismatchError: entries of the file are missing, unknown or of another shape; they are listed.
        ValueError: no published network has so many numbers, or the name is unknown.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no file or folder {path}; expected {FILES}")
    weights = weight_files.read_weights(path)
    ours = {key: array for key, array in weights.items() if "/" in key}
    in_tensorflow = any(key.startswith("model/") for key in ours)
    if in_tensorflow:
        averages = [key for key in weights if key.startswith("model/") and key.endswith("/ExponentialMovingAverage")]
        numbers = sum(weights[key].size for key in averages)
    else:
        numbers = sum(array.size for array in weights.values())
    name = chosen(name, path, numbers)
    model = known()[name]
    if in_tensorflow:
        if not isinstance(model.network, diffusion.UNet):
            raise ValueError(f"{path} holds Ho et al.'s network, and {name} is a classifier")
        params = diffusion.from_ddpm(model.network, weights, model.image_size)
    elif ours:
        shapes = diffusion.parameter_shapes(model.network, model.image_size)
        params = unflatten({key: np.asarray(array, np.float32) for key, array in ours.items()}, shapes, path)
    else:
        params = diffusion.from_guided_diffusion(model.network, weights, model.image_size)
    learned = model.network.out_channels != model.network.in_channels // (2 if model.low_resolution else 1)
    return Trained(
        name,
        model.network,
        params,
        diffusion.make_schedule(model.betas()),
        model.image_size,
        variance="learned_range" if learned else "fixed_large",
        rescaled=model.rescaled,
        low_resolution=model.low_resolution,
    )


def chosen(name: str, path: Path, numbers: int) -> str:
    """The name in `known()`: as given, as the file is called, or by how many numbers it holds.

    Raises:
        ValueError: there is none; the message says which there are.
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
    found = [key for key, model in models.items() if model.num_parameters == numbers]
    if not found:
        listed = "\n  ".join(f"{key}: {model.num_parameters:,}" for key, model in models.items())
        raise ValueError(
            f"{path} holds {numbers:,} numbers, as no published network does, and its name is none of theirs. Name the "
            f"one it is meant to be (--network) to see which entries differ. Their numbers of parameters:\n  {listed}"
        )
    kinds = [models[key]._replace(network=models[key].network.clone(dropout=0.0)) for key in found]
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError(f"{path} may be {' or '.join(found)}, which have equally many parameters: name it (--network)")
    return found[0]


def save(path: str | Path, params: Any) -> None:
    """Writes parameters under their names here, as .npz or .safetensors; `load` reads them.

    Args:
        path: of the file; one that is there is replaced when the new one is whole.
        params: tree of parameters.

    Raises:
        ValueError: another suffix.
    """
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{path.name}")
    try:
        weight_files.write_weights(part, flatten(params))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def describe(model: Trained) -> dict[str, Any]:
    """What samples of the model depend on: its name and the sha256 of its parameters."""
    return {"name": model.name, "sha256": training.tree_digest(model.params)}
