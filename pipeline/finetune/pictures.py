"""Draws the pictures of a report: curves of the training, examples, and the confusion matrix.

This uses only Matplotlib's objects: ``pyplot`` keeps every figure in a global list and may look for
a display.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.ft2font import FT2Font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pipeline.evaluation import Evaluation
from pipeline.finetune.history import EpochRecord, StepRecord

DPI = 100

RIGHT = "#1b5e20"
WRONG = "#c62828"
TRAINING = "#1565c0"
VALIDATION = "#d84315"
FAINT = "#767676"

PHASES = {"head": "head", "network": "whole network"}

GRID_EXAMPLES = 30
GRID_COLUMNS = 6
LABEL_CHARACTERS = 18
# The most classes for which there is room.
CLASSES_WITH_COUNTS = 20
CLASSES_WITH_NAMES = 50


@dataclass(frozen=True)
class Example:
    """An image and the model's answer.

    Attributes:
      pixels: uint8 ``[height, width, 3]``, RGB.
      truth: the name of its class.
      predicted: the name of the class that the model finds most probable.
      score: the probability that the model gives it, in [0, 1].
    """

    pixels: np.ndarray
    truth: str
    predicted: str
    score: float


def draw_curves(steps: Sequence[StepRecord], epochs: Sequence[EpochRecord]) -> bytes:
    """Draw loss and accuracy over the steps, side by side.

    Args:
      steps: all steps of the training, in order; at least one.
      epochs: all its epochs, in order.

    Returns:
      A PNG of about 1200 × 450 pixels.
    """
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    for axes, name, quantity in ((loss, "Loss", "loss"), (accuracy, "Accuracy", "accuracy")):
        axes.plot(
            [record.step for record in steps],
            [getattr(record, quantity) for record in steps],
            color=TRAINING,
            alpha=0.25,
            linewidth=1,
            label="training, each step",
        )
        ends = [record.step for record in epochs]
        axes.plot(
            ends,
            [getattr(record, quantity) for record in epochs],
            color=TRAINING,
            marker="o",
            label="training, average of the epoch",
        )
        axes.plot(
            ends,
            [getattr(record, f"validation_{quantity}") for record in epochs],
            color=VALIDATION,
            marker="s",
            label="validation",
        )
        _mark_phases(axes, steps)
        axes.set_title(name, loc="left", pad=24, fontsize=13, fontweight="bold")
        axes.set_xlabel("step")
        # Not left to Matplotlib, which omits steps whose loss is not a number.
        axes.set_xlim(0, 1.02 * steps[-1].step)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(color="#e0e0e0")
        axes.spines[["top", "right"]].set_visible(False)
    loss.set_ylim(bottom=0)
    accuracy.set_ylim(top=1.02)
    accuracy.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    figure.legend(*loss.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return _png(figure)


def draw_grid(examples: Sequence[Example]) -> bytes:
    """Draw images with the model's answers; for wrong answers, also the truth.

    Args:
      examples: at least one; the first 30 are drawn, six per row.

    Returns:
      A PNG of about 225 × 265 pixels per image.
    """
    examples = examples[:GRID_EXAMPLES]
    columns = min(len(examples), GRID_COLUMNS)
    rows = math.ceil(len(examples) / columns)
    figure = Figure(
        figsize=(2.25 * columns, 2.65 * rows),
        layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06),
    )
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(examples) :]:
        axes.set_axis_off()
    for axes, example in zip(panels, examples, strict=False):
        right = example.predicted == example.truth
        color = RIGHT if right else WRONG
        answer = f"{_short(example.predicted)} {100 * example.score:.0f} %"
        # Two lines for every image, so that the images of a row have the same height.
        title = f"\n✓ {answer}" if right else f"✗ {answer}\n({_short(example.truth)})"
        axes.set(xticks=[], yticks=[])
        axes.imshow(example.pixels)
        axes.set_title(title, color=color, fontsize=9, parse_math=False)
        axes.spines[:].set(color=color, linewidth=3)
    return _png(figure)


def draw_confusion(evaluation: Evaluation) -> bytes:
    """Draw the confusion matrix; a dark cell has a large share of its row.

    Returns:
      A PNG of 600 × 500 to 1200 × 1100 pixels. It has numbers for up to 20 classes and names for up
      to 50.
    """
    counts = np.array(evaluation.confusion)
    classes = len(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(max(0.55 * classes, 4), 10)
    figure = Figure(figsize=(side + 2, side + 1), layout="compressed")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, format=PercentFormatter(1, symbol=" %"))
    bar.set_label("share of the true class's images")
    axes.set(xlabel="predicted", ylabel="truth", xticks=[], yticks=[])
    if classes <= CLASSES_WITH_NAMES:
        names = [_short(scores.label) for scores in evaluation.classes]
        size = 10 if classes <= CLASSES_WITH_COUNTS else 7
        axes.set_xticks(
            range(classes),
            names,
            parse_math=False,
            fontsize=size,
            rotation=45,
            rotation_mode="anchor",
            ha="right",
        )
        axes.set_yticks(range(classes), names, parse_math=False, fontsize=size)
    if classes <= CLASSES_WITH_COUNTS:
        for (row, column), count in np.ndenumerate(counts):
            # Where black and white stand out equally from the color map.
            readable = "white" if shares[row, column] > 0.7 else "black"
            color = readable if count else FAINT
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=9)
    return _png(figure)


def _mark_phases(axes: Axes, steps: Sequence[StepRecord]) -> None:
    """Draw a dashed line where a phase ends, with the phases' names beside its upper end."""
    for before, after in itertools.pairwise(steps):
        if before.phase == after.phase:
            continue
        border = (before.step + after.step) / 2
        axes.axvline(border, color=FAINT, linestyle="--", linewidth=1)
        for phase, side in ((before.phase, "right"), (after.phase, "left")):
            axes.annotate(
                PHASES[phase],
                (border, 1),
                xycoords=("data", "axes fraction"),
                xytext=(-5 if side == "right" else 5, 3),
                textcoords="offset points",
                ha=side,
                color="#555555",
            )


def _short(label: str) -> str:
    """Cut a class's name to 18 characters, with a box for each that the font lacks."""
    if len(label) > LABEL_CHARACTERS:
        label = label[: LABEL_CHARACTERS - 1].rstrip(" ,") + "…"
    return "".join(character if ord(character) in _drawable() else "□" for character in label)


@functools.cache
def _drawable() -> frozenset[int]:
    """Return the code points in Matplotlib's own font; it warns about all others."""
    return frozenset(FT2Font(findfont("DejaVu Sans")).get_charmap())


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    # More compression hardly makes photographs smaller; it only takes longer.
    options = {"compress_level": 1}
    figure.savefig(content, format="png", dpi=DPI, facecolor="white", pil_kwargs=options)
    return content.getvalue()
