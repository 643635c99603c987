"""Sources of arrays, and the stateless order in which examples are visited."""

from jaxgen.data.arrays import (
    read_frey_faces,
    read_mat,
    read_mat_folder,
    read_npy,
    read_npy_folder,
    read_olivetti,
)
from jaxgen.data.augment import random_affine
from jaxgen.data.cifar10 import read_cifar10
from jaxgen.data.curves import curves
from jaxgen.data.idx import read_idx, read_mnist
from jaxgen.data.images import read_images
from jaxgen.data.load import NAMES, fingerprint, load
from jaxgen.data.order import locate, permuted, shuffled_index
from jaxgen.data.tfds import from_tfds

__all__ = [
    "NAMES",
    "curves",
    "fingerprint",
    "from_tfds",
    "load",
    "locate",
    "permuted",
    "random_affine",
    "read_cifar10",
    "read_frey_faces",
    "read_idx",
    "read_images",
    "read_mat",
    "read_mat_folder",
    "read_mnist",
    "read_npy",
    "read_npy_folder",
    "read_olivetti",
    "shuffled_index",
]
