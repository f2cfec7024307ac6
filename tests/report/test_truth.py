"""A run's rows against the truth: the figures, and what the page says of them."""

import csv
import json
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from helpers.pages import HTML, MOST_BYTES, Page, label_row, page_of, text_of, write_run
from helpers.runs import WHOLE, files, rows, run, summary, write_colors

from pipeline.__main__ import main
from pipeline.evaluation import evaluate, wilson_interval
from pipeline.records import Prediction
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
        judged.add(one.get("truth"), [Prediction(**given) for given in one["predictions"]])
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
    said = found.to_json()
    assert in_words(said) == (
        "accuracy 0.600 on 5 images (95 % interval 0.231 to 0.882), top-2 0.800; 0.750 without the "
        "1 of classes that the model does not know"
    )
    assert {name: said[name] for name in ("images", "unknown", "strange", "mistakes")} == {
        "images": 5,
        "unknown": 1,
        "strange": 1,
        "mistakes": 2,
    }
    assert [one["label"] for one in said["classes"]] == ["cat", "dog", "owl"]
    assert json.loads(json.dumps(said)) == said


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


def test_the_figures_of_parts_add_up():
    rows = [row(f"c{n % 7}", f"c{n % 3}", n / 100) for n in range(1, 100)] + [row(None, "c1")]
    merged = Judged()
    for at in range(0, 100, 9):
        merged.merge(pickle.loads(pickle.dumps(judge(*rows[at : at + 9]))))
    expected = judge(*rows)
    assert merged.confidence == pytest.approx(expected.confidence)
    merged.confidence = expected.confidence
    assert merged.evaluation().to_json() == expected.evaluation().to_json()


def test_a_class_of_the_model_is_known_even_if_nothing_is_labeled_as_it():
    judged = Judged(known_labels={"cat", "owl"})
    judged.add("owl", [Prediction(0, "cat", 0.9)])
    judged.add("cow", [Prediction(0, "cat", 0.9)])
    found = judged.evaluation()
    assert found.strange == 1
    assert found.to_json()["accuracy_without_strange"] == 0.0
    all_strange = Judged(known_labels={"cat"})
    all_strange.add("cow", [Prediction(0, "cat", 0.9)])
    assert "without" not in in_words(all_strange.evaluation().to_json())


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
    assert (len(found.classes), len(found.every_class)) == (truth.CLASSES_IN_TABLE, 60)


def test_the_diagram():
    rows = [row("cat", "cat", 0.95)] * 9 + [row("dog", "cat", 0.95)] + [row("cat", "cat", 0.5)]
    half, sure = calibration.points(judge(*rows))
    assert (sure.images, sure.right) == (10, 0.9)
    assert sure.confidence == pytest.approx(0.95)
    assert (sure.x, sure.y) == (950.0, 100.0)
    assert (half.images, half.x, half.y) == (1, 500.0, 0.0)
    assert half.size < sure.size == 20


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
    assert (
        "The most confident mistakes no picture of dog-0.7.png ✗ said dog 70 % · truth cat" in text
    )
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
    assert "✗ no label · truth cat dog 30 %" in text
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
    said = capsys.readouterr().out
    assert "\naccuracy 0.500 on 2 images (95 % interval" in said
    assert f"{tmp_path}/out/mistakes.csv\n" in said
    evaluation = summary(tmp_path / "out")["evaluation"]
    assert evaluation["interval"] == list(wilson_interval(1, 2))
    assert (evaluation["top_k"], evaluation["top_k_accuracy"]) == (3, 1.0)
    assert evaluation["classes"] == [
        {"label": "blue", "images": 1, "precision": None, "recall": 0.0},
        {"label": "red", "images": 1, "precision": 0.5, "recall": 1.0},
    ]
    path = tmp_path / "out" / "mistakes.csv"
    with path.open(newline="") as file:
        [mistake] = csv.DictReader(file)
    [written] = [one for one in rows(tmp_path / "out", "labels") if one["truth"] == "blue"]
    scores = {one["label"]: one["score"] for one in written["predictions"]}
    assert mistake == {
        "image": f"{tmp_path}/p/blue/red-0.png",
        "truth": "blue",
        "label": "red",
        "score": str(scores["red"]),
        "truth_score": str(scores["blue"]),
    }
    links = [link["href"] for link in Page(page_of(tmp_path / "out")).all("a")]
    assert links.count("mistakes.csv") == 1
    # Of another truth, with rows that are taken over.
    (tmp_path / "t.csv").write_text("image,label\nblue/red-0.png,Red\nred/red-0.png,cow\n")
    assert run(**flags, truth=tmp_path / "t.csv") == 0
    assert "; 1.000 without the 1 of classes that the model does not know\n" in (
        capsys.readouterr().out
    )
    assert path.read_text().splitlines()[1].startswith(f"{tmp_path}/p/red/red-0.png,cow,red,")
    assert "The model does not know the class of 1 image" in text_of(tmp_path / "out")
    assert files(tmp_path / "out") == sorted([*WHOLE, "mistakes.csv"])
