"""Images as flat vectors in [0, 1], visited in the stateless order: the data of networks made of dense layers."""

import dataclasses

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
    distort: float = 0.0
    """random distortion of half the training images; 1: up to 10 degrees, 10 % in size, 0.1 shear and 1 pixel"""


@dataclasses.dataclass(frozen=True)
class FlatImages:
    """A split in memory: `x` uint8 [N, D], `label` int32 [N] or None, the images' shape (H, W, C), sha256."""

    x: np.ndarray
    label: np.ndarray | None
    shape: tuple[int, int, int]
    fingerprint: str

    @property
    def labels(self) -> np.ndarray:
        """int32 [N].

        Raises:
            ValueError: the data has no labels.
        """
        if self.label is None:
            raise ValueError("the data has no labels to classify; choose digits, mnist, cifar10, ...")
        return self.label

    def unit(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """float32 [n, D] in [0, 1]."""
        return self.x[start:stop].astype(np.float32) / 255

    def pictures(self, x) -> np.ndarray:
        """[n, D] -> [n, H, W, C]."""
        return np.asarray(x).reshape(-1, *self.shape)


def load(config: Data) -> tuple[FlatImages, FlatImages]:
    """The training and the test split.

    Raises:
        ValueError: a negative distortion, or what the readers refuse.
    """
    if config.distort < 0:
        raise ValueError(f"data.distort is {config.distort}; it must be 0 or more")
    splits = []
    for split in ("train", "test"):
        dataset = data.load(config.name, split, config.dir or None, size=config.size or None)
        image = dataset["image"]
        flat = image.reshape(len(image), -1)
        splits.append(FlatImages(flat, dataset.get("label"), image.shape[1:], data.fingerprint(dataset)))
    return splits[0], splits[1]


def labelled(config: Data) -> tuple[FlatImages, FlatImages]:
    """As `load`, for experiments that classify.

    Raises:
        ValueError: the data has no labels.
    """
    splits = load(config)
    for split in splits:
        _ = split.labels
    return splits


def binarized(key: jax.Array, images: FlatImages) -> FlatImages:
    """The images drawn once as zeros and ones, each pixel with its grey level as the probability."""
    draw = jax.jit(lambda key, x: jax.random.bernoulli(key, x))
    parts = [
        np.asarray(draw(jax.random.fold_in(key, i), images.unit(i, i + 1000))) for i in range(0, len(images.x), 1000)
    ]
    return dataclasses.replace(images, x=np.concatenate(parts).astype(np.uint8) * np.uint8(255))


def batches(
    images: FlatImages, batch_size: int, distort: float = 0.0, binarize: bool = False, shuffle: bool = True
) -> training.DeviceBatches:
    """{"x": float32 [b, D] in [0, 1], "label": int32 [b]} from images that stay on the device as bytes.

    With `binarize`, each pixel is drawn as 0 or 1 anew at each visit, its grey level being the probability of 1.
    Without `shuffle`, every epoch visits the images in their own order.
    """
    arrays = {"x": images.x}
    if images.label is not None:
        arrays["label"] = images.label
    num_examples = len(images.x)

    def make(key, arrays, step, positions):
        # Every step splits the same key, on purpose: the step comes in below.
        order, distortion = jax.random.split(jax.random.clone(key))
        if shuffle:
            chosen = data.shuffled_index(order, step, positions, batch_size, num_examples)
        else:
            chosen = data.locate(step, positions, batch_size, num_examples)[1]
        batch = {name: array[chosen] for name, array in arrays.items()}
        x = batch["x"].astype(jnp.float32) / 255
        if distort:
            each = training.keys.per_example(training.keys.at_step(distortion, step), positions)
            amounts = {"rotation": 10 * distort, "scale": 0.1 * distort, "shear": 0.1 * distort, "shift": distort}

            def maybe(key, x):
                whether, how = jax.random.split(key)
                distorted = data.random_affine(how, x.reshape(images.shape), **amounts).reshape(-1)
                # Resampling blurs a little: half the images stay as they are, as test images do.
                return jnp.where(jax.random.bernoulli(whether), distorted, x)

            x = jax.vmap(maybe)(each, x)
        if binarize:
            # split gave the keys 0 and 1 of the same kind.
            pixels = training.keys.at_step(jax.random.fold_in(jax.random.clone(key), 2), step)
            draw = lambda key, x: jax.random.bernoulli(key, x).astype(x.dtype)
            x = jax.vmap(draw)(training.keys.per_example(pixels, positions), x)
        return {**batch, "x": x}

    return training.DeviceBatches(make, arrays)


def feature_batches(x: np.ndarray, batch_size: int) -> training.DeviceBatches:
    """{"x": [b, H]} from features that are real numbers already, such as the layer below in a stack."""
    num_examples = len(x)
    pick = lambda key, arrays, step, positions: {
        "x": arrays[data.shuffled_index(key, step, positions, batch_size, num_examples)]
    }
    return training.DeviceBatches(pick, x)
