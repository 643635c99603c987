"""Trained diffusion networks from files and from the folders of runs of `ddpm` and `guided_diffusion`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.command import image_data, run_folders
from experiments.ddpm import config as ddpm
from experiments.ddpm.model import build_model
from experiments.guided_diffusion import config as guided_diffusion
from jaxgen import diffusion, training
from jaxgen.diffusion.pretrained.diffusers import WEIGHTS
from jaxgen.diffusion.pretrained.flags import NO_FLAGS
from jaxgen.weights import unflatten


def load(path: str | Path, name: str = "", flags: diffusion.ModelFlags = NO_FLAGS) -> diffusion.Pretrained:
    """The network in a file, see `diffusion.load_pretrained`, or the averaged one of a run at its newest checkpoint.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: the run is of another experiment, or has no checkpoint; for a file, the errors of
            `diffusion.load_pretrained`.
    """
    folder = Path(path).expanduser()
    of_diffusers = any((folder / name).is_file() for name in ("scheduler_config.json", "unet/config.json", *WEIGHTS))
    if of_diffusers or not folder.is_dir():
        return diffusion.load_pretrained(path, name, flags)
    if name or flags.is_given:
        raise ValueError(f"{folder} is a run's folder, which describes its network; leave --network and --model out")
    record = run_folders.read(folder).record
    defaults = {"ddpm": ddpm.Config(), "guided_diffusion": guided_diffusion.Config()}
    if record["experiment"] not in defaults:
        raise ValueError(
            f"{folder} is a run of {record['experiment']!r}, whose networks this command does not know; it draws from "
            "runs of 'ddpm' and 'guided_diffusion'"
        )
    config = _config(folder, defaults[record["experiment"]], record)
    step, params = newest(folder / "checkpoints", "/ema/")
    labels: dict[str, Any] = {}
    if isinstance(config, guided_diffusion.Config):
        rows = len(params.get("labels/embedding", ()))
        dropout = config.labels.dropout if rows else 0.0
        labels = {"classes": rows - (dropout > 0), "label_dropout": dropout, "low_resolution": config.low_resolution}
    shape = shape_of(config.data, params, 2 if labels.get("low_resolution") else 1)
    model = build_model(config.network, config.process, shape, **labels)
    return _with_params(f"{folder.name} at step {step}", model, params, folder)


def _config(folder: Path, default: Any, record: dict[str, Any]) -> Any:
    try:
        return training.from_dict(default, record["config"])
    except ValueError as error:
        raise ValueError(f"{folder / 'config.json'}: {error}") from error


def load_classifier(path: str | Path) -> diffusion.Pretrained:
    """The classifier of noisy images in a file, or of a run of `guided_diffusion`.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: the run trains none, or has not trained it to its end; for a file, the errors of
            `diffusion.load_pretrained`.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return diffusion.load_pretrained(path)
    record = run_folders.read(folder).record
    if record["experiment"] != "guided_diffusion":
        raise ValueError(f"{folder} is a run of {record['experiment']!r}, which trains no classifier of noisy images")
    config = _config(folder, guided_diffusion.Config(), record)
    settings = config.classifier
    if settings.trained or not settings.num_steps:
        where = f"took its classifier from {settings.trained}" if settings.trained else "has no classifier"
        raise ValueError(f"{folder} {where}; give that of a run that trained one, or a file")
    step, params = newest(folder / "checkpoints" / "classifier", "state/params/")
    if step < settings.num_steps:
        raise ValueError(
            f"{folder} has trained its classifier for {step} of {settings.num_steps} steps; run it to the end"
        )
    last = next(params[key] for key in ("pool/project/bias", "pool_1/bias", "logits/bias") if key in params)
    shape = shape_of(config.data, params)
    model = guided_diffusion.build_classifier(settings.network, config.process, len(last), shape)
    return _with_params(f"classifier of {folder.name}", model, params, folder)


def check_classifier(
    name: str, model: diffusion.DiffusionModel, classes: int | None, classifier: diffusion.Pretrained
) -> None:
    """Checks that a classifier can guide samples of a network.

    Args:
        name: of the network.
        model: the network.
        classes: number of classes of its labels; 0 or None: any.
        classifier: of noisy images.

    Raises:
        ValueError: it is no classifier, or one of other images, classes or noise than the network's.
    """
    theirs = classifier.model
    if not theirs.is_classifier:
        raise ValueError(
            f"--classifier is {classifier.name}, which draws images; expected a classifier of noisy images"
        )
    if theirs.shape != model.shape:
        sizes = [" x ".join(map(str, shape)) for shape in (theirs.shape, model.shape)]
        raise ValueError(f"{classifier.name} classifies images of {sizes[0]}, {name} draws {sizes[1]}")
    if theirs.schedule.exact_betas != model.schedule.exact_betas:
        pairs = ((classifier.name, theirs.schedule), (name, model.schedule))
        noise = [f"{n}: T = {s.num_steps}, beta {float(s.betas[0]):.3g} to {float(s.betas[-1]):.3g}" for n, s in pairs]
        raise ValueError(f"the classifier was trained for another noise schedule: {'; '.join(noise)}")
    if classes and classes != theirs.num_classes:
        raise ValueError(
            f"{classifier.name} knows {theirs.num_classes} classes, {name} {classes}; labels would mean different "
            "things"
        )


def shape_of(data: image_data.ImageData, params: Mapping[str, np.ndarray], images: int = 1) -> tuple[int, int, int]:
    """(H, W, C) of a run's images, `images` of which are the input; read from the data where no size is set."""
    if data.size:
        return data.size, data.size, params["conv_in/kernel"].shape[2] // images
    return image_data.load_split(data, "train").shape


def newest(checkpoints: Path, below: str) -> tuple[int, dict[str, np.ndarray]]:
    """(step, arrays) of the newest checkpoint: those whose names hold `below`, by what follows it.

    Raises:
        ValueError: there is none.
    """
    with training.Checkpoints(checkpoints) as opened:
        steps = opened.steps()
        if not steps:
            raise ValueError(f"there is no checkpoint in {checkpoints} yet; the run's own command goes on with it")
        arrays = opened.arrays(steps[-1])
    return steps[-1], {name.partition(below)[2]: array for name, array in arrays.items() if below in name}


def _with_params(
    name: str, model: diffusion.DiffusionModel, params: dict[str, np.ndarray], folder: Path
) -> diffusion.Pretrained:
    shapes = diffusion.parameter_shapes(model.network, model.shape[:2])
    diffusion.check_finite(params, folder)
    return diffusion.Pretrained(name, model, unflatten(params, shapes, folder))
