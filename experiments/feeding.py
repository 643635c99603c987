"""How fast images come from disk: image folders and TFDS's array_record, by number of threads, beside memory.

    python -m experiments.feeding
    python -m experiments.feeding --name images --dir FOLDER --size 64
    python -m experiments.feeding --name tfds:mnist --dir FOLDER

Batches are made as training makes them, in the stateless order, and nothing else is done with them. Without a name a
folder of PNG files and the same images as array_record are written first, to a temporary folder that the system may
keep in memory: then what is measured is decoding. Every row must have the same images in the same order; the command
ends with 1 where one has not.
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

from experiments import image_batches
from jaxgen import data, training
from jaxgen.training.batches import on_host, prefetched


@dataclasses.dataclass(frozen=True)
class Options:
    """Which images, and how they are asked for."""

    name: str = ""
    """"images" or "tfds:<name>"; empty: both, written for the purpose"""
    dir: str = ""
    """the folder"""
    size: int = 0
    """"images": crop and resize to so many pixels a side; 0: as they are"""
    side: int = 32
    """of the images that are written"""
    number: int = 5000
    """images that are written"""
    batch_size: int = 128
    """images of a step"""
    steps: int = 30
    """of one measurement"""
    workers: tuple[int, ...] = (1, 2, 4)
    """threads"""


def fed(images: image_batches.Images, options: Options, workers: int) -> tuple[float, str]:
    """(images a second, sha256 of the batches) of a feed, its first batch left out of the time."""
    batches = image_batches.batches(images, options.batch_size, flip=True, workers=workers)
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
    feature = tfds.features.Tensor(shape=splits["train"].shape[1:], dtype=np.uint8)

    def info(self):
        described = tfds.features.FeaturesDict({"image": feature})
        return tfds.core.DatasetInfo(builder=self, features=described, disable_shuffling=True)

    def generators(self, manager):
        return {split: ((i, {"image": x}) for i, x in enumerate(array)) for split, array in splits.items()}

    members = {
        "VERSION": tfds.core.Version("1.0.0"), "__module__": __name__, "_info": info, "_split_generators": generators,
        "_generate_examples": None,
    }  # fmt: skip
    with tfds.core.registered.skip_registration():
        made = type("FeedingImages", (tfds.core.GeneratorBasedBuilder,), members)
    made(data_dir=folder, file_format="array_record").download_and_prepare()
    return "tfds:feeding_images"


def measure(options: Options) -> bool:
    """Prints the table; whether all rows had the same images in the same order."""
    with tempfile.TemporaryDirectory(prefix="feeding-") as folder:
        sources = [(options.name, options.dir)]
        if not options.name:
            write_images(Path(folder) / "images", options.number, options.side)
            name = write_records(Path(folder) / "records", Path(folder) / "images")
            sources = [("images", f"{folder}/images"), (name, f"{folder}/records")]
        digests = set()
        print(f"{os.cpu_count()} cores, batches of {options.batch_size}")
        for name, where in sources:
            chosen = image_batches.Data(name, where, options.size)
            memory = image_batches.load(chosen)[0]
            disk = image_batches.load(dataclasses.replace(chosen, on_disk=True))[0]
            print(f"{name}: {len(disk)} images {'x'.join(map(str, disk.shape))}")
            whole = dataclasses.replace(memory, label=None)
            for what, images, workers in [("memory", whole, 1), *(("disk", disk, n) for n in options.workers)]:
                rate, digest = fed(images, options, workers)
                digests.add(digest)
                threads = f"{workers} thread{'s' if workers > 1 else ''}"
                print(f"  {what:6} {threads:10} {rate:10,.0f} images/s  {digest[:12]}", flush=True)
    return len(digests) == 1


def main() -> None:
    options = tyro.cli(Options, prog="python -m experiments.feeding", description=__doc__)
    try:
        if min(options.batch_size, options.steps, *options.workers) < 1:
            raise ValueError("batch_size, steps and workers must be at least 1")
        alike = measure(options)
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
    if not alike:
        print("DIFFERS: the rows do not have the same images in the same order")
        sys.exit(1)


if __name__ == "__main__":
    main()
