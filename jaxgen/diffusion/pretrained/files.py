"""Pretrained networks in the authors' files, and in files of this library's own names.

The network that a file holds is found from the file's name (`released`, whatever the suffix), or else from the number
of values in it: no two released networks have equally many and differ in more than dropout.
"""

import dataclasses
import difflib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.diffusion.model import DiffusionModel
from jaxgen.diffusion.pretrained.ddpm import from_ddpm
from jaxgen.diffusion.pretrained.entries import parameter_shapes
from jaxgen.diffusion.pretrained.guided_diffusion import from_guided_diffusion
from jaxgen.diffusion.pretrained.released import Released, released
from jaxgen.files import as_path
from jaxgen.weights import flatten, read_weights, tree_digest, unflatten, write_weights

FILES = (
    "weights of guided-diffusion, improved-diffusion or Ho et al. (.pt, .npz, .safetensors, .index), or a run folder"
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


def known() -> dict[str, Released]:
    """The released networks by name: that of the file without its suffix."""
    return {name.removesuffix(".pt"): entry for name, entry in released().items()}


def load_pretrained(path: str | Path, name: str = "") -> Pretrained:
    """The network in a file.

    Args:
        path: a file of the authors' weights, or of `save_parameters`.
        name: which of `released()` it is, without suffix; "": found from the file.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsMismatchError: entries of the file are missing, unknown or of another shape; they are listed.
        ValueError: no released network has so many values, or the name is unknown.
    """
    path = as_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file or folder {path}; expected {FILES}")
    weights = read_weights(path)
    ours = {key: array for key, array in weights.items() if "/" in key}
    in_tensorflow = any(key.startswith("model/") for key in ours)
    counted = weights
    if in_tensorflow:
        is_average = lambda key: key.startswith("model/") and key.endswith("/ExponentialMovingAverage")
        counted = {key: array for key, array in weights.items() if is_average(key)}
    name = identify(name, path, sum(array.size for array in counted.values()))
    model = known()[name].model
    network, size = model.network, model.shape[0]
    if in_tensorflow:
        if model.is_classifier:
            raise ValueError(f"{path} holds Ho et al.'s network, and {name} is a classifier")
        params = from_ddpm(network, weights, size)
    elif ours:
        shapes = parameter_shapes(network, size)
        params = unflatten({key: np.asarray(array, np.float32) for key, array in ours.items()}, shapes, path)
    else:
        params = from_guided_diffusion(network, weights, size)
    return Pretrained(name, model, params)


def identify(name: str, path: Path, num_values: int) -> str:
    """The name of a released network: as given, as the file is called, or by the number of values in the file.

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
            f"{path} holds {num_values:,} numbers, as no published network does, and its name is none of theirs. Name "
            "the one it is meant to be (--network) to see which entries differ. Their numbers of parameters:"
            f"\n  {listed}"
        )
    kinds = [_without_dropout(models[key].model) for key in found]
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError(f"{path} may be {' or '.join(found)}, which have equally many parameters: name it (--network)")
    return found[0]


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
