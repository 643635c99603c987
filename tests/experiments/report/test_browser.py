"""The tour's page in a real browser, from file://: it draws everything, fits a phone, and reports no error."""

import pytest
from markupsafe import Markup

from experiments.report import pages
from experiments.tour.page import CHAPTERS, tour_page
from tests.experiments.report import browser
from tests.experiments.tour.test_tour import LESSONS, leave_behind

pytestmark = pytest.mark.skipif(not browser.BROWSER, reason="needs chromium or google-chrome")


def test_the_tour_is_drawn_whole_in_light_and_dark_and_on_a_phone(tmp_path):
    for lesson in LESSONS:
        leave_behind(lesson, tmp_path / lesson.experiment)
    path = tmp_path / "index.html"
    pages.write(path, tour_page(CHAPTERS, tmp_path))
    papers = set()
    for width, dark in ((500, False), (1200, True)):
        report, errors = browser.opened(path, tmp_path, width, dark)
        assert not errors
        assert report["drawn"] == report["images"] == sum(len(lesson.pictures) for lesson in LESSONS)
        assert report["formulas"] == sum(len(lesson.equations) for lesson in LESSONS)
        assert report["width"] <= report["window"] <= width
        papers.add(report["paper"])
    assert len(papers) == 2


def test_what_a_page_must_not_do_is_seen(tmp_path):
    body = Markup('<img src="https://example.org/x.png" alt=""><p style="width: 3000px">wide</p>')
    content = pages.render("page.html.jinja2", title="x", intro=body, sections=[], footer="")
    pages.write(tmp_path / "index.html", content)
    report, errors = browser.opened(tmp_path / "index.html", tmp_path)
    assert report["drawn"] < report["images"] and report["width"] > report["window"]
    assert any("Content Security Policy" in line for line in errors)
