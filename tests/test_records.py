import json

import pytest

from pipeline.errors import ImageError
from pipeline.records import Failure, Labeled, Prediction, Reason, StageSeconds


def test_a_label_row():
    row = Labeled(
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
        seconds=StageSeconds(1.0, 2.0, 3.0),
    ).to_json()
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
    }
    assert list(json.loads(row))[:2] == ["image", "label"]


def test_a_failure_row():
    row = Failure("gs://b/q.jpg", "decode", "truncated", "line\nline", "r").to_json()
    assert "\n" not in row
    assert json.loads(row) == {
        "image": "gs://b/q.jpg",
        "stage": "decode",
        "reason": "truncated",
        "message": "line\nline",
        "run_id": "r",
    }


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_stage(reason):
    assert reason.stage == (
        "read" if reason.name in "NOT_FOUND FORBIDDEN TIMEOUT UNREADABLE TOO_LARGE" else "decode"
    )


def test_an_image_error_reads_as_reason_and_message():
    error = ImageError(Reason.CORRUPT, "bad checksum")
    assert str(error) == "corrupt: bad checksum"
