"""A folder of image files."""

import os
from pathlib import Path

import numpy as np

from jaxgen import files
from jaxgen.data.checks import SPLITS, as_dataset, check_split, contents, existing_folder

FILES = (
    "a folder of .png, .jpg or .jpeg images, or of one subfolder a class, or of train/ and test/ "
    "with either inside (your own data)"
)
SUFFIXES = (".png", ".jpg", ".jpeg")


def read_images(
    directory: str | os.PathLike | None, split: str = "train", size: int | None = None
) -> dict[str, np.ndarray]:
    """Images sorted by path (as strings: '10' comes before '2'), with labels by subfolder.

    With subfolders train/ and test/, they are the splits. Without, images number 9, 19, 29, ... of
    the sorted list are the test split and the rest train. Subfolders inside are classes, numbered
    in sorted order over both splits. Names that start with a dot and other files are skipped.

    Args:
        directory: the folder.
        split: "train" or "test".
        size: if given, each image is cropped to its largest central square, and that is resized to
            [size, size] with Pillow's antialiasing Lanczos filter. Without it all images must have
            the same size.

    Returns:
        {"image": uint8 [N, H, W, C], "label": int32 [N] (if there are class folders)}; C = 1 if all
        files are grey, else all must be in colour and C = 3.

    Raises:
        FileNotFoundError: no folder, or no image in it.
        ValueError: a damaged image, images that differ in size or in channels, transparency, 16-bit
            values, images beside class folders, an empty split.
    """
    folder, paths, classes = image_paths(directory, split, size)
    first = read_image(paths[0], size)
    image = np.empty((len(paths), *first.shape), np.uint8)
    for i, path in enumerate(paths):
        pixels = read_image(path, size)
        if pixels.shape != first.shape:
            raise ValueError(
                f"{path}: found an image of shape {pixels.shape}; expected {first.shape}, the "
                f"shape of {paths[0]}: give size= (--data.size) to crop and resize, and convert "
                "grey and colour images to one kind"
            )
        image[i] = pixels
    label = np.array([classes.index(p.parent.name) for p in paths]) if classes else None
    return as_dataset(image, label, where=folder)


def image_paths(
    directory: str | os.PathLike | None, split: str = "train", size: int | None = None
) -> tuple[Path, list[Path], list[str]]:
    """(folder, sorted files of the split, names of the classes), as `read_images` reads them."""
    check_split(split)
    if size is not None and size < 1:
        raise ValueError(f"found size {size}; expected a number of pixels, 1 or more")
    root = existing_folder(directory, FILES)
    if any((root / name).is_dir() for name in SPLITS):
        folder = existing_folder(root / split, FILES)
        classes = sorted({name for s in SPLITS for name in _class_names(root / s)})
        paths = _image_paths(folder, classes)
    else:
        folder = root
        classes = _class_names(root)
        paths = _image_paths(folder, classes)
        paths = [p for i, p in enumerate(paths) if (i % 10 == 9) == (split == "test")]
        if not paths:
            raise ValueError(
                f"{folder}: the split {split!r} is empty; images number 9, 19, 29, ... are its "
                "test split: add images, or put them into train/ and test/"
            )
    return folder, paths, classes


def _class_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _image_paths(folder: Path, classes: list[str]) -> list[Path]:
    """The images of a folder, or of its class subfolders, sorted."""
    here = _images_in(folder)
    if classes and here:
        raise ValueError(
            f"{here[0]}: found an image beside the class folders {', '.join(classes[:8])}; "
            "expected either images or class folders: move the image into a class folder"
        )
    paths = here
    for name in classes:
        if nested := _class_names(folder / name):
            raise ValueError(
                f"{folder / name / nested[0]}: found a folder inside a class folder; expected "
                "images there: move them one level up"
            )
        if (folder / name).is_dir():
            paths = paths + _images_in(folder / name)
    if not paths:
        raise FileNotFoundError(f"no image in {folder}, which holds {contents(folder)}; expected {FILES}")
    return paths


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        (p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in SUFFIXES and not p.name.startswith(".")),
        key=lambda p: p.name,
    )


def read_image(path: Path, size: int | None) -> np.ndarray:
    """One image, upright, uint8 [H, W, 1 or 3]."""
    from PIL import Image

    picture = files.read_image(path, upright=True)
    if picture.has_transparency_data:
        raise ValueError(
            f"{path}: found transparency (mode {picture.mode}); expected opaque pixels: put the "
            "image on a background first"
        )
    if picture.mode in ("I", "F") or ";16" in picture.mode:
        raise ValueError(
            f"{path}: found mode {picture.mode}, more than 8 bits a value; expected 8 bits: convert the image first"
        )
    picture = picture.convert("L" if picture.mode in ("1", "L") else "RGB")
    if size is not None:
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        box = (left, top, left + side, top + side)
        picture = picture.resize((size, size), Image.Resampling.LANCZOS, box=box)
    pixels = np.asarray(picture)
    return pixels[..., None] if pixels.ndim == 2 else pixels
