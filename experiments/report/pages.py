"""HTML pages from Jinja2 templates. A page is one file that needs nothing else.

Templates escape every value; markup comes from the templates, `style.css` and MathML alone. A page has no script and
requests nothing: pictures are data URIs, the style is in the page, and its content security policy forbids the rest.
"""

import base64
import functools
import math
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from experiments.command.run_folders import MEDIA_TYPES, leaves
from jaxgen.files import open_regular

HERE = Path(__file__).parent
TEMPLATES = (HERE / "templates", HERE.parent / "tour" / "templates")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
WIDE = 1200  # pixels


class Code(str):
    """A cell that is typeset as code."""


class Table(NamedTuple):
    """A table.

    Attributes:
        columns: their headings.
        rows: their cells: text, `Code`, numbers, None where there is no value, or (measured, the paper's value). The
            first cell of a row is its heading.
        caption: above the table.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""


class Picture(NamedTuple):
    """A PNG or GIF file inside a page.

    Attributes:
        source: data URI.
        description: what is read aloud.
        is_wide: among tiles, it has a row to itself.
    """

    source: str
    description: str
    is_wide: bool


def load_picture(path: str | os.PathLike) -> Picture:
    """A picture from a file; its description is the file's name.

    Raises:
        ValueError: another kind of file, or a damaged one.
        OSError: it cannot be read.
    """
    path = Path(path)
    if path.suffix not in MEDIA_TYPES:
        raise ValueError(f"{path} is not one of the pictures that a page can hold: {', '.join(MEDIA_TYPES)}")
    with open_regular(path, "a picture") as file:
        content = file.read()
    # Where both formats write their size.
    start, layout, place = (
        (b"GIF8", "<HH", slice(6, 10)) if path.suffix == ".gif" else (b"\x89PNG", ">II", slice(16, 24))
    )
    if not content.startswith(start) or len(content) < place.stop:
        raise ValueError(f"{path} is not a whole {path.suffix[1:].upper()} file; remove it, and run the command again")
    width, height = struct.unpack(layout, content[place])
    source = f"data:{MEDIA_TYPES[path.suffix]};base64,{base64.b64encode(content).decode()}"
    return Picture(source, path.stem.replace("-", " "), width > max(WIDE, 2 * height))


def mathml(tex: str) -> Markup:
    """TeX as MathML. Write bold and blackboard letters plain: phones may have no font for their characters."""
    from latex2mathml.converter import convert

    return Markup(convert(tex, display="block"))


@functools.cache
def environment() -> jinja2.Environment:
    """The templates of report and tour."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup((HERE / "style.css").read_text(encoding="utf-8"))
    made.globals.update(policy=Markup(POLICY), style=style, load_picture=load_picture, mathml=mathml, leaves=leaves)
    made.filters.update(repr=repr, short=lambda value: str(value) if isinstance(value, int) else f"{value:.5g}")
    made.tests.update(finite=math.isfinite, code=lambda value: isinstance(value, Code))
    made.tests["pair"] = lambda value: isinstance(value, tuple)
    return made


def render(template: str, **values: Any) -> str:
    """A page, or a part of one, from the template of this name."""
    return environment().get_template(template).render(**values)


def write(path: str | os.PathLike, content: str) -> None:
    """Writes a page, whole or not at all."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(content, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
