"""Data sets by name."""

import functools
import hashlib
import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.data.arrays import read_frey_faces, read_mat_folder, read_npy_folder, read_olivetti
from jaxgen.data.checks import as_dataset, check_split, nearest
from jaxgen.data.cifar10 import read_cifar10
from jaxgen.data.curves import curves
from jaxgen.data.idx import read_mnist
from jaxgen.data.image_folders import holds_images
from jaxgen.data.images import read_images
from jaxgen.data.tfds import from_tfds
from jaxgen.files import as_path

NAMES = (
    "digits", "curves", "mnist", "fashion_mnist", "cifar10", "frey_faces", "olivetti", "npy", "mat",
    "images", "tfds:<name>",
)  # fmt: skip
DIGITS_TRAIN = 1437  # of 1,797
CURVES_SEED = 20060728  # not a small number, so that a run's own seed gives other points


def load(
    name: str,
    split: str = "train",
    directory: str | os.PathLike | None = None,
    *,
    size: int | None = None,
    layout: str = "",
    shape: tuple[int, ...] = (),
) -> dict[str, np.ndarray]:
    """A split of a data set as arrays in memory. Nothing is downloaded.

    | name | what | test split |
    |---|---|---|
    | digits | 1,797 scans, 8 x 8 x 1, embedded: those of scikit-learn | the last 360 |
    | curves | curves-like strokes, 28 x 28 x 1, embedded, unlabelled | 10,000 beside 20,000 |
    | mnist, fashion_mnist | folder of IDX files, 28 x 28 x 1 | the files named t10k |
    | cifar10 | folder of the binary or python version, or of strips, 32 x 32 x 3 | test_batch |
    | frey_faces | folder of the video frames, 28 x 20 x 1, unlabelled | every tenth frame |
    | olivetti | folder of olivettifaces.mat, 64 x 64 x 1 | the last 10 of 40 persons |
    | npy, mat | folder of train.npy, test.npy (train.mat, test.mat) | the file named test |
    | images | folder of PNG, JPEG, WebP and BMP files | test/ or val/, or every tenth image |
    | tfds:<name> | folder of prepared TensorFlow Datasets | its own; any split is accepted |

    Args:
        name: as above.
        split: "train" or "test".
        directory: the folder with the data's own files; unused for what is embedded; for
            `tfds:<name>` None means $TFDS_DATA_DIR, or ~/tensorflow_datasets.
        size: for "images" only: side to which images are cropped and resized.
        layout: for "npy" and "mat" only: order of the axes, see `images_from_arrays`.
        shape: for "npy" and "mat" only: of flat images, see `images_from_arrays`.

    Returns:
        {"image": uint8 [N, H, W, C], "label": int32 [N] (if labelled)}, C-contiguous.

    Raises:
        FileNotFoundError: the folder or a file in it is missing.
        ValueError: an unknown name or split, no folder given, a damaged file, an empty split.
    """
    if size is not None and name != "images":
        raise ValueError(f"size is {size} for {name!r}; only 'images' can be resized: leave it out")
    if (layout or shape) and name not in ("npy", "mat"):
        raise ValueError(
            f"layout is {layout!r} and shape {shape} for {name!r}; only 'npy' and 'mat' take them: leave them out"
        )
    if name.startswith("tfds:"):
        return from_tfds(name.removeprefix("tfds:"), split, directory)
    if name not in NAMES:
        raise ValueError(f"unknown data set {name!r}; nearest: {nearest(name, NAMES)!r}; known: {', '.join(NAMES)}")
    check_split(split)
    match name:
        case "digits":
            return _digits(split)
        case "curves":
            return _curves(split)
        case "mnist" | "fashion_mnist":
            return read_mnist(directory, split)
        case "cifar10":
            return read_cifar10(directory, split)
        case "frey_faces":
            return read_frey_faces(directory, split)
        case "olivetti":
            return read_olivetti(directory, split)
        case "npy":
            return read_npy_folder(directory, split, layout=layout, shape=shape)
        case "mat":
            return read_mat_folder(directory, split, layout=layout, shape=shape)
        case "images":
            return read_images(directory, split, size)
    raise AssertionError(f"{name!r} is in NAMES and has no reader")


def kind_of_folder(directory: str | os.PathLike) -> str | None:
    """The name under which `load` reads a folder, judged by the names of its files; None: none, or no folder."""
    folder = as_path(directory)
    if not folder.is_dir():
        return None
    files = [path.name.lower() for path in folder.iterdir()]
    patterns = {
        "mnist": r"(train|t10k)-(images|labels)[-.]idx.*",
        "cifar10": r"data_batch_1(\.bin)?|cifar10_batch_.*|cifar10_labels.js",
        "frey_faces": r"frey_?faces\.npy|frey_rawface\.mat",
        "olivetti": r"olivettifaces\.mat",
        "npy": r"(train|test)\.npy",
        "mat": r"(train|test)\.mat",
    }
    names = [name for name, pattern in patterns.items() if any(re.fullmatch(pattern, file) for file in files)]
    return names[0] if names else "images" if holds_images(folder) else None


def fingerprint(dataset: dict[str, np.ndarray]) -> str:
    """SHA-256, as 64 hexadecimal digits, of the arrays' sorted names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(dataset):
        array = np.asarray(dataset[name])
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _digits(split: str) -> dict[str, np.ndarray]:
    """The scans of digits.npz in scikit-learn's order, which goes writer by writer (see DIGITS.md).

    The split is by position, so most test digits are by hands that are not in the training split;
    every fifth scan would mix them, and gives uneven classes, because labels repeat in tens.
    """
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        grey, label = file["image"], file["label"]
    image = np.rint(grey.astype(np.float64) * 255 / 16).astype(np.uint8)  # from 0, 1, ..., 16
    chosen = slice(0, DIGITS_TRAIN) if split == "train" else slice(DIGITS_TRAIN, None)
    return as_dataset(image[chosen], label[chosen], where="the embedded digits")


def _curves(split: str) -> dict[str, np.ndarray]:
    """Strokes from a key of each split, in float32 on the CPU whatever the accelerator."""
    number, num = (0, 20_000) if split == "train" else (1, 10_000)
    try:
        device = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves the CPU out
        device = jax.local_devices()[0]
    with jax.default_device(device):
        seed = jax.random.key(CURVES_SEED, impl="threefry2x32")
        image = _quantised_curves(jax.random.fold_in(seed, number), num)
    return as_dataset(np.array(image), where="curves")


@functools.partial(jax.jit, static_argnums=1)
def _quantised_curves(key: jax.Array, num: int) -> jax.Array:
    return jnp.rint(curves(key, num) * 255).astype(jnp.uint8)
