import io
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from pipeline.evaluation import evaluate
from pipeline.finetune.history import EpochRecord, StepRecord
from pipeline.finetune.pictures import (
    RIGHT,
    TRAINING,
    VALIDATION,
    WRONG,
    Example,
    _short,
    draw_confusion,
    draw_curves,
    draw_grid,
)

# What Matplotlib would take for a formula, what its font does not have, and what is too long.
DIFFICULT = ["$x_1 and \\foo$", "$\\frac{$", "薔薇", "two\nlines", "a" * 200, "", " ", "✿ &<b>"]


def decode(png):
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def count(pixels, color):
    """How many pixels are of just this color."""
    rgb = [int(color[at : at + 2], 16) for at in (1, 3, 5)]
    return int((pixels == rgb).all(axis=2).sum())


def columns_of(pixels, color):
    rgb = [int(color[at : at + 2], 16) for at in (1, 3, 5)]
    return np.flatnonzero((pixels == rgb).all(axis=2).any(axis=0))


def history(**epochs_of_phases):
    steps, epochs = [], []
    for phase, number in epochs_of_phases.items():
        for epoch in range(len(epochs) + 1, len(epochs) + 1 + number):
            for _ in range(10):
                at = len(steps) + 1
                steps.append(StepRecord(phase, epoch, at, 2 / at, 1 - 0.8 / at))
            epochs.append(EpochRecord(phase, epoch, len(steps), 1 / epoch, 0.8, 1.2 / epoch, 0.7))
    return steps, epochs


def example(right, size=(64, 64), score=0.6, predicted="daisy"):
    gray = np.full((*size, 3), 128, np.uint8)
    return Example(gray, predicted if right else "tulips", predicted, score)


def diagonal(classes, labels=None):
    """An evaluation in which half of each class's images are taken for the next."""
    truth = np.repeat(np.arange(classes), 2)
    answers = truth + np.tile([0, 1], classes)
    names = labels or [f"class {number}" for number in range(classes)]
    return evaluate(truth, np.eye(classes)[answers % classes], names)


def test_curves():
    pixels = decode(draw_curves(*history(head=2, network=3)))
    assert pixels.shape == (450, 1200, 3)
    assert (pixels[0, 0] == 255).all()
    for color in (TRAINING, VALIDATION):
        columns = columns_of(pixels, color)
        assert columns.min() < 600 < columns.max()


def dashed_lines(pixels):
    """Columns in which the gray of the phases' border alternates with something else."""
    gray = (pixels == 0x76).all(axis=2).sum(axis=0)
    return np.flatnonzero(gray > 100)


def test_curves_mark_where_a_phase_ends():
    two = decode(draw_curves(*history(head=2, network=3)))
    one = decode(draw_curves(*history(head=5)))
    assert len(dashed_lines(one)) == 0
    left, right = (dashed_lines(two[:, half]) for half in (slice(600), slice(600, None)))
    assert len(left) > 0 and len(right) > 0
    assert 100 < left.mean() < 400  # two fifths of the panel


def test_curves_of_one_step():
    assert decode(draw_curves([StepRecord("head", 1, 1, 1.6, 0.25)], [])).shape == (450, 1200, 3)


def test_curves_of_a_training_that_diverged():
    steps, epochs = history(head=2, network=1)
    steps = [step._replace(loss=float("nan")) if step.step > 15 else step for step in steps]
    epochs = [epoch._replace(loss=float("inf")) for epoch in epochs]
    assert decode(draw_curves(steps, epochs)).shape == (450, 1200, 3)


@pytest.mark.parametrize(
    ("examples", "shape"),
    [(1, (265, 225)), (6, (265, 1350)), (7, (530, 1350)), (30, (1325, 1350)), (31, (1325, 1350))],
)
def test_grid_has_six_a_row_and_thirty_in_all(examples, shape):
    assert decode(draw_grid([example(True)] * examples)).shape == (*shape, 3)


def test_grid_shows_the_images_as_they_are():
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    pixels = decode(draw_grid([Example(red, "a", "a", 0.5)]))
    assert count(pixels, "#ff0000") > 180 * 180


def test_grid_is_green_where_right_and_red_where_wrong():
    right, wrong = decode(draw_grid([example(True)])), decode(draw_grid([example(False)]))
    assert count(right, RIGHT) > 1000 and count(right, WRONG) == 0
    assert count(wrong, WRONG) > 1000 and count(wrong, RIGHT) == 0
    both = decode(draw_grid([example(True), example(False)]))
    assert columns_of(both, RIGHT).max() < columns_of(both, WRONG).min()


def test_grid_says_what_the_answers_are(monkeypatch):
    titles = []
    monkeypatch.setattr(Axes, "set_title", lambda self, title, **style: titles.append(title))
    draw_grid([example(True, score=0.974), example(False, score=0.605), example(True, score=1)])
    assert titles == ["\n✓ daisy 97 %", "✗ daisy 60 %\n(tulips)", "\n✓ daisy 100 %"]


@pytest.mark.parametrize("size", [(1, 1), (40, 80), (300, 200)])
def test_grid_of_images_of_any_shape(size):
    assert decode(draw_grid([example(True, size), example(False, size)])).shape == (265, 450, 3)


@pytest.mark.parametrize("label", DIFFICULT)
def test_grid_with_difficult_names(label):
    assert decode(draw_grid([example(False, predicted=label, score=1)])).shape == (265, 225, 3)


@pytest.mark.parametrize("capitals", [False, True])
def test_grid_has_room_for_long_names(capitals):
    """The title stays inside its picture's column, so that neighbors do not overlap."""
    label = "golden retriever puppies"
    label = label.upper() if capitals else label
    pixels = decode(draw_grid([example(False, predicted=label, score=1)]))
    inked = np.flatnonzero((pixels[:38] < 255).any(axis=2).any(axis=0))
    assert inked.min() > 0 and inked.max() < 224


@pytest.mark.parametrize(
    ("label", "short"),
    [
        ("tulips", "tulips"),
        ("exactly 18 letters", "exactly 18 letters"),
        ("exactly 19 letters!", "exactly 19 letter…"),
        ("golden retriever, a dog", "golden retriever…"),
        ("薔薇 rose", "□□ rose"),
        ("two\nlines", "two□lines"),
    ],
)
def test_names_are_cut_and_can_be_drawn(label, short):
    assert _short(label) == short


@pytest.mark.parametrize(
    ("classes", "shape"),
    [
        (1, (500, 600)),
        (2, (500, 600)),
        (5, (500, 600)),
        (10, (650, 750)),
        (20, (1100, 1200)),
        (21, (1100, 1200)),
        (50, (1100, 1200)),
        (51, (1100, 1200)),
        (200, (1100, 1200)),
    ],
)
def test_confusion_has_a_bounded_size(classes, shape):
    assert decode(draw_confusion(diagonal(classes))).shape == (*shape, 3)


def test_confusion_is_dark_where_images_go():
    pixels = decode(draw_confusion(evaluate(np.array([0, 1]), np.eye(2), ["a", "b"])))
    darkest, lightest = count(pixels, "#08306b"), count(pixels, "#f7fbff")
    assert darkest == pytest.approx(lightest, rel=0.1)
    assert darkest > 50_000


def test_confusion_is_normalized_by_row():
    """Of the first class half are right, of the second, which is rare, all."""
    evaluation = evaluate(np.array([0, 0, 0, 0, 1]), np.eye(2)[[0, 0, 1, 1, 1]], ["a", "b"])
    pixels = decode(draw_confusion(evaluation))
    half = (np.abs(pixels.astype(int) - [0x6A, 0xAE, 0xD6]) <= 2).all(axis=2).sum()
    assert half == pytest.approx(2 * count(pixels, "#08306b"), rel=0.1)


def test_confusion_of_a_class_without_images_is_light():
    pixels = decode(draw_confusion(evaluate(np.array([0, 0]), np.eye(2)[[0, 0]], ["a", "b"])))
    assert count(pixels, "#f7fbff") == pytest.approx(3 * count(pixels, "#08306b"), rel=0.1)


def test_confusion_has_numbers_for_few_classes_and_names_for_some():
    """Without names the matrix fills the picture; white numbers are on dark cells alone."""

    def white_inside(classes):
        certain = evaluate(np.arange(classes), np.eye(classes), ["a long class name"] * classes)
        pixels = decode(draw_confusion(certain))
        dark = (pixels == [0x08, 0x30, 0x6B]).all(axis=2)
        rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
        matrix = pixels[rows[0] : rows[-1], columns[0] : columns[-1] - 80]
        return count(matrix, "#ffffff"), columns[0]

    assert white_inside(20)[0] > 0
    assert white_inside(21)[0] == 0
    assert white_inside(50)[1] > 80
    assert white_inside(51)[1] < 40


def test_confusion_with_difficult_names():
    decode(draw_confusion(diagonal(len(DIFFICULT), DIFFICULT)))


def test_pictures_are_the_same_every_time():
    assert draw_curves(*history(head=1)) == draw_curves(*history(head=1))
    assert draw_grid([example(False)]) == draw_grid([example(False)])
    assert draw_confusion(diagonal(3)) == draw_confusion(diagonal(3))


def test_pyplot_is_not_needed():
    """It would look for a display, and keep the figures."""
    code = "import sys, pipeline.finetune.pictures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
