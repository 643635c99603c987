"""Data throughput: images a second from memory and from disk (image folders, TFDS's array_record), by threads.

    python -m experiments.benchmark.throughput
    python -m experiments.benchmark.throughput --name images --dir FOLDER --size 64
    python -m experiments.benchmark.throughput --name tfds:mnist --dir FOLDER

Batches are made as training makes them, in the stateless order, and not used further. Without a name a folder of PNG
files and the same images as array_record are written first, to a temporary folder that the system may keep in memory;
then decoding is measured. Every row must have the same images in the same order; the command exits with 1 where one
differs.
"""

import dataclasses
import hashlib
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from experiments.command import image_data
from experiments.command.terminal import errors_exit
from jaxgen import data, training
from jaxgen.data.batches import on_host, prefetched


@dataclasses.dataclass(frozen=True)
class Options:
    """Which images, and the batches that are made of them."""

    name: str = ""
    """"images" or "tfds:<name>"; empty: both, of images that are written first"""
    dir: str = ""
    """folder of the images"""
    size: int = 0
    """"images": side in pixels to which images are cropped and resized; 0: unchanged"""
    side: int = 32
    """pixels a side of the images that are written"""
    number: int = 5000
    """number of images that are written"""
    batch_size: int = 128
    """images a batch"""
    steps: int = 30
    """batches of one measurement"""
    workers: tuple[int, ...] = (1, 2, 4)
    """numbers of threads"""


def measure_feed(images: data.Images, options: Options, workers: int) -> tuple[float, str]:
    """(images a second, sha256 of the batches); the time leaves out the first batch."""
    batches = data.image_batches(images, options.batch_size, flip=True, workers=workers)
    made = on_host(batches, max(2, workers))
    key, positions = training.keys.root(0), np.arange(options.batch_size, dtype=np.int32)
    digest, began = hashlib.sha256(), 0.0
    feed = prefetched(made, key, 0, positions)
    for step, batch in enumerate(itertools.islice(feed, options.steps + 1)):
        digest.update(np.ascontiguousarray(batch["x"]).tobytes())
        began = began if step else time.perf_counter()
    seconds = time.perf_counter() - began
    feed.close()
    return options.steps * options.batch_size / seconds, digest.hexdigest()


def write_images(folder: Path, number: int, side: int) -> None:
    """A folder of PNG files, `number` smooth images in colour for training and a tenth of them for the test split."""
    from PIL import Image

    for split, count in (("train", number), ("test", max(1, number // 10))):
        (folder / split).mkdir(parents=True)
        for i in range(count):
            phase = np.float32(i) + np.arange(3, dtype=np.float32)
            x, y = np.meshgrid(*2 * [np.linspace(0, 3, side, dtype=np.float32)])
            wave = np.sin(x[..., None] * (1 + i % 5) + phase) * np.cos(y[..., None] * (1 + i % 3) - phase)
            Image.fromarray(np.rint(127.5 * (wave + 1)).astype(np.uint8)).save(folder / split / f"{i:06}.png")


def write_records(folder: Path, images: Path) -> str:
    """The same images as array_record; returns the name to load them by."""
    import tensorflow_datasets

    tfds: Any = tensorflow_datasets
    splits = {split: data.load("images", split, images)["image"] for split in ("train", "test")}
    features = tfds.features.FeaturesDict(
        {"image": tfds.features.Tensor(shape=splits["train"].shape[1:], dtype=np.uint8)}
    )

    class ThroughputImages(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # pyright: ignore
        VERSION = tfds.core.Version("1.0.0")
        _generate_examples = None

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, manager: Any) -> Any:
            return {split: ((i, {"image": x}) for i, x in enumerate(array)) for split, array in splits.items()}

    ThroughputImages(data_dir=folder, file_format="array_record").download_and_prepare()
    return "tfds:throughput_images"


def measure(options: Options) -> bool:
    """Prints the table, and returns whether all rows had the same images in the same order."""
    with tempfile.TemporaryDirectory(prefix="throughput-") as folder:
        sources = [(options.name, options.dir)]
        if not options.name:
            write_images(Path(folder) / "images", options.number, options.side)
            name = write_records(Path(folder) / "records", Path(folder) / "images")
            sources = [("images", f"{folder}/images"), (name, f"{folder}/records")]
        digests = set()
        print(f"{os.cpu_count()} cores, batches of {options.batch_size}")
        for name, where in sources:
            chosen = image_data.ImageData(name, where, options.size)
            memory = image_data.load(chosen)[0]
            disk = image_data.load(dataclasses.replace(chosen, on_disk=True))[0]
            print(f"{name}: {len(disk)} images {'x'.join(map(str, disk.shape))}")
            whole = dataclasses.replace(memory, label=None)
            for what, images, workers in [("memory", whole, 1), *(("disk", disk, n) for n in options.workers)]:
                rate, digest = measure_feed(images, options, workers)
                digests.add(digest)
                threads = f"{workers} thread{'s' if workers > 1 else ''}"
                print(f"  {what:6} {threads:10} {rate:10,.0f} images/s  {digest[:12]}", flush=True)
    return len(digests) == 1


def main() -> None:
    options = tyro.cli(Options, prog="python -m experiments.benchmark.throughput", description=__doc__)
    with errors_exit():
        if min(options.batch_size, options.steps, *options.workers) < 1:
            raise ValueError("batch_size, steps and workers must be at least 1")
        is_same = measure(options)
    if not is_same:
        print("DIFFERS: the rows do not have the same images in the same order")
        sys.exit(1)


if __name__ == "__main__":
    main()
