"""The figures of images that have several labels, and the page of such a run."""

import json
import pickle

import numpy as np
import pytest
from helpers.pages import HTML, MOST_BYTES, label_row, page_of, text_of, write_run

from pipeline.records import Prediction
from pipeline.report import job, multi_label
from pipeline.report.mix import class_mix
from pipeline.report.multi_label import (
    LabelScores,
    MultiLabelCounts,
    average_precision,
    in_words,
    worst_classes,
)
from pipeline.report.reading import MISTAKES, OTHER_LABELS, aggregate_rows

NAMES = ("cat", "dog", "owl", "fox")


def drawn():
    """Truth and scores in steps of a hundredth, ``[200, 4]``, so that many are equal."""
    draw = np.random.default_rng(7)
    truth = draw.random((200, 4)) < [0.5, 0.2, 0.05, 0.01]
    noise = draw.random((200, 4)) * 0.6
    return truth, np.round(np.clip(noise + truth * 0.3 * draw.random((200, 4)), 0, 1), 2)


# Of scikit-learn 1.9.1's average_precision_score on these. The last class has no images.
EXPECTED = [0.7429373099738823, 0.4800879547075413, 0.19520789107543718, None]


def counted(truth, scores, threshold=0.5, top_k=4, most=None):
    counts = MultiLabelCounts(NAMES, threshold, top_k)
    for true, some in zip(truth, scores, strict=True):
        order = np.argsort(-some, kind="stable")[:most]
        predictions = [Prediction(int(n), NAMES[n], float(some[n])) for n in order]
        names = [name for name, is_in in zip(NAMES, true, strict=True) if is_in]
        counts.add(json.dumps(names), predictions)
    return counts


def precisions(evaluation):
    found = {one.label: one.average_precision for one in evaluation.classes}
    return [found.get(name) for name in NAMES]


def test_average_precision_is_that_of_scikit_learn():
    truth, scores = drawn()
    evaluation = counted(truth, scores).evaluation()
    assert precisions(evaluation) == pytest.approx(EXPECTED)
    assert evaluation.mean_average_precision == pytest.approx(np.mean(EXPECTED[:3]))
    assert (evaluation.averaged, evaluation.images, evaluation.cut) == (3, 200, 0)


def test_average_precision_by_hand():
    """Of four images, best first, the first and the third are of the class: 1/2 + 1/2 * 2/3."""
    scores = np.array([0.9, 0.8, 0.7, 0.1])
    right = np.array([1, 0, 1, 0])
    assert average_precision(scores, right, 1 - right) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    # If all have the same score, all are chosen at once.
    assert average_precision(np.full(4, 0.5), right, 1 - right) == 0.5
    assert average_precision(scores, np.zeros(4), np.ones(4)) is None


def test_the_figures_of_a_few_images():
    counts = MultiLabelCounts(("cat", "dog"), 0.5, 2)
    cat, dog = Prediction(0, "cat", 0.9), Prediction(1, "dog", 0.6)
    counts.add("cat|dog", [cat, dog])
    counts.add("dog", [cat, dog])
    counts.add("[]", [cat._replace(score=0.2), dog._replace(score=0.1)])
    counts.add('["cat", "unicorn"]', [dog, cat._replace(score=0.3)])
    counts.add(None, [cat, dog])
    found = counts.evaluation()
    assert (found.images, found.unknown, found.strange) == (4, 1, 1)
    assert (found.precision, found.recall, found.f1) == (3 / 5, 3 / 5, 6 / 10)
    # Cats: 0.9 twice, of which one is right, then 0.3; dogs: 0.6 three times, two of them right.
    assert found.classes == (
        LabelScores("cat", 2, pytest.approx(1 / 4 + 1 / 3), 1 / 2, 1 / 2, 1 / 2),
        LabelScores("dog", 2, pytest.approx(2 / 3), 2 / 3, 1.0, 4 / 5),
    )
    assert in_words(found.to_json()) == (
        "mean average precision 0.625 over 2 classes on 4 images; at threshold 0.5: "
        "precision 0.600, recall 0.600, F1 0.600"
    )
    assert json.loads(json.dumps(found.to_json())) == found.to_json()


def test_no_truth_is_no_evaluation():
    counts = MultiLabelCounts(NAMES, 0.5, 4)
    counts.add(None, [])
    assert counts.evaluation() is None


def test_without_all_scores_there_is_no_average_precision():
    truth, scores = drawn()
    cut = counted(truth, scores, most=3).evaluation()
    assert (cut.cut, cut.mean_average_precision) == (200, None)
    assert precisions(cut) == [None] * 4
    whole = counted(truth, scores, top_k=3).evaluation()
    assert (cut.recall, cut.f1) == (whole.recall, whole.f1)
    assert "not known (not all scores were kept)" in in_words(cut.to_json())
    counts = counted(truth[:100], scores[:100])
    counts.merge(counted(truth[100:], scores[100:], most=3))
    assert (counts.evaluation().cut, counts.evaluation().mean_average_precision) == (100, None)


def test_parts_add_up(monkeypatch):
    truth, scores = drawn()
    whole = counted(truth, scores).evaluation()
    merged = MultiLabelCounts(NAMES, 0.5, 4)
    for at in range(0, 200, 30):
        merged.merge(pickle.loads(pickle.dumps(counted(truth[at : at + 30], scores[at : at + 30]))))
    assert merged.evaluation() == whole
    monkeypatch.setattr(multi_label, "_MOST_SCORES", 500)  # nearly all of them
    assert counted(truth, scores).evaluation() == whole


def test_memory_is_bounded(monkeypatch):
    """Scores are rounded to ever fewer digits, and the figures hardly change."""
    monkeypatch.setattr(multi_label, "_MOST_SCORES", 1000)
    draw = np.random.default_rng(0)
    truth = draw.random((3000, 4)) < 0.3
    scores = np.round(np.clip(draw.random((3000, 4)) * 0.7 + truth * 0.3, 0, 1), 6)
    rounded = counted(truth, scores)
    other = counted(truth[:10], scores[:10])  # which is not rounded
    assert len(rounded._keys) <= 1000 < len(rounded._keys) + rounded._waiting
    coarse = rounded.evaluation()
    assert rounded._steps == 100
    monkeypatch.undo()
    fine = counted(truth, scores)
    assert precisions(coarse) == pytest.approx(precisions(fine.evaluation()), abs=0.01)
    assert coarse.f1 == fine.evaluation().f1
    for one, another in ((rounded, other), (counted(truth[:10], scores[:10]), rounded)):
        one.merge(another)
        assert one._steps == 100


def test_the_worst_classes_come_first():
    truth, scores = drawn()
    evaluation = counted(truth, scores).evaluation().to_json()
    assert [one["label"] for one in worst_classes(evaluation, 2)] == ["owl", "dog"]


# The page


def several(image, *labels, truth=None, score=0.9):
    predictions = [
        {"class_id": n, "label": label, "score": round(score - n / 100, 2)}
        for n, label in enumerate(labels)
    ]
    first = labels[0] if labels else None
    return label_row(image, first, score, predictions=predictions, truth=truth)


def write_several(folder, rows, **changes):
    labels = {}
    for row in rows:
        for one in row["predictions"]:
            labels[one["label"]] = labels.get(one["label"], 0) + 1
    model = {"handle": "m", "fingerprint": "f", "height": 3, "width": 3, "multi_label": True}
    none = sum(not row["predictions"] for row in rows)
    settings = {"threshold": 0.5}
    return write_run(
        folder,
        rows,
        labels=labels,
        model=model,
        below_threshold=none,
        settings=settings,
        **changes,
    )


def test_an_image_is_in_the_group_of_each_of_its_labels(tmp_path):
    rows = [several("/p/a.png", "cat", "dog", "cat"), several("/p/b.png", "dog"), several("/p/c")]
    folder = write_several(tmp_path, rows)
    found = aggregate_rows(folder, {"dog": 2, "cat": 1}, multi_label=True)
    groups = {
        label: sorted((one.image, one.label, one.score) for one in some)
        for label, some in found.by_label.items()
    }
    assert groups == {
        "cat": [("/p/a.png", "cat", 0.9)],
        "dog": [("/p/a.png", "dog", 0.89), ("/p/b.png", "dog", 0.9)],
    }
    (of_dog,) = (one for one in found.by_label["dog"] if one.image == "/p/a.png")
    assert of_dog.others == (("cat", 0.9), ("cat", 0.88))
    assert [(one.image, one.label, one.others) for one in found.unlabeled] == [("/p/c", None, ())]
    job.make(folder)
    text = " ".join(text_of(folder).split())
    assert "An image counts for each of its labels" in text
    assert "No class reaches the threshold." in text
    assert "no label; the best score is 90 %" in text
    assert "several labels, with a score of 0.5 or more each" in text
    assert "do not add up to 100" in text
    for word in ("Calibration", "accuracy", "Against the truth", "most probable"):
        assert word not in text


def test_the_most_confident_mistakes(tmp_path):
    rows = [
        several("/p/a.png", "cat", "dog", truth='["cat"]', score=0.8),
        several("/p/b.png", "dog", truth="[]", score=0.7),
        several("/p/c.png", "dog", "cat", truth='["cat", "dog"]'),
        several("/p/d.png", "dog"),
        several("/p/e.png", truth='["dog"]'),
    ]
    evaluation = {
        **counted(*drawn()).evaluation().to_json(),
        "strange": 150,
    }
    folder = write_several(tmp_path, rows, evaluation=evaluation)
    found = aggregate_rows(folder, {"dog": 4, "cat": 2}, multi_label=True)
    assert [(one.image, one.label, one.truth) for one in found.mistakes] == [
        ("/p/a.png", "dog", "cat"),
        ("/p/b.png", "dog", "none of the classes"),
    ]
    line, _ = job.make(folder)
    assert line.startswith("mean average precision 0.473 over 3 classes on 200 images; at ")
    text = " ".join(text_of(folder).split())
    assert "truth cat" in text
    assert "150 images have a class that the model does not know." in text
    assert "cat 101 images" not in text
    assert "owl 7 19.5" in text


def test_a_large_page_is_bounded_and_shows_no_markup(tmp_path):
    names = [f"{HTML} {n}" for n in range(50)]
    rows = [
        several(f"/p/{n}.png", *names[n % 40 : n % 40 + 9], truth=json.dumps(names[:30]))
        for n in range(500)
    ]
    folder = write_several(tmp_path, rows)
    job.make(folder)
    assert len(page_of(folder)) < MOST_BYTES
    assert page_of(folder).count("<script") == 1
    found = aggregate_rows(folder, {names[3]: 9}, multi_label=True)
    assert len(found.mistakes) == MISTAKES
    assert {len(one.others) for one in found.by_label[names[3]]} == {OTHER_LABELS}


def test_shares_are_of_the_images():
    mix = class_mix({"cat": 60, "dog": 90}, {"cat": 100, "owl": 5}, (100, 200))
    shares = {one.label: (one.share, one.before) for one in mix.top}
    assert shares == {"dog": (0.9, 0.0), "cat": (0.6, 0.5)}
    assert (mix.rest, mix.moved) == (None, None)
    assert class_mix({"cat": 60}, None, (100, 0)).top[0].share == 0.6
    assert class_mix({}, None, (0, 0)).top == []
