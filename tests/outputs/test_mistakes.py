"""Which rows are mistakes, and the columns that say so."""

import pytest

from pipeline.evaluation import Mistake
from pipeline.outputs.mistakes import mistake_in
from pipeline.records import Labeled, Prediction

TOP = (Prediction(0, "cat", 0.7), Prediction(1, "dog", 0.2))


def row(truth, predictions=TOP, label="cat"):
    rest = {"width": 1, "height": 1, "model": "m", "model_fingerprint": "f", "run_id": "r"}
    return Labeled("/a.jpg", label, 0, 0.7, predictions, labeled_at="", truth=truth, **rest)


@pytest.mark.parametrize(
    ("truth", "mistake"),
    [
        (None, None),
        ("cat", None),
        ("dog", ("dog", "cat", 0.7, 0.2)),
        ("owl", ("owl", "cat", 0.7, None)),
    ],
)
def test_of_one_label(truth, mistake):
    expected = mistake and Mistake("/a.jpg", *mistake)
    assert mistake_in(row(truth), multi_label=False) == expected
    assert mistake_in(row(truth, label=None), multi_label=False) == expected


@pytest.mark.parametrize(
    ("truth", "predictions", "label"),
    [
        (None, TOP, None),
        ('["cat", "dog"]', TOP, None),
        ('["dog", "cat"]', TOP, None),
        ("[]", (), None),
        ("[]", TOP, '["cat", "dog"]'),
        ('["cat"]', TOP, '["cat", "dog"]'),
        ('["cat", "owl"]', TOP[:1], '["cat"]'),
        ('["cat"]', (), "[]"),
    ],
)
def test_of_several_labels(truth, predictions, label):
    expected = label and Mistake("/a.jpg", truth, label, 0.7, None)
    assert mistake_in(row(truth, predictions), multi_label=True) == expected
