"""Every notebook runs at small size from its first cell to its last, and holds no outputs."""

import ast
import inspect
from pathlib import Path
from typing import Any

import jupytext
import pytest

from docs import notebooks

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))
CHAPTERS = {
    "autoencoders": "1. Autoencoders",
    "vae": "2. Variational autoencoders",
    "gan": "3. Generative adversarial networks",
    "diffusion": "4. Diffusion models",
    "nerf": "5. Neural radiance fields",
}


def test_there_is_one_for_each_chapter():
    titles = {path.stem: jupytext.read(path).cells[0].source.split("\n")[0].lstrip("# ") for path in NOTEBOOKS}
    assert titles == CHAPTERS


def code_of(path):
    """The sources of a notebook's code cells, at small size."""
    cells = jupytext.read(path, fmt="py:percent").cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert len(cells) > len(code) > 5 and not any(cell.outputs for cell in code)
    # What Colab needs comes first, and installs nothing where jaxgen is there; the size is the next cell's first line.
    assert 'find_spec("jaxgen") is None' in code[0].source and code[1].source.startswith("SMALL = False")
    return [code[0].source, code[1].source.replace("SMALL = False", "SMALL = True", 1), *(c.source for c in code[2:])]


def test_the_address_decides_where_a_notebook_installs_from(monkeypatch, tmp_path):
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "vae.py").write_text(NOTEBOOKS[-1].read_text())
    for url in ("", "https://github.com/someone/jaxgen"):
        (tmp_path / "setup.cfg").write_text("[metadata]\nname = jaxgen\n" + (f"url = {url}\n" if url else ""))
        (file,) = notebooks.build(tmp_path / "out")
        cells = jupytext.read(file).cells
        install = next(cell.source for cell in cells if cell.cell_type == "code")
        assert (f'source = "git+{url}"' in install) == ("colab-badge" in cells[0].source) == bool(url)
        assert (notebooks.UPLOADED in install) == (not url)
        if url:
            assert "/github/someone/jaxgen/blob/gh-pages/notebooks/vae.ipynb" in cells[0].source
    broken = tmp_path / "notebooks" / "vae.py"
    broken.write_text(broken.read_text().replace(notebooks.UPLOADED, "source = 1"))
    with pytest.raises(ValueError, match="the first code cell has no line"):
        notebooks.convert(broken, "")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_names_exist_and_its_calls_fit_their_signatures(path):
    """The first two cells run: imports, data, sizes. In the others, what they use of those is looked up."""
    code, names = code_of(path), {"__name__": path.stem}
    for source in code[:2]:
        run(source, names)
    trees = [ast.parse(source) for source in code]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    # Names that mean something else in later cells or inside of functions.
    others = {node.arg for node in nodes if isinstance(node, ast.arg)}
    for tree in trees[2:]:
        others |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    known = {name: thing for name, thing in names.items() if name not in others}
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    assert sum(value(node, known) is not None for node in attributes) > 20
    checked = [node for node in nodes if isinstance(node, ast.Call) and fits(node, value(node.func, known))]
    assert len({ast.unparse(node.func) for node in checked}) > 5


def value(node, names):
    """What a name or a chain of attributes of a module is; None where only running would tell."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute) and inspect.ismodule(owner := value(node.value, names)):
        assert hasattr(owner, node.attr), f"{ast.unparse(node)} does not exist"
        return getattr(owner, node.attr)
    return None


def fits(call, function):
    """Whether the call could be checked against the signature of a function or class of jaxgen."""
    module = getattr(function, "__module__", None) or ""
    starred = any(isinstance(arg, ast.Starred) for arg in call.args) or any(k.arg is None for k in call.keywords)
    if not module.startswith("jaxgen") or starred:
        return False
    try:
        inspect.signature(function).bind(*call.args, **{k.arg: k.value for k in call.keywords})
    except TypeError as error:
        pytest.fail(f"{ast.unparse(call)}: {error}")
    return True


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_at_small_size(path):
    names = {"__name__": path.stem}
    shown: list[Any] = [run(source, names) for source in code_of(path)]
    pictures = [picture for picture in shown if hasattr(picture, "convert")]
    assert len(pictures) >= 2 and all(picture.convert("L").getextrema()[0] < 250 for picture in pictures)


def run(source, names):
    """Runs a cell as a notebook does, and returns the value of its last line."""
    *body, last = ast.parse(source).body
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    exec(compile(ast.Module([last], []), "cell", "exec"), names)
    return None
