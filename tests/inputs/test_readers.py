"""Every public reader of files with the paths and files that users give: right, or an error that names the path."""

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from jaxgen import data, diffusion, metrics, pictures, weights
from jaxgen.nerf import convert
from tests import fuzz

pytestmark = pytest.mark.inputs

ROOMS = ("data", "weights", "pictures", "metrics", "diffusion", "nerf.convert", "nerf", "gan", "vae", "autoencoder")


class Row(NamedTuple):
    """A reader.

    Attributes:
        read: takes a path.
        name: of the file that it takes, in the folder that `write` fills; "": it takes the folder.
        write: writes whole files into a folder; None: only odd files are tried.
    """

    read: Callable[[Any], Any]
    name: str = ""
    write: Callable[[Path], Any] | None = None


def of_fuzz(name):
    return fuzz.READERS[name].write


def images(folder):
    for i in range(10):
        pictures.save_png(folder / f"{i}.png", np.full((4, 5, 3), i, np.uint8))


def arrays(suffix):
    def write(folder):
        label = np.arange(4.0)
        if suffix == "npy":
            np.save(folder / "test.npy", fuzz._bytes_of(4, 5, 5))
            np.save(folder / "test_labels.npy", label)
        else:
            import scipy.io

            scipy.io.savemat(folder / "test.mat", {"image": fuzz._bytes_of(4, 5, 5), "label": label})

    return write


def blender(folder):
    images(folder)
    poses, names = np.tile(np.eye(4), (3, 1, 1)), ["0.png", "1.png", "2.png"]
    data.write_camera_path(folder / "transforms_test.json", poses, (5.0, 5.0, 2.5, 2.0), (5, 4), names)


def frames(folder):
    np.save(folder / "freyfaces.npy", np.tile(np.arange(560, dtype=np.uint8) % 200, (1965, 1)))


TEST = "test"
ROWS = {
    "data.from_tfds": Row(lambda path: data.from_tfds("mnist", TEST, path)),
    "data.load": Row(lambda path: data.load("mnist", TEST, path), "", of_fuzz("IDX, gzip")),
    "data.load_images": Row(lambda path: data.load_images("images", TEST, path).image, "", images),
    "data.read_blender": Row(lambda path: dict(data.read_blender(path, TEST)), "", blender),
    "data.read_camera_path": Row(data.read_camera_path, "path.json", of_fuzz("camera path")),
    "data.read_cifar10": Row(lambda path: data.read_cifar10(path, TEST), "", of_fuzz("CIFAR-10, binary")),
    "data.read_colmap": Row(lambda path: dict(data.read_colmap(path)), "", of_fuzz("COLMAP, text")),
    "data.read_colmap_model": Row(
        lambda path: sorted(data.read_colmap_model(path).images), "sparse/0", of_fuzz("COLMAP, binary")
    ),
    "data.read_frey_faces": Row(lambda path: data.read_frey_faces(path, TEST), "", frames),
    "data.read_idx": Row(lambda path: data.read_idx(path, 3), "t10k-images-idx3-ubyte", of_fuzz("IDX")),
    "data.read_images": Row(lambda path: data.read_images(path, TEST), "", images),
    "data.read_json": Row(data.read_json, "path.json", of_fuzz("camera path")),
    "data.read_llff": Row(lambda path: dict(data.read_llff(path)), "", of_fuzz("poses_bounds.npy")),
    "data.read_mat": Row(lambda path: data.read_mat(path, "image"), "a.mat", of_fuzz("MATLAB 5")),
    "data.read_mat_folder": Row(lambda path: data.read_mat_folder(path, TEST, layout="NHW"), "", arrays("mat")),
    "data.read_mnist": Row(lambda path: data.read_mnist(path, TEST), "", of_fuzz("IDX")),
    "data.read_npy": Row(data.read_npy, "a.npy", of_fuzz("npy")),
    "data.read_npy_folder": Row(lambda path: data.read_npy_folder(path, TEST, layout="NHW"), "", arrays("npy")),
    "data.read_olivetti": Row(lambda path: data.read_olivetti(path, TEST)),
    "data.read_transforms": Row(lambda path: dict(data.read_transforms(path)), "", of_fuzz("transforms.json")),
    "data.stored": Row(lambda path: data.stored("images", TEST, path).shape, "", images),
    "weights.read_arrays": Row(weights.read_arrays, "w.npz", of_fuzz("npz")),
    "weights.read_weights": Row(weights.read_weights, "w.safetensors", of_fuzz("safetensors")),
    "pictures.read_png": Row(pictures.read_png, "a.png", of_fuzz("PNG")),
    "metrics.load_inception": Row(metrics.load_inception, "w.pt"),
    "metrics.read_sample_batch": Row(
        lambda path: list(metrics.read_sample_batch(path)), "a.npz", of_fuzz("sample batch")
    ),
    "diffusion.load_pretrained": Row(diffusion.load_pretrained, "w.pt"),
    "nerf.convert.read_checkpoint": Row(convert.read_checkpoint, "w.tar"),
}


def is_reader(name):
    return name.startswith(("read_", "load")) or name in ("from_tfds", "stored")


def test_every_public_reader_has_a_row():
    found = {
        f"{room}.{name}"
        for room in ROOMS
        for package in [importlib.import_module(f"jaxgen.{room}")]
        for name in getattr(package, "__all__", vars(package))
        if is_reader(name) and not (room == "nerf.convert" and name == "read_weights")
    }
    assert found == ROWS.keys()


def refused(read, path, name):
    """A clear error that names the path; data, where an optional file is another one, is right too."""
    try:
        read(path)
    except (ValueError, OSError) as error:
        assert name in str(error), f"{type(error).__name__} without {name}: {error}"
        return True
    return False


@pytest.mark.parametrize("row", ROWS)
def test_odd_paths_are_refused_by_name(row, tmp_path):
    read, name, _ = ROWS[row]
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("This is no such file.\n")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for odd in ("missing", "missing/file", "empty", "text", "folder", "pipe", f"text/{name or 'folder'}", "ü ñ"):
        for kind in (str, Path):
            assert refused(read, kind(tmp_path / odd), str(tmp_path / odd)), f"{odd} was read"
    for odd in ("~nobody-of-this-name/a", "a\0b", 3, b"a"):
        assert refused(read, odd, f"{odd!r} is no path"), f"{odd!r} was read"


@pytest.mark.parametrize("row", [name for name, row in ROWS.items() if row.write])
def test_texts_and_paths_are_read_the_same_and_odd_files_in_them_are_named(row, tmp_path, monkeypatch):
    read, name, write = ROWS[row]
    assert write is not None
    write(tmp_path)
    expected = fuzz._digest(read(tmp_path / name))
    assert fuzz._digest(read(str(tmp_path / name))) == expected
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fuzz._digest(read(f"~/{name}")) == expected
    assert fuzz._digest(read(Path("~") / name)) == expected
    monkeypatch.chdir(tmp_path)
    assert fuzz._digest(read(name or ".")) == expected
    number = 0
    for path in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        for odd in (b"", b"This is no such file.\n"):
            path.write_bytes(odd)
            number += refused(read, tmp_path / name, str(tmp_path))
        path.unlink()
        path.mkdir()
        number += refused(read, tmp_path / name, str(tmp_path))
        path.rmdir()
        path.write_bytes(whole)
    assert number, "no damaged file was refused"
    assert fuzz._digest(read(tmp_path / name)) == expected
