"""Sample batches: images and labels in an .npz, the format of guided-diffusion's reference batches.

Source: Dhariwal & Nichol (2021) and their code.

A batch is written while its samples are drawn, in shards that are complete or absent, and joined at the end; an
interrupted command continues where it stopped. A third entry, `settings`, is JSON of what the samples depend on, so
that a batch is never continued with other settings.
"""

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxgen.files import as_path
from jaxgen.weights import read_arrays, write_arrays

Make = Callable[[int, int], tuple[np.ndarray, np.ndarray | None]]
"""make(start, stop) -> images uint8 [stop - start, H, W, C] and integer labels [stop - start] or None."""


class SampleBatch(NamedTuple):
    """The contents of a file.

    Attributes:
        image: uint8 [N, H, W, C]; N is 0 in a reference of statistics alone.
        label: int64 [N], or None.
        settings: what the images depend on, as given to `write_sample_batch`; {} for a batch from elsewhere.
        rest: its other entries, such as the statistics of a reference.
    """

    image: np.ndarray
    label: np.ndarray | None
    settings: dict[str, Any]
    rest: dict[str, np.ndarray]


def read_sample_batch(path: str | Path) -> SampleBatch:
    """A sample batch, from here or from elsewhere.

    A file without images is read where it holds statistics, `mu` and `sigma`, as EDM, DiT and pytorch-fid publish them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or no batch of images.
    """
    path = as_path(path)
    if not path.is_file():
        parts = parts_of(path)
        hint = f"; its samples are still being drawn, in {parts}" if parts.is_dir() else ""
        raise FileNotFoundError(f"no file {path}{hint}; expected a sample batch, an .npz with arr_0")
    arrays = read_arrays(path)
    has_moments = "mu" in arrays and "sigma" in arrays
    if has_moments:
        arrays.setdefault("arr_0", np.zeros((0, 0, 0, 0), np.uint8))
    if "arr_0" not in arrays:
        held = ", ".join(sorted(arrays)) or "nothing"
        raise ValueError(
            f"{path} holds {held} and no arr_0; a sample batch has its images [N, H, W, C] there, "
            "and a reference of statistics alone has mu and sigma"
        )
    image, label = arrays.pop("arr_0"), arrays.pop("arr_1", None)
    if image.dtype != np.uint8 or image.ndim != 4 or not (image.size or has_moments):
        raise ValueError(f"arr_0 of {path} is {image.dtype} {list(image.shape)}; expected uint8 [N, H, W, C]")
    if label is not None:
        if not np.issubdtype(label.dtype, np.integer) or label.shape != image.shape[:1]:
            raise ValueError(
                f"arr_1 of {path} is {label.dtype} {list(label.shape)}; expected integers [{len(image)}], a label "
                "for each image"
            )
        label = label.astype(np.int64)
    try:
        settings = json.loads(str(arrays.pop("settings", "{}")))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"settings of {path} is no JSON ({error})") from error
    if not isinstance(settings, dict):
        raise ValueError(f"settings of {path} is a {type(settings).__name__}; expected a JSON object")
    return SampleBatch(image, label, settings, arrays)


def write_sample_batch(
    path: str | Path,
    make: Make,
    num: int,
    *,
    settings: dict[str, Any],
    batch_size: int,
    progress: Callable[[int], None] = lambda done: None,
) -> bool:
    """Draws `num` samples into a sample batch; shards that exist already are not drawn again.

    Args:
        path: of the file, ending with .npz. Shards are in `parts_of(path)` until it is complete.
        make: draws samples number start to stop - 1, at most `batch_size`; they must depend on their numbers alone.
        num: N.
        settings: what the samples depend on, as JSON can write it.
        batch_size: samples of a shard; may be another one when a batch is continued.
        progress: `progress(number of samples)` is called after each shard.

    Returns:
        whether anything was left to do.

    Raises:
        ValueError: a batch of other settings is there, complete or begun; a shard is damaged.
    """
    path = Path(path).expanduser()
    if path.suffix != ".npz" or num < 1 or batch_size < 1:
        raise ValueError(
            f"{num} samples, {batch_size} at a time, into {path}; expected at least 1 each and the suffix .npz"
        )
    settings, parts = json.loads(json.dumps({**settings, "num": num})), parts_of(path)
    if path.exists():
        _check_same(read_sample_batch(path).settings, settings, path)
        return False
    if (parts / "settings.json").exists():
        _check_same(json.loads((parts / "settings.json").read_text()), settings, parts)
    parts.mkdir(parents=True, exist_ok=True)
    part = parts / f".settings.{os.getpid()}.part"
    part.write_text(json.dumps(settings))
    os.replace(part, parts / "settings.json")
    shards, position = _shards(parts), 0
    files = []
    while position < num:
        if position not in shards:
            stop = min([position + batch_size, num, *(start for start in shards if start > position)])
            image, label = make(position, stop)
            shard = parts / f"{position:08d}-{stop:08d}.npz"
            write_arrays(shard, {"arr_0": image} | ({} if label is None else {"arr_1": label.astype(np.int64)}))
            shards[position] = stop, shard
        position, file = shards[position]
        files.append(file)
        progress(position)
    _join(path, files, num, settings)
    shutil.rmtree(parts)
    return True


def save_sample_batch(path: str | Path, arrays: dict[str, np.ndarray], settings: dict[str, Any]) -> None:
    """Writes a sample batch, with further entries of any shape, at once; a file that is there is replaced."""
    write_arrays(Path(path).expanduser(), {**arrays, "settings": np.array(json.dumps(settings))})


def parts_of(path: Path) -> Path:
    """The folder of the shards of an unfinished batch."""
    return path.with_name(f"{path.name}.parts")


def _shards(parts: Path) -> dict[int, tuple[int, Path]]:
    """{first sample: (sample after the last, file)}."""
    found = {}
    for file in sorted(parts.glob("[0-9]*.npz")):
        start, stop = (int(number) for number in file.stem.split("-"))
        found[start] = stop, file
    return found


def _check_same(was: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    differing = [
        f"{name}: {was.get(name)!r} -> {now.get(name)!r}"
        for name in sorted(was.keys() | now.keys())
        if was.get(name) != now.get(name)
    ]
    if differing:
        raise ValueError(
            f"{path} holds samples of other settings; give another file, or remove it:\n  " + "\n  ".join(differing)
        )


def _join(path: Path, files: list[Path], num: int, settings: dict[str, Any]) -> None:
    """One file of all shards, with one of them in memory at a time."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(part, "w") as archive:
            for name, first in read_arrays(files[0]).items():
                header = {"descr": first.dtype.str, "fortran_order": False, "shape": (num, *first.shape[1:])}
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array_header_1_0(entry, header)
                    for file in files:
                        entry.write(np.ascontiguousarray(read_arrays(file)[name], first.dtype).data)
            with archive.open("settings.npy", "w") as entry:
                np.lib.format.write_array(entry, np.array(json.dumps(settings)), allow_pickle=False)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
