"""Builds the reference pages: the docstrings with their equations, and the guides.

    python -m docs.build [FOLDER]

Writes FOLDER (by default build/docs), which needs neither a server nor a network: mathematics is MathML, and the search
index is a file in the folder. Warnings are errors, and so is a broken link.
"""

import html
import importlib
import inspect
import pkgutil
import posixpath
import re
import shutil
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

import pdoc.doc
import pdoc.render
import pdoc.render_helpers

import jaxgen
from experiments.report.pages import mathml
from experiments.tour import equations

ROOT = Path(__file__).parents[1]
GUIDES = {
    "README.md": "index.html",
    "docs/experiments.md": "experiments.html",
    "docs/equations.md": "functions.html",
    "docs/gan.md": "gan.html",
    "docs/diffusion.md": "diffusion.html",
    "docs/nerf.md": "nerf.html",
    "docs/sampling.md": "sampling.html",
    "docs/captures.md": "captures.html",
    "docs/devices.md": "devices.html",
    "docs/reproducibility.md": "reproducibility.html",
    "docs/benchmarks.md": "benchmarks.html",
    "docs/notes.md": "notes.html",
    "docs/glossary.md": "glossary.html",
    "docs/extending.md": "extending.html",
    "docs/troubleshooting.md": "troubleshooting.html",
    "experiments/RESULTS.md": "results.html",
    "CONTRIBUTING.md": "contributing.html",
    "SECURITY.md": "security.html",
    "CHANGELOG.md": "changelog.html",
}
# Modules that are documented besides the packages.
MODULES = ("nerf.analytic_scene", "nerf.convert", "nerf.mesh", "training.hosts", "training.keys")

Modules = Mapping[str, pdoc.doc.Module]


def documented() -> Modules:
    """{name: module} of jaxgen, its packages, and MODULES."""
    packages = [found.name for found in pkgutil.iter_modules(jaxgen.__path__)]
    names = ["jaxgen", *(f"jaxgen.{name}" for name in sorted([*packages, *MODULES]))]
    return {name: pdoc.doc.Module(importlib.import_module(name)) for name in names}


def literal(docstring: str) -> str:
    """A docstring with `<` and `*` escaped, except in code and at bullets."""
    parts = re.split(r"(`[^`]*`)", docstring)
    for i in range(0, len(parts), 2):
        text = parts[i].replace("<", "&lt;")
        parts[i] = re.sub(r"^( *\* )|\*", lambda found: found[1] or "&#42;", text, flags=re.MULTILINE)
    return "".join(parts)


def own_arguments(signature: inspect.Signature) -> inspect.Signature:
    """A signature without the parameters that Flax adds to the constructor of every module."""
    parameters = signature.parameters
    added = {"parent", "name"} if {"parent", "name"} <= set(parameters) else set()
    return signature.replace(parameters=[p for name, p in parameters.items() if name not in added])


def configure() -> None:
    """Sets up pdoc for the docstrings of jaxgen."""
    pdoc.render.configure(
        docformat="google",
        show_source=False,
        template_directory=Path(__file__).with_name("templates"),
        footer_text=f"jaxgen {jaxgen.__version__}",
    )
    environment, helpers = pdoc.render.env, pdoc.render_helpers
    module = pdoc.doc.Module(jaxgen)
    environment.filters["to_markdown"] = lambda text: helpers.to_markdown(literal(text), module, "google")
    environment.filters["format_signature"] = lambda found, colon: helpers.format_signature(own_arguments(found), colon)
    environment.globals["equations"] = {f"jaxgen.{name}": mathml(tex) for name, tex in equations.read().items()}
    environment.globals["guides"] = {page: title_of(source) for source, page in GUIDES.items()}


def title_of(source: str) -> str:
    """The first heading of a Markdown file."""
    return (ROOT / source).read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ")


def guide(source: str, modules: Modules) -> str:
    """A Markdown file as a page, with links to the pages instead of the files."""

    def moved(found: re.Match) -> str:
        target, hash_, place = html.unescape(found[2]).partition("#")
        if not target or re.match(r"\w+:", target):
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        return f'{found[1]}="{GUIDES.get(path, f"files/{path}")}{hash_}{place}"'

    body = pdoc.render_helpers.to_html((ROOT / source).read_text(encoding="utf-8"))
    body = re.sub(r'\b(href|src)="([^"]*)"', moved, body)
    template = pdoc.render.env.get_template("guide.html.jinja2")
    return template.render(title=title_of(source), body=body, all_modules=modules)


def linked(page: str, name: str, modules: Modules) -> str:
    """A page with `package.name`, or a call of it, linked to its documentation, and the public name of jax.Array."""

    def link(found: re.Match) -> str:
        package, _, member = found[1].removeprefix("jaxgen.").partition(".")
        module = modules.get(f"jaxgen.{package}")
        if module is None or member not in module.members:
            return found[0]
        where = f"jaxgen/{package}.html#{member}"
        return f'<code><a href="{posixpath.relpath(where, posixpath.dirname(name) or ".")}">{found[0][6:-7]}</a></code>'

    for dot in (".", '</span><span class="o">.</span><span class="n">'):
        page = page.replace(dot.join(("jax", "jaxlib", "_jax", "Array")), dot.join(("jax", "Array")))
    return re.sub(r"<code>([\w.]+)(?:\([^<]*\))?</code>", link, page)


def rendered(modules: Modules) -> dict[str, str]:
    """{file: content} of all pages."""
    pages = {page: guide(source, modules) for source, page in GUIDES.items()}
    pages["equations.html"] = pdoc.render.env.get_template("equations.html.jinja2").render(all_modules=modules)
    for name, module in modules.items():
        pages[f"{name.replace('.', '/')}.html"] = pdoc.render.html_module(module, modules)
    return {name: linked(page, name, modules) for name, page in pages.items()} | {
        "search.js": pdoc.render.search_index(modules)
    }


def targets(pages: Mapping[str, str]) -> dict[str, set[str]]:
    """{file: places in it} that the pages refer to, by paths from the folder's top."""
    found: dict[str, set[str]] = {}
    for name, page in pages.items():
        markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL) if name.endswith(".html") else ""
        for link in re.findall(r'\b(?:href|src)="([^"]*)"', markup):
            target, _, place = html.unescape(link).partition("#")
            if re.match(r"\w+:", target):
                continue
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), target)) if target else name
            found.setdefault(path, set()).update([place] if place else [])
    return found


def build(folder: Path) -> Path:
    """Writes all pages and returns the first.

    Raises:
        ValueError: a link is broken.
        Warning: from pdoc, or from an imported module.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        configure()
        pages = rendered(documented())
    wanted = targets(pages)
    files = {name: ROOT / name.removeprefix("files/") for name in wanted if name.startswith("files/")}
    lost = [name for name in wanted if name not in pages and not (name in files and files[name].is_file())]
    for name in set(wanted) & set(pages):
        lost += [f"{name}#{place}" for place in wanted[name] if f'id="{place}"' not in pages[name]]
    if lost:
        raise ValueError(f"links that lead nowhere: {', '.join(sorted(lost))}")
    for name, page in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(page, encoding="utf-8")
    for name, source in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
    return folder / "index.html"


if __name__ == "__main__":
    print(build(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "build" / "docs"))
