"""The image files of a scene: decoded, shrunk by areas, and put into one array with their masks."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.data.image_paths import some
from jaxgen.files import open_image

FORMATS = ("PNG", "JPEG", "WEBP")
_ORIENTATION = 0x0112


class Photos(NamedTuple):
    """Images of a scene.

    Attributes:
        image: uint8 [N, H, W, 3 or 4]; smaller images are in the top left corner.
        full: int64 [N, 2], width and height of the files.
        size: int64 [N, 2], width and height in `image`.
        mask: bool [N, H, W], or None.
    """

    image: np.ndarray
    full: np.ndarray
    size: np.ndarray
    mask: np.ndarray | None


class Header(NamedTuple):
    """Width, height, whether a file has transparency, and its EXIF orientation (1: as stored)."""

    width: int
    height: int
    alpha: bool
    orientation: int


def read_photo(path: Path) -> np.ndarray:
    """One image, uint8 [H, W, 3], or [H, W, 4] where the file has transparency.

    A rotation in the metadata is left alone: cameras are calibrated on the pixels as they are stored.

    Raises:
        ValueError: it cannot be decoded, or has more than 8 bits a value.
    """
    with _open(path, load=True) as picture:
        return np.asarray(picture.convert("RGBA" if picture.has_transparency_data else "RGB"))


def read_header(path: Path) -> Header:
    """Size and kind of an image, without decoding it.

    Raises:
        ValueError: it is not a PNG, JPEG or WebP image, or has more than 8 bits a value.
    """
    with _open(path, load=False) as picture:
        try:
            orientation = int(picture.getexif().get(_ORIENTATION, 1))
        except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):
            orientation = 1
        return Header(picture.width, picture.height, bool(picture.has_transparency_data), orientation)


def _open(path: Path, load: bool) -> Any:
    """The picture, decoded with `load`; a context that closes it."""
    picture = None
    try:
        picture = open_image(path, FORMATS)
        if picture.mode in ("I", "F") or any(
            ";16" in str(part) for part in (picture.mode, *getattr(picture, "tile", ()))
        ):
            raise ValueError(f"mode {picture.mode}, more than 8 bits a value; convert the image to 8 bits")
        if load:
            picture.load()
    except Exception as error:  # Pillow fails in many ways on a damaged file.
        if picture is not None:
            picture.close()
        if isinstance(error, OSError) and error.filename is not None:
            raise
        if "more than 8 bits" in str(error):
            raise ValueError(f"{path}: {error}") from error
        raise ValueError(
            f"{path}: cannot be decoded ({error}); expected a whole PNG, JPEG or WebP image: replace it"
        ) from error
    return picture


def read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """A mask, bool [H, W]: black pixels (below 128, or 0 where the file holds 0 and 1 alone) are False.

    Args:
        path: an image of one channel; of several the mean counts.
        size: (width, height) that it must have.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be decoded, has another size, or transparent pixels.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no mask {path}; its frame's mask_path names it")
    with _open(path, load=True) as picture:
        if picture.has_transparency_data and np.asarray(picture.convert("RGBA"))[..., 3].min() < 255:
            raise ValueError(f"{path}: a mask with transparent pixels; expected black and white alone, without alpha")
        grey = np.asarray(picture.convert("L"))
        mask = grey >= (1 if picture.format == "PNG" and grey.max() == 1 else 128)
    if mask.shape != size[::-1]:
        raise ValueError(
            f"{path}: a mask of {mask.shape[1]} x {mask.shape[0]} pixels for an image of {size[0]} x {size[1]}"
        )
    return mask


def shrink(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """The mean over the area of each new pixel: uint8 [H, W, 3 or 4] -> uint8 [height, width, 3 or 4].

    With alpha it is the mean of what is seen over black, so an edge takes no colour from what is invisible.

    Raises:
        ValueError: the new size is larger.
    """
    if not (0 < width <= image.shape[1] and 0 < height <= image.shape[0]):
        raise ValueError(
            f"an image of {image.shape[1]} x {image.shape[0]} pixels cannot shrink to {width} x {height}; "
            "sizes are from 1 to the image's own"
        )
    if (height, width) == image.shape[:2]:
        return image
    unit = image.astype(np.float32) / 255
    if image.shape[2] == 4:
        unit[..., :3] *= unit[..., 3:]
    rows, columns = _overlaps(height, image.shape[0]), _overlaps(width, image.shape[1])
    small = np.tensordot(np.tensordot(rows, unit, 1), columns, (1, 1)).swapaxes(1, 2)
    if image.shape[2] == 4:
        small[..., :3] /= np.maximum(small[..., 3:], 1e-6)
    return np.rint(255 * np.clip(small, 0, 1)).astype(np.uint8)


def _overlaps(new: int, old: int) -> np.ndarray:
    """[new, old]: which share of each new pixel each old one covers."""
    edges = np.arange(new + 1)[:, None] * (old / new) - np.arange(old)[None, :]
    covered = np.clip(edges, 0, 1)
    return ((covered[1:] - covered[:-1]) * (new / old)).astype(np.float32)


def new_size(size: tuple[int, int], factor: int, ratio: tuple[int, int] | None) -> tuple[int, int]:
    """(width, height) that images of `size` shrink to.

    Args:
        size: (width, height) of the files.
        factor: 2 for half resolution, and so on.
        ratio: instead of a factor, (a, b): to a / b of the width; rows are in proportion.

    Raises:
        ValueError: both are given, or one is not positive.
    """
    if factor < 1 or (ratio is not None and (ratio[0] < 1 or factor != 1)):
        raise ValueError(
            f"factor is {factor} and width {ratio and ratio[0]}; give a factor of at least 1, or a width in pixels "
            "without a factor"
        )
    if ratio is None:
        return max(1, round(size[0] / factor)), max(1, round(size[1] / factor))
    width = max(1, round(size[0] * ratio[0] / ratio[1]))
    return width, max(1, round(size[1] * width / size[0]))


def read_photos(
    paths: Sequence[Path],
    factor: int = 1,
    width: int | None = None,
    *,
    headers: Sequence[Header] | None = None,
    widest: int | None = None,
    masks: Sequence[Path | None] | None = None,
) -> Photos:
    """All images of a scene, shrunk.

    Args:
        paths: the files.
        factor: 2 for half resolution, and so on.
        width: instead of a factor, columns of the widest image; all images shrink by the same ratio.
        headers: of the files, where they are read already.
        widest: columns of the widest file of the scene, also among those not in `paths`.
        masks: a file or None for each image.

    Raises:
        FileNotFoundError: files are missing; the first few are named.
        ValueError: an image cannot be decoded, some have alpha and others not, a mask does not fit, or there are 2^31
            pixels or more; that is found before an image is decoded.
    """
    headers = read_headers(paths) if headers is None else headers
    full = np.array([header[:2] for header in headers], np.int64)
    ratio = None if width is None else (width, max(int(full[:, 0].max()), widest or 0))
    size = np.array([new_size((w, h), factor, ratio) for w, h in full.tolist()], np.int64)
    columns, rows = (int(x) for x in size.max(axis=0))
    if len(paths) * rows * columns >= 2**31:
        raise ValueError(
            f"{paths[0].parent}: {len(paths)} images of up to {columns} x {rows} pixels are "
            f"{len(paths) * rows * columns} pixels; at most 2^31 - 1 can be counted: shrink them (factor or width), or "
            "use fewer"
        )
    channels = 4 if all(header.alpha for header in headers) else 3
    image = np.zeros((len(paths), rows, columns, channels), np.uint8)
    for i, (path, (w, h)) in enumerate(zip(paths, size.tolist(), strict=True)):
        pixels = read_photo(path)
        if pixels.shape[2] > channels and pixels[..., 3].min() < 255:
            other = next(k for k, header in enumerate(headers) if not header.alpha)
            raise ValueError(
                f"{paths[other]}: {describe(headers[other])}, and {path.name} has {describe(headers[i])}; "
                "all images of a scene must be alike"
            )
        image[i, :h, :w] = shrink(pixels[..., :channels], w, h)
    return Photos(image, full, size, _masks(masks, full, size) if masks and any(masks) else None)


def _masks(paths: Sequence[Path | None], full: np.ndarray, size: np.ndarray) -> np.ndarray:
    """bool [N, H, W]; a small pixel may be used if all that it covers may."""
    columns, rows = size.max(axis=0)
    masks = np.zeros((len(paths), rows, columns), bool)
    for i, (path, before, (w, h)) in enumerate(zip(paths, full.tolist(), size.tolist(), strict=True)):
        whole = read_mask(path, tuple(before)) if path else np.ones(before[::-1], bool)
        grey = np.repeat(np.where(whole, np.uint8(255), np.uint8(0))[..., None], 3, axis=-1)
        masks[i, :h, :w] = shrink(grey, w, h)[..., 0] == 255
    return masks


def read_headers(paths: Sequence[Path]) -> list[Header]:
    """Headers of images.

    Raises:
        FileNotFoundError: files are missing; the first few are named.
        ValueError: one is not an image.
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{missing[0].parent}: {len(missing)} of {len(paths)} images are missing: {some(missing)}; get them, or "
            "set images= (--data.images) to the folder that holds them"
        )
    return [read_header(path) for path in paths]


def check_size(path: Path, header: Header, stated: tuple[float, float], how: str, advice: str) -> None:
    """Raises ValueError unless a file has the size that its camera was calibrated at.

    Args:
        path: the image.
        header: of the image.
        stated: (width, height) that go with the intrinsics.
        how: what states them, for the message, e.g. "its camera was calibrated at".
        advice: what to do unless EXIF is the reason.
    """
    if np.abs(np.subtract(stated, header[:2])).max() < 1e-3:
        return
    if header.orientation != 1:
        advice = (
            f"the file carries an EXIF rotation (orientation {header.orientation}), and cameras belong to the pixels "
            "as they are stored: turn the pixels upright (exiftran -ai, or magick mogrify -auto-orient), or give the "
            "intrinsics of the stored pixels"
        )
    raise ValueError(
        f"{path}: {header.width} x {header.height} pixels, and {how} {stated[0]:g} x {stated[1]:g}: {advice}"
    )


def describe(header: Header) -> str:
    """Size and kind of an image, in words."""
    return f"{header.width} x {header.height} pixels {'with' if header.alpha else 'without'} alpha"


def exif_note(headers: Sequence[Header]) -> list[str]:
    """A line for the report where images carry an EXIF rotation."""
    number = sum(header.orientation != 1 for header in headers)
    return [f"{number} images carry an EXIF rotation, which is not applied: pixels count as stored"] if number else []
