"""The parts of a page: escaping, exact values, curves where they belong, equations."""

import math
import re

import numpy as np
import pytest
from markupsafe import Markup

from experiments.report import charts, pages
from experiments.report.pages import Code, Table
from experiments.tour import equations
from jaxgen import pictures
from tests.experiments.report.page_reader import Page


def part(name, *values):
    """What a macro of parts.html.jinja2 makes."""
    return str(getattr(pages.environment().get_template("parts.html.jinja2").module, name)(*values))


def polylines(chart):
    """[[(x, y), ...], ...] in pixels, as they are drawn."""
    drawn = re.findall(r'<polyline[^>]* points="([^"]*)"', part("chart", chart))
    return [[tuple(map(float, point.split(","))) for point in line.split()] for line in drawn]


def test_text_is_escaped_once_and_markup_is_not():
    made = part("table", Table(["<h>", "i"], [["<b>", "'\""], ["a & b", Code("x > y")]], "<caption>"))
    assert Page(made).rows == [["<h>", "i"], ["<b>", "'\""], ["a & b", "x > y"]]
    assert "<code>x &gt; y</code>" in made and "a &amp; b" in made and "<caption>&lt;caption&gt;</caption>" in made


def test_a_number_keeps_every_digit():
    exact = 90.44893646240234
    rows = [["x", exact], ["y", None], ["z", math.nan], ["n", 12345678], ["p", (exact, 1.5)], ["q", (None, None)]]
    read = Page(part("table", Table(["a", "b"], rows)))
    assert read.values == [exact, 12345678, exact, 1.5] and read.row("q") == ["\N{EN DASH}"]
    assert read.row("x") == ["90.449"] and read.row("y") == ["\N{EN DASH}"] and read.row("z") == ["not finite"]
    assert read.row("n") == ["12345678"]


def test_a_document_is_well_formed_and_names_its_parts():
    parts = [(f"Part <{i}>", Markup("<details><summary>more</summary><p>text</p></details>")) for i in range(3)]
    read = Page(pages.render("page.html.jinja2", title="A & B", intro="<now>", sections=parts, footer="end"))
    assert not read.problems and read.asks_for_nothing()
    assert "A & B" in read.text and "<now>" in read.text and read.ids == ["part-1", "part-2", "part-3"]
    assert [link for link in read.links if link.startswith("#")] == ["#part-1", "#part-2", "#part-3"]


def test_a_reader_of_pages_sees_what_is_wrong():
    assert Page("<p><b></p></b>").problems and Page("<div>").problems
    assert not Page('<img src="https://example.org/x.png" alt="">').asks_for_nothing()
    assert not Page("<script></script>").asks_for_nothing()
    assert not Page("<style>p { background: url(https://example.org/x.png); }</style>").asks_for_nothing()


def test_pictures_are_inside_the_page(tmp_path):
    pictures.save_png(tmp_path / "a-b.png", np.zeros((2, 2, 3), np.uint8))
    read = Page(part("picture", tmp_path / "a-b.png", "<caption>"))
    assert read.images[0].startswith("data:image/png;base64,iVBOR") and read.alternatives == ["a b"]
    with pytest.raises(ValueError, match="pictures that a page can hold: .png, .gif"):
        pages.load_picture(tmp_path / "a.svg")


def test_a_wide_picture_has_a_row_to_itself(tmp_path):
    for height, width, whole in ((2, 1300, True), (700, 1300, False), (2, 1100, False)):
        for name, save in (
            ("x.png", pictures.save_png),
            ("x.gif", lambda path, image: pictures.save_gif(path, [image])),
        ):
            save(tmp_path / name, np.zeros((height, width, 3), np.uint8))
            assert pages.load_picture(tmp_path / name).is_wide == whole
            assert ('class="whole"' in part("picture", tmp_path / name, "")) == whole


def test_curves_put_values_where_they_belong():
    ((first, last),) = polylines(charts.chart("q", {"a": ([0, 10], [1.0, 3.0])}, "step"))
    assert first == (charts.LEFT, charts.HEIGHT - charts.BOTTOM)
    assert last == (charts.WIDTH - charts.RIGHT, charts.TOP)
    # Over decades, the logarithm: 10 is half way between 1 and 100.
    low, middle, high = polylines(charts.chart("q", {"a": ([0, 1, 2], [1.0, 10.0, 100.0])}, "step"))[0]
    assert middle[1] == pytest.approx((low[1] + high[1]) / 2)


def test_a_value_that_is_not_finite_leaves_a_gap():
    y = [1.0, 2.0, math.nan, 3.0, math.inf, 4.0, 5.0]
    made = charts.chart("q", {"a": (range(7), y)}, "step")
    assert [len(line) for line in polylines(made)] == [2, 2] and part("chart", made).count("<circle") == 1
    both = charts.chart("q", {"a": ([0], [math.nan]), "b": ([0], [1.0])}, "step")
    assert "never finite" in part("chart", both)
    none = charts.chart("q", {"a": ([0], [math.nan])}, "step")
    assert "no finite value" in part("chart", none) and not none.lines


def test_thinning_keeps_peaks_gaps_and_the_end():
    y = [float(i % 7) for i in range(10_000)]
    y[4321], y[5678], y[6000] = 99.0, -99.0, math.nan
    x, thin = charts.thinned(range(10_000), y)
    x = [int(i) for i in x]
    assert len(x) <= charts.POINTS + 2 and x == sorted(x) and x[-1] == 9999
    assert {99.0, -99.0} <= set(thin) and sum(map(math.isnan, thin)) == 1
    assert all(thin[i] == y[x[i]] or math.isnan(y[x[i]]) for i in range(len(x)))


@pytest.mark.parametrize(
    "low, high, is_log, expected",
    [
        (0, 100, False, [0, 20, 40, 60, 80, 100]),
        (-0.31, 0.12, False, [-0.3, -0.2, -0.1, 0.0, 0.1]),
        (0.9, 120, True, [1, 2, 5, 10, 20, 50, 100]),
        (1e-6, 1e2, True, [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 10, 100]),
    ],
)
def test_ticks_are_round_and_inside(low, high, is_log, expected):
    assert charts.Axis(low, high, 0, 1, is_log).ticks() == pytest.approx(expected)


def test_curves_say_in_words_what_they_show():
    (label,) = Page(part("chart", charts.chart("loss", {"a": ([1, 2], [5.0, 4.0])}, "step"))).labels
    assert label == "loss over step: a 5 to 4"


def test_curves_refuse_what_they_cannot_draw():
    with pytest.raises(ValueError, match="11 series"):
        charts.chart("q", {str(i): ([0], [1.0]) for i in range(11)}, "step")
    with pytest.raises(ValueError, match="2 values of x for 1 of y"):
        charts.chart("q", {"a": ([0, 1], [1.0])}, "step")


def test_equations_stand_beside_their_functions():
    pytest.importorskip("latex2mathml")
    tex = equations.read()["vae.reparameterize"]
    read = Page(pages.mathml(tex))
    assert not read.problems and "math" in read.tags and "μ" in read.text


def test_a_page_is_written_whole_or_not_at_all(tmp_path):
    pages.write(tmp_path / "x.html", "one")
    with pytest.raises(TypeError):
        pages.write(tmp_path / "x.html", None)  # type: ignore[arg-type]
    assert (tmp_path / "x.html").read_text() == "one" and len(list(tmp_path.iterdir())) == 1
