"""The page of a label run: what is read for it, what is on it, and how large it may become."""

import base64
import io
import json
import random
import re
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.models import COLORS, image_file
from helpers.pages import HTML, MOST_BYTES, Page, label_row, page_of, text_of, write_run
from helpers.runs import comparable, run, summary, write_colors
from helpers.runs import rows as all_rows
from helpers.stores import memory_store
from helpers.tfrecords import write_tfrecord
from PIL import Image

from pipeline import storage
from pipeline.__main__ import main
from pipeline.errors import OutputError
from pipeline.html import texts
from pipeline.outputs import layout
from pipeline.report import histogram, job, thumbnails
from pipeline.report.aggregates import Picture
from pipeline.report.mix import class_mix
from pipeline.report.reading import (
    BY_LABEL,
    FAILURES_OF_A_REASON,
    IMAGES_OF_A_LABEL,
    UNCERTAIN,
    aggregate_rows,
    previous_run,
    read_summary,
    shares_of_labels,
)
from pipeline.report.sampling import Least
from pipeline.tally import hash_of


def failure_row(image, reason="empty", message="the file has no bytes"):
    return {"image": image, "stage": "decode", "reason": reason, "message": message}


# Sampling


def test_the_least_are_kept():
    numbers = list(range(1000))
    random.Random(0).shuffle(numbers)
    least = Least(5)
    for number in numbers:
        least.offer(number, str(number))
        assert len(least._heap) <= 5
    assert least.items() == ["0", "1", "2", "3", "4"]


def test_equal_keys_do_not_compare_the_items():
    least = Least(2)
    for _ in range(5):
        least.offer(1, object())
    assert len(least.items()) == 2


def test_none_are_kept_of_none_wanted():
    least = Least(0)
    least.offer(1, "item")
    assert least.items() == []


def test_a_sample_does_not_depend_on_order_or_shards(tmp_path):
    labeled = [label_row(f"/p/{n}.png", list(COLORS)[n % 3], n % 7 / 7) for n in range(300)]
    failed = [failure_row(f"/p/bad-{n}.png") for n in range(50)]
    first = write_run(tmp_path / "first", labeled, failed)
    shuffled = random.Random(1).sample(labeled, 300), random.Random(1).sample(failed, 50)
    second = write_run(tmp_path / "second", *shuffled, shards=3)
    counts = {"red": 100, "green": 100, "blue": 100}
    rows = aggregate_rows(first, counts)
    assert rows == aggregate_rows(second, counts)
    assert (rows.labeled, rows.failed, sum(rows.scores.values())) == (300, 50, 300)
    assert {label: len(some) for label, some in rows.by_label.items()} == dict.fromkeys(
        counts, IMAGES_OF_A_LABEL
    )
    assert all(one.label == label for label, some in rows.by_label.items() for one in some)
    assert len(rows.uncertain) == UNCERTAIN
    assert {picture.score for picture in rows.uncertain} == {0.0}
    assert len(rows.failures["empty"]) == FAILURES_OF_A_REASON


def test_a_sample_is_of_all_rows():
    """Each of ten thousand names is as likely as any other."""
    chosen = Least(1000)
    for n in range(10_000):
        chosen.offer(hash_of(f"/photos/{n}.jpg"), n)
    assert np.mean(chosen.items()) == pytest.approx(5000, abs=300)


def test_the_page_has_room_for_so_many_images():
    many = shares_of_labels({f"label {n}": 10 for n in range(100)})
    assert sum(many.values()) == BY_LABEL
    assert set(many.values()) == {IMAGES_OF_A_LABEL}
    assert shares_of_labels({"a": 2, "b": 0}) == {"a": 2}


@pytest.mark.parametrize("line", ["{", "[]", '{"image": "a"}', '{"image": 1, "label": "red"}'])
def test_a_row_that_is_none(tmp_path, line):
    folder = write_run(tmp_path, [label_row("/a.png")])
    (tmp_path / "labels-00000-of-00001.jsonl").write_text(line + "\n")
    with pytest.raises(OutputError, match="row"):
        aggregate_rows(folder, {"red": 1})


@pytest.mark.parametrize("content", ["", "[]", "{", '{"found": 1}'])
def test_a_summary_that_is_none(tmp_path, content):
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(OutputError, match="summary"):
        read_summary(str(tmp_path))


# Figures


def test_the_histogram():
    scores = Counter({0: 1, 49: 1, 50: 4, 500: 2, 999: 8})
    drawn = histogram.bars(scores)
    assert len(drawn) == 20
    counted = {bar.low: bar.images for bar in drawn if bar.images}
    assert counted == {0.0: 2, 0.05: 4, 0.5: 2, 0.95: 8}
    assert drawn[-1].height == histogram.HEIGHT
    assert drawn[1].height == histogram.HEIGHT / 2
    assert all(bar.y + bar.height == histogram.HEIGHT for bar in drawn)
    assert histogram.median(scores) == 0.5
    assert histogram.share_below(scores, 0.5) == 6 / 16


def test_the_histogram_of_nothing():
    assert {bar.height for bar in histogram.bars(Counter())} == {0.0}
    assert histogram.median(Counter()) is None
    assert histogram.share_below(Counter(), 0.5) is None


def test_one_image_among_many_is_seen():
    assert histogram.bars(Counter({0: 1, 999: 10**6}))[0].height == histogram.HEIGHT * 0.007


def test_the_mix_alone():
    mix = class_mix({f"label {n:02}": 100 - n for n in range(25)}, None)
    assert [share.label for share in mix.top] == [f"label {n:02}" for n in range(20)]
    assert mix.rest_labels == 5
    assert mix.rest.images == 80 + 79 + 78 + 77 + 76
    assert sum(share.share for share in mix.top) + mix.rest.share == pytest.approx(1)
    assert mix.moved is None
    assert mix.most_changed == []
    assert all(share.before is share.change is None for share in mix.top)


def test_the_mix_against_the_previous_run():
    mix = class_mix({"cat": 60, "dog": 40}, {"cat": 300, "dog": 600, "owl": 100})
    cat, dog = mix.top
    assert (cat.share, cat.before) == (0.6, 0.3)
    assert cat.change == pytest.approx(0.3)
    assert dog.change == pytest.approx(-0.2)
    assert mix.moved == pytest.approx(0.3)
    assert [share.label for share in mix.most_changed] == ["cat", "dog", "owl"]
    assert (mix.rest_labels, mix.rest.images, mix.rest.before) == (0, 0, 0.1)
    assert cat.stands_out and dog.stands_out


def test_a_change_by_chance_does_not_stand_out():
    mix = class_mix({"cat": 6, "dog": 4}, {"cat": 50, "dog": 50})
    assert mix.moved == pytest.approx(0.1)
    assert not any(share.stands_out for share in mix.top)


@pytest.mark.parametrize(("now", "before"), [({}, {"cat": 1}), ({"cat": 1}, {}), ({}, {})])
def test_a_mix_of_nothing(now, before):
    mix = class_mix(now, before)
    assert mix.moved is None
    assert mix.most_changed == []


def test_the_previous_run_is_the_last_whole_one_before(tmp_path):
    first, second, broken, third = (f"run=2026-11-{day}T02-00-00Z" for day in (21, 22, 23, 24))
    for name in (first, second, third):
        write_run(tmp_path / name, [label_row("/a.png")])
    (tmp_path / broken / ".unfinished").mkdir(parents=True)
    name, before = previous_run(str(tmp_path / third))
    assert (name, before["labeled"]) == (second, 1)
    assert previous_run(str(tmp_path / first)) is None
    assert previous_run(write_run(tmp_path / "alone", [label_row("/a.png")])) is None
    (tmp_path / second / "summary.json").write_text("{")
    assert previous_run(str(tmp_path / third)) is None


@pytest.mark.parametrize(
    ("change", "shown"),
    [(0.123, "+12.3"), (-0.02, "−2.0"), (0.0001, "0.0"), (-0.0001, "0.0"), (None, "–")],
)
def test_points(change, shown):
    assert texts.points(change) == shown


def test_long_names_and_odd_ones():
    name = texts.name("/" + "a" * 500 + "/end.jpg")
    assert len(name) == texts.NAME_CHARACTERS
    assert name.startswith("…") and name.endswith("/end.jpg")
    assert texts.base_name("/p/\udcff.jpg") == "\\udcff.jpg"
    assert texts.base_name("/p/a\u202egpj.exe") == "a\\u202egpj.exe"
    assert texts.text("x" * 500).endswith("x…")
    assert texts.label("") == "(no name)"
    assert texts.meaning("empty") == "The file has no bytes."
    assert texts.meaning("of_a_later_version") == ""
    assert texts.time("2026-11-04T08:03:05Z") == "4 November 2026, 08:03 UTC"
    assert texts.time(None) == "None"


# Thumbnails


def picture(path, width=40, height=30, **changes):
    version = storage.version(str(path))
    return Picture(str(path), "red", 0.9, (), width, height, version)._replace(**changes)


def save_image(path, size=(40, 30), noise=0):
    pixels = np.zeros((*size[::-1], 3), np.uint8)
    if noise:
        pixels[:] = np.random.default_rng(0).integers(0, noise, (*size[::-1], 1), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize(
    ("size", "expected"),
    [((40, 30), (40, 30)), ((800, 400), (160, 80)), ((400, 800), (80, 160)), ((1, 900), (1, 160))],
)
def test_a_thumbnail_keeps_the_aspect(tmp_path, size, expected):
    path = save_image(tmp_path / "a.png", size)
    thumbnail = thumbnails.make_thumbnail(picture(path, *size), 5)
    assert (thumbnail.width, thumbnail.height) == expected
    data = base64.b64decode(thumbnail.uri.removeprefix("data:image/jpeg;base64,"))
    assert Image.open(io.BytesIO(data)).size == expected


def test_a_thumbnail_of_noise_is_not_larger_than_others(tmp_path):
    path = save_image(tmp_path / "a.png", (160, 160), noise=256)
    thumbnail = thumbnails.make_thumbnail(picture(path, 160, 160), 5)
    assert len(thumbnail.uri) < thumbnails.MAX_BYTES * 4 / 3 + 50


def test_no_thumbnail_of_what_was_not_labeled(tmp_path):
    path = save_image(tmp_path / "a.png")
    text = tmp_path / "text.jpg"
    text.write_text("text")
    for other in (
        picture(path, version="1 1.0"),  # it has changed
        picture(path, version=""),  # a name that is no file's
        picture(path, 41, 30),
        picture(path, 0, 0),
        picture(tmp_path / "absent.png"),
        picture(text),
    ):
        assert thumbnails.make_thumbnail(other, 5) is None
    assert thumbnails.make_thumbnail(picture(path), 5)


def test_thumbnails_that_take_too_long_are_left_out(tmp_path, monkeypatch):
    fast, slow = (save_image(tmp_path / name) for name in ("fast.png", "slow.png"))
    read_bytes = storage.read_bytes

    def reading(uri, *limits):
        time.sleep(3 if uri.endswith("slow.png") else 0)
        return read_bytes(uri, *limits)

    monkeypatch.setattr(storage, "read_bytes", reading)
    began = time.monotonic()
    assert list(thumbnails.load_thumbnails([picture(slow), picture(fast)], 1)) == [str(fast)]
    assert time.monotonic() - began < 2


# The page


def test_html_shows_as_text(tmp_path):
    labeled = [label_row(f"/p/{HTML}-{n}.png", HTML, 0.5) for n in range(3)]
    failed = [failure_row(f"/p/{HTML}.png", "corrupt", HTML), failure_row("/p/b.png", HTML, HTML)]
    model = {"handle": HTML, "fingerprint": HTML, "height": 32, "width": 32, "classes": 3}
    settings = {"input": [HTML], "precision": HTML}
    folder = write_run(tmp_path, labeled, failed, model=model, settings=settings, run_id=HTML)
    page = Path(job.make(folder)[-1]).read_text()
    assert page.count("<script") == 1
    shown = Page(page).texts
    assert shown.count(HTML) >= 6
    assert Page(page).all("script") == [{}]
    assert not {tag for tag, _ in Page(page).elements} & {"iframe", "object", "form"}


def test_nothing_is_fetched(tmp_path):
    page = Path(job.make(write_run(tmp_path, [label_row("/a.png")]))[-1]).read_text()
    assert "url(" not in page and "@import" not in page
    for tag, attributes in Page(page).elements:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
    assert "default-src 'none'" in page


def test_the_parts_and_what_helps_to_find_them(tmp_path):
    page = Page(Path(job.make(write_run(tmp_path, [label_row("/a.png")]))[-1]).read_text())
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("main")) == len(page.all("nav")) == len(page.all("h1")) == 1
    ids = [heading["id"] for heading in page.all("h2")]
    assert ids == ["labels", "scores", "uncertain", "mix", "failures", "run"]
    assert [link["href"] for link in page.all("a")] == [f"#{id_}" for id_ in ids]
    assert [section["aria-labelledby"] for section in page.all("section")] == ids
    assert [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert all(svg.get("role") == "img" or svg["aria-hidden"] == "true" for svg in page.all("svg"))
    assert all(cell["scope"] in ("row", "col") for cell in page.all("th"))
    assert all(image["alt"] for image in page.all("img"))


def test_a_run_without_labels(tmp_path):
    job.make(write_run(tmp_path, [], [failure_row("/a.png")]))
    text = text_of(tmp_path)
    assert "1 found = 0 labeled + 1 failed + 0 skipped" in text
    assert "/a.png the file has no bytes" in text


def test_a_night_without_new_images(tmp_path):
    job.make(write_run(tmp_path, found=7, skipped=7))
    assert "7 found = 0 labeled + 0 failed + 7 skipped" in text_of(tmp_path)
    assert "Failures None." in text_of(tmp_path)


def test_four_figures_sum_it_up(tmp_path):
    below = label_row("/b.png", score=0.2) | {"label": None, "class_id": None}
    rows = [label_row("/a.png"), below, label_row("/c.png")]
    options = {"threshold": 0.3}
    changes = {"labels": {"red": 2}, "below_threshold": 1, "options": options, "skipped": 5}
    job.make(write_run(tmp_path, rows, [failure_row("/d.png")], **changes))
    text = text_of(tmp_path)
    assert "Median score 90.0 % half of the images have a higher one" in text
    assert "Labeled 3 of 4 found, 5 skipped Failed 1 25.0 %; most: empty" in text
    assert "Below the threshold 1 33.3 % of the rows; a score below 0.3" in text
    assert page_of(tmp_path).count('<div class="bad">') == 1
    job.make(write_run(tmp_path, rows[:1], options={"threshold": 0.0}))
    assert "Failed 0 none Below the threshold 0 there is no threshold" in text_of(tmp_path)
    assert '<div class="bad">' not in page_of(tmp_path)


def test_a_night_with_nothing_new_shows_the_last_one_that_labeled(tmp_path):
    rows = [label_row("/a.png"), label_row("/b.png")]
    failed = [failure_row("/c.png")]
    write_run(tmp_path / "run=1", rows)
    write_run(tmp_path / "run=2", [], failed)  # which labeled nothing
    job.make(write_run(tmp_path / "run=3", found=2, skipped=2))
    text = text_of(tmp_path / "run=3")
    assert "Nothing new Earlier runs have labeled all 2 images" in text
    assert "The last run that labeled images was run=1 , on 24 November 2026, 18:28 UTC" in text
    assert "Labeled 2 of 2 found" in text
    links = [link["href"] for link in Page(page_of(tmp_path / "run=3")).all("a")]
    assert "../run%3D1/report.html" in links


def test_labels_of_one_image_are_one_contact_sheet(tmp_path):
    rows = [label_row(f"/{n}.png", f"label {n:02}") for n in range(30)]
    rows += [label_row(f"/many-{n}.png", "many") for n in range(7)]
    job.make(write_run(tmp_path, rows))
    page = page_of(tmp_path)
    assert text_of(tmp_path).count("Labels of one image") == 1
    assert Page(page).all("ul").count({"class": "groups"}) == 1
    groups = page.partition('<ul class="groups">')[2].partition("<h3>Labels of one")[0]
    assert groups.count("<h3>") == 1 and "many" in groups
    # Rows of fewer than five images are in the part that is closed, and set no bar's length.
    mix = page.partition('<h2 id="mix">')[2]
    assert mix.index("many") < mix.index("<details>") < mix.index("label 00")
    assert '<rect width="100.0"' in mix


def test_rows_that_are_not_those_of_the_summary(tmp_path):
    folder = write_run(tmp_path, [label_row("/a.png"), label_row("/b.png")])
    (tmp_path / "labels-00000-of-00001.jsonl").write_text(json.dumps(label_row("/a.png")))
    job.make(folder)
    assert "The files hold 1 labeled and 0 failed images" in text_of(tmp_path)


@pytest.mark.parametrize("count", [200, 20_000])
def test_the_page_is_not_large(tmp_path, count):
    """Not even if the names are as long as they can be, and the images noise."""
    long, noise = HTML * 40, save_image(tmp_path / "noise.png", (160, 160), noise=54)
    labels = [f"{n:03}{HTML * 10}" for n in range(20)]
    version = storage.version(str(noise))
    changes = {"width": 160, "height": 160, "version": version}
    for n in range(200):
        (tmp_path / f"{n}.png").hardlink_to(noise)
    labeled = [
        label_row(f"{tmp_path}/{n % 200}.png", labels[n % 20], n % 1000 / 1000, **changes)
        for n in range(count)
    ]
    failed = [failure_row(f"/{n}{long}", str(n % 13) + long, long) for n in range(count // 10)]
    folder = write_run(tmp_path / "out", labeled, failed)
    job.make(folder)
    assert len(page_of(folder).encode()) < MOST_BYTES
    sizes = [len(image) for image in re.findall('data:image/jpeg[^"]+', page_of(folder))]
    assert max(sizes) > 0.8 * thumbnails.MAX_BYTES * 4 / 3
    assert len(sizes) == BY_LABEL + UNCERTAIN


# After a run


@pytest.fixture
def photos(tmp_path):
    folder = write_colors(tmp_path / "photos", 9)
    (tmp_path / "photos" / "empty.jpg").touch()
    return folder


def test_label_leaves_a_page(tmp_path, photos, color_model, capsys):
    out = tmp_path / "out"
    assert run(input=photos, model=color_model, output=out) == 0
    assert capsys.readouterr().out.endswith(f"{out}/summary.json\n{out}/report.html\n")
    page = Page(page_of(out))
    text = " ".join(page.texts)
    assert "Labels of 9 images" in text
    assert "10 found = 9 labeled + 1 failed + 0 skipped" in text
    assert summary(out)["model"]["fingerprint"] in text
    assert f"{photos}/empty.jpg the file has no bytes" in text
    assert len(page.all("img")) == 18  # each by its label and as one of the least certain
    for color in COLORS:
        assert f"{color} 3 images" in text
    again = page_of(out)
    assert main(["report", str(out)]) == 0
    assert capsys.readouterr().out.endswith(f"\n{out}/report.html\n")
    assert page_of(out) == again


def test_a_run_with_too_many_failures_leaves_a_page(tmp_path, photos, color_model):
    out = tmp_path / "out"
    assert run(input=photos, model=color_model, output=out, max_failure_ratio=0) == 1
    assert "1 failed" in text_of(out)


def test_a_page_that_cannot_be_written_is_a_warning(
    tmp_path, photos, color_model, capsys, monkeypatch
):
    def failing(*args, **kwargs):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(job, "load_thumbnails", failing)
    out = tmp_path / "out"
    assert run(input=photos, model=color_model, output=out) == 0
    console = capsys.readouterr()
    assert f"warning: {out}/report.html cannot be written: can't start new thread" in console.err
    assert console.out.endswith(f"{out}/summary.json\n")
    assert not (out / "report.html").exists()
    assert len(all_rows(out, "labels")) == 9


def test_every_night_has_a_page_that_is_compared_with_the_last(tmp_path, photos, color_model):
    flags = {"input": photos, "model": color_model, "output": tmp_path / "out"}
    assert run("--incremental", **flags) == 0
    for n in range(3):
        (Path(photos) / f"new-{n}.png").write_bytes(image_file("blue"))
    assert run("--incremental", **flags) == 0
    first, second = sorted((tmp_path / "out").iterdir())
    assert "Before" not in Page(page_of(first)).texts
    text = text_of(second)
    assert "13 found = 3 labeled + 0 failed + 10 skipped" in text
    assert f"{first.name} with 9 images, the mix has changed for 66.7 % of the images" in text
    assert "blue 3 100.0 % 33.3 % +66.7" in text


def test_going_on_takes_the_old_page_away(tmp_path, photos, color_model, monkeypatch):
    flags = {"input": photos, "model": color_model, "output": tmp_path / "out"}
    assert run(**flags) == 0
    before = comparable(tmp_path / "out")
    monkeypatch.setattr(job, "make", lambda folder: (_ for _ in ()).throw(OSError("full")))
    assert run(**flags) == 0
    assert not (tmp_path / "out" / "report.html").exists()
    assert comparable(tmp_path / "out") == before
    (tmp_path / "out" / "report.html").touch()
    assert run(**flags, if_exists="overwrite") == 0
    assert not (tmp_path / "out" / "report.html").exists()


def test_images_without_files_have_placeholders(tmp_path, color_model):
    """A TFRecord file may name any file; that it has the record's image in it, it does not say."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(image_file("red"))
    write_tfrecord(tmp_path / "a.tfrecord", [(str(secret), image_file("red")), ("", b"")])
    out = tmp_path / "out"
    flags = {"model": color_model, "output": out, "max_failure_ratio": 1}
    assert run(input=tmp_path / "a.tfrecord", **flags) == 0
    assert not Page(page_of(out)).all("img")
    assert "no picture of secret.png" in text_of(out)


def test_a_run_in_a_bucket(tmp_path, capsys):
    names = ("run=2026-11-23T02-00-00Z", "run=2026-11-24T02-00-00Z")
    files = {}
    for name, color in zip(names, ("red", "blue"), strict=True):
        write_run(tmp_path / name, [label_row("mem://bucket/a.png", color)])
        for path in (tmp_path / name).iterdir():
            files[f"mem://bucket/out/{name}/{path.name}"] = path.read_bytes()
    files["mem://bucket/a.png"] = image_file("red")
    with memory_store(files) as objects:
        assert main(["report", f"mem://bucket/out/{names[1]}/"]) == 0
        page = Page(objects[f"mem://bucket/out/{names[1]}/report.html"].decode())
    assert capsys.readouterr().out.endswith(f"\nmem://bucket/out/{names[1]}/report.html\n")
    assert len(page.all("img")) == 2
    assert "100.0 % of the images" in " ".join(page.texts)


# The command


def test_a_folder_that_has_no_run(tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "absent"):
        assert main(["report", str(folder)]) == 2
        error = capsys.readouterr().err.splitlines(keepends=True)[-1]  # "loading …" may be first
        assert re.fullmatch(
            rf"error: {folder} is not the folder of a whole run: it has no summary.json; .*\n",
            error,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("argv", [["report"], ["report", "a", "--frob"], ["report", ""]])
def test_arguments_that_make_no_sense(argv, capsys):
    assert main(argv) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_the_page_is_called_as_runs_remove_it():
    assert layout.REPORT == "report.html"
