"""TensorFlow Datasets, read without TensorFlow."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.data.checks import as_dataset, contents, nearest
from jaxgen.files import as_path

CHUNK = 1000  # examples decoded at a time


def from_tfds(name: str, split: str = "train", directory: str | os.PathLike | None = None) -> dict[str, np.ndarray]:
    """The images and labels of a prepared TensorFlow Dataset, by `tfds.data_source`.

    The data set must have been prepared once, on any machine with TensorFlow, as array_record:

        builder = tfds.builder(name, data_dir=directory, file_format="array_record")
        builder.download_and_prepare()

    Args:
        name: as TFDS writes it: "mnist", "mnist:3.0.1", "<dataset>/<config>".
        split: one of its splits, or a slice such as "train[:1000]".
        directory: TFDS's data_dir; None means $TFDS_DATA_DIR, or ~/tensorflow_datasets.

    Returns:
        {"image": uint8 [N, H, W, C], "label": int32 [N] (if there are labels)}: the features called
        image and label, or else the only one that is a uint8 image and the only class label.

    Raises:
        FileNotFoundError: no folder, or the data set is not prepared in it.
        ValueError: an unknown data set or split, another file format, no image feature, images of
            different sizes, an empty split.
    """
    source, (image_key, label_key), root, prepare = open_tfds(name, split, directory)
    image, label = [], []
    for start in range(0, len(source), CHUNK):
        numbers = range(start, min(start + CHUNK, len(source)))
        examples = take(source, numbers, (image_key, label_key), f"{name} in {root}", prepare)
        pixels = [np.asarray(example[image_key]) for example in examples]
        shapes = {p.shape for p in [*pixels, *(block[0] for block in image[:1])]}
        if len(shapes) > 1:
            raise ValueError(
                f"tfds:{name}: found images of different shapes, {sorted(shapes)[:4]}; expected "
                "one shape: save them as files and read the folder as 'images' with a size"
            )
        image.append(np.stack(pixels))
        if label_key:
            label.append(np.array([example[label_key] for example in examples]))
    where = f"tfds:{name}[{split!r}] in {root}"
    if not image:
        raise ValueError(f"{where}: the split is empty; take one that holds examples")
    labels = np.concatenate(label) if label_key else None
    if labels is not None and (labels == -1).all():
        labels = None  # how TFDS marks a test split whose labels are secret
    return as_dataset(np.concatenate(image), labels, where=where)


def open_tfds(
    name: str, split: str, directory: str | os.PathLike | None
) -> tuple[Any, tuple[str, str | None], Path, str]:
    """(source of examples by number, keys of image and label, folder, how to prepare), as `from_tfds` reads them."""
    import tensorflow_datasets as tfds

    if directory is None:
        directory = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    root = as_path(directory)
    base = name.split("/")[0].split(":")[0]
    prepare = (
        f"prepare it once with TensorFlow installed: tfds.builder({base!r}, "
        f"data_dir={str(root)!r}, file_format='array_record').download_and_prepare()"
    )
    if not root.is_dir():
        raise FileNotFoundError(
            f"no folder {root}; expected TFDS's data folder with the data set {base!r} in it: set "
            f"directory= (--data.dir), or {prepare}"
        )
    if not base or not (root / base).is_dir():
        prepared = [p.name for p in root.iterdir() if p.is_dir()]
        known = tfds.list_builders(with_community_datasets=False)
        if base in known:
            raise FileNotFoundError(
                f"the TFDS data set {base!r} is not prepared in {root}, which holds {contents(root)}; {prepare}"
            )
        raise ValueError(
            f"found no TFDS data set {base!r} in {root}, which holds {contents(root)}, nor is it "
            f"known to TFDS; nearest: {nearest(base, prepared + known)!r}"
        )
    try:
        source: Any = tfds.data_source(name, split=split, data_dir=root, download=False)
    except (NotImplementedError, ValueError, AssertionError) as error:
        raise ValueError(_refusal(name, split, root, error, prepare)) from error
    return source, _keys(name, source.dataset_info.features), root, prepare


def take(
    source: Any, numbers: Iterable[int], keys: tuple[str, str | None], what: str, prepare: str
) -> list[dict[str, Any]]:
    """The examples of these numbers.

    Raises:
        ValueError: a damaged file.
    """
    try:
        examples = source.__getitems__(list(numbers))
    except RuntimeError as error:
        raise ValueError(_damage(what, str(error), prepare)) from error
    # A file cut at a block boundary is read as examples without values.
    if any(example[key] is None for example in examples for key in keys if key):
        raise ValueError(_damage(what, "an example is blank", prepare))
    return examples


def _damage(what: str, said: str, prepare: str) -> str:
    return f"tfds:{what} is damaged or incomplete ({said}); remove its folder and {prepare}"


def _refusal(name: str, split: str, root: Path, error: Exception, prepare: str) -> str:
    """Why TFDS could not open a data set that has a folder, and what to do."""
    import tensorflow_datasets as tfds

    said = str(error).split("\n")[0]
    if isinstance(error, NotImplementedError):
        return (
            f"tfds:{name} in {root} is not prepared as array_record, the format that can be read "
            f"without TensorFlow ({said}); {prepare}"
        )
    try:
        builder = tfds.builder(name, data_dir=root)
    except (ValueError, AssertionError):
        folder = root / name.split("/")[0].split(":")[0]
        return (
            f"tfds:{name} cannot be opened ({said}); {folder} holds {contents(folder)}; expected "
            "<dataset>, <dataset>:<version> or <dataset>/<config> prepared there: correct the "
            f"name, or {prepare}"
        )
    splits = ", ".join(f"{k} ({v.num_examples:,})" for k, v in builder.info.splits.items())
    return (
        f"tfds:{name} in {root} has no examples in the split {split!r} ({said}); its splits are "
        f"{splits}: give one of them"
    )


def _keys(name: str, features) -> tuple[str, str | None]:
    """The names of the image and of the label among the features of a data set."""
    import tensorflow_datasets as tfds

    images = [k for k, f in features.items() if len(f.shape or ()) == 3 and f.np_dtype == np.uint8]
    labels = [k for k, f in features.items() if isinstance(f, tfds.features.ClassLabel)]
    image = "image" if "image" in images else images[0] if len(images) == 1 else None
    if image is None:
        raise ValueError(
            f"tfds:{name}: found the features {', '.join(features)}, of which {len(images)} are "
            "uint8 images; expected one called 'image', or exactly one: this data set needs its "
            "own reader"
        )
    return image, "label" if "label" in labels else labels[0] if len(labels) == 1 else None
