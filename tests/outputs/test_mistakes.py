"""Which rows are mistakes, the columns that say so, and the file that has them."""

import pytest

from pipeline import storage
from pipeline.errors import StoreError
from pipeline.evaluation import Mistake
from pipeline.outputs.mistakes import join_mistakes, mistake_in
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


def test_one_table_is_made_of_several(tmp_path):
    header = "image,truth,label,score,truth_score\n"
    parts = [tmp_path / f"mistakes-{n}.csv" for n in range(2)]
    for n, part in enumerate(parts):
        part.write_text(f'{header}/{n}.jpg,"a\n{n}",b,0.7,\n')
    table = tmp_path / "mistakes.csv"
    assert join_mistakes(str(tmp_path), []) == str(table)
    assert table.read_text() == header
    whole = f'{header}/0.jpg,"a\n0",b,0.7,\n/1.jpg,"a\n1",b,0.7,\n'
    for _ in range(2):  # as if a runner tried again
        join_mistakes(str(tmp_path), map(str, parts))
        assert table.read_text() == whole
        parts[0].unlink(missing_ok=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mistakes-1.csv", "mistakes.csv"]


def test_a_run_that_is_broken_off_leaves_no_part_of_the_table(tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    part = folder / "mistakes-0.csv"
    part.write_text("image,truth,label,score,truth_score\n/0.jpg,a,b,0.7,\n")

    def fail(*_):
        raise StoreError("unavailable", "full")

    monkeypatch.setattr(storage, "rename", fail)
    with pytest.raises(StoreError):
        join_mistakes(str(tmp_path), [str(part)])
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]  # which goes as a whole
