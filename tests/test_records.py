import json

import pytest

from pipeline.errors import ImageError
from pipeline.records import Failure, Labeled, Prediction, Reason, StageSeconds, from_json


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
    if reason.name in while_reading:
        assert reason.stage == "read"
    elif reason.name in while_decoding.split():
        assert reason.stage == "decode"
    else:
        assert (reason.name, reason.stage) == ("PREDICTION_FAILED", "predict")


def test_an_image_error_reads_as_reason_and_message():
    error = ImageError(Reason.CORRUPT, "bad checksum")
    assert str(error) == "corrupt: bad checksum"
