"""Thresholds that keep a precision, and the temperature of the scores, on made-up answers."""

import json
import math

import numpy as np
import pytest
from helpers.runs import run, summary

from pipeline.__main__ import main
from pipeline.evaluation import calibrated, chance_of_so_few
from pipeline.label.target import (
    ENOUGH,
    GRID,
    Calibration,
    Scores,
    choose,
    least_images,
)
from pipeline.records import Labeled, Prediction


def row(score, is_right, label="a", truth=True, others=(), **carried):
    predictions = [Prediction(0, label, score), *(Prediction(1, *one) for one in others)]
    return Labeled(
        "x.jpg",
        label,
        0,
        score,
        tuple(predictions),
        1,
        1,
        "m",
        "f",
        "run",
        "2026-11-24T18:28:05Z",
        truth=(label if is_right else "other") if truth else None,
        carried=carried,
    )


def scores_of(rows):
    scores = Scores()
    for one in rows:
        scores.add(one)
    return scores


def test_the_binomial_tail():
    # By hand: P(X <= 1) for X of B(4, 0.1).
    assert chance_of_so_few(1, 4, 0.1) == pytest.approx(0.9**4 + 4 * 0.1 * 0.9**3)
    assert chance_of_so_few(0, 59, 0.05) == pytest.approx(0.95**59)
    assert chance_of_so_few(10, 10, 0.3) == pytest.approx(1)
    assert chance_of_so_few(10**5, 10**6, 0.1) == pytest.approx(0.5, abs=0.002)


def test_the_grid_has_the_scores_of_rows():
    assert {0.0, 0.5, 0.999, 0.9995, 0.99995, 0.999999, 1.0} <= set(GRID.tolist())
    assert all(score == round(score, 6) for score in GRID.tolist())


@pytest.mark.parametrize(("wrong", "is_reached"), [(0, True), (1, False)])
def test_59_right_answers_prove_a_precision_of_95_percent(wrong, is_reached):
    assert least_images(0.95) == 59
    rows = [row(0.9, n >= wrong) for n in range(59)] + [row(0.5, False)] * 41
    choice = choose(scores_of(rows), 0.95)
    assert choice.is_reached == is_reached
    if is_reached:
        assert choice.thresholds.others == 0.9
        assert (choice.images, choice.accepted, choice.right) == (100, 59, 59)
        assert choose(scores_of(rows[1:]), 0.95).is_reached is False
    else:
        assert choice.thresholds.others == math.inf
        assert choice.to_json()["threshold"] is None


def test_the_lowest_threshold_that_was_seen_is_taken():
    rows = [row(0.6, True)] * 100 + [row(0.9, True)] * 100
    choice = choose(scores_of(rows), 0.9)
    assert choice.thresholds.others == 0.6
    assert choice.accepted == 200


def test_images_without_a_truth_count_for_the_share_of_all_rows_alone():
    rows = [row(0.9, True)] * 100 + [row(0.8, True, truth=False)] * 300
    rows += [row(0.1, False, trained_on=True)] * 50
    found = choose(scores_of(rows), 0.9).to_json()
    assert (found["images"], found["accepted"], found["share"]) == (100, 100, 1)
    assert found["share_of_all_rows"] == 100 / 450


def test_labels_with_enough_images_have_their_own():
    good = [row(0.5, True, "good")] * ENOUGH
    bad = [row(0.9, n % 2 == 0, "bad") for n in range(ENOUGH)]
    rare = [row(0.7, True, f"rare {n}") for n in range(100)]
    thresholds = choose(scores_of([*good, *bad, *rare]), 0.9).thresholds
    assert thresholds.classes == {"good": 0.5, "bad": math.inf}
    assert thresholds.others == thresholds.of("rare 3") == 0.7


def test_merged_counts_are_those_of_all():
    rows = [row(n / 100, n % 3 > 0, "ab"[n % 2]) for n in range(100)]
    merged = scores_of(rows[:30])
    merged.merge(scores_of(rows[30:]))
    whole = scores_of(rows)
    for name in ("all", "total", "right"):
        for label, counts in getattr(whole, name).items():
            assert (counts == getattr(merged, name)[label]).all()


def test_the_promise_holds_for_new_images():
    # The precision above a threshold t is (1 + t) / 2, as a score is how often an answer is right.
    rng = np.random.default_rng(0)
    missed = reached = 0
    for _ in range(200):
        scores = rng.uniform(0.3, 1, 200)
        rights = rng.random(200) < scores
        counts = scores_of([row(float(s), bool(r)) for s, r in zip(scores, rights, strict=True)])
        choice = choose(counts, 0.8)
        if choice.is_reached:
            reached += 1
            missed += (1 + max(choice.thresholds.others, 0.3)) / 2 < 0.8
    assert reached > 60
    assert missed <= 10  # 5 %


# Calibration


def test_a_temperature_of_one_changes_nothing():
    found, rest = calibrated([0.5, 0.2], 5, np.array([1.0, 2.0]))
    assert found[0] == pytest.approx([0.5, 0.2])
    assert rest[0] == pytest.approx(0.1)
    assert found[1].sum() + 3 * rest[1] == pytest.approx(1)
    assert found[1][0] < 0.5


def test_the_temperature_of_scores_that_are_too_high():
    # Logits were multiplied by 2: the probabilities of two classes say more than they should.
    rng = np.random.default_rng(0)
    calibration = Calibration(2)
    parts = [Calibration(2), Calibration(2)]
    for n in range(4000):
        honest = rng.uniform(0.5, 0.99)
        score = float(honest**2 / (honest**2 + (1 - honest) ** 2))
        one = row(score, bool(rng.random() < honest), others=[("other", 1 - score)])
        calibration.add(one)
        parts[n % 2].add(one)
    found = calibration.to_json()
    assert found["temperature"] == pytest.approx(2, rel=0.1)
    assert found["calibration_error_after"] < 0.03 < found["calibration_error"]
    parts[0].merge(parts[1])
    assert parts[0].to_json() == pytest.approx(found)


def test_right_answers_alone_do_not_make_scores_certain():
    calibration = Calibration(2)
    for _ in range(18):
        calibration.add(row(0.7, True, others=[("other", 0.3)]))
    found = calibration.to_json()
    [after], _ = calibrated([0.7, 0.3], 2, np.array([found["temperature"]]))
    assert 0.9 < after[0] <= 19 / 20
    assert Calibration(2).to_json() is None


# Runs


def test_a_run_chooses_and_another_takes_it(tmp_path, capsys):
    common = {"input": "sample", "model": "sample"}
    first = tmp_path / "first"
    assert run(**common, output=first, truth="parent", target_precision=0.9) == 0
    out = capsys.readouterr().out
    assert f"precision 0.9: with {first}/thresholds.json, 100.0 % of the images" in out
    found = summary(first)["target_precision"]
    assert (found["images"], found["reached"]) == (120, True)
    files = {name: str(first / f"{name}.json") for name in ("thresholds", "calibration")}
    second = tmp_path / "second"
    assert run(**common, output=second, calibration=files["calibration"]) == 0
    before, after = ({r["image"]: r for r in rows_of(folder)} for folder in (first, second))
    temperature = json.loads((first / "calibration.json").read_text())["temperature"]
    for image, one in after.items():
        scores = [prediction["score"] for prediction in before[image]["predictions"]]
        [expected], _ = calibrated(scores, 10, np.array([temperature]))
        assert one["score"] == pytest.approx(expected[0], abs=1e-5)
        assert one["label"] == before[image]["label"]
    # The thresholds are of other scores.
    assert run(**common, output=second, threshold=files["thresholds"], **files_of(files)) == 2
    assert "(temperature was 1.0, is " in capsys.readouterr().err
    thresholds = json.loads((first / "thresholds.json").read_text())
    strict = tmp_path / "strict.json"
    strict.write_text(json.dumps(thresholds | {"threshold": 0.9, "classes": {"sun": None}}))
    assert run(**common, output=tmp_path / "third", threshold=strict) == 0
    for one in rows_of(tmp_path / "third"):
        best = one["predictions"][0]["label"]
        assert (one["label"] is None) == (best == "sun" or one["score"] < 0.9)
    strict.write_text(json.dumps(thresholds | {"settings": {"model": "sha256:0"}}))
    assert run(**common, output=tmp_path / "fourth", threshold=strict) == 2
    assert "is of another model" in capsys.readouterr().err
    # The target is missed: exit code 1, and no file that promises.
    assert run(**common, output=first, truth="parent", target_precision=0.99) == 1
    assert "no threshold reaches a precision of 0.99" in capsys.readouterr().err
    assert not (first / "thresholds.json").exists()
    assert (first / "calibration.json").exists()


def files_of(files):
    return {"calibration": files["calibration"]}


def rows_of(folder):
    lines = (folder / "labels-00000-of-00001.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--target_precision", "0.9"], "--target_precision 0.9: the truth of the images is"),
        (["--target_precision", "1"], "1 is not between 0 and 1"),
        (["--threshold", "1.5"], "1.5 is not between 0 and 1"),
        (["--threshold", "nothing.json"], "--threshold nothing.json: cannot be read"),
        (["--calibration", "nothing.json"], "--calibration nothing.json: cannot be read"),
    ],
)
def test_refusals(tmp_path, capsys, flags, words):
    argv = ["label", "--input", "sample", "--model", "sample", "--output", str(tmp_path / "o")]
    assert main([*argv, *flags]) == 2
    assert words in capsys.readouterr().err
