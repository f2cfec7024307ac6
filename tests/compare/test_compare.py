"""Two runs compared: their rows made up, their counts known."""

import csv
import json
import random

import pytest
from helpers.pages import HTML, MOST_BYTES, Page, label_row, write_run

from pipeline.__main__ import main
from pipeline.compare.statistics import mcnemar_mid_p, paired_interval
from pipeline.formats.files import row_writer
from pipeline.formats.schema import Schema
from pipeline.records import Failure, Labeled


def row(image, label="red", score=0.9, truth=None, **changes):
    return label_row(image, label, score, truth=truth, version="1", run_id="run", **changes)


def failure(image, reason="truncated"):
    return {
        "image": image,
        "stage": "decode",
        "reason": reason,
        "message": f"{HTML} ended early",
        "run_id": "run",
        "version": "1",
    }


def compare(*argv):
    return main(["compare", *map(str, argv)])


def result(folder):
    return json.loads((folder / "compare.json").read_text())


@pytest.fixture
def runs(tmp_path):
    """1,000 images: what becomes of an image depends on its number."""
    a, b = [], []
    failed_a, failed_b = [], []
    for n in range(1000):
        image, truth = f"/photos/{n}.jpg", "red" if n % 2 else "green"
        before, after = row(image, truth, 0.9, truth), row(image, truth, 0.8, truth)
        if n < 30:  # B is wrong
            after = row(image, "blue", 0.7, truth)
        elif n < 40:  # A is wrong
            before = row(image, "blue", 0.6, truth)
        elif n < 45:  # both are wrong, in other ways
            before, after = row(image, "blue", 0.5, truth), row(image, "black", 0.5, truth)
        elif n < 50:  # it has lost its label, but the best class stays
            after = row(image, truth, 0.8, truth) | {"label": None, "class_id": None}
        elif n < 54:
            after = None
            failed_b.append(failure(image))
        elif n < 56:
            before = None
            failed_a.append(failure(image, "timeout"))
        elif n < 57:
            before = after = None
            failed_a.append(failure(image))
            failed_b.append(failure(image))
        elif n < 60:
            after = None
        elif n < 61:
            before = None
        elif n < 70:
            after["version"] = "2"
        a += [before] * (before is not None)
        b += [after] * (after is not None)
    random.Random(0).shuffle(b)
    write_run(tmp_path / "a", a, failed_a, shards=3)
    write_run(tmp_path / "b", b, failed_b, shards=2)
    return tmp_path / "a", tmp_path / "b"


def test_the_counts(runs, capsys):
    a, b = runs
    assert compare(a, b) == 0
    found = result(b)
    assert found["images_in_both"] == 1000 - 3 - 1
    assert found["labeled_in_both"] == 1000 - 4 - 4 - 3
    assert found["changed"] == 30 + 10 + 5 + 5
    assert (found["label_lost"], found["label_gained"]) == (5, 0)
    assert found["agreement"] == pytest.approx(939 / 989)
    low, high = found["agreement_interval"]
    assert low < 939 / 989 < high
    assert found["other_versions"] == 9
    assert [found[side]["only_here"] for side in "ab"] == [3, 1]
    assert found["b"]["only_here_examples"] == ["/photos/60.jpg"]
    failures = found["failures"]
    assert (failures["came"], failures["went"], failures["both"]) == (4, 2, 1)
    assert failures["went_reasons"] == {"timeout": 2}
    assert found["changes"][0] == {"a": "green", "b": "blue", "images": 15}
    assert found["score"]["mean_difference_of_unchanged"] == pytest.approx(0.1)
    assert 0 < found["drift"]["labels"] < 1
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("50 of 989 images changed their label; agreement 0.949 (95 % interval ")
    assert "4 failures came, 2 went" in line
    assert "3 images only in RUN_A, 1 only in RUN_B" in line
    assert line.endswith(f"; {b}/compare.html")


def test_against_the_truth(runs):
    a, b = runs
    assert compare(a, b) == 0
    truth = result(b)["truth"]
    # A failure in one of the runs is not right there; what failed in both has no known truth.
    images = 1000 - 4 - 1
    assert truth["images"] == images
    assert truth["accuracy_a"] == pytest.approx((images - 10 - 5 - 2) / images)
    assert truth["accuracy_b"] == pytest.approx((images - 30 - 5 - 4) / images)
    assert (truth["only_a_right"], truth["only_b_right"]) == (34, 12)
    assert truth["p"] == pytest.approx(mcnemar_mid_p(34, 12))
    assert truth["better"] == "a"
    green, red = sorted(truth["classes"], key=lambda one: one["label"])
    assert (green["only_a"], red["only_a"]) == (17, 17)
    assert green["recall_a"] == pytest.approx(1 - (5 + 3 + 1) / green["images"])
    assert green["precision_a"] == 1
    assert green["better"] == red["better"] == "a"  # 17 to 6 each


def test_all_changes_are_in_a_table(runs):
    a, b = runs
    compare(a, b)
    with (b / "compare.csv").open(newline="") as file:
        rows = {one["image"]: one for one in csv.DictReader(file)}
    assert len(rows) == 50 + 4 + 2
    assert rows["/photos/0.jpg"] == {
        "image": "/photos/0.jpg",
        "change": "label",
        "label_a": "green",
        "score_a": "0.9",
        "label_b": "blue",
        "score_b": "0.7",
        "truth": "green",
    }
    assert rows["/photos/45.jpg"]["label_b"] == ""
    assert rows["/photos/50.jpg"]["change"] == "failed"
    assert rows["/photos/54.jpg"]["change"] == "labeled"
    assert rows["/photos/54.jpg"]["score_a"] == ""


def test_the_page(runs, tmp_path):
    a, b = runs
    assert compare(a, b, "--output", tmp_path / "page", "--max_changed", "0.01") == 1
    page = (tmp_path / "page" / "compare.html").read_text()
    assert len(page) < MOST_BYTES
    words = " ".join(Page(page).texts)
    assert "50 images of 989 have another label in B" in words
    assert "5 of them lost the label" in words
    assert "3 images are only in A, 1 image only in B." in words
    assert "max_changed 0.01 is exceeded" in words
    assert "<script>alert" not in page
    assert not (b / "compare.html").exists()


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ((), 0),
        (("--max_changed", "0.055"), 0),
        # 50 changed and 4 failed, of the 993 images that A labeled.
        (("--max_changed", "0.0543"), 1),
        (("--max_drop", "0.0222"), 0),
        (("--max_drop", "0.022"), 1),
        (("--max_changed", "1", "--max_drop", "0"), 1),
    ],
)
def test_limits(runs, limits, code, capsys):
    assert compare(*runs, *limits) == code
    error = capsys.readouterr().err
    assert ("error: --max_" in error) == bool(code)
    assert [gate["passed"] for gate in result(runs[1])["gates"]].count(False) == code


def test_a_better_run_has_not_dropped(runs):
    a, b = runs
    assert compare(b, a, "--max_drop", "0") == 0
    assert result(a)["truth"]["drop"] < 0


def test_a_drop_without_a_truth_is_refused(tmp_path, capsys):
    for name in "ab":
        write_run(tmp_path / name, [row("/x.jpg")])
    assert compare(tmp_path / "a", tmp_path / "b", "--max_drop", "0.1") == 2
    assert "error: --max_drop 0.1: the truth of no image is known" in capsys.readouterr().err
    assert not (tmp_path / "b" / "compare.json").exists()


def test_truths_that_contradict_each_other_do_not_count(tmp_path):
    write_run(tmp_path / "a", [row("/x.jpg", truth="red"), row("/y.jpg", truth="red")])
    write_run(tmp_path / "b", [row("/x.jpg", truth="green"), row("/y.jpg")])
    assert compare(tmp_path / "a", tmp_path / "b") == 0
    truth = result(tmp_path / "b")["truth"]
    assert (truth["images"], truth["contradicted"]) == (1, 1)


def test_images_that_a_model_was_trained_on_do_not_count(tmp_path):
    write_run(tmp_path / "a", [row("/x.jpg", truth="red"), row("/y.jpg", truth="red")])
    write_run(tmp_path / "b", [row("/x.jpg", truth="red", trained_on=True), row("/y.jpg")])
    assert compare(tmp_path / "a", tmp_path / "b") == 0
    truth = result(tmp_path / "b")["truth"]
    assert (truth["images"], truth["trained_on"]) == (1, 1)


# Where the rows are


def write_rows(folder, format_, rows):
    folder.mkdir(parents=True)
    complete = {"class_id": 0, "model": "m", "model_fingerprint": "f", "labeled_at": TIME}
    for name, record in (("labels", Labeled), ("failures", Failure)):
        path = folder / f"{name}-00000-of-00001.{format_}"
        with path.open("wb") as file, row_writer(file, format_, False, Schema(record)) as write:
            for one in rows if name == "labels" else ():
                write(complete | one)


TIME = "2026-11-24T18:28:05Z"


@pytest.mark.parametrize("format_", ["parquet", "csv", "tfrecord"])
def test_other_formats_and_merged_tables(tmp_path, format_):
    write_rows(tmp_path / "a", format_, [row(f"/{n}.jpg", truth="red") for n in range(10)])
    changed = [row(f"/{n}.jpg", "red" if n else "green") for n in range(10)]
    write_run(tmp_path / "b", changed)
    assert compare(tmp_path / "a", tmp_path / "b") == 0
    found = result(tmp_path / "b")
    assert (found["labeled_in_both"], found["changed"]) == (10, 1)
    assert found["truth"]["only_a_right"] == 1


def test_all_nights_have_the_latest_rows(tmp_path, capsys):
    nights = tmp_path / "nights"
    write_run(
        nights / "run=2026-11-24T00-00-00Z",
        [row("/x.jpg", "red"), row("/y.jpg", "red")],
        settings={},
    )
    write_run(
        nights / "run=2026-11-25T00-00-00Z",
        [row("/x.jpg", "green")],
        settings={},
        started_at="2026-11-25T00:00:00Z",
    )
    begun = nights / "run=2026-11-26T00-00-00Z" / ".unfinished" / "run.json"
    begun.parent.mkdir(parents=True)
    begun.write_text("{}")
    write_run(tmp_path / "b", [row("/x.jpg", "green"), row("/y.jpg", "red")])
    assert compare(nights, tmp_path / "b") == 0
    found = result(tmp_path / "b")
    assert (found["a"]["runs"], found["a"]["images"], found["changed"]) == (2, 2, 0)
    assert "left out, as it has not ended" in capsys.readouterr().err
    assert compare(nights / "run=2026-11-24T00-00-00Z", tmp_path / "b") == 0
    assert result(tmp_path / "b")["changed"] == 1


def several(image, labels, truth=None):
    predictions = [{"class_id": 0, "label": label, "score": 0.9} for label in labels]
    first = labels[0] if labels else None
    return row(image, first, truth=truth, predictions=predictions)


@pytest.mark.parametrize("is_merged", [False, True])
def test_several_labels_are_the_same_if_all_are(tmp_path, is_merged):
    truth = '["cat", "dog"]'
    before = [several("/x.jpg", ["dog", "cat"], truth), several("/y.jpg", ["dog"], truth)]
    after = [several("/x.jpg", ["cat", "dog"], truth), several("/y.jpg", ["dog", "cat"], truth)]
    before += [several("/z.jpg", ["dog"])]
    after += [several("/z.jpg", [])]
    for name, rows in (("a", before), ("b", after)):
        write_run(tmp_path / name, rows, model={"handle": "m", "multi_label": True})
        if is_merged:
            (tmp_path / name / "summary.json").unlink()
    assert compare(tmp_path / "a", tmp_path / "b") == 0
    found = result(tmp_path / "b")
    assert found["multi_label"]
    assert (found["changed"], found["label_lost"]) == (2, 1)
    assert found["added"] == {"cat": 1}
    assert found["removed"] == {"dog": 1}
    assert (found["truth"]["only_b_right"], found["truth"]["images"]) == (1, 2)
    with (tmp_path / "b" / "compare.csv").open(newline="") as file:
        rows = {one["image"]: one for one in csv.DictReader(file)}
    assert rows["/y.jpg"]["label_b"] == '["cat", "dog"]'
    assert rows["/z.jpg"]["label_b"] == "[]"


# What is refused


def refusal(capsys, *argv):
    code = compare(*argv)
    lines = [line for line in capsys.readouterr().err.splitlines() if "loading" not in line]
    assert len(lines) == 1, lines
    return code, lines[0]


def test_refusals(tmp_path, capsys):
    a, b = tmp_path / "a", tmp_path / "b"
    write_run(a, [row("/x.jpg")])
    write_run(b, [row("/y.jpg")])
    assert refusal(capsys, a, b) == (
        2,
        f"error: {a} and {b} have no image in common (1 and 1 images); give two runs with the same "
        "inputs",
    )
    assert refusal(capsys, a, f"{a}/")[1] == f"error: {a} and {a}/ are the same folder"
    code, line = refusal(capsys, a, tmp_path / "nothing")
    assert code == 2
    assert f"{tmp_path / 'nothing'} has no rows of label" in line
    (tmp_path / "empty").mkdir()
    assert "has no rows of label" in refusal(capsys, tmp_path / "empty", b)[1]
    write_run(tmp_path / "quiet", skipped=5)
    assert "found nothing new" in refusal(capsys, tmp_path / "quiet", b)[1]
    write_run(tmp_path / "several", [row("/y.jpg")], model={"multi_label": True})
    assert "one has several labels per image" in refusal(capsys, tmp_path / "several", b)[1]
    begun = tmp_path / "begun" / ".unfinished" / "run.json"
    begun.parent.mkdir(parents=True)
    begun.write_text("{}")
    assert "is not finished" in refusal(capsys, tmp_path / "begun", b)[1]
    assert not (b / "compare.json").exists()


def test_missing_and_damaged_rows_fail_the_comparison(tmp_path, capsys):
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        write_run(folder, [row(f"/{n}.jpg") for n in range(4)], shards=2)
    (a / "labels-00001-of-00002.jsonl").unlink()
    code, line = refusal(capsys, a, b)
    assert code == 1
    assert "has 2 rows in labels-*, but its run wrote 4" in line
    (a / "labels-00001-of-00002.jsonl").write_text('{"image": "/1.jpg"}\n{"image"')
    assert refusal(capsys, a, b)[0] == 1
    assert not list(b.glob(".comparing-*"))


# Statistics


def test_mcnemars_mid_p():
    # The example of Fagerland et al.: 1 and 7 discordant pairs.
    assert mcnemar_mid_p(1, 7) == pytest.approx(10 / 256)
    assert mcnemar_mid_p(7, 1) == mcnemar_mid_p(1, 7)
    assert mcnemar_mid_p(2, 2) == pytest.approx(1 - 0.375 / 2)
    assert mcnemar_mid_p(0, 0) == 1
    assert mcnemar_mid_p(0, 10**5) == 0
    assert mcnemar_mid_p(500_000, 500_500) == pytest.approx(0.617, abs=0.002)


def test_the_interval_of_a_drop():
    low, high = paired_interval(30, 10, 1000)
    assert low < 0.02 < high
    assert paired_interval(0, 0, 1)[0] >= -1
    assert (low, high) == pytest.approx(tuple(-x for x in paired_interval(10, 30, 1000)[::-1]))
