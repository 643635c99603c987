"""File formats read within limits: NumPy, zip, gzip, MATLAB, JSON, pickles of arrays, PNG and JPEG.

Files are treated as untrusted: nothing in them is run, and every size that a file declares is compared with the size
of the file before memory is allocated. SECURITY.md says what is promised. This package imports nothing of jaxgen.
"""

from jaxgen.files.gzips import Stream, fill, open_unpacked
from jaxgen.files.images import open_image, read_image
from jaxgen.files.json_files import check_shape, not_finite, open_regular, parse_json, read_json, read_json_lines
from jaxgen.files.limits import Budget, check_expansion, describe, first_bytes, regular_file_size
from jaxgen.files.matlab import MatArray, read_mat, read_mat_variables
from jaxgen.files.npy import Header, read_npy, read_npy_data, read_npy_header, read_npz
from jaxgen.files.numpy_pickles import ArrayPickle, numpy_names
from jaxgen.files.paths import as_path
from jaxgen.files.pickle_machine import Name, RefusedNameError, dict_key
from jaxgen.files.pickles import read_pickle
from jaxgen.files.zips import open_zip, read_entry

__all__ = [
    "ArrayPickle",
    "Budget",
    "Header",
    "MatArray",
    "Name",
    "RefusedNameError",
    "Stream",
    "as_path",
    "check_expansion",
    "check_shape",
    "describe",
    "dict_key",
    "fill",
    "first_bytes",
    "not_finite",
    "numpy_names",
    "open_image",
    "open_regular",
    "open_unpacked",
    "open_zip",
    "parse_json",
    "read_entry",
    "read_image",
    "read_json",
    "read_json_lines",
    "read_mat",
    "read_mat_variables",
    "read_npy",
    "read_npy_data",
    "read_npy_header",
    "read_npz",
    "read_pickle",
    "regular_file_size",
]
