"""Damages files at random and reads them: every reader of files gives the same data, or an error that names the file.

    python -m tests.fuzz [READER ...] [--count N] [--seed S]

Each reader is given N damaged copies of a small file, the same for the same seed. What may happen: the same data; a
ValueError or OSError that names the file; or other data where the format has no checksum that could tell. Anything
else is reported and the exit status is 1: another exception, an error without the file's name, more than 2 seconds of
processor time, more memory than three times the file and 200 MB, a change of NumPy, or the end of the process, for
which the last line of --progress says where it was. Prints a table in Markdown.

A reader is added to READERS by a function that writes its files and one that reads them.
"""

import argparse
import base64
import gzip
import pickle
import resource
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from tests.run_files import write_run

SECONDS = 2.0
MEMORY = 200 << 20


class Reader(NamedTuple):
    """One format.

    Attributes:
        write: writes whole files into a folder; returns the ones that are damaged, one at a time.
        read: the data of the folder: containers of arrays, numbers and text.
        checked: whether checksums tell every change, so that other data is a fault.
    """

    write: Callable[[Path], list[Path]]
    read: Callable[[Path], Any]
    checked: bool = False


class Counts(NamedTuple):
    """What became of the damaged files of one reader."""

    same: int
    refused: int
    other: int
    slowest: float
    largest: int
    faults: list[str]


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """A changed copy: bits, bytes, numbers of 4 or 8 bytes, pieces taken out, doubled, moved, or the end cut off."""
    changed = bytearray(data)
    for _ in range(int(rng.choice([1, 1, 1, 2, 4]))):
        if not changed:
            break
        # Half of the changes are in the first bytes, where headers are, or in the last.
        span = len(changed) if rng.random() < 0.5 else min(len(changed), 128)
        at = int(rng.integers(span))
        at = len(changed) - 1 - at if rng.random() < 0.3 else at
        size = int(rng.integers(1, 17))
        match int(rng.integers(8)):
            case 0 | 1:
                changed[at] ^= 1 << int(rng.integers(8))
            case 2:
                changed[at] = int(rng.integers(256))
            case 3:
                number = rng.choice([b"\xff" * 4, b"\0" * 4, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\0\0\0\x80"])
                changed[at : at + len(number)] = bytes(number)
            case 4:
                del changed[at : at + size]
            case 5:
                changed[at:at] = changed[at : at + size]
            case 6:
                changed[at : at + size] = rng.integers(0, 256, size, dtype=np.uint8).tobytes()
            case 7:
                del changed[at:]
    return bytes(changed)


def fuzz(name: str, count: int, seed: int, begin: Callable[[int], None] = lambda number: None) -> Counts:
    """Reads `count` damaged files.

    Args:
        name: of READERS.
        count: how many.
        seed: of the damage.
        begin: is called with the number of each file before it is read.
    """
    reader = READERS[name]
    same = refused = other = largest = 0
    slowest, faults = 0.0, []
    with tempfile.TemporaryDirectory() as folder:
        paths = reader.write(Path(folder))
        whole = [path.read_bytes() for path in paths]
        expected = _digest(reader.read(Path(folder)))
        for number in range(count):
            which = number % len(paths)
            rng = np.random.default_rng([seed, zlib.crc32(name.encode()), number])
            paths[which].write_bytes(damage(whole[which], rng))
            begin(number)
            _reset_peak()
            before, start = _peak(), time.process_time()
            try:
                found = _digest(reader.read(Path(folder)))
            except (ValueError, OSError) as error:
                refused += 1
                if folder not in str(error):
                    faults.append(f"{name} {number}: {type(error).__name__} without the file's name: {error}")
            except Exception as error:  # the point of it all
                faults.append(f"{name} {number}: {type(error).__name__}: {error}")
            else:
                same, other = same + (found == expected), other + (found != expected)
                if found != expected and reader.checked:
                    faults.append(f"{name} {number}: other data, which a checksum could tell")
            seconds, memory = time.process_time() - start, _peak() - before
            slowest, largest = max(slowest, seconds), max(largest, memory)
            if seconds > SECONDS or memory > 3 * len(whole[which]) + MEMORY:
                faults.append(f"{name} {number}: {seconds:.1f} s, {memory:,} bytes")
            paths[which].write_bytes(whole[which])
        if _digest(reader.read(Path(folder))) != expected or np.dtype(ml_dtypes.bfloat16).name != "bfloat16":
            faults.append(f"{name}: the whole file reads otherwise afterwards")
    return Counts(same, refused, other, slowest, largest, faults)


def _digest(value: Any) -> str:
    """A text that is equal for equal data."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_digest(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_digest(part) for part in value) + "]"
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}{zlib.crc32(np.ascontiguousarray(value).view(np.uint8).data):x}"
    return repr(value)


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux: the peak of the whole process bounds that of each read
        pass


def _peak() -> int:
    try:
        text = Path("/proc/self/status").read_text()
        return 1024 * int(text.split("VmHWM:")[1].split()[0])
    except OSError:
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# The readers. Imports are inside of them: the table is read without loading everything.


def _bytes_of(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _writer(name: str, data: Callable[[], bytes]) -> Callable[[Path], list[Path]]:
    def write(folder: Path) -> list[Path]:
        (folder / name).write_bytes(data())
        return [folder / name]

    return write


def _saver(name: str, save: Callable[[Path], Any]) -> Callable[[Path], list[Path]]:
    def write(folder: Path) -> list[Path]:
        save(folder / name)
        return [folder / name]

    return write


def _load(name: str, split: str = "test") -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        from jaxgen import data

        return data.load(name, split, folder)

    return read


def _weights(name: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        from jaxgen.weights import read_weights

        return read_weights(folder / name)

    return read


def _idx(pack: Callable[[bytes], bytes], end: str) -> Callable[[Path], list[Path]]:
    def write(folder: Path) -> list[Path]:
        images, labels = _bytes_of(5, 6, 7), np.arange(5, dtype=np.uint8)
        texts = {"images-idx3": images, "labels-idx1": labels}
        paths = []
        for kind, array in texts.items():
            sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
            paths.append(folder / f"t10k-{kind}-ubyte{end}")
            paths[-1].write_bytes(pack(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()))
        return paths

    return write


def _cifar_python(protocol: int) -> Callable[[Path], list[Path]]:
    batch = {b"data": _bytes_of(2, 3072), b"labels": [3, 8]}
    return _writer("test_batch", lambda: pickle.dumps(batch, protocol))


def _mat(*names: str, **options: Any) -> Callable[[Path], list[Path]]:
    """Two arrays, or one: a file that is cut between two is whole, and no checksum tells."""

    def save(path: Path) -> None:
        import scipy.io

        values = {"image": _bytes_of(4, 30), "label": np.arange(4.0)[:, None]}
        scipy.io.savemat(path, {name: values[name] for name in names or values}, **options)

    return _saver("a.mat", save)


def _read_mat(folder: Path) -> Any:
    from jaxgen import files

    found = files.read_mat_variables(folder / "a.mat")
    return {name: files.read_mat(folder / "a.mat", name) for name in found}


def _image(name: str, **options: Any) -> Reader:
    def save(path: Path) -> None:
        from PIL import Image

        Image.fromarray(np.repeat(_bytes_of(6, 5, 3), 4, 0)).save(path, **options)

    def read(folder: Path) -> Any:
        from jaxgen.data.images import read_image

        return read_image(folder / name, None)

    return Reader(_saver(name, save), read, checked=name.endswith("png"))


def _arrays() -> dict[str, Any]:
    return {"a.b": np.arange(6, dtype=np.float32).reshape(2, 3), "c": np.arange(3), "d": np.ones(2, np.float16)}


def _safetensors(path: Path) -> None:
    from jaxgen.weights import write_weights

    write_weights(path, _arrays())


def _recorded(name: str, which: str) -> Callable[[Path], list[Path]]:
    """A file that the framework itself has written."""

    def data() -> bytes:
        from tests.weights import test_files

        return zlib.decompress(base64.b85decode(getattr(test_files, which)))

    return _writer(name, data)


def _tensorflow(folder: Path) -> list[Path]:
    return [
        *_recorded("m.index", "TF_INDEX")(folder),
        *_recorded("m.data-00000-of-00001", "TF_DATA")(folder),
    ]


def _objects(path: Path) -> None:
    arrays = np.empty(2, object)
    arrays[:] = [np.arange(6.0).reshape(2, 3), np.arange(3)]
    np.save(path, arrays)


def _read_npy(folder: Path) -> Any:
    from jaxgen import files

    return files.read_npy(folder / "a.npy")


def _sample_batch(path: Path) -> None:
    from jaxgen.metrics.sample_batches import save_sample_batch

    save_sample_batch(path, {"arr_0": _bytes_of(2, 4, 4, 3), "arr_1": np.arange(2)}, {"num": 2})


def _read_sample_batch(folder: Path) -> Any:
    from jaxgen.metrics.sample_batches import read_sample_batch

    return list(read_sample_batch(folder / "a.npz"))


def _description(write: Callable[[Path], Any], pattern: str) -> Callable[[Path], list[Path]]:
    """The images of a small capture, and the files that describe it."""

    def save(folder: Path) -> list[Path]:
        from tests.data import test_colmap

        test_colmap.write_images(folder)
        write(folder)
        return sorted(folder.glob(pattern))

    return save


def _colmap(kind: str) -> Callable[[Path], Any]:
    def write(folder: Path) -> None:
        from tests.data import test_colmap

        getattr(test_colmap, f"write_{kind}")(folder / "sparse/0")

    return write


def _described(kind: str) -> Callable[[Path], Any]:
    def write(folder: Path) -> None:
        from tests.data import test_damaged_scenes

        getattr(test_damaged_scenes, f"write_{kind}")(folder)

    return write


def _scene(name: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        from jaxgen import data

        return dict(getattr(data, f"read_{name}")(folder))

    return read


def _camera_path(path: Path) -> None:
    from jaxgen import data

    poses = np.tile(np.eye(4), (3, 1, 1))
    if path.suffix == ".npy":
        np.save(path, poses)
    else:
        data.write_camera_path(path, poses, (20.0, 20.0, 8.0, 6.0), (16, 12))


def _read_camera_path(name: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        from jaxgen import data

        return data.read_camera_path(folder / name)

    return read


def _read_run(folder: Path) -> Any:
    from experiments.command import run_folders
    from experiments.report import contents

    run = run_folders.read(folder, "a")
    contents.report([run])
    return [run.record, run.environment, run.metrics, run.timing, run.measured, run.results, run.damage]


READERS: dict[str, Reader] = {
    "run folder": Reader(write_run, _read_run),
    "IDX": Reader(_idx(bytes, ""), _load("mnist")),
    "IDX, gzip": Reader(_idx(lambda data: gzip.compress(data, mtime=0), ".gz"), _load("mnist"), checked=True),
    "CIFAR-10, binary": Reader(
        _writer("test_batch.bin", lambda: (_bytes_of(2, 3073) % 10).tobytes()), _load("cifar10")
    ),
    "CIFAR-10, Python 2": Reader(_cifar_python(2), _load("cifar10")),
    "CIFAR-10, Python 3": Reader(_cifar_python(5), _load("cifar10")),
    "npy": Reader(_saver("a.npy", lambda path: np.save(path, _bytes_of(3, 4, 5))), _read_npy),
    "npy of objects": Reader(_saver("w.npy", _objects), _weights("w.npy")),
    "npz": Reader(_saver("w.npz", lambda path: np.savez(path, **_arrays())), _weights("w.npz"), checked=True),
    "npz, deflated": Reader(
        _saver("w.npz", lambda path: np.savez_compressed(path, **_arrays())), _weights("w.npz"), checked=True
    ),
    "sample batch": Reader(_saver("a.npz", _sample_batch), _read_sample_batch, checked=True),
    "MATLAB 4": Reader(_mat(format="4"), _read_mat),
    "MATLAB 5": Reader(_mat(), _read_mat),
    "MATLAB 7": Reader(_mat("image", do_compression=True), _read_mat, checked=True),
    "PNG": _image("a.png"),
    "JPEG": _image("a.jpg", quality=90),
    "JPEG, progressive": _image("a.jpg", progressive=True),
    "safetensors": Reader(_saver("w.safetensors", _safetensors), _weights("w.safetensors")),
    "PyTorch, zip": Reader(_recorded("w.pt", "ZIP"), _weights("w.pt"), checked=True),
    "PyTorch, before 1.6": Reader(_recorded("w.pt", "LEGACY"), _weights("w.pt")),
    "TensorFlow": Reader(_tensorflow, _weights("m.index"), checked=True),
    "COLMAP, text": Reader(_description(_colmap("text"), "sparse/0/*"), _scene("colmap")),
    "COLMAP, binary": Reader(_description(_colmap("binary"), "sparse/0/*"), _scene("colmap")),
    "transforms.json": Reader(_description(_described("transforms"), "*.json"), _scene("transforms")),
    "poses_bounds.npy": Reader(_description(_described("llff"), "*.npy"), _scene("llff")),
    "camera path": Reader(_saver("path.json", _camera_path), _read_camera_path("path.json")),
    "camera path, npy": Reader(_saver("path.npy", _camera_path), _read_camera_path("path.npy")),
}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"of {', '.join(READERS)}; default: all")
    parser.add_argument("--count", type=int, default=200, help="damaged files of each reader")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    parser.add_argument("--progress", type=Path, help="file that holds the reader and number of the file being read")
    options = parser.parse_args()
    if unknown := set(options.readers) - set(READERS):
        parser.error(f"no reader {sorted(unknown)[0]!r}; they are {', '.join(READERS)}")
    print("| reader | files | same data | refused | other data | slowest, s | largest, MB |")
    print("|---|---|---|---|---|---|---|")
    faults = []
    for name in options.readers or READERS:
        begin = lambda number, name=name: options.progress and options.progress.write_text(f"{name} {number}")
        found = fuzz(name, options.count, options.seed, begin)
        faults += found.faults
        other = f"{found.other:,}"
        numbers = f"{options.count:,} | {found.same:,} | {found.refused:,} | {other} | {found.slowest:.2f}"
        print(f"| {name} | {numbers} | {found.largest / 1e6:.0f} |", flush=True)
    print("\n".join(faults[:50]), file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
