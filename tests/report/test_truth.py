"""A run's rows against the truth: the figures, and what the page says of them."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from helpers.pages import HTML, MOST_BYTES, label_row, text_of, write_run
from helpers.runs import run, write_colors

from pipeline.__main__ import main
from pipeline.evaluation import evaluate
from pipeline.report import calibration, job, truth
from pipeline.report.reading import MISTAKES, aggregate_rows
from pipeline.report.truth import Confused, Judged, in_words, quality


def row(truth, predicted, score=0.9, second="second", has_label=True):
    made = label_row(f"/{truth}/{predicted}-{score}.png", predicted, score, truth=truth)
    made["predictions"][1]["label"] = second
    return made if has_label else made | {"label": None, "class_id": None}


def judge(*rows):
    judged = Judged()
    for one in rows:
        judged.add(one)
    return judged


# Figures


def test_the_figures_of_a_few_rows():
    found = quality(
        judge(
            row("cat", "cat", 0.9),
            row("cat", "cat", 0.8, has_label=False),
            row("cat", "dog", 0.7, second="cat"),
            row("dog", "dog", 0.6),
            row("owl", "dog", 0.5),
            row(None, "dog"),
        )
    )
    assert (found.images, found.unknown) == (5, 1)
    assert found.accuracy == 3 / 5
    assert (found.among, found.most) == (4 / 5, 2)
    assert found.interval == pytest.approx((0.2307, 0.8824), abs=1e-4)  # Wilson, 3 of 5
    # Each answer is alone in its part: 0.1 + 0.2 + 0.7 + 0.4 + 0.5, over 5.
    assert found.calibration_error == pytest.approx(1.9 / 5)
    assert {x.label: (x.images, x.precision, x.recall) for x in found.classes} == {
        "cat": (3, 1.0, 2 / 3),
        "dog": (1, 1 / 3, 1.0),
        "owl": (1, None, 0.0),
    }
    assert [x.label for x in found.classes] == ["dog", "cat", "owl"]
    assert found.confused == [Confused("cat", "dog", 1), Confused("owl", "dog", 1)]
    assert found.matrix == (["cat", "dog", "owl"], [[2, 1, 0], [0, 1, 0], [0, 1, 0]])
    assert found.strange == 1
    assert in_words(found) == (
        "accuracy 0.600 on 5 images (95 % interval 0.231 to 0.882), top-2 0.800"
    )


def test_the_figures_are_those_of_finetune():
    draw = np.random.default_rng(0)
    probabilities = draw.dirichlet([0.3] * 4, 500)
    truths = draw.integers(0, 4, 500)
    names = list("abcd")
    expected = evaluate(truths, probabilities, names)
    rows = [
        row(names[true], names[scores.argmax()], float(scores.max()))
        for true, scores in zip(truths, probabilities, strict=True)
    ]
    found = quality(judge(*rows))
    assert found.accuracy == expected.accuracy
    assert found.interval == expected.interval
    assert found.calibration_error == pytest.approx(expected.calibration_error)
    assert sorted(found.classes, key=lambda x: x.label) == list(expected.classes)
    assert found.matrix == (names, [list(counts) for counts in expected.confusion])


def test_no_truth_is_no_quality():
    assert quality(judge()) is None
    assert quality(judge(row(None, "cat"))) is None
    old = row("cat", "cat")
    del old["truth"]  # as versions before this wrote it
    assert quality(judge(old)) is None


def test_a_column_that_has_no_classes_is_bounded():
    judged = judge(*(row(f"not-{n}", "cat") for n in range(truth.MOST_CLASSES + 10)))
    assert len(judged.pairs) == truth.MOST_CLASSES + 1
    assert judged.pairs[truth.OTHER, "cat"] == 10
    assert quality(judged).strange == truth.MOST_CLASSES + 10


def test_many_classes_have_pairs_and_no_matrix():
    found = quality(judge(*(row(f"c{n}", f"c{n // 2}") for n in range(60))))
    assert found.matrix is None
    assert len(found.confused) == truth.CONFUSED_PAIRS
    assert (len(found.classes), found.all_classes) == (truth.CLASSES_IN_TABLE, 60)


def test_the_diagram():
    rows = [row("cat", "cat", 0.95)] * 9 + [row("dog", "cat", 0.95)] + [row("cat", "cat", 0.5)]
    half, sure = calibration.points(judge(*rows))
    assert (sure.images, sure.right) == (10, 0.9)
    assert sure.confidence == pytest.approx(0.95)
    assert (sure.x, sure.y) == (228.0, 24.0)
    assert (half.images, half.x, half.y) == (1, 120.0, 0.0)
    assert half.radius < sure.radius == 10


# The page


def test_the_page_of_a_run_with_truth(tmp_path, capsys):
    rows = [row("cat", "cat")] * 7 + [row("cat", "dog", n / 10) for n in range(5, 8)]
    folder = write_run(tmp_path, rows)
    assert main(["report", folder]) == 0
    said = capsys.readouterr().out
    assert said == (
        "10 found = 10 labeled + 0 failed in 2.5 s (4.0 images/s)\n"
        "accuracy 0.700 on 10 images (95 % interval 0.397 to 0.892), top-2 0.700\n"
        f"{folder}/report.html\n"
    )
    text = " ".join(text_of(folder).split())
    assert "The label is right for 70.0 % of the 10 images whose class is known" in text
    assert "The most confident mistakes no picture of dog-0.7.png dog 70.0 % is cat" in text
    assert "Images by their true class (rows)" in text
    assert [one.score for one in aggregate_rows(folder, {}).mistakes] == [0.7, 0.6, 0.5]


def test_a_page_without_truth_does_not_speak_of_it(tmp_path):
    job.make(write_run(tmp_path, [row(None, "cat")]))
    assert "truth" not in text_of(tmp_path)


def test_nothing_wrong(tmp_path):
    job.make(write_run(tmp_path, [row("cat", "cat")]))
    assert "No class is confused with another." in text_of(tmp_path)
    assert "most confident mistakes" not in text_of(tmp_path)


def test_names_that_are_not_the_models(tmp_path):
    job.make(write_run(tmp_path, [row("Cat", "cat"), row(HTML, "cat")]))
    text = " ".join(text_of(tmp_path).split())
    assert "The class of 2 images occurs in no prediction." in text
    assert HTML in text


def test_rows_below_the_threshold_are_a_group_of_their_own(tmp_path):
    rows = [row("cat", "cat"), row("cat", "dog", 0.3, has_label=False)]
    job.make(write_run(tmp_path, rows, labels={"cat": 1}, below_threshold=1))
    text = " ".join(text_of(tmp_path).split())
    assert "No label 1 image The most probable class is below the threshold" in text
    assert "no label is cat dog 30.0 %" in text
    assert "Images below the threshold count with their most probable class." in text


def test_a_run_without_any_label(tmp_path):
    rows = [row(None, "dog", 0.3, has_label=False)] * 3
    job.make(write_run(tmp_path, rows, labels={}, below_threshold=3))
    assert "No label" in text_of(tmp_path)


def test_a_large_run_of_many_classes_is_bounded(tmp_path):
    draw = np.random.default_rng(0)
    names = [f"class number {n} of them all" for n in range(1001)]
    rows = [
        row(names[a], names[b], round(float(score), 6))
        for a, b, score in zip(
            draw.integers(0, 1001, 20_000),
            draw.integers(0, 1001, 20_000),
            draw.random(20_000),
            strict=True,
        )
    ]
    folder = write_run(tmp_path, rows)
    tracemalloc.start()
    judged = aggregate_rows(folder, {}).judged
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(judged.pairs.values()) == 20_000
    assert peak < 20_000_000
    [_, path] = job.make(folder)
    assert Path(path).stat().st_size < MOST_BYTES
    assert len(aggregate_rows(folder, {}).mistakes) == MISTAKES


def test_a_label_run_says_how_good_it_is(tmp_path, color_model, capsys):
    for color in ("red", "blue"):
        write_colors(tmp_path / "p" / color, 1)
    flags = {"input": tmp_path / "p", "model": color_model, "output": tmp_path / "out"}
    assert run(**flags, truth="parent") == 0
    assert "\naccuracy 0.500 on 2 images (95 % interval" in capsys.readouterr().out
