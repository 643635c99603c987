"""The image files that the description of a scene names, as other systems and programs write their paths."""

import os
import posixpath
import re
import unicodedata
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxgen.files import as_path

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".JPG", ".PNG", ".JPEG", ".WEBP")
_OTHER_IMAGES = (".heic", ".heif", ".tif", ".tiff", ".bmp", ".gif", ".exr", ".dng", ".avif", ".jxl")
_ADDRESS = re.compile(r"file:/+")
_ELSEWHERE = re.compile(r"file:/|[A-Za-z]:/")


def normal_name(name: str, where: str | os.PathLike) -> str:
    """A path of a file as it is compared: forward slashes, without "." and doubled slashes.

    Args:
        name: as it is written.
        where: the description that names it, for the message.

    Raises:
        ValueError: it is empty, longer than names of files are, or holds characters that no name has.
    """
    parts = name.replace("\\", "/").split("/")
    if not name or "\0" in name or any("\ud800" <= c <= "\udfff" for c in name) or len(max(parts, key=len)) > 200:
        raise ValueError(f"{where}: {name[:100]!r} is not a file's name")
    return posixpath.normpath(name.replace("\\", "/"))


def find_image(folder: Path, name: str, root: Path | None, where: str) -> Path:
    """The file that a name in a scene's description means.

    As it is written, then with forward slashes, without the escapes of a URL and with accents composed or not, then
    with another suffix of an image. Of a path on another computer, and of any path where `root` is given, the longest
    end that is there counts. A file that is not there is returned under the most likely path.

    Args:
        folder: that names are relative to.
        name: as it is written.
        root: another folder in which the file may be, by the end of its path.
        where: the description, for the message.

    Raises:
        ValueError: the file is outside of the folder, or several files could be meant.
    """
    normal = normal_name(name, where)
    bases = [folder] if root is None else [folder, root]
    allowed = [Path(os.path.abspath(base)) for base in bases]
    for path in _inside(bases, name, allowed):
        if path.is_file():
            return path
    plain = normal_name(urllib.parse.unquote(_ADDRESS.sub("/", normal)), where)
    # macOS writes an accent as a character of its own.
    spellings = [normal, plain, *(unicodedata.normalize(form, plain) for form in ("NFC", "NFD"))]
    names = [text for text in dict.fromkeys(spellings) if not _ELSEWHERE.match(text)]
    inside = [path for text in names for path in _inside(bases, text, allowed)]
    there = lambda paths: next((found for path in paths if (found := _existing(path, f"{where}: {name}"))), None)
    if found := there(inside):
        return found
    absent = bool(_ELSEWHERE.match(plain)) or (posixpath.isabs(plain) and not os.path.exists(plain))
    if (root is not None and (root != folder or not plain.startswith("../"))) or (absent and not inside):
        base, parts = root or folder, plain.split("/")
        ends = [base.joinpath(*parts[k:]) for k in range(1, len(parts)) if ".." not in parts[k:]]
        if found := there(ends):
            return found
    if not inside:
        raise ValueError(
            f"{where}: {name} is outside of the scene's folder {' and of '.join(map(str, allowed))}: put the "
            "images there, or set images= (--data.images) to a folder that holds them all"
        )
    first = inside[0]
    named = first.suffix in SUFFIXES or first.suffix.lower() in _OTHER_IMAGES
    return first if named else first.with_name(first.name + ".png")


def _existing(path: Path, which: str) -> Path | None:
    """The file of a path as it is, or with another suffix of an image."""
    if path.is_file():
        return path
    stems = [path.name] + ([path.stem] if path.suffix in SUFFIXES else [])
    others = [path.with_name(stem + suffix) for stem in stems for suffix in SUFFIXES]
    there = [other for other in others if other.is_file()]
    if there and there[0].suffix != ".png" and not all(other.samefile(there[0]) for other in there):
        raise ValueError(f"{which} could be any of {some(there)}: write its suffix")
    return there[0] if there else None


def _inside(bases: Sequence[Path], name: str, allowed: Sequence[Path]) -> list[Path]:
    """The paths of a name in some folders that lie in `allowed`; relative where the folder is."""
    found = [(base, Path(os.path.abspath(base / name))) for base in bases]
    return [
        path if base.is_absolute() else Path(os.path.relpath(path))
        for base, path in found
        if any(folder in path.parents for folder in allowed)
    ]


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
    root = as_path(images)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; images= (--data.images) must be the folder that holds the images")
    return root


def some(things: Sequence[Any], most: int = 5) -> str:
    """The first few names, for a message."""
    names = [path.name if isinstance(path, Path) else str(path) for path in things]
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")
