"""Which images an experiment is trained on, as configs."""

import dataclasses
from typing import Any

from experiments.command import checks
from jaxgen import data, training

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
    """to choose settings: the last so many training images are measured instead of the test images; 0: none"""

    def check(self) -> list[str]:
        """The problems of these settings."""
        return checks.bounds(self, "data.", distort=0, held_out=0)

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


def load(config: FlatImageData | ImageData, labelled: bool = False) -> Splits:
    """The training and the test split.

    Raises:
        ValueError: `labelled` where the data has no labels, no image is left to train on, or what the readers refuse.
    """
    splits, on_disk = ["train", "test"], False
    if isinstance(config, ImageData):
        splits[1], on_disk = config.test_split, config.on_disk
    directory, size = config.dir or None, config.size or None
    held_out = config.held_out if isinstance(config, FlatImageData) else 0
    if held_out:
        train = data.load_images(config.name, "train", directory, size=size)
        first = len(train) - held_out
        if first < 1:
            raise ValueError(f"data.held_out is {held_out}; of {len(train)} training images at least one must be left")
        train, test = train.select(slice(first)), train.select(slice(first, None))
    else:
        train, test = (data.load_images(config.name, split, directory, size=size, on_disk=on_disk) for split in splits)
    if labelled:
        _ = train.labels, test.labels
    return train, test


def validate_and_load(config: Any, labelled: bool = False) -> Splits:
    """Both splits of the data of an experiment's `config`, whose `check()` must list no problem.

    Raises:
        ValueError: all problems of the configuration, or as `load`.
    """
    checks.refuse(config.check())
    return load(config.data, labelled)


def record(run: training.Run, config: FlatImageData | ImageData, images: Splits) -> None:
    """Records the fingerprint of both splits in the run's environment.json."""
    run.record_dataset(config.name, images[0].fingerprint + images[1].fingerprint)
