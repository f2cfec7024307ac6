import json
import pickle
import re
from pathlib import Path

import pytest

from pipeline.errors import ImageError
from pipeline.evaluation import classes_in
from pipeline.records import (
    Failure,
    Labeled,
    Prediction,
    Reason,
    StageSeconds,
    from_json,
)


def test_a_label_row():
    labeled = Labeled(
        image="gs://b/ü.jpg",
        label="dog",
        class_id=1,
        score=0.75,
        predictions=(Prediction(1, "dog", 0.75), Prediction(0, "cat", 0.25)),
        width=512,
        height=600,
        model="sample",
        model_fingerprint="sha256:0",
        run_id="r",
        labeled_at="2026-11-24T02:00:07Z",
        version="4 5.0",
        seconds=StageSeconds(1.0, 2.0, 3.0),
    )
    assert from_json(labeled.to_json()) == labeled._replace(seconds=StageSeconds())
    row = labeled.to_json()
    assert row.isascii()
    assert "\n" not in row
    assert json.loads(row) == {
        "image": "gs://b/ü.jpg",
        "label": "dog",
        "class_id": 1,
        "score": 0.75,
        "predictions": [
            {"class_id": 1, "label": "dog", "score": 0.75},
            {"class_id": 0, "label": "cat", "score": 0.25},
        ],
        "width": 512,
        "height": 600,
        "model": "sample",
        "model_fingerprint": "sha256:0",
        "run_id": "r",
        "labeled_at": "2026-11-24T02:00:07Z",
        "version": "4 5.0",
        "truth": None,
    }
    assert list(json.loads(row))[:2] == ["image", "label"]


def test_a_failure_row():
    failure = Failure("gs://b/q.jpg", "decode", "truncated", "line\nline", "r", "4 5.0")
    assert from_json(failure.to_json()) == failure
    row = failure.to_json()
    assert "\n" not in row
    assert json.loads(row) == {
        "image": "gs://b/q.jpg",
        "stage": "decode",
        "reason": "truncated",
        "message": "line\nline",
        "run_id": "r",
        "version": "4 5.0",
    }


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_stage(reason):
    while_reading = ["NOT_FOUND", "FORBIDDEN", "TIMEOUT", "UNAVAILABLE", "UNREADABLE", "TOO_LARGE"]
    while_decoding = "EMPTY NOT_AN_IMAGE UNSUPPORTED_FORMAT TRUNCATED CORRUPT TOO_MANY_PIXELS"
    if reason.name == "NO_URI":
        assert reason.stage == "find"
    elif reason.name in while_reading:
        assert reason.stage == "read"
    elif reason.name in while_decoding.split():
        assert reason.stage == "decode"
    else:
        assert (reason.name, reason.stage) == ("PREDICTION_FAILED", "predict")


def test_reasons_that_may_pass_and_reasons_that_stay():
    transient = {reason.value for reason in Reason if reason.is_transient}
    assert transient == {"timeout", "unavailable"}
    for_good = {reason for reason in Reason if reason.is_for_good}
    assert for_good == {reason for reason in Reason if reason.stage == "decode"} | {
        Reason.NO_URI,
        Reason.TOO_LARGE,
    }
    for reason in Reason:
        assert Failure("a.jpg", reason.stage, reason.value, "", "r").is_for_good is (
            reason in for_good
        )


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_its_text_in_rows_and_on_workers(reason):
    assert Reason(reason.value) is reason
    assert pickle.loads(pickle.dumps(reason)) is reason
    assert json.dumps(reason) == f'"{reason.name.lower()}"'


def tried_again(reason):
    if reason.is_transient:
        return "by the same run, and by the next"
    if not reason.is_for_good:
        return "by the next run"
    or_else = ", or the version of this package or its libraries" if reason.is_of_version else ""
    return f"once the {'row' if reason.stage == 'find' else 'file'} has changed{or_else}"


def test_the_documentation_has_every_reason_as_it_is():
    root = Path(__file__).parents[1]
    pages = [root / "README.md", *sorted((root / "docs").glob("**/*.md"))]
    text = "\n".join(page.read_text() for page in pages)
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.+?) \| (.+?) \|$", text, re.MULTILINE)
    assert [row for row in rows if row[0] in {reason.value for reason in Reason}] == [
        (reason.value, reason.stage, reason.sentence, tried_again(reason)) for reason in Reason
    ]


def test_an_image_error_reads_as_reason_and_message():
    error = ImageError(Reason.CORRUPT, "bad checksum")
    assert str(error) == "corrupt: bad checksum"


@pytest.mark.parametrize(
    ("truth", "classes"),
    [
        ("cat", ["cat"]),
        ("dog|cat", ["cat", "dog"]),
        (" dog | cat |", ["cat", "dog"]),
        ('["dog", "cat", "dog"]', ["cat", "dog"]),
        ('["a|b"]', ["a|b"]),
        ("[7, 12]", ["12", "7"]),
        ("[]", []),
        ("[cat]", ["[cat]"]),  # no JSON
        ('[["cat"]]', ['[["cat"]]']),  # no list of names
        ("[" * 100_000, ["[" * 100_000]),
    ],
)
def test_the_classes_that_a_truth_names(truth, classes):
    assert classes_in(truth) == classes


def test_labels_are_what_is_not_below_the_threshold():
    predictions = (Prediction(2, "a", 0.9), Prediction(0, "b", 0.5), Prediction(1, "c", 0.1))
    row = Labeled("i", "a", 2, 0.9, predictions, 1, 1, "m", "f", "r", "t")
    assert row.with_labels(0.5, 5) == row._replace(predictions=predictions[:2])
    assert row.with_labels(0.5, 1) == row._replace(predictions=predictions[:1])
    assert row.with_labels(0.0, 5) == row
    none = row.with_labels(0.91, 5)
    assert none == row._replace(label=None, class_id=None, predictions=())
    assert none.score == 0.9
    assert from_json(none.to_json()) == none
    assert none.with_labels(0.91, 5) == none  # as a row that is taken over
