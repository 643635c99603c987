"""One HTML file that needs nothing else: text, equations, tables, pictures and curves of a run.

Every function returns `Html`. Text that is not `Html` is escaped wherever it is put, so markup is only written here and
in `page_curves`. A page has no script and asks for nothing: pictures are data URIs, the style is in the page, and its
content security policy forbids the rest.
"""

import base64
import html
import math
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

STYLE = Path(__file__).with_name("page.css")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
MEDIA_TYPES = {".png": "image/png", ".gif": "image/gif"}
WIDE = 1200  # pixels
ABSENT = "\N{EN DASH}"


class Html(str):
    """Markup, put into a page as it is."""


class Section(NamedTuple):
    """A part of a page with a title, named in its table of contents."""

    title: str
    body: Html


def escaped(value: Any) -> Html:
    """Anything as markup: `Html` as it is, the rest as text."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def join(*parts: Any) -> Html:
    """Parts one after another."""
    return Html("\n".join(escaped(part) for part in parts))


def document(title: str, intro: Html, sections: Sequence[Section], footer: Any = "") -> Html:
    """The whole page."""
    names = [f"part-{i}" for i in range(1, len(sections) + 1)]
    links = "".join(
        f'<li><a href="#{name}">{escaped(s.title)}</a></li>' for name, s in zip(names, sections, strict=True)
    )
    parts = "\n".join(
        f'<section id="{name}">\n<h2>{escaped(s.title)}</h2>\n{s.body}\n</section>'
        for name, s in zip(names, sections, strict=True)
    )
    return Html(f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escaped(title)}</title>
<link rel="icon" href="data:,">
<style>
{STYLE.read_text()}</style>
</head>
<body>
<h1>{escaped(title)}</h1>
{intro}
<nav aria-label="Contents"><ul>{links}</ul></nav>
<main>
{parts}
</main>
<footer>{escaped(footer)}</footer>
</body>
</html>
""")


def paragraph(*sentences: Any) -> Html:
    """Sentences in one paragraph."""
    return Html(f"<p>{' '.join(escaped(s) for s in sentences)}</p>")


def status(*sentences: Any) -> Html:
    """A paragraph that must not be overlooked."""
    return Html(f'<p class="status">{" ".join(escaped(s) for s in sentences)}</p>')


def heading(title: str) -> Html:
    """A title inside a section."""
    return Html(f"<h3>{escaped(title)}</h3>")


def code(name: str) -> Html:
    """A name or a command as it is typed."""
    return Html(f"<code>{escaped(name)}</code>")


def folded(summary: str, *parts: Any) -> Html:
    """Parts that are shown when the summary is opened."""
    return Html(f"<details>\n<summary>{escaped(summary)}</summary>\n{join(*parts)}\n</details>")


def number(value: float | int | None) -> Html:
    """Five digits to read; the exact value in the element's `value`. None, where nothing was measured, is a dash."""
    if value is None:
        return Html(ABSENT)
    if not math.isfinite(value):
        return Html("not finite")
    short = str(value) if isinstance(value, int) else f"{value:.5g}"
    return Html(f'<data value="{value!r}" title="{value!r}">{short}</data>')


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]], caption: str = "") -> Html:
    """A table; numbers and None in its cells as `number` shows them. The first cell of a row is its heading."""
    head = "".join(f'<th scope="col">{_cell(cell)}</th>' for cell in header)
    body = ""
    for first, *others in rows:
        cells = "".join(f"<td>{_cell(cell)}</td>" for cell in others)
        body += f'<tr><th scope="row">{_cell(first)}</th>{cells}</tr>\n'
    above = f"<caption>{escaped(caption)}</caption>\n" if caption else ""
    return Html(
        f'<div class="wide"><table>\n{above}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>'
    )


def _cell(value: Any) -> Html:
    is_number = value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
    return number(value) if is_number else escaped(value)


def picture(path: str | os.PathLike, caption: Any, description: str = "") -> Html:
    """A PNG or GIF file, inside the page; among tiles a wide one has a row to itself.

    Raises:
        ValueError: another kind of file.
        OSError: it cannot be read.
    """
    path = Path(path)
    if path.suffix not in MEDIA_TYPES:
        raise ValueError(f"{path} is not one of the pictures that a page can hold: {', '.join(MEDIA_TYPES)}")
    content = path.read_bytes()
    # Where both formats write their size.
    width, height = struct.unpack(*(("<HH", content[6:10]) if path.suffix == ".gif" else (">II", content[16:24])))
    kind = ' class="whole"' if width > max(WIDE, 2 * height) else ""
    data = base64.b64encode(content).decode()
    alternative = html.escape(description or path.stem.replace("-", " "))
    return Html(
        f'<figure{kind}><img src="data:{MEDIA_TYPES[path.suffix]};base64,{data}" alt="{alternative}">'
        f"<figcaption>{escaped(caption)}</figcaption></figure>"
    )


def tiles(figures: Iterable[Html]) -> Html:
    """Figures side by side, as many as the screen has room for."""
    return Html('<div class="tiles">\n' + "\n".join(figures) + "\n</div>")


def equations(pairs: Mapping[str, str]) -> Html:
    """{TeX: name of the function that computes it}, as MathML beside the names.

    Bold and blackboard letters become characters that phones may have no font for; write them plain.
    """
    from latex2mathml.converter import convert

    rows = "\n".join(f"<div>{convert(tex, display='block')}{code(name)}</div>" for tex, name in pairs.items())
    return Html(f'<div class="equations">\n{rows}\n</div>')


def write(path: str | os.PathLike, content: Html) -> None:
    """Writes a page, whole or not at all."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(content, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
