"""Photographs with known cameras: the arrays that every reader of scenes returns, and what is checked of them.

A scene is a dict of NumPy arrays, one row a view:

| name | what |
|---|---|
| image | uint8 [N, H, W, 3], or 4 with alpha (colours not multiplied by it); images of several sizes are filled up |
| pose | float64 [N, 4, 4], camera to world, OpenGL axes: x right, y up, looking along -z |
| intrinsics | float64 [N, 4]: focal_x, focal_y, center_x, center_y in pixels of `image`, from its top left corner |
| name | str [N], the file |
| size | int32 [N, 2], width and height of each image, where they differ |
| mask | bool [N, H, W], pixels that may be used, where there are masks |
"""

import os
import posixpath
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".JPG", ".PNG", ".JPEG", ".WEBP")
FORMATS = ("PNG", "JPEG", "WEBP")
_ORIENTATION = 0x0112


class Scene(dict[str, np.ndarray]):
    """The arrays of a scene, one row a view.

    Attributes:
        report: what was read and what was not, a line each.
        world_from_scene: [4, 4], the similarity from the arrays' world to that of the files.
    """

    def __init__(self, arrays: dict[str, np.ndarray]):
        super().__init__(arrays)
        self.report: list[str] = []
        self.world_from_scene = np.eye(4)


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
    from PIL import Image

    picture = None
    try:
        picture = Image.open(path, formats=FORMATS)
        if picture.mode in ("I", "F") or ";16" in picture.mode:
            raise ValueError(f"mode {picture.mode}, more than 8 bits a value; convert the image to 8 bits")
        if load:
            picture.load()
    except (OSError, SyntaxError, ValueError, OverflowError, struct.error, Image.DecompressionBombError) as error:
        if picture is not None:
            picture.close()
        if "more than 8 bits" in str(error):
            raise ValueError(f"{path}: {error}") from error
        raise ValueError(
            f"{path}: cannot be decoded ({error}); expected a whole PNG, JPEG or WebP image: replace it"
        ) from error
    return picture


def read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """A mask, bool [H, W]: black pixels (below 128) are False.

    Args:
        path: an image of one channel; of several the mean counts.
        size: (width, height) that it must have.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be decoded, or has another size.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no mask {path}; its frame's mask_path names it")
    with _open(path, load=True) as picture:
        mask = np.asarray(picture.convert("L")) >= 128
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
    ratio = None if width is None else (width, max(full[:, 0].max(), widest or 0))
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
        raise FileNotFoundError(f"{len(missing)} of {len(paths)} images are missing: {some(missing)}")
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
    if stated == header[:2]:
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


def normal_name(name: str) -> str:
    """A path of a file as it is compared: forward slashes, without "." and doubled slashes.

    Raises:
        ValueError: it is empty, or holds characters that no path has.
    """
    if not name or "\0" in name or any("\ud800" <= c <= "\udfff" for c in name):
        raise ValueError(f"{name!r} is not a file's name")
    return posixpath.normpath(name.replace("\\", "/"))


def find_image(folder: Path, name: str, root: Path | None, where: str) -> Path:
    """The file that a name in a scene's description means.

    As it is written, then with forward slashes, then with another suffix of an image. A file that is not there is
    returned under the most likely path.

    Args:
        folder: that names are relative to.
        name: as it is written.
        root: folder inside of which the file must be, and in which it is also looked for; None: `folder`.
        where: the description, for the message.

    Raises:
        ValueError: the file is outside of the folder, or several files could be meant.
    """
    try:
        normal = normal_name(name)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    bases = [folder] if root is None else [folder, root]
    allowed = Path(os.path.abspath(root or folder))
    inside = [p for base in bases for p in _inside(base, dict.fromkeys((name, normal)), allowed)]
    if not inside:
        raise ValueError(
            f"{where}: {name} is outside of {'the scene' if root is None else 'the images'}'s folder {allowed}: put "
            "the images there, or set images= (--data.images) to a folder that holds them all"
        )
    for path in inside:
        if path.is_file():
            return path
    candidates = [path for path in inside if "\\" not in path.name] or inside
    for path in candidates:
        stems = [path.name] + ([path.stem] if path.suffix in SUFFIXES else [])
        others = [path.with_name(stem + suffix) for stem in stems for suffix in SUFFIXES]
        there = [other for other in others if other.is_file()]
        if there and there[0].suffix != ".png" and not all(other.samefile(there[0]) for other in there):
            raise ValueError(f"{where}: {name} could be any of {some(there)}: write its suffix")
        if there:
            return there[0]
    first = candidates[0]
    return first if first.suffix in SUFFIXES else first.with_name(first.name + ".png")


def _inside(base: Path, names: Iterable[str], allowed: Path) -> list[Path]:
    """The paths of names in `base` that lie in `allowed`."""
    found = []
    for name in names:
        path = Path(os.path.abspath(base / name))
        if allowed in path.parents:
            # Relative where the folder is.
            found.append(Path(os.path.relpath(path)) if not base.is_absolute() else path)
    return found


def relative_name(path: Path, folder: Path) -> str:
    """The name of an image in reports: relative to the scene's folder."""
    return os.path.relpath(path, folder)


def images_root(images: str | os.PathLike | None) -> Path | None:
    """The folder of images that a reader was given.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if images is None:
        return None
    root = Path(images).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; images= (--data.images) must be the folder that holds the images")
    return root


def describe(header: Header) -> str:
    """Size and kind of an image, in words."""
    return f"{header.width} x {header.height} pixels {'with' if header.alpha else 'without'} alpha"


def some(things: Sequence[Any], most: int = 5) -> str:
    """The first few names, for a message."""
    names = [path.name if isinstance(path, Path) else str(path) for path in things]
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")


def as_pose(matrix: Any, where: str) -> np.ndarray:
    """A camera-to-world matrix, [4, 4] or [3, 4] -> float64 [4, 4].

    Raises:
        ValueError: another shape, values that are not finite, or a 3 x 3 part that is not a rotation.
    """
    try:
        found = np.asarray(matrix, np.float64)
    except (TypeError, ValueError):
        found = np.zeros(0)
    if found.shape not in ((3, 4), (4, 4)) or not np.isfinite(found).all():
        raise ValueError(f"{where}: a pose must be 3 x 4 or 4 x 4 finite numbers, camera to world")
    if found.shape == (4, 4) and np.abs(found[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise ValueError(
            f"{where}: the pose is not a rotation and a translation: its last row is {found[3].tolist()}, and must "
            "be 0, 0, 0, 1. Is it scaled, or transposed?"
        )
    rotation = found[:3, :3]
    error = np.abs(rotation.T @ rotation - np.eye(3)).max()
    if error > 1e-3:
        length = np.linalg.norm(rotation, axis=0)
        unit = rotation / np.where(length > 0, length, 1)
        scaled = np.abs(unit.T @ unit - np.eye(3)).max() < 1e-3
        raise ValueError(
            f"{where}: the pose is not a rotation (|R^T R - I| reaches {error:.3g}): its columns must be unit vectors "
            "at right angles. "
            + (
                f"Its columns have lengths {', '.join(f'{x:.4g}' for x in length)}, as those of an object scaled "
                "in Blender: divide each by its length"
                if scaled
                else "Is it transposed?"
            )
        )
    if np.linalg.det(rotation) < 0:
        raise ValueError(
            f"{where}: the pose is a reflection (determinant -1): one axis, or two columns swapped, is in another "
            "convention than OpenGL's"
        )
    if np.abs(found[:3, 3]).max() > 1e12:
        raise ValueError(f"{where}: the camera stands at {found[:3, 3].tolist()}; expected coordinates below 1e12")
    return np.concatenate([found[:3], [[0, 0, 0, 1]]])


def as_scene(
    photos: Photos,
    pose: Sequence[np.ndarray] | np.ndarray,
    intrinsics: Sequence[Sequence[float]] | np.ndarray,
    name: Sequence[str],
    where: str | os.PathLike,
) -> Scene:
    """The dict of arrays, with intrinsics scaled from the files' sizes to the images'.

    Args:
        photos: of `read_photos`.
        pose: [N, 4, 4].
        intrinsics: [N, 4] (focal_x, focal_y, center_x, center_y) in pixels of the files.
        name: [N].
        where: folder or file, for the message.

    Raises:
        ValueError: a focal length that is not positive, or a principal point outside of the image.
    """
    numbers = np.asarray(intrinsics, np.float64).reshape(-1, 4)
    outside = ~np.all((numbers[:, 2:] > 0) & (numbers[:, 2:] < photos.full), axis=1)
    wrong = ~np.isfinite(numbers).all(axis=1) | ((numbers[:, :2] <= 0) | (numbers[:, :2] > 1e9)).any(axis=1) | outside
    if wrong.any():
        view = int(np.argmax(wrong))
        focal, center = numbers[view, :2].tolist(), numbers[view, 2:].tolist()
        raise ValueError(
            f"{where}: {name[view]} has focal lengths {focal} and principal point {center} for an image of "
            f"{photos.full[view, 0]} x {photos.full[view, 1]} pixels; focal lengths are positive and the point is "
            "inside the image. Are the intrinsics those of another resolution?"
        )
    scene = Scene({
        "image": photos.image,
        "pose": np.asarray(pose, np.float64),
        "intrinsics": numbers * np.tile(photos.size / photos.full, 2),
        "name": np.array([str(n) for n in name]),
    })  # fmt: skip
    if (photos.size != photos.size[0]).any():
        scene["size"] = photos.size.astype(np.int32)
    if photos.mask is not None:
        scene["mask"] = photos.mask
    return scene


def describe_cameras(kinds: Sequence[str], intrinsics: np.ndarray, size: np.ndarray) -> str:
    """A line for the report: cameras by kind and size, and their focal lengths.

    Args:
        kinds: a word for each view.
        intrinsics: [N, 4] in pixels of the files.
        size: [N, 2] of the files.
    """
    groups: dict[tuple, list[float]] = {}
    for kind, row, (width, height) in zip(kinds, np.asarray(intrinsics), size.tolist(), strict=True):
        groups.setdefault((kind, width, height), []).append(float(row[0]))
    parts = [
        f"{len(focal)} {kind} {width} x {height}, focal length {min(focal):.6g}"
        + (f" to {max(focal):.6g}" if max(focal) > min(focal) else "")
        for (kind, width, height), focal in groups.items()
    ]
    return f"cameras: {'; '.join(parts[:6])}" + (f"; and {len(parts) - 6} more kinds" if len(parts) > 6 else "")


def exif_note(headers: Sequence[Header]) -> list[str]:
    """A line for the report where images carry an EXIF rotation."""
    number = sum(header.orientation != 1 for header in headers)
    return [f"{number} images carry an EXIF rotation, which is not applied: pixels count as stored"] if number else []


def hold_out(number: int, every: int, split: str) -> np.ndarray:
    """Indices of a split of `number` views: 0, every, 2 every, ... are the test split, as in LLFF's protocol.

    Args:
        number: views in all.
        every: 8 in the protocol; 0: both splits are all views.
        split: "train" or "test".

    Raises:
        ValueError: `every` is negative or 1, or the split is empty.
    """
    if every < 0 or every == 1:
        raise ValueError(f"hold_out is {every}; expected 0 (none) or 2 and more (every so many-th view)")
    index = np.arange(number)
    if every:
        index = index[(index % every == 0) == (split == "test")]
    if not len(index):
        raise ValueError(f"the split {split!r} of {number} views is empty when every {every}th is held out")
    return index
