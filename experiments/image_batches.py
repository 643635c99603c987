"""Images [H, W, C] from -1 to 1, visited in the stateless order: the data of convolutional networks."""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import data, training


@dataclasses.dataclass(frozen=True)
class Data:
    """Which images."""

    name: str = "digits"
    """"digits" and "curves" are embedded; "mnist", "cifar10", ... and "tfds:<name>" are read from a folder"""
    dir: str = training.free("")
    """folder of a dataset that is not embedded, in its original format"""
    size: int = 0
    """"images": crop and resize to so many pixels a side; 0: as they are"""
    flip: bool = False
    """half of the training images, drawn anew at each visit, are mirrored left to right"""
    on_disk: bool = training.free(False)
    """"images" and "tfds:<name>": a step's images are read from disk ahead of it, for data larger than any memory;
    labels come with their images, and nothing is trained to give features"""
    test_split: str = training.free("test")
    """what the test split of "tfds:<name>" is called, perhaps validation"""
    workers: int = training.free(2)
    """threads that read from disk, each another step's images; the order does not depend on them"""


@dataclasses.dataclass(frozen=True)
class Images:
    """A split: `image` uint8 [N, H, W, C] in memory or on disk, `label` int32 [N] or None, sha256."""

    image: np.ndarray
    label: np.ndarray | None
    fingerprint: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return self.image.shape[1:]

    def __len__(self) -> int:
        return len(self.image)

    def signed(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """float32 [n, H, W, C] in [-1, 1]."""
        return signed(self.image[start:stop])

    def read(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """{"image": uint8 [n, H, W, C], "label": integers [n] (if there are labels)} of these images, integers [n]."""
        if isinstance(self.image, OnDisk):
            return self.image.read(numbers)
        labels = {} if self.label is None else {"label": self.label[numbers]}
        return {"image": self.image[numbers], **labels}

    def first(self, num: int) -> "Images":
        """The first `num` images, all where there are fewer."""
        return dataclasses.replace(self, image=self.image[:num], label=None if self.label is None else self.label[:num])


class OnDisk:
    """uint8 [N, H, W, C] on disk: what is indexed, by a slice or by integers [n], is read as an array."""

    def __init__(self, stored: data.StoredImages):
        self.shape = (stored.number, *stored.shape)
        self.read = stored.read

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen) -> np.ndarray:
        if isinstance(chosen, slice):
            chosen = np.arange(*chosen.indices(len(self)))
        if not len(chosen):
            return np.empty((0, *self.shape[1:]), np.uint8)
        return self.read(chosen)["image"]


def load(config: Data) -> tuple[Images, Images]:
    """The training and the test split."""
    names, splits = ("train", config.test_split), []
    if config.on_disk:
        for split in names:
            stored = data.stored(config.name, split, config.dir or None, size=config.size or None)
            splits.append(Images(OnDisk(stored), None, stored.fingerprint))  # type: ignore[arg-type]
        return splits[0], splits[1]
    for split in names:
        dataset = data.load(config.name, split, config.dir or None, size=config.size or None)
        splits.append(Images(dataset["image"], dataset.get("label"), data.fingerprint(dataset)))
    return splits[0], splits[1]


def signed(image):
    """Bytes, any shape -> float32 in [-1, 1], x / 127.5 - 1: the same bits from NumPy and from XLA.

    A division would not give the same: XLA replaces it by a product with the reciprocal, and fuses what is added.
    """
    numpy = np if isinstance(image, np.ndarray) else jnp
    return (2 * image.astype(numpy.float32) - numpy.float32(255)) * numpy.float32(1 / 255)


def to_bytes(x) -> np.ndarray:
    """Floating point in [-1, 1], any shape -> the nearest of the 256 levels, uint8; beyond the ends, the ends."""
    return np.rint(np.clip((np.asarray(x, np.float32) + 1) * 127.5, 0, 255)).astype(np.uint8)


def batches(
    images: Images, batch_size: int, flip: bool = False, workers: int = 1
) -> training.DeviceBatches | training.HostBatches:
    """{"x": float32 [b, H, W, C] in [-1, 1], "label": int32 [b] (if there are labels)}, on the device or from disk.

    Images are kept as bytes. Which one is at a position, and with `flip` whether it is mirrored, depends on (key, step,
    position) alone. `workers` threads read from disk.
    """
    num_examples = len(images)
    arrays = {"x": images.image} if images.label is None else {"x": images.image, "label": images.label}

    def choose(key, step, positions):
        # Every step splits the same key, on purpose: the step comes in below.
        order, mirror = jax.random.split(jax.random.clone(key))
        chosen = data.shuffled_index(order, step, positions, batch_size, num_examples)
        each = training.keys.per_example(training.keys.at_step(mirror, step), positions)
        return chosen, jax.vmap(jax.random.bernoulli)(each) if flip else jnp.zeros(positions.shape, bool)

    def make(key, arrays, step, positions):
        chosen, mirrored = choose(key, step, positions)
        batch = {name: array[chosen] for name, array in arrays.items()}
        x = batch["x"]
        if flip:
            x = jnp.where(mirrored[:, None, None, None], x[:, :, ::-1], x)
        return {**batch, "x": signed(x)}

    if not isinstance(images.image, OnDisk):
        return training.DeviceBatches(make, arrays)
    compiled = jax.jit(choose)

    def read(key, step, positions):
        chosen, mirrored = (np.asarray(a) for a in compiled(key, step, positions))
        batch = images.read(chosen)
        x = batch.pop("image")
        x[mirrored] = x[mirrored][:, :, ::-1]
        return {**batch, "x": signed(x)}

    return training.HostBatches(read, prefetch=max(2, workers), workers=workers)


def slices(num: int, batch_size: int) -> Iterator[slice]:
    """0 .. num in pieces of `batch_size`, the last one shorter."""
    return (slice(i, min(i + batch_size, num)) for i in range(0, num, batch_size))
