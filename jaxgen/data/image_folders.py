"""Which files of a folder are images of which split and class."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from jaxgen.data.checks import contents

FILES = (
    "a folder of .png, .jpg, .webp or .bmp images, or of one subfolder a class, or of train/ and test/ (or val/) "
    "with either inside (your own data)"
)
SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp")
OTHER_PICTURES = (
    ".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".psd",
    ".exr", ".hdr", ".dng", ".cr2", ".nef", ".arw", ".svg", ".ico",
)  # fmt: skip
TRAIN, HELD_OUT = ("train", "training"), ("test", "testing", "val", "valid", "validation")
SYSTEM_FOLDERS = {
    "__macosx", "__pycache__", "@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot",
    "$recycle.bin", "system volume information", "lost+found", "network trash folder", "temporary items",
}  # fmt: skip


def holds_images(folder: Path) -> bool:
    """Whether there are images in a folder, in one of its subfolders, or in theirs."""
    return any(True for part in (folder, *_folders(folder)) for _ in all_images(part))


def split_folders(root: Path) -> dict[str, Path] | None:
    """{split: its folder}, or None where the subfolders, if any, are classes.

    Raises:
        ValueError: images in further folders beside those of both splits.
    """
    holding = [folder for folder in _folders(root) if any(True for _ in all_images(folder))]
    named = lambda names: [folder for name in names for folder in holding if folder.name.lower() == name]
    train, held_out = named(TRAIN), named(HELD_OUT)
    others = [folder.name for folder in holding if folder not in train + held_out]
    if train and held_out and others:
        raise ValueError(
            f"{root}: found images in {', '.join(others[:8])} beside {train[0].name}/ and {held_out[0].name}/; "
            "expected either splits with the classes inside, or classes alone: move the folders, or rename those that "
            "are no splits"
        )
    if others or not (train or held_out):
        return None
    return {split: found[0] for split, found in (("train", train), ("test", held_out)) if found}


def class_names(folders: Iterable[Path]) -> list[str]:
    """The names of the subfolders that hold images, of all these folders, sorted."""
    return sorted({p.name for folder in folders for p in _folders(folder) if any(True for _ in all_images(p))})


def image_paths(folder: Path, classes: list[str]) -> list[Path]:
    """The images of a folder, or of its class subfolders, sorted.

    Raises:
        FileNotFoundError: there is none.
        ValueError: images beside the class folders or in folders inside them, or pictures of other formats.
    """
    here = sorted(_images_in(folder), key=lambda p: p.name)
    if classes and here:
        raise ValueError(
            f"{here[0]}: found an image beside the class folders {', '.join(classes[:8])}; "
            "expected either images or class folders: move the image into a class folder"
        )
    paths = here
    for name in classes:
        if not (folder / name).is_dir():
            continue
        if nested := [p for p in _folders(folder / name) if any(True for _ in _images_in(p))]:
            raise ValueError(
                f"{nested[0]}: found a folder of images inside a class folder; expected images there: move them one "
                f"level up, or set directory= (--data.dir) to {folder / name}"
            )
        paths = paths + sorted(_images_in(folder / name), key=lambda p: p.name)
    searched = [folder, *_folders(folder)]
    other = [p for part in searched for p in _visible_files(part) if p.suffix.lower() in OTHER_PICTURES]
    if other:
        kinds = sorted({p.suffix.lower() for p in other})
        raise ValueError(
            f"{other[0]}: found {len(other)} pictures of the kinds {', '.join(kinds)}, which are not read; expected "
            ".png, .jpg, .webp or .bmp: convert them, or move them elsewhere"
        )
    if not paths:
        raise FileNotFoundError(f"no image in {folder}, which holds {contents(folder)}; expected {FILES}")
    return paths


def _folders(folder: Path) -> list[Path]:
    """The visible subfolders, without those of operating systems, sorted."""
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    return [folder / name for name in sorted(names) if name.lower() not in SYSTEM_FOLDERS]


def _visible_files(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_file():
                yield folder / entry.name


def _images_in(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith(".") or path.suffix.lower() not in SUFFIXES or entry.is_dir():
                continue
            if not entry.is_file():
                raise ValueError(
                    f"{path}: found a link without its file, a pipe, a socket or a device; expected an image file: "
                    "restore or remove it"
                )
            yield path


def all_images(folder: Path) -> Iterator[Path]:
    """The images of a folder and of its subfolders."""
    yield from _images_in(folder)
    for inner in _folders(folder):
        yield from _images_in(inner)
