"""Arrays in NumPy and MATLAB files, and the two face data sets that are published as one."""

import os
from pathlib import Path

import numpy as np

from jaxgen import files
from jaxgen.data.checks import arrange, as_dataset, check_split, existing_folder, find_file

NPY_FILES = (
    "the folder with train.npy and test.npy, uint8 from 0 to 255 or floats in [0, 1], [N, H, W] or [N, H, W, C], and "
    "for labels train_labels.npy and test_labels.npy, integers [N] (your own data, by numpy.save)"
)
MAT_FILES = (
    "the folder with train.mat and test.mat, each with the array image, uint8 from 0 to 255 or floats in [0, 1], "
    "[N, H, W] or [N, H, W, C], and for labels the array label, integers [N] (your own data, by save -v7 or "
    "scipy.io.savemat)"
)
FREY_FILES = (
    "the folder with frey_rawface.mat (from https://cs.nyu.edu/~roweis/data.html) or the same "
    "frames as freyfaces.npy, uint8 (1965, 560)"
)
OLIVETTI_FILES = "the folder with olivettifaces.mat (from https://cs.nyu.edu/~roweis/data.html)"


def read_npy_folder(
    directory: str | os.PathLike | None, split: str = "train", *, layout: str = "", shape: tuple[int, ...] = ()
) -> dict[str, np.ndarray]:
    """One's own images: `<split>.npy`, and `<split>_labels.npy` if there are labels.

    Pixels are bytes, floats in [0, 1], or 0 and 1 of any type. Labels may also be [N, 1] or one-hot [N, K].

    Args:
        directory: the folder.
        split: "train" or "test".
        layout: order of the axes, see `data.images_from_arrays`.
        shape: of flat images [N, D], see there.

    Returns:
        {"image": uint8 [N, H, W, C], "label": int32 [N] (if the file is there)}.

    Raises:
        FileNotFoundError: no folder or no file.
        ValueError: a damaged file, pickled objects, other values or another shape.
    """
    check_split(split)
    folder = existing_folder(directory, NPY_FILES)
    path = find_file(folder, [f"{split}.npy"], NPY_FILES)
    labels = folder / f"{split}_labels.npy"
    label = read_npy(labels) if labels.is_file() else None
    return arranged(read_npy(path), label, layout, shape, path, labels)


def read_mat_folder(
    directory: str | os.PathLike | None, split: str = "train", *, layout: str = "", shape: tuple[int, ...] = ()
) -> dict[str, np.ndarray]:
    """One's own images: `<split>.mat` with the array `image` and, if there are labels, `label`.

    As `read_npy_folder`; whole numbers from 0 to 255 may be stored as doubles, MATLAB's default. Its usual order
    [H, W, N] is layout "HWN".

    Raises:
        FileNotFoundError: no folder or no file.
        ValueError: a damaged file, a missing array, other values or another shape.
    """
    check_split(split)
    path = find_file(existing_folder(directory, MAT_FILES), [f"{split}.mat"], MAT_FILES)
    label = read_mat(path, "label") if "label" in _mat_names(path) else None
    return arranged(read_mat(path, "image"), label, layout, shape, path)


def arranged(
    image: np.ndarray,
    label: np.ndarray | None,
    layout: str,
    shape: tuple[int, ...],
    where: str | os.PathLike,
    where_label: str | os.PathLike | None = None,
) -> dict[str, np.ndarray]:
    """`as_dataset` of images in this layout."""
    num = None if label is None else label.size if 1 in label.shape else len(np.atleast_1d(label))
    return as_dataset(arrange(image, layout, shape, where, num), label, where=where, where_label=where_label)


def read_npy(path: str | os.PathLike) -> np.ndarray:
    """The array in a .npy file, of any shape, C-contiguous; pickled objects are never loaded.

    Raises:
        ValueError: not a .npy file, a truncated one, or one of pickled objects.
    """
    return files.read_npy(files.as_path(path))


def read_mat(path: str | os.PathLike, key: str) -> np.ndarray:
    """The array `key` of a MATLAB file up to version 7, of any shape, C-contiguous.

    Raises:
        ValueError: not such a file, a damaged one, or one without `key`.
    """
    path = files.as_path(path)
    names = _mat_names(path)
    if key not in names:
        raise ValueError(
            f"{path}: found the arrays {', '.join(sorted(names)) or 'none'}; expected {key!r}: "
            "is it another file, or was the array saved under another name?"
        )
    return files.read_mat(path, key)


def _mat_names(path: str | os.PathLike) -> list[str]:
    return list(files.read_mat_variables(path))


def read_frey_faces(directory: str | os.PathLike | None, split: str = "train") -> dict[str, np.ndarray]:
    """The 1,965 video frames of Brendan Frey's face (Roweis), 28 x 20 pixels, unlabelled.

    No split is published. Here frames 9, 19, 29, ... are the test split (196 frames, each between
    two training frames, so its error says little about other videos) and the rest train (1,769).

    Args:
        directory: folder of frey_rawface.mat (array ff, 560 x 1965) or freyfaces.npy (1965 x 560).
        split: "train" or "test".

    Returns:
        {"image": uint8 [N, 28, 20, 1]} in the order of the video.

    Raises:
        FileNotFoundError: no folder or no file.
        ValueError: a damaged file or another shape.
    """
    check_split(split)
    folder = existing_folder(directory, FREY_FILES)
    path = find_file(folder, ["freyfaces.npy", "frey_faces.npy", "frey_rawface.mat"], FREY_FILES)
    rows = read_mat(path, "ff").T if path.suffix == ".mat" else read_npy(path)
    _check_shape(path, rows, (1965, 560), FREY_FILES)
    is_test = np.arange(len(rows)) % 10 == 9
    return as_dataset(rows.reshape(-1, 28, 20)[is_test == (split == "test")], where=path)


def read_olivetti(directory: str | os.PathLike | None, split: str = "train") -> dict[str, np.ndarray]:
    """The Olivetti faces: 40 persons, 10 pictures of 64 x 64 pixels each.

    The last 10 persons are the test split (100 images, labels 30 to 39), so no person is in both;
    the first 30 train (300 images, labels 0 to 29).

    Args:
        directory: folder of olivettifaces.mat (array faces, 4096 x 400).
        split: "train" or "test".

    Returns:
        {"image": uint8 [N, 64, 64, 1], "label": int32 [N], the person}, person by person.

    Raises:
        FileNotFoundError: no folder or no file.
        ValueError: a damaged file or another shape.
    """
    check_split(split)
    folder = existing_folder(directory, OLIVETTI_FILES)
    path = find_file(folder, ["olivettifaces.mat"], OLIVETTI_FILES)
    faces = read_mat(path, "faces")
    _check_shape(path, faces, (4096, 400), OLIVETTI_FILES)
    image = faces.T.reshape(-1, 64, 64).transpose(0, 2, 1)  # MATLAB's columns first
    chosen = slice(0, 300) if split == "train" else slice(300, 400)
    return as_dataset(image[chosen], (np.arange(400) // 10)[chosen], where=path)


def _check_shape(path: Path, array: np.ndarray, shape: tuple[int, ...], files: str) -> None:
    if array.shape != shape:
        raise ValueError(
            f"{path}: found an array of shape {array.shape}; expected {shape}: is it another file, "
            f"or transposed? Expected {files}"
        )
