"""Trained diffusion networks from the folders of runs of `ddpm` and `guided_diffusion`, finished or not."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments import ddpm, guided_diffusion, guided_networks, image_batches, run_folders, trained_networks
from experiments.diffusion_chain import make_schedule
from experiments.trained_networks import Trained
from jaxgen import diffusion, training
from jaxgen.training.checkpoints import unflatten


def load(path: str | Path, name: str = "") -> Trained:
    """The network in a file, see `trained_networks.load`, or the averaged one of a run at its newest checkpoint.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: the run is of another experiment, or has no whole checkpoint; of a file, as there.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return trained_networks.load(path, name)
    record = run_folders.read(folder).record
    if record["experiment"] not in ("ddpm", "guided_diffusion"):
        raise ValueError(
            f"{folder} is a run of {record['experiment']!r}, whose networks this command does not know; it draws from "
            "runs of 'ddpm' and 'guided_diffusion'"
        )
    step, arrays = newest(folder / "checkpoints")
    params, name = part(arrays, "/ema/"), f"{folder.name} at step {step}"
    if record["experiment"] == "guided_diffusion":
        return guided(name, rebuilt(guided_diffusion.Config(), record["config"]), params, folder)
    config = rebuilt(ddpm.Config(), record["config"])
    shape = shape_of(config.data, params)
    network = ddpm.build(config.network, config.process, shape)
    schedule, process = make_schedule(config.process), config.process
    tree = unflatten(params, diffusion.parameter_shapes(network, shape[0]), folder)
    return Trained(name, network, tree, schedule, shape[0], process.prediction, process.variance)


def load_classifier(path: str | Path) -> Trained:
    """The classifier of noisy images in a file, or of a run of `guided_diffusion`.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: the run trains none, or has not trained it to its end; of a file, as `trained_networks.load`.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return trained_networks.load(path)
    record = run_folders.read(folder).record
    if record["experiment"] != "guided_diffusion":
        raise ValueError(f"{folder} is a run of {record['experiment']!r}, which trains no classifier of noisy images")
    config = rebuilt(guided_diffusion.Config(), record["config"])
    settings, process = config.classifier, config.process
    if settings.trained or not settings.num_steps:
        where = f"took its classifier from {settings.trained}" if settings.trained else "has no classifier"
        raise ValueError(f"{folder} {where}; give that of a run that trained one, or a file")
    step, arrays = newest(folder / "checkpoints" / "classifier")
    if step < settings.num_steps:
        raise ValueError(
            f"{folder} has trained its classifier for {step} of {settings.num_steps} steps; run it to the end"
        )
    params = part(arrays, "state/params/")
    shape = shape_of(config.data, params)
    last = next(params[key] for key in ("pool/project/bias", "pool_1/bias", "logits/bias") if key in params)
    network = guided_networks.build_classifier(settings.network, len(last), shape).network
    return Trained(
        f"classifier of {folder.name}",
        network,
        unflatten(params, diffusion.parameter_shapes(network, shape[0]), folder),
        make_schedule(process),
        shape[0],
        rescaled=process.rescaled_timesteps,
    )


def guided(name: str, config: guided_diffusion.Config, params: dict[str, np.ndarray], folder: Path) -> Trained:
    """The U-Net of a run of `guided_diffusion`."""
    table, process = params.get("labels/embedding"), config.process
    rows = 0 if table is None else len(table)
    dropout = config.labels.dropout if rows else 0.0
    conditions = guided_networks.Conditions(rows - (dropout > 0), dropout, config.low_resolution)
    shape = shape_of(config.data, params, 2 if config.low_resolution else 1)
    network = guided_networks.build(config.network, conditions, shape, learned=process.learned).network
    return Trained(
        name,
        network,
        unflatten(params, diffusion.parameter_shapes(network, shape[0]), folder),
        make_schedule(process),
        shape[0],
        process.prediction,
        process.p_variance,
        process.rescaled_timesteps,
        config.low_resolution or None,
        conditions.null,
    )


def shape_of(data: image_batches.Data, params: Mapping[str, np.ndarray], images: int = 1) -> tuple[int, int, int]:
    """(H, W, C) of a run's images, whose network sees so many side by side; the data is read where no size is set."""
    if data.size:
        return data.size, data.size, params["conv_in/kernel"].shape[2] // images
    shape = image_batches.load(data)[0].shape
    if shape[0] != shape[1]:
        raise ValueError(f"images are {shape[0]} x {shape[1]}; packs are drawn of square ones")
    return shape


def newest(checkpoints: Path) -> tuple[int, dict[str, np.ndarray]]:
    """(step, arrays) of the newest checkpoint.

    Raises:
        ValueError: there is none.
    """
    with training.Checkpoints(checkpoints) as opened:
        steps = opened.steps()
        if not steps:
            raise ValueError(f"there is no checkpoint in {checkpoints} yet; the run's own command goes on with it")
        return steps[-1], opened.arrays(steps[-1])


def part(arrays: Mapping[str, np.ndarray], below: str) -> dict[str, np.ndarray]:
    """Those of a checkpoint's arrays whose names hold `below`, by what follows it."""
    return {name.partition(below)[2]: array for name, array in arrays.items() if below in name}


def rebuilt(default: Any, recorded: Mapping[str, Any]) -> Any:
    """The config that config.json records, from one of its kind; fields that are not recorded are as in that one.

    Raises:
        ValueError: a recorded field is none of such a config.
    """
    changes = {}
    for name, value in recorded.items():
        if not hasattr(default, name):
            raise ValueError(f"the run's config has a field {name!r} that {type(default).__name__} does not have")
        changes[name] = rebuilt(getattr(default, name), value) if isinstance(value, dict) else _tuples(value)
    return dataclasses.replace(default, **changes)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
