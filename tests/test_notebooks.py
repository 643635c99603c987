"""Every notebook runs at small size from its first cell to its last, and holds no outputs."""

import ast
from pathlib import Path

import jupytext
import pytest

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


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_at_small_size(path):
    cells = jupytext.read(path, fmt="py:percent").cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert len(cells) > len(code) > 5 and not any(cell.outputs for cell in code)
    # What Colab needs comes first, and installs nothing where jaxgen is there; the size is the next cell's first line.
    assert 'find_spec("jaxgen") is None' in code[0].source and code[1].source.startswith("SMALL = False")
    code[1].source = code[1].source.replace("SMALL = False", "SMALL = True", 1)
    names = {"__name__": path.stem}
    shown = [run(cell.source, names) for cell in code]
    pictures = [value for value in shown if hasattr(value, "convert")]
    assert len(pictures) >= 2 and all(picture.convert("L").getextrema()[0] < 250 for picture in pictures)


def run(source, names):
    """Runs a cell as a notebook does, and returns the value of its last line."""
    *body, last = ast.parse(source).body
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    exec(compile(ast.Module([last], []), "cell", "exec"), names)
    return None
