"""The page of a training: its curves, its examples, its tables."""

import json

import numpy as np
import pytest
from helpers.browser import Browser, needs_chromium, violations
from helpers.pages import HTML, Page
from PIL import Image

from pipeline.evaluation import evaluate
from pipeline.finetune.curves import best_epoch, curves
from pipeline.finetune.examples import (
    MOST_RIGHT,
    MOST_SUSPECTS,
    MOST_WRONG,
    Example,
    choose,
    from_jsonl,
    to_jsonl,
)
from pipeline.finetune.history import EpochRecord, StepRecord
from pipeline.finetune.report import page_of
from pipeline.html.plots import MOST_POINTS, SIDE
from pipeline.report.thumbnails import MAX_BYTES, encode

NAN, INFINITE = float("nan"), float("inf")
DIFFICULT = ["$x_1 and \\foo$", "薔薇", "two\nlines", "a" * 200, "", " ", "✿ &<b>", HTML]


def scores(labels=("cat", "dog", "owl")):
    """Two of three right; the last class is absent and never predicted."""
    return evaluate(np.array([0, 0, 1]), np.eye(3)[[0, 1, 1]], labels)


def history(**epochs_of_phases):
    steps, epochs = [], []
    for phase, number in epochs_of_phases.items():
        for epoch in range(len(epochs) + 1, len(epochs) + 1 + number):
            for _ in range(10):
                at = len(steps) + 1
                steps.append(StepRecord(phase, epoch, at, 2 / at, 1 - 0.8 / at)._asdict())
            record = EpochRecord(phase, epoch, len(steps), 1 / epoch, 0.8, 1.2 / epoch, 0.7)
            epochs.append(record._asdict())
    return steps, epochs


def summary(evaluation=None, **changes):
    evaluation = (evaluation or scores()).to_json()
    labels = [one["label"] for one in evaluation["classes"]]
    steps, epochs = history(head=3)
    return {
        "labels": labels,
        "test": evaluation,
        "images": {"train": 80, "validation": 10, "test": evaluation["images"]},
        "images_of_classes": {x: {"train": 8, "validation": 1, "test": 2} for x in labels},
        "epochs": epochs,
        "steps": steps,
        "unfrozen": None,
        "model": {"handle": "a base"},
        "options": {"input": ["/photos"], "output": "/out"},
        "stage_seconds": {"head": 2.0},
        "reload_difference": 0.0,
        "started_at": "2026-11-24T18:28:05Z",
        "finished_at": "2026-11-24T18:29:05Z",
        "versions": {"tensorflow": "2.21.0"},
        "run_id": "id",
    } | changes


def example(label="cat", truth="cat", image="/photos/a.jpg", score=0.98, is_file=True, side=40):
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    return Example(image, truth, label, score, encode(Image.fromarray(pixels)), is_file)


def render(examples=(), **changes):
    return page_of(summary(**changes), list(examples), "/out")


def text_of(page):
    return " ".join(Page(page).texts)


# The page


def test_headline_says_accuracy_interval_and_images():
    text = text_of(render())
    assert "66.7 % of 3 test images are labeled correctly" in text
    assert "(95 % interval: 20.8 % to 93.9 %)" in text
    assert "is 33.3 percentage points off" in text
    assert "Mistakes 1 of 3 test images" in text


def test_headline_of_one_image():
    evaluation = evaluate(np.array([0]), np.eye(2)[[0]], ["a", "b"])
    text = text_of(render(evaluation=evaluation))
    assert "100.0 % of 1 test image is labeled correctly" in text
    assert "Mistakes 0 of 1 test image" in text


def test_facts_and_classes_are_tables():
    text = text_of(render())
    assert "Base model a base" in text
    assert "Export /out/export/1795544885" in text
    assert "Begun 24 November 2026, 18:28 UTC" in text
    assert "Versions tensorflow 2.21.0" in text
    assert "Label Train Validation Test images Precision Recall cat 8 1 2 100.0 % 50.0 %" in text
    assert "dog 8 1 1 50.0 % 100.0 % owl 8 1 0 – –" in text


def test_classes_of_a_run_that_did_not_count_them():
    text = text_of(render(images_of_classes=None))
    assert "Label Test images Precision Recall cat 2 100.0 % 50.0 %" in text


def test_sections_have_headings():
    page = Page(render([example(), example(truth="dog")]))
    assert len(page.all("h1")) == len(page.all("main")) == 1
    ids = [heading["id"] for heading in page.all("h2")]
    assert ids == ["mistakes", "classes", "confusions", "training", "right", "run"]
    assert page.all("html") == [{"lang": "en"}]


def test_the_matrix_is_a_table_for_few_classes_and_pairs_for_many():
    """Rows are classes; half of each class's images are taken for the next."""

    def diagonal(classes):
        truth = np.repeat(np.arange(classes), 20)
        answers = (truth + np.tile([0, 1], classes * 10)) % classes
        names = [f"class {n}" for n in range(classes)]
        return render(evaluation=evaluate(truth, np.eye(classes)[answers], names))

    few, many = diagonal(20), diagonal(21)
    assert 'class="matrix"' in few and 'class="matrix"' not in many
    assert few.count('<td class="right"') == few.count('<td class="wrong"') == 20
    assert "--share: 35.0%" in few
    assert "Class Labeled as Images class 0 class 1 10" in text_of(many)


def test_right_is_green_and_wrong_is_red_and_not_by_color_alone():
    page = render([example("cat", "cat"), example("dog", "cat", score=0.605)])
    wrong, right = page.split('id="right"')[0], page.split('id="right"')[1]
    assert wrong.count('<figure class="wrong">') == 1 and '<figure class="right">' not in wrong
    assert right.count('<figure class="right">') == 1 and '<figure class="wrong">' not in right
    text = text_of(page)
    assert "✗ said dog 60 % · truth cat a.jpg" in text
    assert "✓ said cat 98 % a.jpg" in text


def test_pictures_link_to_files_and_not_to_what_only_has_a_name():
    page = Page(render([example(), example(image="/etc/passwd", is_file=False)]))
    links = [link["href"] for link in page.all("a") if not link["href"].startswith("#")]
    assert links == ["test_predictions.csv", "../photos/a.jpg"]
    assert all(image["alt"] for image in page.all("img"))


def test_a_page_of_as_many_mistakes_as_there_can_be_is_small():
    """Not even if they are noise."""
    some = [example("cat", "dog", f"/p/{n}.jpg", side=160) for n in range(MOST_WRONG)]
    some += [example("cat", "cat", f"/q/{n}.jpg", side=160) for n in range(MOST_RIGHT)]
    assert len(some[0].thumbnail.uri) > MAX_BYTES / 2
    assert len(render(some)) < 800_000
    found = {"images": 100, "checked": 900, "passed_over": 0, "why": None}
    suspects = some[:MOST_SUSPECTS]
    assert len(page_of(summary(mislabeled=found), some, "/out", suspects)) < 1_000_000


def test_nothing_is_fetched_and_only_the_script_of_the_page_runs():
    page = render([example()])
    assert "http:" not in page and "https:" not in page
    assert "url(" not in page and "@import" not in page
    assert Page(page).all("script") == [{}]
    assert not {tag for tag, _ in Page(page).elements} & {"iframe", "object", "form"}


@pytest.mark.parametrize("label", DIFFICULT)
def test_names_show_as_text(label):
    page = render(
        [example(label, "dog", f"/p/{label}.png")],
        evaluation=scores([label, "dog", "owl"]),
        model={"handle": label},
        options={"input": [label], "output": label},
        run_id=label,
    )
    assert page.count("<script") == 1
    Page(page)


def test_head_against_the_whole_network():
    head = {"validation_loss": 0.5, "validation_accuracy": 0.9, "test_accuracy": 0.8}
    network = {"validation_loss": 0.4, "validation_accuracy": 0.8, "test_accuracy": 0.95}
    unfrozen = {"exported": "head", "head": head, "network": network}
    steps, epochs = history(head=2, network=2)
    text = text_of(render(unfrozen=unfrozen, steps=steps, epochs=epochs))
    assert "the head alone 0.500 90.0 % 80.0 % yes the whole network 0.400 80.0 % 95.0 % no" in text
    assert "made it worse on the validation images; the head alone is exported" in text
    assert "The head of epoch 2 is exported" in text
    assert "the whole network – – – no" in text_of(render(unfrozen=unfrozen | {"network": None}))


def test_classes_to_check():
    suspects = [example("dog", "cat"), example("owl", "cat", "/etc/passwd", is_file=False)]
    found = {"images": 3, "checked": 90, "passed_over": 7, "why": "they are few"}
    page = page_of(summary(mislabeled=found), [], "/out", suspects)
    text = text_of(page)
    assert "3 of 90 images for training, validation and test may have a wrong class" in text
    assert "The 2 worst are here. All are in mislabeled.csv" in text
    assert "given cat · perhaps dog 98 % a.jpg" in text
    assert "Not checked for wrong classes 7 images: they are few" in text
    links = [link["href"] for link in Page(page).all("a") if not link["href"].startswith("#")]
    assert links == ["test_predictions.csv", "mislabeled.csv", "../photos/a.jpg"]
    for none in (None, found | {"images": 0, "passed_over": 0}):
        assert "wrong class" not in text_of(page_of(summary(mislabeled=none), [], "/out"))


@needs_chromium
def test_nothing_keeps_anybody_from_reading_it(tmp_path):
    path = tmp_path / "report.html"
    found = {"images": 1, "checked": 9, "passed_over": 0, "why": None}
    shown = [example(), example(truth="dog")]
    path.write_text(page_of(summary(mislabeled=found), shown, "/out", shown[1:]))
    with Browser(tmp_path) as browser:
        assert violations(browser, path) == []


# Curves


def test_curves_mark_the_best_epoch_and_where_a_phase_ends():
    steps, epochs = history(head=2, network=3)
    loss, accuracy = curves(steps, epochs, best_epoch(epochs, "network"))
    for plot in (loss, accuracy):
        assert [mark.text for mark in plot.marks] == ["whole network", "best: epoch 5"]
        assert plot.marks[0].at == pytest.approx(SIDE * 19.5 / 49, abs=0.1)
        assert plot.marks[1].at == SIDE
        assert len(plot.lines) == 3 and all(line.path for line in plot.lines)
    one_phase = curves(*history(head=5), None)[0]
    assert one_phase.marks == []
    assert best_epoch(epochs, "head") == epochs[1]
    assert best_epoch(epochs, None) == epochs[4]


def test_curves_of_one_step():
    steps, _ = history(head=1)
    assert len(curves(steps[:1], [], None)) == 2


def test_curves_of_a_training_that_diverged():
    steps, epochs = history(head=2, network=1)
    steps = [step | {"loss": NAN} if step["step"] > 15 else step for step in steps]
    epochs = [epoch | {"loss": INFINITE, "validation_loss": NAN} for epoch in epochs]
    assert best_epoch(epochs, None) is None
    loss, _ = curves(steps, epochs, None)
    assert "nan" not in str(loss) and "inf" not in str(loss)
    assert "nan" in text_of(render(steps=steps, epochs=epochs))


def test_curves_of_a_long_training_are_short():
    steps, epochs = history(head=300)
    each_step = curves(steps, epochs, None)[0].lines[0].path
    assert each_step.count("L") < MOST_POINTS
    assert len(render(steps=steps, epochs=epochs)) < 200_000


# Examples


def test_the_most_certain_mistakes_come_first_and_always_the_same():
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 500)
    probabilities = rng.dirichlet([1, 1, 1], 500)
    chosen = choose(classes, probabilities)
    assert (chosen == choose(classes, probabilities)).all()
    assert len(chosen) == len(set(chosen.tolist())) == MOST_WRONG + MOST_RIGHT
    right = probabilities[chosen].argmax(1) == classes[chosen]
    assert not right[:MOST_WRONG].any() and right[MOST_WRONG:].all()
    certainty = probabilities[chosen[:MOST_WRONG]].max(1)
    assert (np.diff(certainty) <= 0).all()
    everywhere = probabilities[probabilities.argmax(1) != classes].max(1)
    assert certainty[-1] == np.sort(everywhere)[-MOST_WRONG]


def test_examples_are_read_as_they_were_written():
    some = [example(), Example("/p/\udcff.jpg", HTML, "b", 0.5, None, False)]
    assert from_jsonl(to_jsonl(some)) == some
    assert all(json.loads(line) for line in to_jsonl(some).splitlines())
