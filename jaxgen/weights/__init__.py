"""Named arrays: weights of others (PyTorch, safetensors, NumPy, TensorFlow) read without running anything, and trees.

Nothing in a file is run.
"""

from jaxgen.weights.arrays import read_arrays, write_arrays
from jaxgen.weights.files import read_weights, write_weights
from jaxgen.weights.names import explain, select
from jaxgen.weights.torch_pickles import UnsafeWeightsError
from jaxgen.weights.trees import array_digest, flatten, tree_digest, unflatten

__all__ = [
    "UnsafeWeightsError",
    "array_digest",
    "explain",
    "flatten",
    "read_arrays",
    "read_weights",
    "select",
    "tree_digest",
    "unflatten",
    "write_arrays",
    "write_weights",
]
