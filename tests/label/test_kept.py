from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from pipeline.errors import RunError
from pipeline.label.kept import KeptRows, TakeOverKept
from pipeline.outputs.layout import FAILURES, LABELS, new_part
from pipeline.records import Failure, ImageRef, Labeled, Prediction

TOKEN = "0a1b2c3d"


def labeled(image, version="", label="cat", **carried):
    best = (Prediction(0, label, 0.5),)
    time = "2026-11-25T20:00:00Z"
    return Labeled(
        image, label, 0, 0.5, best, 10, 10, "m", "sha256:0", "r", time, version, None, carried
    )


def failure(image, reason, version=""):
    return Failure(image, "read", reason, "", "r", version)


def keep(folder, *rows, name=LABELS, token=TOKEN):
    path = Path(new_part(str(folder), f"{name}-{token}-{len(rows)}"))
    path.write_text("".join(f"{row.to_json()}\n" for row in rows))
    return path


def rows_of(folder):
    rows = KeptRows(str(folder), TOKEN)
    rows.look()
    return rows


def test_rows_of_this_job_are_found_whenever_they_were_kept(tmp_path):
    rows = rows_of(tmp_path)
    assert rows.row_of(ImageRef("/a.jpg")) is None
    keep(tmp_path, labeled("/a.jpg"), labeled("/b.jpg"))
    assert rows.row_of(ImageRef("/a.jpg")) is None, "a bundle sees what was there as it began"
    rows.look()
    assert rows.row_of(ImageRef("/a.jpg")) == labeled("/a.jpg")
    keep(tmp_path, labeled("/c.jpg"))
    keep(tmp_path, failure("/d.jpg", "empty"), name=FAILURES)
    rows.look()
    found = [rows.row_of(ImageRef(f"/{name}.jpg")) for name in "abcde"]
    assert [row and row.image for row in found] == ["/a.jpg", "/b.jpg", "/c.jpg", "/d.jpg", None]


def test_a_row_that_was_kept_twice_comes_out_once(tmp_path):
    for _ in range(2):
        keep(tmp_path, labeled("/a.jpg"), labeled("/a.jpg"))
    assert rows_of(tmp_path).row_of(ImageRef("/a.jpg")) == labeled("/a.jpg")


def test_rows_of_other_attempts_are_not_looked_at(tmp_path):
    """They have been joined with the images before."""
    keep(tmp_path, labeled("/a.jpg"), token="ffffffff")
    (tmp_path / "labels-0123.jsonl").write_text("no row")
    assert rows_of(tmp_path).row_of(ImageRef("/a.jpg")) is None


def test_more_parts_than_are_in_memory(tmp_path):
    for number in range(40):
        keep(tmp_path, labeled(f"/{number}.jpg"), labeled(f"/{number}b.jpg"))
    rows = rows_of(tmp_path)
    for _ in range(2):
        for number in range(40):
            assert rows.row_of(ImageRef(f"/{number}.jpg")).image == f"/{number}.jpg"
    assert len(rows._rows) == 8


@pytest.mark.parametrize(
    ("row", "ref", "is_taken"),
    [
        (labeled("/a.jpg", "v1"), ImageRef("/a.jpg", version="v1"), True),
        (labeled("/a.jpg", "v1"), ImageRef("/a.jpg", version="v2"), False),
        (labeled("/a.jpg", "v1"), ImageRef("/a.jpg"), True),
        (failure("/a.jpg", "truncated"), ImageRef("/a.jpg"), True),
        (failure("/a.jpg", "timeout"), ImageRef("/a.jpg"), False),
        (labeled("/a.jpg#number=1"), ImageRef("/a.jpg#number=1"), False),
        (labeled("/a.jpg#version=0123456789ab"), ImageRef("/a.jpg"), False),
        (labeled("https://h/a.jpg"), ImageRef("https://u:secret@h/a.jpg"), True),
    ],
)
def test_what_is_taken_over(tmp_path, row, ref, is_taken):
    keep(tmp_path, row)
    assert (rows_of(tmp_path).row_of(ref) is not None) == is_taken


def test_a_label_goes_before_a_failure(tmp_path):
    keep(tmp_path, failure("/a.jpg", "truncated"), name=FAILURES)
    keep(tmp_path, labeled("/a.jpg"))
    assert isinstance(rows_of(tmp_path).row_of(ImageRef("/a.jpg")), Labeled)


def test_a_damaged_part_is_told(tmp_path):
    path = keep(tmp_path, labeled("/a.jpg"))
    path.write_text(path.read_text() + "{")
    with pytest.raises(RunError, match=f"{path} is damaged"):
        rows_of(tmp_path)


def test_each_image_comes_out_once(tmp_path):
    keep(tmp_path, labeled("/a.jpg"))
    keep(tmp_path, failure("/b.jpg", "empty"), name=FAILURES)
    refs = [ImageRef(f"/{name}.jpg", carried={"id": name}) for name in "abc"]
    with beam.Pipeline() as pipeline:
        new, done, failed = pipeline | beam.Create(refs) | TakeOverKept(str(tmp_path), TOKEN)
        assert_that(new, equal_to([refs[2]]), "new")
        assert_that(done, equal_to([labeled("/a.jpg", id="a")]), "labeled")
        expected = failure("/b.jpg", "empty")._replace(carried={"id": "b"})
        assert_that(failed, equal_to([expected]), "failed")
