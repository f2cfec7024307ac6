"""The page of a label run in a browser: nothing fails, nothing is fetched, all of it fits."""

import html
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.http_server import HttpServer
from helpers.models import image_file
from helpers.runs import run, write_colors

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")

# Looks at the page as the browser has laid it out, and notes it where --dump-dom prints it.
MEASURE = """
const page = document.querySelector("iframe").contentDocument;
const all = [...page.querySelectorAll("body *")].filter(one => !one.closest(".scroll, details"));
const found = {
  width: page.documentElement.scrollWidth,
  wide: all.filter(one => one.getBoundingClientRect().right > page.documentElement.clientWidth + 1)
    .map(one => one.tagName + "." + one.className),
  hidden: all.filter(one => /^(H[123]|P|TD|SVG)$/i.test(one.tagName))
    .filter(one => !one.getClientRects().length).map(one => one.outerHTML),
  loaded: [...page.images].filter(one => one.complete && one.naturalWidth > 0).length,
  images: page.images.length,
  headings: [...page.querySelectorAll("h1, h2")].map(one => one.textContent),
  background: getComputedStyle(page.body).backgroundColor,
  requests: document.querySelector("iframe").contentWindow.performance.getEntriesByType("resource")
    .map(one => one.name).filter(name => !name.startsWith("data:")),
  reachable: page.querySelectorAll("a[href], summary, [tabindex='0']").length,
};
document.body.textContent = "MEASURED" + JSON.stringify(found) + "MEASURED";
"""


def browse(tmp_path, url, *flags):
    """What a headless Chromium prints of a page, and what it logs."""
    profile = tmp_path / "profile"
    done = subprocess.run(
        [
            CHROMIUM,
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
            *("--enable-logging=stderr", f"--user-data-dir={profile}"),
            *flags,
            url,
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def measure(tmp_path, page, width, *flags):
    """The page in a frame of that width, as a headless window cannot be as narrow as a phone."""
    frame = tmp_path / f"frame-{width}.html"
    frame.write_text(
        f'<!DOCTYPE html><meta charset="utf-8"><body><iframe width="{width}" height="800" '
        f'srcdoc="{html.escape(page)}"></iframe><script>addEventListener("load", () => {{'
        f"{MEASURE}}})</script>"
    )
    printed, log = browse(tmp_path, frame.as_uri(), "--dump-dom", *flags)
    return json.loads(html.unescape(printed.split("MEASURED")[1])), log


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
    assert found["reachable"] == 13
    assert found["requests"] == []
    assert "CONSOLE" not in log


def test_it_is_dark_where_that_is_wanted(tmp_path, report):
    dark = "--blink-settings=preferredColorScheme=0"
    found, _ = measure(tmp_path, report.read_text(), 800, dark)
    assert found["background"] == "rgb(13, 17, 23)"
