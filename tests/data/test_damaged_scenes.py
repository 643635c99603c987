"""Descriptions of scenes with random damage: they are read, or refused by an error that names the file."""

import json

import numpy as np
import pytest

from jaxgen import data
from tests.data import test_colmap

TOKENS = [
    b"nan",
    b"inf",
    b"-1",
    b"1e400",
    b"null",
    b"[]",
    b"{}",
    b"true",
    b"\0",
    b"..",
    b'"',
    b"\n",
    b"\xff" * 8,
    b"9" * 400,
]


def write_llff(folder):
    rows = []
    for i in range(4):
        pose = np.stack([[0, -1, 0], [1, 0, 0], [0, 0, 1], [0.1 * i, 0.1, 0], [12, 16, 20]], axis=1)
        rows.append([*pose.ravel(), 2.0, 50.0])
    np.save(folder / "poses_bounds.npy", rows)


def write_transforms(folder):
    frames = [
        {"file_path": f"images/view {i}.png", "transform_matrix": np.eye(4).tolist(), "k1": 0.1, "mask_path": None}
        for i in range(4)
    ]
    lists = {"train_filenames": ["images/view 1.png"], "test_filenames": ["images/view 2.png"]}
    (folder / "transforms.json").write_text(
        json.dumps({"fl_x": 20, "w": 16, "is_fisheye": False, **lists, "frames": frames})
    )


KINDS = {
    "text": (lambda folder: test_colmap.write_text(folder / "sparse/0"), "sparse/0/*", data.read_colmap),
    "binary": (lambda folder: test_colmap.write_binary(folder / "sparse/0"), "sparse/0/*", data.read_colmap),
    "llff": (write_llff, "*.npy", data.read_llff),
    "transforms": (write_transforms, "*.json", data.read_transforms),
}


def one_of(rng, things):
    return things[rng.integers(len(things))]


def damaged(content, rng):
    """A byte replaced, a token written over or inserted, bytes taken out, or the end cut off."""
    changed = bytearray(content)
    for _ in range(one_of(rng, (1, 1, 2, 4))):
        at, kind = int(rng.integers(len(changed) + 1)), rng.integers(5)
        length = one_of(rng, (1, 4, 8, 20))
        stop = (at + 1, at + length, at, at + length, len(changed))[kind]
        changed[at:stop] = (bytes([rng.integers(256)]), one_of(rng, TOKENS), one_of(rng, TOKENS), b"", b"")[kind]
    return bytes(changed)


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_refused_by_name(kind, tmp_path):
    write, pattern, reader = KINDS[kind]
    test_colmap.write_images(tmp_path)
    write(tmp_path)
    rng = np.random.default_rng(list(KINDS).index(kind))
    refused = 0
    for _ in range(80):
        path = one_of(rng, sorted(tmp_path.glob(pattern)))
        content = path.read_bytes()
        path.write_bytes(damaged(content, rng))
        try:
            reader(tmp_path, one_of(rng, ("train", "test")))
        except (ValueError, OSError) as error:
            refused += 1
            assert tmp_path.name in str(error)
        path.write_bytes(content)
    assert 40 < refused < 80


@pytest.mark.parametrize("shape", [(10**12, 17), (2**61, 17), (-1, 17), (4, 17, 10**6), (10**30, 17)])
def test_shapes_that_the_file_does_not_hold(shape, tmp_path):
    """Nothing is allocated by what a header claims."""
    test_colmap.write_images(tmp_path)
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    (tmp_path / "poses_bounds.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    )
    with pytest.raises(ValueError, match="poses_bounds.npy: "):
        data.read_llff(tmp_path)


def test_arrays_of_other_things(tmp_path):
    test_colmap.write_images(tmp_path)
    for array, message in (
        (np.zeros((4, 17), "<c16"), "poses_bounds.npy: an array of complex128"),
        (np.zeros((4, 17), "<U5"), "poses_bounds.npy: an array of <U5"),
        (np.full((4, 17), np.nan), "view 0, column 0 is nan"),
        (np.full((4, 17), "x", object), "poses_bounds.npy: not a whole .npy array"),
    ):
        np.save(tmp_path / "poses_bounds.npy", array, allow_pickle=True)
        with pytest.raises(ValueError, match=message):
            data.read_llff(tmp_path)
