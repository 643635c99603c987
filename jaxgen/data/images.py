"""A folder of image files."""

import os
import struct
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen import files
from jaxgen.data.checks import as_dataset, check_split, contents, existing_folder
from jaxgen.data.image_folders import FILES, HELD_OUT, TRAIN, all_images, class_names, image_paths, split_folders

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
GREY_MODES = ("1", "L", "LA", "La")
NAMED = 5  # problems in one message
THREADS = 8


class ImageFolder(NamedTuple):
    """The files of a split.

    Attributes:
        folder: of the split.
        paths: its images, sorted.
        classes: names of the classes, sorted, of all splits; none without class folders.
        shape: (H, W, C) of an image as it is read.
    """

    folder: Path
    paths: list[Path]
    classes: list[str]
    shape: tuple[int, int, int]

    def labels(self, paths: Iterable[Path]) -> np.ndarray | None:
        """int32 [n]: the classes of some of the paths; None without class folders."""
        number = {name: i for i, name in enumerate(self.classes)}
        return np.array([number[path.parent.name] for path in paths], np.int32) if self.classes else None


def read_images(
    directory: str | os.PathLike | None, split: str = "train", size: int | None = None
) -> dict[str, np.ndarray]:
    """Images sorted by path (as strings: '10' comes before '2'), with labels by subfolder.

    Subfolders train/ (or training/) and test/ (or testing/, val/, valid/, validation/, in this order) are the splits,
    if no other subfolder holds images. Without them, images number 9, 19, 29, ... of the sorted list are the test split
    and the rest train. Subfolders with images are classes, numbered in sorted order over both splits; a class may be
    called train. Names that start with a dot, folders of operating systems (__MACOSX, @eaDir, ...), empty folders and
    files that are no pictures are skipped.

    Args:
        directory: the folder.
        split: "train" or "test".
        size: if given, each image is cropped to its largest central square, and that is resized to
            [size, size] with Pillow's antialiasing Lanczos filter. Without it all images must have
            the same size.

    Returns:
        {"image": uint8 [N, H, W, C], "label": int32 [N] (if there are class folders)}; C = 1 if all files of all splits
        are grey, else 3, and grey images have three equal channels. Palettes count as colour.

    Raises:
        FileNotFoundError: no folder, or no image in it.
        ValueError: damaged images, images that differ in size, transparent pixels, more than 8 bits a value, several
            frames, pictures of other formats, images beside class folders, an empty split. All files are checked, and
            the first few problems named.
    """
    found = find_images(directory, split, size)
    image = np.empty((len(found.paths), *found.shape), np.uint8)
    for i, path in enumerate(found.paths):
        # One channel is repeated.
        image[i] = read_image(path, size)
    return as_dataset(image, found.labels(found.paths), where=found.folder, rescale=False)


def find_images(directory: str | os.PathLike | None, split: str = "train", size: int | None = None) -> ImageFolder:
    """The images of a split as `read_images` reads them. No pixels are decoded, except of files that may be unfit.

    Raises:
        FileNotFoundError, ValueError: as `read_images`; of a damaged image only if its header or its end is missing.
    """
    check_split(split)
    if size is not None and size < 1:
        raise ValueError(f"found size {size}; expected a number of pixels, 1 or more")
    root = existing_folder(directory, FILES)
    splits = split_folders(root)
    if splits is None:
        classes = class_names([root])
        both = image_paths(root, classes)
        paths = [p for i, p in enumerate(both) if (i % 10 == 9) == (split == "test")]
        others = [p for i, p in enumerate(both) if (i % 10 == 9) != (split == "test")]
        if not paths:
            raise ValueError(
                f"{root}: the split {split!r} is empty; images number 9, 19, 29, ... are its "
                "test split: add images, or put them into train/ and test/"
            )
        return ImageFolder(root, paths, classes, _common_shape(paths, others, size))
    if split not in splits:
        names = TRAIN if split == "train" else HELD_OUT
        raise FileNotFoundError(
            f"no folder {' or '.join(names)} with images in {root}, which holds {contents(root)}; expected {FILES}. "
            "Images without such folders are split by their number"
        )
    classes = class_names(splits.values())
    paths = image_paths(splits[split], classes)
    others = [path for name, folder in splits.items() if name != split for path in all_images(folder)]
    return ImageFolder(splits[split], paths, classes, _common_shape(paths, others, size))


def read_image(path: Path, size: int | None) -> np.ndarray:
    """One image, upright, uint8 [H, W, 1 or 3].

    Raises:
        ValueError: a damaged image, transparent pixels, more than 8 bits a value, several frames.
    """
    from PIL import Image, ImageOps

    try:
        with files.open_image(path, FORMATS) as file:
            problem = _problem(file)
            picture = file if problem else ImageOps.exif_transpose(file)
            if not problem:
                picture.load()
    except Exception as error:  # Pillow fails in many ways on a damaged file.
        raise _undecodable(path, error) from error
    grey = picture.mode in GREY_MODES
    if not problem and picture.has_transparency_data:
        transparent: Any = picture.convert("RGBA")
        if transparent.getchannel("A").getextrema()[0] < 255:
            problem = f"found transparency (mode {picture.mode}); expected opaque pixels: put the image on a background"
        picture = transparent
    if problem:
        raise ValueError(f"{path}: {problem}")
    picture = picture.convert("L" if grey else "RGB")
    if size is not None:
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        box = (left, top, left + side, top + side)
        picture = picture.resize((size, size), Image.Resampling.LANCZOS, box=box)
    pixels = np.asarray(picture)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _common_shape(paths: list[Path], others: list[Path], size: int | None) -> tuple[int, int, int]:
    """(H, W, C) of the images `paths` as they are read, from their headers; `others` count for their colour."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="headers") as pool:
        headers = list(pool.map(_header, paths))
    problems = [header for header in headers if isinstance(header, str)]
    shapes = [(path, header) for path, header in zip(paths, headers, strict=True) if not isinstance(header, str)]
    if size is None and shapes:
        first, (height, width, _) = shapes[0]
        if other := [(path, f"{h} x {w}") for path, (h, w, _) in shapes if (h, w) != (height, width)]:
            more = f" and {len(other) - 1} more of other sizes" if len(other) > 1 else ""
            problems.append(
                f"{other[0][0]}: found an image of {other[0][1]} pixels{more}; expected {height} x {width}, the size "
                f"of {first}: give size= (--data.size) to crop and resize"
            )
    if problems:
        rest = f"\n... and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise ValueError("\n".join(problems[:NAMED]) + rest)
    colour = any(shape[2] == 3 for _, shape in shapes) or any(_header(p)[2:] == (3,) for p in others)
    height, width = (size, size) if size is not None else shapes[0][1][:2]
    return height, width, 3 if colour else 1


def _header(path: Path) -> tuple[int, int, int] | str:
    """(H, W, channels) of an upright image, or its problem. Pixels are decoded where the header does not say enough."""
    try:
        with files.open_image(path, FORMATS) as file:
            (width, height), grey = file.size, file.mode in GREY_MODES
            turned = file.getexif().get(0x0112) in (5, 6, 7, 8)
            decode = bool(_problem(file)) or file.has_transparency_data or not _is_whole(path, file.format)
    except Exception as error:
        return str(_undecodable(path, error))
    if decode:
        try:
            read_image(path, None)
        except ValueError as error:
            return str(error)
    return (*((width, height) if turned else (height, width)), 1 if grey else 3)


def _is_whole(path: Path, kind: str | None) -> bool:
    """Whether the file certainly has its end."""
    with open(path, "rb") as file:
        start, length = file.read(8), file.seek(0, os.SEEK_END)
        file.seek(max(0, length - 12))
        end = file.read()
    match kind:
        case "PNG":
            return end[4:8] == b"IEND"
        case "JPEG" | "MPO":
            return end[-2:] == b"\xff\xd9"
        case "WEBP":
            return struct.unpack("<I", start[4:8])[0] + 8 <= length
        case "BMP":
            return 0 < struct.unpack("<I", start[2:6])[0] <= length
    return False


def _problem(file: Any) -> str:
    """Why an opened image is not read; empty if it is."""
    if file.mode in ("I", "F") or ";16" in file.mode or any(";16B" in str(tile) for tile in file.tile):
        return f"found mode {file.mode}, more than 8 bits a value; expected 8 bits: convert the image first"
    if file.format in ("PNG", "WEBP") and getattr(file, "n_frames", 1) > 1:
        return f"found {file.n_frames} frames; expected one picture: save its frames as files"
    return ""


def _undecodable(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path}: cannot be decoded ({error}); expected a whole PNG, JPEG, WebP or BMP image: replace or remove it"
    )
