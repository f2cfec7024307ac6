"""What all pages are made of: names, links, plots."""

import math
import urllib.parse
from pathlib import Path

import pytest

from pipeline import html
from pipeline.html import texts
from pipeline.html.links import href
from pipeline.html.plots import MOST_POINTS, SIDE, Series, line_plot, nice_steps, thinned


def test_the_first_synonym_shows_and_all_of_them_are_kept():
    names = texts.Names(["cougar, puma, catamount", "jaguar, panther"])
    assert names["cougar, puma, catamount"] == ("cougar", "cougar, puma, catamount")
    assert names[None] == ("no label", "no label")
    assert names[""].short == "(no name)"
    assert names["a" * 500].short.endswith("a…")


def test_classes_that_begin_alike_have_their_whole_names():
    """ImageNet's ``cardigan`` is a sweater, and one of its dogs."""
    dog = "Cardigan, Cardigan Welsh corgi"
    names = texts.Names([dog, "Cardigan", "crane, bird", "crane, machine", "tabby, cat"])
    assert [names[label].short for label in (dog, "Cardigan", "crane, bird")] == [
        *(dog, "Cardigan", "crane, bird"),
    ]
    assert names["tabby, cat"].short == "tabby"


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        ("/p/ILSVRC2012_val_00000293.JPEG", "ILSVRC…0293.JPEG"),
        ("/p/short.jpg", "short.jpg"),
        ("gs://b/" + "写真" * 20 + ".jpg", "写真写…写真.jpg"),
    ],
)
def test_a_long_file_name_is_cut_in_its_middle(image, shown):
    assert texts.file_name(image) == shown


@pytest.mark.parametrize(
    ("image", "folder", "expected"),
    [
        ("/data/photos/a b.jpg", "/data/out/run=1", "../../photos/a%20b.jpg"),
        ("/data/out/x:y.jpg", "/data/out", "x%3Ay.jpg"),
        ("/data/out/javascript:1.jpg", "/data/out", "javascript%3A1.jpg"),
        ("/data/\udcff#?.jpg", "/data", "%FF%23%3F.jpg"),
        ("https://host/a.jpg?id=7", "/data", "https://host/a.jpg?id=7"),
        (
            "gs://bucket/a b/c#1.jpg",
            "gs://x",
            "https://storage.cloud.google.com/bucket/a%20b/c%231.jpg",
        ),
        ("https://user:secret@host/a.jpg", "/data", None),
        ("https://host/a.jpg?X-Amz-Signature=" + "0a" * 32, "/data", None),
        ("s3://bucket/a.jpg", "/data", None),
        ("javascript:alert(1)", "/data", None),
        ("data:text/html,x", "/data", None),
        ("relative.jpg", "/data", None),
        ("/data/\ud800.jpg", "/data", None),
        ("gs://bucket/\ud800.jpg", "/data", None),
        ("https://host/" + "a" * 1000, "/data", None),
        ("/data/a.jpg", "gs://bucket/out", None),
    ],
)
def test_what_a_thumbnail_links_to(image, folder, expected):
    assert href(image, folder) == expected


def test_a_link_leads_to_the_file(tmp_path):
    image = tmp_path / "photos" / "a:b %20?#é.jpg"
    page = tmp_path / "out" / "run=2026-11-24T02-00-00Z" / "report.html"
    link = href(str(image), str(page.parent))
    path = urllib.parse.urlsplit(urllib.parse.urljoin(page.as_uri(), link)).path
    assert Path(urllib.parse.unquote(path)) == image


@pytest.mark.parametrize(
    ("most", "steps"),
    [
        (1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.93, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (12, [0, 5, 10, 15]),
        (0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (math.nan, [0, 0.2, 0.4, 0.6, 0.8, 1]),
    ],
)
def test_steps_of_an_axis(most, steps):
    assert nice_steps(most) == pytest.approx(steps)


def test_steps_are_few_and_reach_far_enough():
    for most in (10 ** (n / 7) for n in range(-40, 60)):
        steps = nice_steps(most)
        assert 3 <= len(steps) <= 6 and steps[-1] >= most * (1 - 1e-9)
        assert all(step == int(step) for step in nice_steps(most, whole=True))


def test_a_line_has_gaps_where_there_is_no_number():
    points = [(0, 1.0), (1, math.nan), (2, 0.0), (3, math.inf), (4, None), (5, 0.5)]
    plot = line_plot("title", "caption", [Series("loss", "", points)], marks=[(5, "end", "")])
    assert plot.lines[0].path == f"M0 0M400 {SIDE}M1000 500"
    assert [mark.at for mark in plot.marks] == [SIDE]


def test_a_line_of_one_point_or_none_that_is_a_number():
    assert line_plot("", "", [Series("", "", [(3, 2.0)])]).lines[0].path == "M500 0"
    assert line_plot("", "", [Series("", "", [(3, math.nan)])]).lines[0].path == ""


def test_a_long_line_is_drawn_through_averages():
    points = [(n, float(n % 2)) for n in range(100_000)]
    few = thinned(points)
    assert len(few) == MOST_POINTS
    assert {y for _, y in few} == {0.5}
    assert thinned(points[:50]) == points[:50]


@pytest.mark.parametrize(
    ("share", "shown"), [(1, "100 %"), (0.9999, "99 %"), (0.004, "< 1 %"), (0, "0 %"), (None, "–")]
)
def test_only_all_is_a_hundred_percent_and_only_none_is_zero(share, shown):
    assert html.rounded(share) == shown.replace(" ", "\N{NO-BREAK SPACE}")
