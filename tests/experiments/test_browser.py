"""The tour's page in a real browser, from file://: it draws everything, fits a phone, and complains of nothing."""

import browser
import pytest
from test_tour import LESSONS, leave_behind

from experiments import page, tour

pytestmark = pytest.mark.skipif(not browser.BROWSER, reason="needs chromium or google-chrome")


def test_the_tour_is_drawn_whole_in_light_and_dark_and_on_a_phone(tmp_path):
    for lesson in LESSONS:
        leave_behind(lesson, tmp_path / lesson.experiment)
    path = tmp_path / "index.html"
    page.write(path, tour.tour_page(tour.CHAPTERS, tmp_path))
    papers = set()
    for width, dark in ((500, False), (1200, True)):
        report, complaints = browser.opened(path, tmp_path, width, dark)
        assert not complaints
        assert report["drawn"] == report["images"] == sum(len(lesson.pictures) for lesson in LESSONS)
        assert report["formulas"] == sum(len(lesson.equations) for lesson in LESSONS)
        assert report["width"] <= report["window"] <= width
        papers.add(report["paper"])
    assert len(papers) == 2


def test_what_a_page_must_not_do_is_seen(tmp_path):
    body = page.Html('<img src="https://example.org/x.png" alt=""><p style="width: 3000px">wide</p>')
    page.write(tmp_path / "index.html", page.document("x", body, []))
    report, complaints = browser.opened(tmp_path / "index.html", tmp_path)
    assert report["drawn"] < report["images"] and report["width"] > report["window"]
    assert any("Content Security Policy" in line for line in complaints)
