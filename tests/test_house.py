"""The rules of the house: what may import what, what is light, what is documented, where metadata is."""

import ast
import collections
import collections.abc
import configparser
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import sys
import tomllib
import typing
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from packaging.requirements import Requirement

import jaxgen

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = {"autoencoder", "vae", "gan", "diffusion", "nerf"}
MAY_IMPORT = {
    "compiler": set(),
    "arguments": set(),
    "files": set(),
    "nn": set(),
    "weights": set(),
    "data": set(),
    "pictures": set(),
    "metrics": {"nn", "weights"},
    # Checkpoints name arrays as weights files do.
    "training": {"data", "weights"},
    **dict.fromkeys(CHAPTERS, {"nn", "metrics", "weights"}),
    "pretrained": CHAPTERS | {"weights"},
}
"""The rooms of the library, and what each may import besides itself and the leaves."""
LEAVES = ("compiler", "arguments", "files")
"""Every room may import them; they import nothing of the house."""
SOURCES = sorted(
    p for top in ("jaxgen", "experiments", "docs", "notebooks", "tests") for p in (ROOT / top).rglob("*.py")
)
PACKAGES = sorted(m.name for m in pkgutil.iter_modules(jaxgen.__path__, "jaxgen."))


# Imports


def house_imports(tree, file):
    """(line, dotted name) of each import in `file` (relative to the root), absolute however it is written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            here = Path(file).parent.parts
            package = here[: len(here) - node.level + 1] if node.level else ()
            module = [*package, *(node.module or "").split(".")] if node.module else list(package)
            yield from ((node.lineno, ".".join([*module, alias.name])) for alias in node.names)


def room_of(file):
    parts = Path(file).with_suffix("").parts
    return parts[1] if parts[0] == "jaxgen" else parts[0]


def allowed(room, name):
    """Whether a file of `room` may import the dotted name."""
    top, _, rest = name.partition(".")
    if top not in ("jaxgen", "experiments", "docs", "tests"):
        return True
    if room == "tests":
        return True
    if top in ("tests", "docs") or (top == "experiments" and room not in ("experiments", "docs")):
        return False
    # The version is a fact, not a room.
    if room in ("experiments", "docs", "notebooks") or rest == "__version__":
        return True
    other = rest.split(".")[0]
    return other == room or (other in LEAVES and room not in LEAVES) or other in MAY_IMPORT.get(room, ())


def hidden_state(tree, file):
    """(line, name) of what hides state or reaches behind a public interface."""
    in_tests = room_of(file) == "tests"
    for line, name in house_imports(tree, file):
        if re.match(r"jax\._src\b|random\b|numpy\.random\b", name):
            yield line, name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if name == "jax._src" or node.attr == "make_rng":
                yield node.lineno, name
            if re.fullmatch(r"(np|numpy)\.random\.\w+", name):
                if not (in_tests and node.attr in ("default_rng", "Generator")):
                    yield node.lineno, name


def violations(source, file):
    tree = ast.parse(source)
    imports = [(n, name) for n, name in house_imports(tree, file) if not allowed(room_of(file), name)]
    return [f"{file}:{line}: {name}" for line, name in [*imports, *hidden_state(tree, file)]]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_its_neighbours_and_hides_no_state(path):
    assert not violations(path.read_text(), path.relative_to(ROOT))


@pytest.mark.parametrize(
    "file, source",
    [
        ("jaxgen/vae/objectives.py", "from jaxgen import gan"),
        ("jaxgen/vae/objectives.py", "from ..gan import losses"),
        ("jaxgen/vae/objectives.py", "from .. import data"),
        ("jaxgen/vae/__init__.py", "from ..training import keys"),
        ("jaxgen/vae/objectives.py", "def f():\n    import jaxgen.training.keys as k"),
        ("jaxgen/vae/objectives.py", "from jaxgen.pictures import grid"),
        ("jaxgen/vae/objectives.py", "import jaxgen"),
        ("jaxgen/vae/evaluation.py", "from jaxgen import pretrained"),
        ("jaxgen/diffusion/unet/base.py", "from jaxgen.gan.networks import Generator"),
        ("jaxgen/diffusion/unet/base.py", "from ...nerf import cameras"),
        ("jaxgen/nn/dense.py", "from jaxgen.metrics import psnr"),
        ("jaxgen/nn/dense.py", "from jaxgen import weights"),
        ("jaxgen/weights/trees.py", "from jaxgen.nn import conv"),
        ("jaxgen/files/npy.py", "from jaxgen.weights import trees"),
        ("jaxgen/weights/trees.py", "from ..training import keys"),
        ("jaxgen/data/image_pipeline.py", "from jaxgen.training import keys"),
        ("jaxgen/data/load.py", "from jaxgen.weights import read_arrays"),
        ("jaxgen/data/views.py", "from jaxgen.nerf.cameras import Camera"),
        ("jaxgen/metrics/inception.py", "from jaxgen.data import load"),
        ("jaxgen/metrics/inception.py", "from jaxgen import training"),
        ("jaxgen/metrics/inception.py", "from ..gan import networks"),
        ("jaxgen/training/loop.py", "from jaxgen.nn import conv"),
        ("jaxgen/training/loop.py", "from jaxgen import metrics"),
        ("jaxgen/training/train.py", "from ..vae import mlp_vae"),
        ("jaxgen/pretrained/networks.py", "from jaxgen import training"),
        ("jaxgen/pretrained/networks.py", "from jaxgen.data import load"),
        ("jaxgen/pictures/grids.py", "from ..metrics import psnr"),
        ("jaxgen/pictures/grids.py", "from jaxgen import data"),
        ("jaxgen/pictures/grids.py", "from jaxgen import *"),
        ("jaxgen/__init__.py", "from . import nn"),
        ("jaxgen/compiler.py", "from . import nn"),
        ("jaxgen/compiler.py", "from . import arguments"),
        ("jaxgen/arguments/calls.py", "from jaxgen import nn"),
        ("jaxgen/gan/losses.py", "from experiments import features"),
        ("experiments/features.py", "from tests.conftest import x"),
        ("experiments/features.py", "from docs import build"),
        ("notebooks/vae.py", "from experiments import vae"),
        ("jaxgen/gan/losses.py", "from jax._src import core"),
        ("jaxgen/gan/losses.py", "from jax import _src"),
        ("experiments/features.py", "import jax\njax._src.core.x"),
        ("jaxgen/gan/networks.py", "def f(self):\n    return self.make_rng('noise')"),
        ("jaxgen/gan/losses.py", "import numpy as np\nnp.random.default_rng(0)"),
        ("tests/test_x.py", "import numpy as np\nnp.random.normal()"),
        ("tests/test_x.py", "from numpy.random import normal"),
        ("experiments/features.py", "import random"),
    ],
)
def test_a_planted_violation_is_found(file, source):
    assert len(violations(source, file)) == 1


@pytest.mark.parametrize(
    "file, source",
    [
        ("jaxgen/vae/objectives.py", "from jaxgen import metrics, nn"),
        ("jaxgen/vae/objectives.py", "from ..nn.dense import DenseStack\nfrom . import networks"),
        ("jaxgen/vae/objectives.py", "from jaxgen.vae.networks import Encoder"),
        ("jaxgen/vae/objectives.py", "from jaxgen import weights"),
        ("jaxgen/diffusion/unet/base.py", "from ... import nn\nfrom ..random import normal_per_example"),
        ("jaxgen/training/run.py", "from jaxgen import __version__"),
        ("jaxgen/training/loop.py", "from jaxgen.data.batches import DeviceBatches"),
        ("jaxgen/training/checkpoints.py", "from jaxgen.weights.trees import flatten"),
        ("jaxgen/metrics/parzen.py", "from jaxgen.compiler import check_once"),
        ("jaxgen/metrics/inception.py", "from jaxgen import nn, weights"),
        ("jaxgen/data/idx.py", "from jaxgen.files import open_unpacked"),
        ("jaxgen/pretrained/networks.py", "from jaxgen import diffusion, gan, nerf, weights"),
        *(
            (f"jaxgen/{room}/x.py", f"from jaxgen import {leaf}")
            for room in sorted(set(MAY_IMPORT) - set(LEAVES))
            for leaf in LEAVES
        ),
        ("jaxgen/__init__.py", "from jaxgen import compiler"),
        ("experiments/features.py", "import jaxgen\nfrom jaxgen import gan, data\nfrom . import shared"),
        ("docs/build.py", "import jaxgen\nfrom experiments.tour import equations"),
        ("notebooks/vae.py", "from jaxgen import training, vae"),
        ("tests/test_x.py", "import numpy as np\nfrom experiments import x\nnp.random.default_rng(0)"),
        ("jaxgen/nn/dense.py", "import jax\njax.random.normal"),
    ],
)
def test_what_is_allowed_is_not_reported(file, source):
    assert not violations(source, file)


FORBIDDEN = [
    (room, other)
    for room in sorted(MAY_IMPORT)
    for other in sorted(MAY_IMPORT.keys() - MAY_IMPORT[room] - {room, *LEAVES})
]


@pytest.mark.parametrize("room, other", FORBIDDEN)
def test_each_forbidden_import_between_rooms_is_found(room, other):
    for source in (f"from jaxgen import {other}", f"import jaxgen.{other}.x as x", f"from ..{other} import x"):
        assert len(violations(source, f"jaxgen/{room}/x.py")) == 1, source


def test_the_design_forbids_as_many_imports_as_before():
    """Of 168 imports of another room than the leaves, 25 are allowed; who allows one more changes this number."""
    assert len(FORBIDDEN) == 143


def test_every_room_is_one_of_the_design():
    assert {name.removeprefix("jaxgen.") for name in PACKAGES} <= MAY_IMPORT.keys()


def test_every_folder_of_tests_is_a_package():
    """Two files of one name can then stand in different folders."""
    folders = {path.parent for path in SOURCES if path.is_relative_to(ROOT / "tests")}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


def called_utils(paths):
    return [path for path in paths if path.stem in ("util", "utils")]


def test_no_file_is_called_utils():
    assert not called_utils(SOURCES)
    assert called_utils([Path("jaxgen/nn/utils.py"), Path("experiments/util.py"), Path("jaxgen/nn/dense.py")])[1:]


# Size


LINES, BLOCK = 300, 8


def too_long(name, source):
    lines = len(source.splitlines())
    return f"{name}: {lines} lines" if lines > LINES else None


def code_lines(source):
    """(number, text) of the lines with code of functions and classes: no docstrings, comments, blanks or signatures.

    Public functions with the same arguments have the same signature, on purpose.
    """
    tree, left_out = ast.parse(source), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            left_out.update(range(node.lineno, (node.end_lineno or 0) + 1))
        if isinstance(node, ast.FunctionDef):
            left_out.update(range(node.lineno, node.body[0].lineno))
    numbered = ((number, line.strip()) for number, line in enumerate(source.splitlines(), 1) if number not in left_out)
    return [(number, line) for number, line in numbered if line and not line.startswith("#")]


def repeated(sources):
    """Where blocks of `BLOCK` lines of code stand that stand in more than one place of the sources {name: text}."""
    places = collections.defaultdict(list)
    for name, source in sources.items():
        lines = code_lines(source)
        for first in range(len(lines) - BLOCK + 1):
            block = tuple(line for _, line in lines[first : first + BLOCK])
            places[block].append(f"{name}:{lines[first][0]}")
    return [" and ".join(found) for found in places.values() if len(found) > 1]


def sources_of(*tops):
    paths = (path.relative_to(ROOT) for path in SOURCES)
    return {str(path): (ROOT / path).read_text() for path in paths if path.parts[0] in tops}


def test_no_file_is_long():
    found = [too_long(*item) for item in sources_of("jaxgen", "experiments").items()]
    assert len(found) > 200 and not [line for line in found if line]


def test_nothing_stands_twice():
    assert not repeated(sources_of("jaxgen", "experiments", "notebooks"))


def test_a_long_file_and_a_repetition_are_found():
    assert too_long("a.py", "x = 1\n" * 301) == "a.py: 301 lines" and not too_long("a.py", "x = 1\n" * 300)
    body = "".join(f"    x{i} = {i}\n" for i in range(BLOCK))
    one = f'def f(x):\n    """Doc."""\n{body}'
    other = "def g():\n    y = 1\n" + body.replace("    x3", "\n    # Why.\n    x3")
    assert repeated({"a.py": one, "b.py": other}) == ["a.py:3 and b.py:3"]
    assert not repeated({"a.py": one, "b.py": other.replace("x3", "z")})
    signature = "".join(f"    x{i}: int = {i},\n" for i in range(BLOCK))
    assert not repeated({"a.py": f"def f(\n{signature}):\n    return 1\n" * 2})


# Weight


def loaded_by(program):
    """The top-level modules that a new Python has loaded after `program`."""
    program += "\nimport json, sys\nprint(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


HEAVY = {
    "array_record", "imageio", "matplotlib", "orbax", "PIL", "scipy", "sklearn", "tensorboardX",
    "tensorflow", "tensorflow_datasets", "tqdm", "tyro",
}  # fmt: skip


def test_import_jaxgen_does_not_even_load_jax():
    assert not loaded_by("import jaxgen") & (HEAVY | {"jax", "flax", "numpy"})


def test_no_module_loads_a_heavy_package_at_import():
    everything = """
import importlib, pkgutil, jaxgen
for module in pkgutil.walk_packages(jaxgen.__path__, "jaxgen."):
    importlib.import_module(module.name)
"""
    loaded = loaded_by(everything)
    assert "jax" in loaded and not loaded & HEAVY


# Documentation


SHAPE = re.compile(r"\[[^\]]*\]|\b(scalars?|numbers?|shapes?|trees?)\b")
SOURCE = re.compile(r"\b((19|20)\d\d|et al|equation|notes|papers?|authors|OpenCV|ours)\b", re.IGNORECASE)


def holds_arrays(annotation):
    """Whether a value of this type is an array or contains arrays; functions of arrays do not."""
    if isinstance(annotation, str):
        return re.search(r"\b(Array|ArrayLike|ndarray)\b", annotation) is not None
    origin = typing.get_origin(annotation)
    if origin in (collections.abc.Callable, typing.Literal):
        return False
    if inspect.isclass(origin or annotation) and issubclass(origin or annotation, (jax.Array, np.ndarray)):
        return True
    return any(holds_arrays(part) for part in typing.get_args(annotation))


def undocumented(name, thing) -> str | None:
    """What is missing from the docstring of a public function or class, or None."""
    doc = inspect.getdoc(thing) or ""
    # Dataclasses and named tuples without one get their signature.
    if not doc or doc.startswith(f"{thing.__name__}("):
        return f"{name} has no docstring"
    if inspect.isclass(thing):
        hints = vars(thing).get("__annotations__", {})
        if any(holds_arrays(hint) for hint in hints.values()) and not SHAPE.search(doc):
            return f"{name} has arrays; its docstring says no shape"
        return None
    signature = inspect.signature(thing)
    arrays = [hint for hint in (p.annotation for p in signature.parameters.values()) if holds_arrays(hint)]
    if (arrays or holds_arrays(signature.return_annotation)) and not SHAPE.search(doc):
        return f"{name} takes or returns arrays; its docstring has no shape ([B, D], scalar, any shape, tree)"
    module = inspect.unwrap(thing).__module__
    about = inspect.getdoc(sys.modules[module]) or ""
    if module.split(".")[1:2] and module.split(".")[1] in CHAPTERS | {"metrics"} and not SOURCE.search(doc + about):
        return f"{name}: neither its docstring nor that of {module} has a source (paper, notes) or says that it is ours"
    return None


def public(package):
    for name in package.__all__:
        thing = getattr(package, name)
        if inspect.isclass(thing) or inspect.isfunction(inspect.unwrap(thing)):
            yield f"{package.__name__}.{name}", thing


@pytest.mark.parametrize("name", PACKAGES)
def test_public_names_say_what_they_are(name):
    package = importlib.import_module(name)
    assert package.__doc__
    missing = [undocumented(*item) for item in public(package)]
    assert not [line for line in missing if line]


def test_a_missing_docstring_or_shape_is_found():
    def bare(x):
        return x

    def shapeless(x: "jax.Array"):
        """The identity."""

    def shaped(x: "jax.Array"):
        """The identity of x [B]."""

    class Undocumented(NamedTuple):
        x: int

    said = lambda name, thing: undocumented(name, thing) or ""
    assert "no docstring" in said("bare", bare)
    assert "no docstring" in said("Undocumented", Undocumented)
    assert "no shape" in said("shapeless", shapeless)
    assert undocumented("shaped", shaped) is None

    def shapeless_result() -> "list[np.ndarray]":
        """Arrays."""
        return []

    class Fields(NamedTuple):
        """Fields."""

        x: np.ndarray

    def unfounded(x: "jax.Array"):
        """The identity of x [B]."""

    unfounded.__module__ = "jaxgen.gan.networks"
    about = (sys.modules["jaxgen.gan.networks"].__doc__ or "") + "[B]"
    assert "no shape" in said("shapeless_result", shapeless_result)
    assert "no shape" in said("Fields", Fields)
    assert SOURCE.search(about) or "source" in said("unfounded", unfounded)


def test_the_names_in_the_table_of_equations_exist():
    """Also those of the README, and names whose package stands before the first of a row."""
    text = (ROOT / "README.md").read_text() + (ROOT / "docs" / "equations.md").read_text()
    text = re.sub(r"\]\([^)]*\)", "]", text)
    named = set(re.findall(r"(?<!--)\b(autoencoder|data|diffusion|gan|nerf|training|vae)\.([A-Za-z_]\w*)", text))
    options = {("data", "name"), ("data", "dir")}
    missing = [
        f"{package}.{name}"
        for package, name in sorted(named - options)
        if name not in importlib.import_module(f"jaxgen.{package}").__all__
    ]
    assert not missing and len(named) > 20


# Metadata


def test_metadata_is_in_setup_cfg_alone():
    with open(ROOT / "pyproject.toml", "rb") as file:
        pyproject = tomllib.load(file)
    assert "project" not in pyproject and "build-system" in pyproject
    assert not (ROOT / "setup.py").exists()
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["metadata"]["version"] == "attr: jaxgen.__version__"
    assert config["options.packages.find"]["include"].split() == ["jaxgen", "jaxgen.*"]
    required = {
        re.split(r"[^\w-]", line)[0]
        for line in config["options"]["install_requires"].splitlines()
        if line and not line.startswith("#")
    }
    assert {"jax", "flax", "optax", "orbax-checkpoint", "chex", "tensorflow-datasets"} <= required
    assert {"gpu", "tpu", "experiments", "docs", "test"} == set(config["options.extras_require"])


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_constraints_of_each_python_satisfy_the_requirements(python):
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert f"Python :: {python}" in config["metadata"]["classifiers"]
    lines = (ROOT / "constraints" / f"python-{python}.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    extras = [config["options.extras_require"][name] for name in ("experiments", "docs", "test")]
    for line in "\n".join([config["options"]["install_requires"], *extras]).splitlines():
        if not line or line.startswith(("#", "jaxgen[")):
            continue
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate({"python_version": python}):
            version = {name.lower(): version for name, version in pinned.items()}[wanted.name.lower()]
            assert wanted.specifier.contains(version), f"{line}: {version}"


# Places


MACHINE_PATH = re.compile(r"(?<![\w.])/(?:tmp|work|root|home)/")


def project_files():
    for top in ROOT.iterdir():
        if top.is_dir() and top.name in ("jaxgen", "experiments", "tests", "docs", "notebooks", ".ci", ".github"):
            yield from (p for p in top.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        elif top.is_file() and top.name != ".git":
            yield top


def test_no_file_names_a_path_of_a_machine():
    found = []
    for path in project_files():
        text = path.read_bytes().decode("utf-8", "ignore")
        found += [f"{path.relative_to(ROOT)}: {m[0]}" for m in MACHINE_PATH.finditer(text)]
    assert not found


def test_a_machine_path_is_found():
    for folder in ("tmp", "work", "root", "home"):
        assert MACHINE_PATH.search(f"open('/{folder}/x')")
        assert not MACHINE_PATH.search(f"https://example.org/{folder}/x and runs/{folder}/x")
