import base64
import re

import numpy as np
import pytest
from helpers.pages import HTML, Page

from pipeline.evaluation import evaluate
from pipeline.finetune.report import render_report

CURVES, GRID, CONFUSION = b"\x89PNG curves", b"\x89PNG grid \xff\xfe", b"\x89PNG confusion"
ESCAPED = "&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;&amp;&#39;"


def scores(labels=("cat", "dog", "owl")):
    """Two of three right; the last class is absent and never predicted."""
    return evaluate(np.array([0, 0, 1]), np.eye(3)[[0, 1, 1]], labels)


def render(title="Pets", facts=(), evaluation=None):
    return render_report(title, facts, evaluation or scores(), CURVES, GRID, CONFUSION)


def test_headline_says_accuracy_interval_and_images():
    text = " ".join(Page(render()).texts)
    assert "66.7 % of 3 test images are labeled correctly" in text
    assert "(95 % interval: 20.8 % to 93.9 %)" in text
    assert "is 33.3 percentage points off" in text


def test_headline_of_one_image():
    evaluation = evaluate(np.array([0]), np.eye(2)[[0]], ["a", "b"])
    text = " ".join(Page(render(evaluation=evaluation)).texts)
    assert "100.0 % of 1 test image is labeled correctly" in text


def test_facts_and_classes_are_tables():
    texts = Page(render(facts=[("Base model", "small"), ("Epochs", "3")])).texts
    at = texts.index("Base model")
    assert texts[at : at + 4] == ["Base model", "small", "Epochs", "3"]
    at = texts.index("Label")
    assert texts[at : at + 16] == [
        *("Label", "Test images", "Precision", "Recall"),
        *("cat", "2", "100.0 %", "50.0 %"),
        *("dog", "1", "50.0 %", "100.0 %"),
        *("owl", "0", "–", "–"),
    ]


def test_sections_have_headings():
    page = Page(render())
    assert len(page.all("h1")) == 1
    assert len(page.all("h2")) == 5
    assert page.all("html") == [{"lang": "en"}]


def test_pictures_are_inside_and_described():
    images = Page(render()).all("img")
    prefix = "data:image/png;base64,"
    assert all(image["src"].startswith(prefix) for image in images)
    contents = [base64.b64decode(image["src"][len(prefix) :]) for image in images]
    assert contents == [CURVES, CONFUSION, GRID]
    assert all(len(image["alt"]) > 40 for image in images)
    assert "3 classes" in images[1]["alt"]


def test_nothing_is_fetched_and_nothing_runs():
    page = render()
    assert "http" not in re.sub(r"base64,[\w+/=]+", "", page)
    assert "url(" not in page and "@import" not in page
    elements = {tag for tag, _ in Page(page).elements}
    assert not elements & {"script", "link", "iframe", "object", "a", "form"}


@pytest.mark.parametrize(
    "page",
    [
        render(title=HTML),
        render(facts=[(HTML, "value")]),
        render(facts=[("name", HTML)]),
        render(evaluation=scores(["a", HTML, "c"])),
    ],
)
def test_html_shows_as_text(page):
    assert "<script" not in page
    assert ESCAPED in page
    assert HTML in Page(page).texts


def test_works_in_the_dark_and_on_a_phone():
    page = render()
    metas = Page(page).all("meta")
    assert {"charset": "utf-8"} in metas
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas
    assert "prefers-color-scheme: dark" in page
    parts = page.count('class="scroll"')
    assert parts == page.count("<table>") + page.count("<img") == 5
