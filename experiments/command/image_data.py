"""Which images an experiment is trained on, as configs."""

import dataclasses
from collections.abc import Callable
from typing import Any

from experiments.command import checks
from jaxgen import autoencoder, data, training

Splits = tuple[data.Images, data.Images]
"""The training and the test images."""


@dataclasses.dataclass(frozen=True)
class FlatImageData:
    """Images as vectors in [0, 1], for networks made of dense layers."""

    name: str = "digits"
    """"digits" and "curves" are embedded; "mnist", "cifar10", ... and "tfds:<name>" are read from a folder"""
    dir: str = training.untracked("")
    """folder of a dataset that is not embedded, in its original format"""
    size: int = 0
    """"images": side in pixels to which images are cropped and resized; 0: unchanged"""
    distort: float = 0.0
    """random distortion of half the training images; 1: up to 10 degrees, 10 % in size, 0.1 shear and 1 pixel"""
    held_out: int = 0
    """to choose settings: number of the last training images to measure instead of the test images; 0: none"""
    layout: str = ""
    """"npy", "mat": order of the axes, as "HWN" of MATLAB or "NCHW"; empty: N first, then H, W and perhaps C"""
    shape: tuple[int, ...] = ()
    """"npy", "mat": H, W and perhaps C of images that are stored flat, [N, D]; empty: square and grey"""

    def check(self) -> list[str]:
        """The problems of these settings."""
        return checks.bounds(self, "data.", distort=0, held_out=0) + folder_problems(self)

    def is_test_of(self, name: str) -> bool:
        """Whether the test images of the data set `name` are measured."""
        return self.name == name and not self.held_out


@dataclasses.dataclass(frozen=True)
class ImageData:
    """Images [H, W, C] in [-1, 1], for convolutional networks."""

    name: str = "digits"
    """"digits" and "curves" are embedded; "mnist", "cifar10", ... and "tfds:<name>" are read from a folder"""
    dir: str = training.untracked("")
    """folder of a dataset that is not embedded, in its original format"""
    size: int = 0
    """"images": side in pixels to which images are cropped and resized; 0: unchanged"""
    flip: bool = False
    """half of the training images, drawn anew at each visit, are mirrored left to right"""
    on_disk: bool = training.untracked(False)
    """"images" and "tfds:<name>": a step's images are read from disk ahead of it, for data larger than any memory;
    labels come with their images, and nothing is trained to give features"""
    test_split: str = training.untracked("test")
    """what the test split of "tfds:<name>" is called, perhaps validation"""
    workers: int = training.untracked(2)
    """threads that read from disk, each another step's images; the order does not depend on them"""
    layout: str = ""
    """"npy", "mat": order of the axes, as "HWN" of MATLAB or "NCHW"; empty: N first, then H, W and perhaps C"""
    shape: tuple[int, ...] = ()
    """"npy", "mat": H, W and perhaps C of images that are stored flat, [N, D]; empty: square and grey"""

    def check(self) -> list[str]:
        """The problems of these settings."""
        return checks.bounds(self, "data.", workers=1) + folder_problems(self)


def folder_problems(config: Any, embedded: tuple[str, ...] = ("digits", "curves"), more: str = "") -> list[str]:
    """The problem of a folder that would not be read, and flags with which it would; `more` of them for images."""
    if not config.dir or config.name not in embedded:
        return []
    kind = data.kind_of_folder(config.dir)
    size = ", and --data.size 32 or so unless all images have one size" if kind == "images" else ""
    return [
        f"data.dir is {config.dir}, and data.name is {config.name!r}, which is read from no folder: repeat the command "
        f"with --data.name {kind or 'NAME, of ' + ', '.join(data.NAMES[2:])}{more}{size}"
    ]


def load_split(config: FlatImageData | ImageData, split: str) -> data.Images:
    """One split: "train" or "test", or a split of "tfds:<name>".

    Raises:
        ValueError, FileNotFoundError: what the readers refuse.
    """
    on_disk = isinstance(config, ImageData) and config.on_disk
    options: dict[str, Any] = {"size": config.size or None, "layout": config.layout, "shape": config.shape}
    try:
        return data.load_images(config.name, split, config.dir or None, on_disk=on_disk, **options)
    except FileNotFoundError as error:
        kind = data.kind_of_folder(config.dir) if config.dir else None
        if kind in (None, config.name):
            raise
        raise FileNotFoundError(f"{error}. The folder looks like --data.name {kind}") from error


def load(config: FlatImageData | ImageData, labelled: bool = False) -> Splits:
    """The training and the test split. Labels that only one of them has are left out.

    Raises:
        ValueError: splits that do not fit together, no labels where `labelled`, no image is left to train on, or what
            the readers refuse.
    """
    train, test = _read(config)
    checks.refuse(data.split_problems(train, test, labelled))
    return _labelled_alike(train, test)


def _read(config: FlatImageData | ImageData) -> Splits:
    if isinstance(config, FlatImageData) and config.held_out:
        train = load_split(config, "train")
        first = len(train) - config.held_out
        if first < 1:
            raise ValueError(
                f"data.held_out is {config.held_out}; of {len(train)} training images at least one must be left"
            )
        return train.select(slice(first)), train.select(slice(first, None))
    test_split = config.test_split if isinstance(config, ImageData) else "test"
    return load_split(config, "train"), load_split(config, test_split)


def _labelled_alike(train: data.Images, test: data.Images) -> Splits:
    if (train.label is None) != (test.label is None):
        checks.note("only one of the splits has labels, and they are left out")
        train, test = (dataclasses.replace(split, label=None) for split in (train, test))
    return train, test


def validate_and_load(
    config: Any,
    labelled: bool = False,
    counts: Callable[..., list[str]] = lambda train, test: [],
    build: Callable[..., list[str]] = lambda train, test: [],
) -> Splits:
    """Both splits of the data of an experiment's `config`, which is checked, also against them.

    Args:
        config: of an experiment.
        labelled: the data must have labels.
        counts: `counts(train, test)`, the problems of the settings with these data.
        build: likewise, where the settings alone have none.

    Raises:
        ValueError: all problems; or as `load`.
    """
    settings = config.check()
    try:
        images = _read(config.data)
    except (ValueError, OSError) as error:
        # Also the data's problems, unless they are those of the settings.
        checks.refuse(settings and [*settings, str(error)])
        raise
    fit = data.split_problems(*images, labelled)
    images = _labelled_alike(*images)
    checks.refuse([*settings, *fit, *counts(*images), *([] if settings or fit else build(*images))])
    return images


def errors(reconstruct: Any, images: Splits) -> dict[str, float]:
    """The mean squared error of reconstructions [n, D] -> [n, D] on both splits; noted where it shows memorization."""
    train, test = (autoencoder.reconstruction_error(reconstruct, split.unit()) for split in images)
    checks.note_memorization(train, test, "the reconstruction error", len(images[0]))
    return {"test_error": test, "train_error": train}


def record(run: training.Run, config: FlatImageData | ImageData, images: Splits) -> None:
    """Records the fingerprint of both splits in the run's environment.json."""
    run.record_dataset(config.name, images[0].fingerprint + images[1].fingerprint)
