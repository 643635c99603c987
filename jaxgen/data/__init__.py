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
from jaxgen.data.batches import DeviceBatches, HostBatches, group_examples
from jaxgen.data.camera_paths import read_camera_path, write_camera_path
from jaxgen.data.checks import MAX_CLASSES
from jaxgen.data.cifar10 import read_cifar10
from jaxgen.data.colmap import read_colmap
from jaxgen.data.colmap_model import read_colmap_model
from jaxgen.data.curves import curves
from jaxgen.data.idx import read_idx, read_mnist
from jaxgen.data.image_pipeline import array_batches, image_batches, slices
from jaxgen.data.image_set import (
    Images,
    OnDisk,
    binarized,
    images_from_arrays,
    load_images,
    signed,
    split_problems,
    to_bytes,
)
from jaxgen.data.images import read_images
from jaxgen.data.llff import read_llff
from jaxgen.data.load import NAMES, fingerprint, kind_of_folder, load
from jaxgen.data.mixtures import (
    Mixture,
    draw_mixture,
    grid_mixture,
    mixture_batches,
    mixture_log_density,
    ring_mixture,
    scale_to_unit_variance,
)
from jaxgen.data.order import locate, permuted, shuffled_index
from jaxgen.data.pixels import listed_pixels, shuffled_pixels
from jaxgen.data.stored import StoredImages, stored
from jaxgen.data.tfds import from_tfds
from jaxgen.data.transforms import read_blender, read_transforms, write_blender
from jaxgen.files import read_json

__all__ = [
    "MAX_CLASSES",
    "NAMES",
    "DeviceBatches",
    "HostBatches",
    "Images",
    "Mixture",
    "OnDisk",
    "StoredImages",
    "array_batches",
    "binarized",
    "curves",
    "draw_mixture",
    "fingerprint",
    "from_tfds",
    "grid_mixture",
    "group_examples",
    "image_batches",
    "images_from_arrays",
    "kind_of_folder",
    "listed_pixels",
    "load",
    "load_images",
    "locate",
    "mixture_batches",
    "mixture_log_density",
    "permuted",
    "random_affine",
    "read_blender",
    "read_camera_path",
    "read_cifar10",
    "read_colmap",
    "read_colmap_model",
    "read_frey_faces",
    "read_idx",
    "read_images",
    "read_json",
    "read_llff",
    "read_mat",
    "read_mat_folder",
    "read_mnist",
    "read_npy",
    "read_npy_folder",
    "read_olivetti",
    "read_transforms",
    "ring_mixture",
    "scale_to_unit_variance",
    "shuffled_index",
    "shuffled_pixels",
    "signed",
    "slices",
    "split_problems",
    "stored",
    "to_bytes",
    "write_blender",
    "write_camera_path",
]
