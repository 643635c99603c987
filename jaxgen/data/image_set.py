"""A split of images, in memory or on disk, as the pixels that networks take."""

import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jaxgen.data.arrays import arranged
from jaxgen.data.load import fingerprint, load
from jaxgen.data.stored import StoredImages, stored


@dataclasses.dataclass(frozen=True)
class Images:
    """A split of a data set.

    Attributes:
        image: uint8 [N, H, W, C], an array or an `OnDisk`.
        label: int32 [N], or None.
        fingerprint: sha256 of the data.
    """

    image: np.ndarray
    label: np.ndarray | None
    fingerprint: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return self.image.shape[1:]

    @property
    def flat(self) -> np.ndarray:
        """uint8 [N, D] with D = H W C, of images in memory."""
        return self.image.reshape(len(self.image), -1)

    @property
    def labels(self) -> np.ndarray:
        """int32 [N].

        Raises:
            ValueError: the data has no labels.
        """
        if self.label is None:
            raise ValueError("the data has no labels to classify; choose digits, mnist, cifar10, ...")
        return self.label

    def __len__(self) -> int:
        return len(self.image)

    def unit(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """float32 [n, D] in [0, 1]."""
        return self.flat[start:stop].astype(np.float32) / 255

    def signed(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """float32 [n, H, W, C] in [-1, 1]."""
        return signed(self.image[start:stop])

    def pictures(self, x) -> np.ndarray:
        """Vectors [n, D] as images [n, H, W, C]."""
        return np.asarray(x).reshape(-1, *self.shape)

    def read(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """{"image": uint8 [n, H, W, C], "label": integers [n] (if there are labels)} of the images `numbers` [n]."""
        if isinstance(self.image, OnDisk):
            return self.image.read(numbers)
        labels = {} if self.label is None else {"label": self.label[numbers]}
        return {"image": self.image[numbers], **labels}

    def spread_over_classes(self, num: int) -> np.ndarray:
        """Numbers [n] of the first example of each class, then the second, and so on; at most `num`.

        Without labels, of the first examples.
        """
        num = min(num, len(self))
        if self.label is None:
            return np.arange(num)
        rank = np.empty(len(self), int)
        for label in np.unique(self.label):
            members = np.flatnonzero(self.label == label)
            rank[members] = np.arange(len(members))
        return np.lexsort((self.label, rank))[:num]

    def select(self, chosen: slice | np.ndarray) -> "Images":
        """The chosen images, with their labels."""
        label = None if self.label is None else self.label[chosen]
        return dataclasses.replace(self, image=self.image[chosen], label=label)


class OnDisk:
    """Images on disk, uint8 [N, H, W, C]: indexing by a slice or by integers [n] reads an array.

    Attributes:
        shape: (N, H, W, C).
        read: that of `StoredImages`.
        num_classes: that of `StoredImages`.
    """

    def __init__(self, source: StoredImages):
        self.shape = (source.number, *source.shape)
        self.read = source.read
        self.num_classes = source.num_classes

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen) -> np.ndarray:
        if isinstance(chosen, slice):
            chosen = np.arange(*chosen.indices(len(self)))
        if not len(chosen):
            return np.empty((0, *self.shape[1:]), np.uint8)
        return self.read(chosen)["image"]


def load_images(
    name: str,
    split: str = "train",
    directory: str | os.PathLike | None = None,
    *,
    size: int | None = None,
    on_disk: bool = False,
    layout: str = "",
    shape: tuple[int, ...] = (),
) -> Images:
    """A split of the data set `name`, see `load`.

    Args:
        name: of the data set.
        split: "train" or "test", or a split of a TensorFlow data set.
        directory: folder of a data set that is not embedded.
        size: for "images": side to which images are cropped and resized.
        on_disk: "images" and "tfds:<name>" stay on disk and are read by number, with their labels.
        layout: for "npy" and "mat": order of the axes, see `images_from_arrays`.
        shape: for "npy" and "mat": of flat images, see `images_from_arrays`.

    Raises:
        FileNotFoundError: the folder or a file in it is missing.
        ValueError: what `load` or `stored` refuse.
    """
    if on_disk:
        source = stored(name, split, directory, size=size)
        return Images(OnDisk(source), None, source.fingerprint)  # type: ignore[arg-type]
    dataset = load(name, split, directory, size=size, layout=layout, shape=shape)
    return Images(dataset["image"], dataset.get("label"), fingerprint(dataset))


def images_from_arrays(
    image: ArrayLike, label: ArrayLike | None = None, *, layout: str = "", shape: tuple[int, ...] = ()
) -> Images:
    """Images of arrays in memory, such as those of a notebook.

    Args:
        image: [N, H, W], [N, H, W, C] or flat [N, D]; bytes, floats in [0, 1], or 0 and 1 of any type.
        label: classes from 0 up, [N], [N, 1] or one-hot [N, K].
        layout: the axes in the order in which they are stored, letters of N, H, W and perhaps C: "HWN" and "HWCN" as
            MATLAB has them, "NCHW" as PyTorch. An axis of flat images stands for several letters, first or last: "WHN"
            for [D, N] of columns that MATLAB made of images. Empty: N first, C last.
        shape: sizes of the letters other than N of flat images, in the order of `layout`. Empty: square images of one
            channel.

    Raises:
        ValueError: other values, another shape, axes that probably are in another order, labels that do not fit.
    """
    label = None if label is None else _array("label", label)
    dataset = arranged(_array("image", image), label, layout, shape, "images_from_arrays")
    return Images(dataset["image"], dataset.get("label"), fingerprint(dataset))


def _array(name: str, given: ArrayLike) -> np.ndarray:
    """An array that is given in memory, of NumPy's own dtypes."""
    if isinstance(given, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array; expected one without a mask: fill it, {name}.filled(0)")
    try:
        array = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{name} is a {type(given).__name__} that makes no array ({error}); expected images of one size, and a "
            "class for each"
        ) from error
    is_short = array.dtype.kind == "V" and jnp.issubdtype(array.dtype, jnp.floating)
    return array.astype(np.float32) if is_short else array


def split_problems(train: Images, test: Images, labelled: bool = False) -> list[str]:
    """What keeps two splits from being used together, one sentence each.

    Args:
        train: training images.
        test: test images.
        labelled: whether classes are used.
    """
    problems = [
        f"the {name} split has a single image; expected two or more: add images"
        for name, split in (("training", train), ("test", test))
        if len(split) < 2
    ]
    if train.shape != test.shape:
        problems.append(
            f"training images have shape {train.shape} and test images {test.shape}; expected one height, width and "
            "number of channels: save both splits alike, or give size= (--data.size) for image files"
        )
    elif train.shape[2] not in (1, 3):
        problems.append(
            f"images have {train.shape[2]} channels; expected 1 (grey) or 3 (red, green, blue): leave out the others"
        )
    if labelled and (train.label is None or test.label is None):
        split = "training split" if train.label is None else "test split"
        folder = "" if train.label is not None or test.label is not None else " at all"
        problems.append(
            f"the {split} has no labels{folder}; expected the class of each image: image files in one folder a class, "
            "train_labels.npy and test_labels.npy, or a labelled data set such as digits, mnist, cifar10"
        )
    if labelled and train.label is not None and test.label is not None:
        if missing := np.setdiff1d(test.label, train.label).tolist():
            problems.append(
                f"test images have the labels {', '.join(map(str, missing[:8]))}, and no training image has: number "
                "the classes of both splits alike, or split the images so that every class is trained on"
            )
    return problems


def signed(image):
    """Bytes, any shape -> float32 in [-1, 1], x / 127.5 - 1: the same bits from NumPy and from XLA.

    A division would not give the same: XLA replaces it by a product with the reciprocal, and fuses what is added.
    """
    numpy = np if isinstance(image, np.ndarray) else jnp
    return (2 * image.astype(numpy.float32) - numpy.float32(255)) * numpy.float32(1 / 255)


def to_bytes(x) -> np.ndarray:
    """Floating point in [-1, 1], any shape -> the nearest of the 256 levels, uint8; values outside are clipped."""
    return np.rint(np.clip((np.asarray(x, np.float32) + 1) * 127.5, 0, 255)).astype(np.uint8)


def binarized(key: jax.Array, images: Images) -> Images:
    """The images drawn once as zeros and ones, each pixel with its grey level as the probability of 1.

    Args:
        key: scalar key.
        images: of any [N, H, W, C], in memory.
    """
    draw = jax.jit(lambda key, x: jax.random.bernoulli(key, x))
    parts = [
        np.asarray(draw(jax.random.fold_in(key, i), images.unit(i, i + 1000))) for i in range(0, len(images), 1000)
    ]
    return dataclasses.replace(images, image=images.pictures(np.concatenate(parts)).astype(np.uint8) * np.uint8(255))
