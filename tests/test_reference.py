"""The reference pages are built, whole, without warnings, and ask for nothing outside of them."""

import importlib
import re
import warnings

import pytest

from docs import build
from experiments.tour import equations


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """{file: text} of the pages."""
    folder = tmp_path_factory.mktemp("docs")
    assert build.build(folder) == folder / "index.html"
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.html")}


def test_every_public_name_is_on_its_package_s_page(built):
    names = set(build.documented()) - {"jaxgen"}
    for name in names:
        page = built[name.replace(".", "/") + ".html"]
        members = getattr(importlib.import_module(name), "__all__", ())
        for member in members:
            assert f"{name}.{member}" in names or f'id="{member}"' in page, f"{name}.{member}"


def test_every_equation_is_set_where_its_function_is_documented(built):
    found = equations.read()
    for name in found:
        package, member = name.split(".")
        section = built[f"jaxgen/{package}.html"].split(f'<section id="{member}">')[1].split("</section>")[0]
        assert section.count("<math") == 1, name
    assert built["equations.html"].count("<math") == len(found)


def test_a_docstring_is_shown_as_it_was_written(built):
    page = built["jaxgen/autoencoder.html"]
    # No tag is made of <v h>, no emphasis of stars, and what is code stays.
    assert "&lt;v h>_data - &lt;v h>_reconstruction" in page and "&amp;lt;" not in "".join(built.values())
    assert re.search(r"<strong>rho:</strong>\s+target in \(0, 1\)", page)
    assert build.literal("a * b, <x>, `c < d * e`\n* bullet **k") == (
        "a &#42; b, &lt;x>, `c < d * e`\n* bullet &#42;&#42;k"
    )
    assert "parent" not in page.split('id="Autoencoder.__init__"')[1].split("</div>")[0]
    assert "<em>" not in "".join(page for name, page in built.items() if name.startswith("jaxgen"))


def test_names_lead_to_their_documentation(built):
    assert '<a href="jaxgen/vae.html#elbo">vae.elbo(log_likelihood, kl, beta)</a>' in built["functions.html"]
    modules = {"jaxgen.vae": build.documented()["jaxgen.vae"]}
    assert build.linked("<code>vae.nothing</code>", "index.html", modules) == "<code>vae.nothing</code>"
    there = build.linked("<code>vae.elbo</code>", "jaxgen/nerf/mesh.html", modules)
    assert there == '<code><a href="../vae.html#elbo">vae.elbo</a></code>'


def test_the_pages_need_no_network(built):
    for name, page in built.items():
        assert not re.search(
            r"<(?:script|img|iframe)[^>]*\bsrc=.https?:|<link[^>]*\bhref=.https?:|@import|url\(http", page
        ), name


def test_a_warning_and_a_lost_link_are_errors(built, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "documented", lambda: warnings.warn("something is wrong", stacklevel=1))
    with pytest.raises(UserWarning, match="something is wrong"):
        build.build(tmp_path)
    monkeypatch.setattr(build, "documented", dict)
    monkeypatch.setattr(
        build, "rendered", lambda modules: {"a.html": '<a href="b.html">', "c.html": '<a href="a.html#x">'}
    )
    with pytest.raises(ValueError, match=r"lead nowhere: a\.html#x, b\.html"):
        build.build(tmp_path)
