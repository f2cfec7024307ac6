import json
import math

import numpy as np
import pytest

from pipeline.evaluation import ClassScores, class_drift, evaluate, wilson_interval


def certain(*answers, classes):
    """Probabilities of 1 for each of the answers."""
    return np.eye(classes, dtype=np.float32)[list(answers)]


def test_small_case_by_hand():
    evaluation = evaluate(
        np.array([0, 0, 0, 1, 1, 2]),
        np.array(
            [
                [0.8, 0.1, 0.1],
                [0.7, 0.2, 0.1],
                [0.2, 0.7, 0.1],  # wrong
                [0.1, 0.9, 0.0],
                [0.6, 0.3, 0.1],  # wrong
                [0.2, 0.2, 0.6],
            ]
        ),
        ["cat", "dog", "owl"],
    )
    assert evaluation.images == 6
    assert evaluation.accuracy == pytest.approx(4 / 6)
    assert evaluation.interval == wilson_interval(4, 6)
    assert evaluation.confusion == ((2, 1, 0), (1, 1, 0), (0, 0, 1))
    assert evaluation.classes == (
        ClassScores("cat", 3, 2 / 3, 2 / 3),
        ClassScores("dog", 2, 1 / 2, 1 / 2),
        ClassScores("owl", 1, 1.0, 1.0),
    )


def test_absent_and_never_predicted_classes():
    evaluation = evaluate(
        np.array([0, 1, 1]), certain(0, 0, 2, classes=4), ["present", "missed", "absent", "neither"]
    )
    assert evaluation.classes == (
        ClassScores("present", 1, 1 / 2, 1.0),
        ClassScores("missed", 2, None, 0.0),
        ClassScores("absent", 0, 0.0, None),
        ClassScores("neither", 0, None, None),
    )
    assert evaluation.confusion == ((1, 0, 0, 0), (1, 0, 1, 0), (0, 0, 0, 0), (0, 0, 0, 0))


def test_of_equal_probabilities_the_first_counts():
    probabilities = np.array([[0.5, 0.5], [0.5, 0.5]])
    evaluation = evaluate(np.array([0, 1]), probabilities, ["a", "b"])
    assert evaluation.confusion == ((1, 0), (1, 0))
    assert evaluation.accuracy == 0.5
    assert evaluation.calibration_error == 0


def test_perfect_calibration():
    """Three of four that are certain to 75 % are right, and all that are certain."""
    probabilities = np.array([[0.75, 0.25]] * 4 + [[0.0, 1.0]] * 3)
    evaluation = evaluate(np.array([0, 0, 0, 1, 1, 1, 1]), probabilities, ["a", "b"])
    assert evaluation.calibration_error == pytest.approx(0, abs=1e-12)


def test_certain_and_always_wrong_is_the_worst_calibration():
    evaluation = evaluate(np.array([0, 1]), certain(1, 0, classes=2), ["a", "b"])
    assert evaluation.calibration_error == 1
    assert evaluation.accuracy == 0


def test_calibration_error_by_hand():
    # Bins are 1/15 wide: 0.61 and 0.65 are in (0.600, 0.667], 0.9 and 0.93 in (0.867, 0.933].
    top = np.array([0.61, 0.65, 0.9, 0.93, 0.99])
    right = np.array([True, False, True, True, False])
    evaluation = evaluate(
        np.where(right, 0, 1), np.stack([top, 1 - top], axis=1).astype(np.float64), ["a", "b"]
    )
    by_hand = (abs(1 - 1.26) + abs(2 - 1.83) + abs(0 - 0.99)) / 5
    assert evaluation.calibration_error == pytest.approx(by_hand)


def test_an_edge_belongs_to_the_bin_below():
    # 0.6 = 9/15 is in (8/15, 9/15] with 0.55. In the bin above, the errors would add up to more.
    top = np.array([0.6, 0.55])
    evaluation = evaluate(np.array([0, 1]), np.stack([top, 1 - top], axis=1), ["a", "b"])
    assert evaluation.calibration_error == pytest.approx(abs(1 - 1.15) / 2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_of_many_images_in_few_bits(dtype):
    """Sums are not taken in the precision that the model has."""
    images = 20_000
    probabilities = np.tile(np.array([[0.75, 0.25]], dtype), (images, 1))
    truth = (np.arange(images) % 4 == 0).astype(np.int32)
    evaluation = evaluate(truth, probabilities, ["a", "b"])
    assert evaluation.accuracy == 0.75
    assert evaluation.calibration_error == pytest.approx(0, abs=1e-12)


def test_one_image_of_one_class():
    evaluation = evaluate(np.array([0]), np.array([[1.0]]), ["all"])
    assert evaluation.accuracy == 1
    assert evaluation.interval == pytest.approx((0.2065, 1), abs=1e-4)


def test_json_is_plain_and_complete():
    evaluation = evaluate(
        np.array([0, 1], np.int64), certain(0, 0, classes=2).astype(np.float32), ["a", "b"]
    )
    content = evaluation.to_json()
    assert json.loads(json.dumps(content)) == content
    assert content == {
        "images": 2,
        "accuracy": 0.5,
        "interval": list(wilson_interval(1, 2)),
        "calibration_error": 0.5,
        "classes": [
            {"label": "a", "images": 1, "precision": 0.5, "recall": 1.0},
            {"label": "b", "images": 1, "precision": None, "recall": 0.0},
        ],
        "confusion": [[1, 0], [1, 0]],
    }


@pytest.mark.parametrize(
    ("truth", "images", "message"),
    [
        ([], 0, "no images to evaluate on"),
        ([0], 2, r"truth of shape \(1,\) and 3 labels .* \(2, 3\)"),
        ([0, 3], 2, "truth goes from 0 to 3, classes: 3"),
        ([-1, 0], 2, "truth goes from -1 to 0"),
    ],
)
def test_what_does_not_fit_is_an_error(truth, images, message):
    with pytest.raises(ValueError, match=message):
        evaluate(np.array(truth, np.int64), np.full((images, 3), 1 / 3), ["a", "b", "c"])


def test_labels_of_another_number_are_an_error():
    with pytest.raises(ValueError, match="2 labels"):
        evaluate(np.array([0]), np.full((1, 3), 1 / 3), ["a", "b"])


@pytest.mark.parametrize(
    ("successes", "total", "interval"),
    [
        (0, 10, (0, 0.2775)),
        (1, 10, (0.0179, 0.4042)),
        (5, 10, (0.2366, 0.7634)),
        (9, 10, (0.5958, 0.9821)),
        (10, 10, (0.7225, 1)),
        (95, 100, (0.8882, 0.9785)),
    ],
)
def test_wilson_interval(successes, total, interval):
    assert wilson_interval(successes, total) == pytest.approx(interval, abs=5e-5)


@pytest.mark.parametrize("total", [1, 2, 3, 7, 10, 49, 367, 50_000])
def test_wilson_interval_stays_in_the_unit_interval(total):
    assert wilson_interval(0, total)[0] == 0
    assert 1 - 1e-15 <= wilson_interval(total, total)[1] <= 1
    for successes in {0, 1, total // 2, total}:
        low, high = wilson_interval(successes, total)
        assert 0 <= low <= successes / total <= high + 1e-15
        mirrored = wilson_interval(total - successes, total)
        assert (1 - high, 1 - low) == pytest.approx(mirrored)


def test_the_distance_of_class_mixes():
    def distance(*mixes):
        return class_drift(*mixes).distance

    assert distance({"a": 3, "b": 1}, {"a": 300, "b": 100}) == 0
    assert distance({"a": 5}, {"b": 7}) == 1
    # By hand: half the sum of both divergences from the mean mix (3/4, 1/4).
    half = 0.5 * (math.log2(4 / 3)) + 0.5 * (0.5 * math.log2(2 / 3) + 0.5 * math.log2(2))
    assert distance({"a": 9}, {"a": 2, "b": 2}) == pytest.approx(math.sqrt(half))
    assert distance({"a": 1, "b": 3}, {"a": 3, "b": 1}) == distance(
        {"a": 3, "b": 1}, {"a": 1, "b": 3}
    )
    assert class_drift({}, {"a": 1}) is None


def test_chance_alone_moves_small_mixes_of_many_classes():
    rng = np.random.default_rng(1)
    draws = rng.multinomial(60, [1 / 50] * 50, 200)
    mixes = [{str(n): int(count) for n, count in enumerate(draw)} for draw in draws]
    drifts = [class_drift(*pair) for pair in zip(mixes[::2], mixes[1::2], strict=True)]
    assert min(drift.distance for drift in drifts) > 0.3
    assert sum(drift.stands_out for drift in drifts) <= 5
    assert class_drift({"a": 500, "b": 500}, {"a": 600, "b": 400}).stands_out
    assert not class_drift({"a": 5, "b": 5}, {"a": 6, "b": 4}).stands_out
