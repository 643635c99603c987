"""Images that stay on disk and are read by number: data larger than memory, in any order."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxgen.data.checks import as_labels
from jaxgen.data.file_digest import file_digests
from jaxgen.data.images import find_images, read_image
from jaxgen.data.tfds import open_tfds, take


class StoredImages(NamedTuple):
    """A split on disk.

    Attributes:
        read: `read(numbers)`, integers [n] from 0 to N - 1 -> {"image": uint8 [n, H, W, C], "label": int32 [n] (if
            there are labels)}. It keeps nothing, and may be called from several threads.
        number: N.
        shape: (H, W, C).
        fingerprint: sha256 of what says cheaply that the data is the same: names and sizes of the files, and at most
            64 KiB of each image's bytes, or 1 MiB of a file of records. A larger file that is changed between the
            pieces that are read, and keeps its size, goes unnoticed. A copy elsewhere has the same fingerprint.
        num_classes: of labels that are known without reading the images: the class folders, of all splits; 0: unknown,
            or no labels.
    """

    read: Callable[[ArrayLike], dict[str, np.ndarray]]
    number: int
    shape: tuple[int, int, int]
    fingerprint: str
    num_classes: int = 0


def stored(
    name: str, split: str = "train", directory: str | os.PathLike | None = None, *, size: int | None = None
) -> StoredImages:
    """A split of "images" or "tfds:<name>", each example the same as in `load(name, split, directory, size=size)`.

    Raises:
        FileNotFoundError: the folder or a file in it is missing.
        ValueError: another name, or what `load` refuses; damage inside of an image, which its header and its end do not
            show, when it is read.
    """
    if name.startswith("tfds:"):
        if size is not None:
            raise ValueError(f"size is {size} for {name!r}; only 'images' can be resized: leave it out")
        return _tfds(name.removeprefix("tfds:"), split, directory)
    if name != "images":
        raise ValueError(f"{name!r} is read into memory by load; only 'images' and 'tfds:<name>' are read by number")
    return _images(directory, split, size)


def _images(directory: str | os.PathLike | None, split: str, size: int | None) -> StoredImages:
    found = find_images(directory, split, size)
    paths, shape = found.paths, found.shape

    def read(numbers):
        chosen = [paths[number] for number in np.asarray(numbers).tolist()]
        image = np.empty((len(chosen), *shape), np.uint8)
        for i, path in enumerate(chosen):
            pixels = read_image(path, size)
            if pixels.shape[:2] != shape[:2] or pixels.shape[2] > shape[2]:
                raise ValueError(f"{path}: found an image of shape {pixels.shape}; it had {shape} when the run began")
            image[i] = pixels
        label = found.labels(chosen)
        return {"image": image} if label is None else {"image": image, "label": label}

    digests = file_digests(paths)
    files = [f"{path.relative_to(found.folder)} {digest}\n" for path, digest in zip(paths, digests, strict=True)]
    return StoredImages(read, len(paths), shape, _sha256(*files, str(size)), len(found.classes))


def _tfds(name: str, split: str, directory: str | os.PathLike | None) -> StoredImages:
    source, keys, root, prepare = open_tfds(name, split, directory)
    what = f"{name} in {root}"
    if len(source) == 0:
        raise ValueError(f"tfds:{what}: the split {split!r} is empty; take one that holds examples")
    image_key, label_key = keys
    first = [
        np.asarray(example[image_key]) for example in take(source, range(min(100, len(source))), keys, what, prepare)
    ]
    shape = first[0].shape
    if max(int(pixels.max()) for pixels in first) == 1:
        raise ValueError(
            f"tfds:{what}: found images of 0 and 1 alone; they are scaled in memory: leave out --data.on-disk"
        )

    def read(numbers):
        examples = take(source, np.asarray(numbers).tolist(), keys, what, prepare)
        pixels = [np.asarray(example[image_key]) for example in examples]
        if other := {p.shape for p in pixels} - {shape}:
            raise ValueError(
                f"tfds:{what}: found images of shape {sorted(other)[0]}; expected {shape}, that of the first"
            )
        batch = {"image": np.stack(pixels)}
        if label_key:
            batch["label"] = as_labels(np.array([example[label_key] for example in examples]), len(examples), what)
        return batch

    info = source.dataset_info
    files = sorted({Path(part.filename) for part in info.splits[split].file_instructions})
    known = [info.full_name, split, str(len(source)), *(f.name for f in files), *file_digests(files)]
    return StoredImages(read, len(source), shape, _sha256(*known))


def _sha256(*texts: str) -> str:
    return hashlib.sha256(os.fsencode("\n".join(texts))).hexdigest()
