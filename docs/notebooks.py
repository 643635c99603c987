"""Converts the notebooks to .ipynb files for Colab and Jupyter.

    python -m docs.notebooks [FOLDER]

Writes FOLDER (by default build/notebooks). Where setup.cfg has the project's address (`url`), each notebook begins with
a Colab badge and its first cell installs jaxgen from there; otherwise from an uploaded wheel or folder.
"""

import configparser
import sys
from pathlib import Path

import jupytext
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

ROOT = Path(__file__).parents[1]
UPLOADED = 'source = next(iter(sorted(Path().glob("jaxgen-*.whl"))), "./jaxgen")'


def address() -> str:
    """The project's address in setup.cfg, or empty."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config["metadata"].get("url", "").rstrip("/")


def convert(path: Path, url: str) -> NotebookNode:
    """A notebook in the percent format as a notebook of Jupyter.

    Args:
        path: the .py file.
        url: the project's address, or empty.

    Raises:
        ValueError: the first code cell does not install jaxgen in the form that the address replaces.
    """
    notebook = jupytext.read(path, fmt="py:percent")
    install = next(cell for cell in notebook.cells if cell.cell_type == "code")
    if UPLOADED not in install.source:
        raise ValueError(f"{path}: the first code cell has no line {UPLOADED!r}")
    if url:
        install.source = install.source.replace(UPLOADED, f'source = "git+{url}"')
        place = url.removeprefix("https://github.com/")
        badge = "https://colab.research.google.com/assets/colab-badge.svg"
        link = f"https://colab.research.google.com/github/{place}/blob/gh-pages/notebooks/{path.stem}.ipynb"
        notebook.cells.insert(0, new_markdown_cell(f"[![Open in Colab]({badge})]({link})"))
    return notebook


def build(folder: Path) -> list[Path]:
    """Writes all notebooks and returns their files."""
    folder.mkdir(parents=True, exist_ok=True)
    files, url = [], address()
    for path in sorted((ROOT / "notebooks").glob("*.py")):
        files.append(folder / f"{path.stem}.ipynb")
        jupytext.write(convert(path, url), files[-1])
    return files


if __name__ == "__main__":
    print(*build(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "build" / "notebooks"), sep="\n")
