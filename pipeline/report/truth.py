"""Compares a run's rows with the truth in one pass, and sums up how good they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.evaluation import (
    CALIBRATION_BINS,
    ClassScores,
    calibration_bin,
    calibration_error,
    class_scores,
    wilson_interval,
)

# The number of classes that are counted separately; all further ones count as one. No model has so
# many, but the column may hold something else.
MOST_CLASSES = 5000
OTHER = "(other classes)"

# What the page shows. With more classes, it shows those with the most mistakes, and no matrix.
CLASSES_IN_TABLE = 30
CLASSES_IN_MATRIX = 20
CONFUSED_PAIRS = 20


@dataclass
class Judged:
    """Counts of the rows whose truth is known.

    Attributes:
      pairs: numbers of images by their true and their most probable class.
      among: number of images whose true class is among the predictions of their row.
      most: the largest number of predictions in a row.
      unknown: number of rows of unknown truth.
      right: number of correct answers by ``calibration_bin`` of the score, ``[CALIBRATION_BINS]``.
      confidence: sum of the scores by the same bins, ``[CALIBRATION_BINS]``.
      images: number of images by the same bins, ``[CALIBRATION_BINS]``.
      known_labels: labels that occur in any prediction.
    """

    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    among: int = 0
    most: int = 0
    unknown: int = 0
    right: list[int] = field(default_factory=lambda: [0] * CALIBRATION_BINS)
    confidence: list[float] = field(default_factory=lambda: [0.0] * CALIBRATION_BINS)
    images: list[int] = field(default_factory=lambda: [0] * CALIBRATION_BINS)
    known_labels: set[str] = field(default_factory=set)
    _classes: set[str] = field(default_factory=set)

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row with JSON's types."""
        truth = row.get("truth")
        if truth is None:
            self.unknown += 1
            return
        labels = [prediction["label"] for prediction in row["predictions"]]
        self.known_labels.update(labels)
        if truth not in self._classes and len(self._classes) < MOST_CLASSES:
            self._classes.add(truth)
        self.pairs[truth if truth in self._classes else OTHER, labels[0]] += 1
        self.among += truth in labels
        self.most = max(self.most, len(labels))
        at = calibration_bin(row["score"])
        self.right[at] += truth == labels[0]
        self.confidence[at] += row["score"]
        self.images[at] += 1


class Confused(NamedTuple):
    """The number of images of one class that the model labels as another."""

    truth: str
    predicted: str
    images: int


class Quality(NamedTuple):
    """How good the labels of a run are, for images of known truth.

    ``images``, ``unknown``: numbers of images with and without a known truth. ``accuracy``: the
    share in [0, 1] whose most probable class is the true one, with its 95 % Wilson ``interval``.
    ``among``: the share whose true class is among the ``most`` predictions of a row.
    ``calibration_error``: see ``evaluation.calibration_error``. ``classes``: those with the most
    mistakes, of ``all_classes``. ``confused``: the most frequent mistakes. ``matrix``: labels, and
    numbers of images in rows by truth and columns by prediction; None for too many classes.
    ``strange``: number of images whose true class occurs in no prediction. ``judged``: the counts.
    """

    images: int
    unknown: int
    accuracy: float
    interval: tuple[float, float]
    among: float
    most: int
    calibration_error: float
    classes: list[ClassScores]
    all_classes: int
    confused: list[Confused]
    matrix: tuple[list[str], list[list[int]]] | None
    strange: int
    judged: Judged


def quality(judged: Judged) -> Quality | None:
    """Sum up the counts; None if no row has a known truth."""
    images = sum(judged.pairs.values())
    if not images:
        return None
    of_it, predicted, hits = Counter[str](), Counter[str](), Counter[str]()
    for (truth, label), count in judged.pairs.items():
        of_it[truth] += count
        predicted[label] += count
        if truth == label:
            hits[truth] += count
    labels = sorted({*of_it, *predicted})

    def wrong(label: str) -> int:
        return of_it[label] + predicted[label] - 2 * hits[label]

    right = sum(hits.values())
    worst = sorted(labels, key=lambda label: (-wrong(label), label))[:CLASSES_IN_TABLE]
    pairs = (Confused(*pair, count) for pair, count in judged.pairs.items() if pair[0] != pair[1])
    confused = sorted(pairs, key=lambda one: (-one.images, one.truth, one.predicted))
    matrix = None
    if len(labels) <= CLASSES_IN_MATRIX:
        matrix = labels, [[judged.pairs[truth, label] for label in labels] for truth in labels]
    return Quality(
        images=images,
        unknown=judged.unknown,
        accuracy=right / images,
        interval=wilson_interval(right, images),
        among=judged.among / images,
        most=judged.most,
        calibration_error=calibration_error(judged.right, judged.confidence, images),
        classes=[class_scores(x, of_it[x], predicted[x], hits[x]) for x in worst],
        all_classes=len(labels),
        confused=confused[:CONFUSED_PAIRS],
        matrix=matrix,
        strange=sum(count for truth, count in of_it.items() if truth not in judged.known_labels),
        judged=judged,
    )


def in_words(found: Quality) -> str:
    """Describe the quality in one line for the console."""
    low, high = found.interval
    among = f", top-{found.most} {found.among:.3f}" if found.most > 1 else ""
    return (
        f"accuracy {found.accuracy:.3f} on {found.images:,} images "
        f"(95 % interval {low:.3f} to {high:.3f}){among}"
    )
