"""The page of a label run in a browser: nothing fails, nothing is fetched, all of it fits."""

from pathlib import Path

import pytest
from helpers.browser import DARK, Browser, browse, measure, needs_chromium, violations
from helpers.http_server import HttpServer
from helpers.models import image_file
from helpers.runs import run, write_colors

from pipeline.__main__ import main

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def report(tmp_path_factory, color_model):
    """The page of a run with odd names, failures, a truth, and an earlier run to compare with."""
    folder = tmp_path_factory.mktemp("browser")
    photos = Path(write_colors(folder / "red", 9))
    flags = {"input": photos, "model": color_model, "output": folder / "out"}
    assert run("--incremental", **flags) == 0
    for name in ("a" * 200, "<b>bold", "two  words", "تصوير", "blue\u202egpj"):
        (photos / f"{name}.png").write_bytes(image_file("blue", size=(300, 40)))
        (photos / f"{name}.jpg").write_bytes(b"<html>" + name.encode())
    assert run("--incremental", **flags, max_failure_ratio=1, truth="parent") == 0
    return sorted((folder / "out").iterdir())[-1] / "report.html"


def test_it_opens_without_errors(tmp_path, report):
    printed, log = browse(tmp_path, report.as_uri(), "--dump-dom")
    assert "Labels of 5 images" in printed
    assert "CONSOLE" not in log


def test_errors_and_requests_would_be_seen(tmp_path):
    """In a page that has some."""
    with HttpServer({"/a.png": image_file()}) as server:
        page = f'<script>console.error("wrong")</script><img src="{server.url("/a.png")}">'
        found, log = measure(tmp_path, page + '<p style="width: 500px">wide', 360)
        assert found["requests"] == [server.url("/a.png")]
    assert "CONSOLE" in log and "wrong" in log
    assert found["wide"] and found["width"] > 360


@pytest.mark.parametrize("width", [360, 1280])
def test_all_parts_are_there_and_fit(tmp_path, report, width):
    found, log = measure(tmp_path, report.read_text(), width)
    assert found["width"] <= width
    assert found["wide"] == []
    assert found["hidden"] == []
    assert found["loaded"] == found["images"] == 15
    assert found["headings"] == [
        *("Labels of 5 images", "Against the truth", "Labels", "Scores", "Least certain"),
        "Class mix",
        *("Failures", "The run"),
    ]
    assert found["background"] == "rgb(255, 255, 255)"
    assert found["reachable"] == 44
    assert found["requests"] == []
    assert "CONSOLE" not in log


def test_it_is_dark_where_that_is_wanted(tmp_path, report):
    found, _ = measure(tmp_path, report.read_text(), 800, DARK)
    assert found["background"] == "rgb(13, 17, 23)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture(scope="module")
def index(report):
    """The page of all runs in the output."""
    folder = report.parents[1]
    assert main(["report", str(folder)]) == 0
    return folder / "report.html"


def test_nothing_keeps_anybody_from_reading_them(browser, report, index):
    """By axe-core: contrast, names, headings, landmarks, tables and more."""
    assert violations(browser, report, index) == []


def test_what_keeps_people_from_reading_would_be_seen(tmp_path, browser, report):
    page = report.read_text().replace("<html lang=", "<html data-lang=")
    page = page.replace("--faint: #59636e", "--faint: #c9d3de")
    (tmp_path / "bad.html").write_text(page)
    found = violations(browser, tmp_path / "bad.html")
    assert {rule for *_, rule, _ in found} == {"html-has-lang", "color-contrast"}


def test_tables_sort_by_a_click_or_a_key(browser, index):
    browser.open(index, 1280)
    rows = "[...document.querySelector('table.sortable').tBodies[0].rows]"
    column = f"{rows}.map(row => row.cells[1].textContent)"
    button = "document.querySelectorAll('table.sortable th button')[1]"
    assert browser.evaluate(column) == ["5", "9"]  # the latest run comes first
    for order, shown in (("descending", ["9", "5"]), ("ascending", ["5", "9"])):
        assert browser.evaluate(f"{button}.click(), {column}") == shown
        sorted_by = browser.evaluate(f"{button}.closest('th').getAttribute('aria-sort')")
        assert sorted_by == order
